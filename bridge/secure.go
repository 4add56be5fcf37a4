package bridge

import (
	"bytes"
	"context"
	"errors"

	"reveille/rtp"
	"reveille/sip/location"
)

// How a device is offered SRTP where it is optional: keys with RTP/AVP, which a
// phone that cannot encrypt passes over (RFC 8643); to one that refuses that
// (488), RTP/SAVP, as some insist on it; then no keys at all. A phone that was
// woken has one call on its screen and must get it with the first INVITE, if
// that can be: plain or able to encrypt, most take the first kind.
const (
	offerOptional = iota
	offerEncrypted
	offerPlain
)

// secret reports whether nobody else can read the flow of a binding.
func secret(b location.Binding) bool { return b.Transport == "TLS" || b.Transport == "WSS" }

// srtp is what the configuration wants of the trunk's media.
func (c *Call) srtp() rtp.Security {
	security, _ := rtp.ParseSecurity(c.in.Trunk().Config().SRTP) // validated
	return security
}

// offerFor is our offer to a device by one of its flows.
func (c *Call) offerFor(d *device, b location.Binding) ([]byte, error) {
	c.session.ReachedAt(rtp.Device, c.bridge.dial.LocalAddress(b.FlowID))
	c.session.Secret(rtp.Device, secret(b) && d.offering != offerPlain)
	if d.offering == offerEncrypted && secret(b) {
		return c.session.OfferEncrypted(rtp.Device)
	}
	return c.session.Offer(rtp.Device)
}

// unfit takes a device out of the call that must not be offered it: SRTP is
// required, and its flow may not carry keys.
func (c *Call) unfit(d *device, err error) error {
	if !errors.Is(err, rtp.ErrNotAcceptable) {
		return err
	}
	c.log().Warn("a device cannot be called", "device", d.ID, "err", err)
	c.rec.step("device not called", d.ID, err.Error())
	d.finished = true
	if c.refused.Name == EndFailed.Name {
		c.refused = EndNoCodec
	}
	return nil
}

// offerAgain offers another kind of media to a device that has refused one.
func (c *Call) offerAgain(ctx context.Context, d *device) (again bool, err error) {
	offer := d.out.Offer()
	if d.offering == offerPlain || !bytes.Contains(offer, []byte("\na=crypto:")) || d.offering == offerOptional && bytes.Contains(offer, []byte(" RTP/SAVP ")) {
		return false, nil
	}
	b := d.out.Binding()
	d.offering++
	d.out = nil
	return true, c.ring(ctx, d, b)
}

// deviceAnswered takes the answer of a device's 200.
func (c *Call) deviceAnswered(d *device) error {
	if offer := d.out.Offer(); offer != nil { // else the offer was its own, and has its answer
		if err := c.session.SetAnswerTo(rtp.Device, offer, d.answer); err != nil {
			return err
		}
	}
	if suite := c.session.Encrypted(rtp.Device); suite != "" {
		c.rec.step("SRTP", d.ID, suite)
	}
	return nil
}
