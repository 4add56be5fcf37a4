package bridge

import (
	"context"
	"errors"

	"reveille/rtp"
	"reveille/sip/location"
)

// offering is a kind of media that a device is offered.
type offering uint8

// The kinds. offerFirst is what the configuration says, without DTLS: where
// SRTP is optional, keys with RTP/AVP, which a phone that cannot encrypt passes
// over (RFC 8643); where it is required, with RTP/SAVP.
const (
	offerWebRTC    offering = iota + 1 // DTLS-SRTP and ICE
	offerFirst                         // keys, if they may go to it
	offerEncrypted                     // keys, and RTP/SAVP
	offerDTLS                          // DTLS-SRTP
	offerPlain                         // RTP
)

// offerings are what a device is offered by one of its flows, one after the
// other as long as it refuses (488). A phone that was woken has one call on its
// screen and must get it with the first INVITE, if that can be: one that comes
// by WebSocket is a browser, or an app made like one, and knows nothing but
// WebRTC, whatever the configuration says; of the others most are plain or able
// to encrypt. Some insist on RTP/SAVP, a few on DTLS.
func (c *Call) offerings(b location.Binding) []offering {
	list := []offering{offerFirst}
	switch security := c.session.Security(rtp.Device); {
	case security == rtp.SRTPOff || security == rtp.SRTPRequired && !secret(b): // the latter is refused
	case security == rtp.SRTPRequired:
		list = append(list, offerDTLS)
	case secret(b):
		list = append(list, offerEncrypted, offerDTLS, offerPlain)
	default:
		list = append(list, offerDTLS)
	}
	if web(b) {
		list = append([]offering{offerWebRTC}, list...)
	}
	return list
}

// secret reports whether nobody else can read the flow of a binding.
func secret(b location.Binding) bool { return b.Transport == "TLS" || b.Transport == "WSS" }

// web reports whether a binding is that of a browser, or an app made like one.
func web(b location.Binding) bool { return b.Transport == "WS" || b.Transport == "WSS" }

// srtp is what the configuration wants of the trunk's media.
func (c *Call) srtp() rtp.Security {
	security, _ := rtp.ParseSecurity(c.in.Trunk().Config().SRTP) // validated
	return security
}

// offerFor is our offer to a device by one of its flows.
func (c *Call) offerFor(d *device, b location.Binding) ([]byte, error) {
	list := c.offerings(b)
	kind := list[min(d.refusals, len(list)-1)]
	c.session.ReachedAt(rtp.Device, c.bridge.dial.LocalAddress(b.FlowID))
	c.session.Secret(rtp.Device, secret(b) && kind != offerPlain)
	switch kind {
	case offerWebRTC:
		return c.session.OfferWebRTC(rtp.Device)
	case offerEncrypted:
		return c.session.OfferEncrypted(rtp.Device)
	case offerDTLS:
		return c.session.OfferDTLS(rtp.Device)
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
	b := d.out.Binding()
	if d.refusals+1 >= len(c.offerings(b)) {
		return false, nil
	}
	d.refusals++
	d.out = nil
	return true, c.ring(ctx, d, b)
}

// deviceAnswered takes the answer of a device's 200.
func (c *Call) deviceAnswered(d *device) error {
	if d.out.TakesInfo() {
		c.session.TakesInfo(rtp.Device)
	}
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
