package bridge

import (
	"context"
	"errors"
	"slices"

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
// to encrypt. Some insist on RTP/SAVP, a few on DTLS. DTLS comes first: those that insist on keys refuse it, but baresip's
// dtls_srtp takes RTP/SAVP and answers without a key.
func (c *Call) offerings(b location.Binding) []offering {
	list := []offering{offerFirst}
	switch security := c.session.Security(rtp.Device); {
	case security == rtp.SRTPOff || security == rtp.SRTPRequired && !secret(b): // the latter is refused
	case security == rtp.SRTPRequired:
		list = append(list, offerDTLS)
	case secret(b):
		list = append(list, offerDTLS, offerEncrypted, offerPlain)
	default:
		list = append(list, offerDTLS)
	}
	if !c.session.KnowsDTLS() {
		list = slices.DeleteFunc(list, func(kind offering) bool { return kind == offerDTLS })
	}
	if web(b) { // also where it cannot be had: then the timeline says so
		list = append([]offering{offerWebRTC}, list...)
	}
	return list
}

// nextOffering is what a device is offered now: what it has insisted on in an earlier call, else the first of its
// offerings, unless it has refused that; false if it has refused all.
func (c *Call) nextOffering(d *device, b location.Binding) (offering, bool) {
	for _, kind := range c.bridge.insists.order(b, c.offerings(b)) {
		if !slices.Contains(d.refused, kind) {
			return kind, true
		}
	}
	return 0, false
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
	kind, ok := c.nextOffering(d, b)
	if !ok { // another flow of a device that has refused all
		kind = offerFirst
	}
	d.offered = kind
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
	d.refused = append(d.refused, d.offered)
	if _, ok := c.nextOffering(d, b); !ok {
		return false, nil
	}
	d.out = nil
	return true, c.ring(ctx, d, b)
}

// deviceAnswered takes the answer of a device's 200.
func (c *Call) deviceAnswered(d *device) error {
	c.session.SignalledFrom(rtp.Device, d.out.PeerAddress())
	if d.out.TakesInfo() {
		c.session.TakesInfo(rtp.Device)
	}
	if offer := d.out.Offer(); offer != nil { // else the offer was its own, and has its answer
		if err := c.session.SetAnswerTo(rtp.Device, offer, d.answer); err != nil {
			return err
		}
		b := d.out.Binding()
		c.bridge.insists.note(b, d.offered, c.offerings(b)[0])
	}
	if suite := c.session.Encrypted(rtp.Device); suite != "" {
		c.rec.step("SRTP", d.ID, suite)
	}
	return nil
}
