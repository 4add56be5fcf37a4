package bridge

import (
	"context"
	"errors"

	"reveille/rtp"
	"reveille/sip"
)

// This file lets a device take the place of a leg by INVITE with Replaces (RFC
// 3891): after a change of networks, or another device of the same extension.

// replaced puts a new leg in the place of the one that talks. The trunk hears
// of it only if the new one is not held where the old one was, or the reverse.
func (c *Call) replaced(ctx context.Context, r *sip.Request) {
	c.session.Secret(rtp.Device, r.Replacement.Secret())
	c.session.SignalledFrom(rtp.Device, r.Replacement.PeerAddress())
	sdp, err := c.session.Reoffer(rtp.Device, r.Replacement.SDP)
	if err != nil {
		c.refuseReplacement(r, err)
		return
	}
	old := c.winner.out
	d := c.adopted(r, sdp)
	if d == nil {
		return
	}
	if c.winner != d {
		c.winner.out, c.winner.finished = nil, true
	}
	c.winner = d
	c.rec.update(func(rec *Record) { rec.Device = d.ID })
	old.Hangup(sip.CompletedElsewhere())
	if d.out.TakesInfo() {
		c.session.TakesInfo(rtp.Device)
	}
	if r.Replacement.SDP == nil {
		go c.awaitReplacement(ctx, c.midcall(), r)
		return
	}
	c.passOn(ctx, rtp.Device)
}

// awaitReplacement waits for the answer to our offer, in the ACK.
func (c *Call) awaitReplacement(ctx context.Context, m *midcall, r *sip.Request) {
	select {
	case sdp := <-r.Replacement.Acked():
		m.later(ctx, func() { c.offerAnswered(ctx, rtp.Device, sdp) })
	case <-ctx.Done():
	}
}

// adopted makes the new leg that of its device.
func (c *Call) adopted(r *sip.Request, sdp []byte) *device {
	out, err := r.Adopt(sdp)
	if err != nil {
		c.log().Info("a device that would take the call's leg over has gone", "err", err)
		return nil
	}
	b := r.Replacement.Binding
	d := c.device(c.known(b))
	d.out, d.heard, d.finished = out, true, false
	c.rec.step("INVITE with Replaces", d.ID, b.Transport)
	return d
}

func (c *Call) refuseReplacement(r *sip.Request, err error) {
	c.log().Info("a device cannot take the call's leg over", "err", err)
	code := 488
	if errors.Is(err, rtp.ErrBadSDP) {
		code = 400
	}
	r.Answer(code, "")
}

// answeredBy takes an INVITE with Replaces for a leg that rings, or that rang
// until its flow died: it is the device's answer. What we have offered there
// stands; its offer is held against that and answered.
func (c *Call) answeredBy(e *event) state {
	r := e.asked
	if r.Replacement == nil || r.Replacement.SDP == nil || e.out != e.dev.out && e.out != e.dev.lost {
		r.Answer(488, "") // nothing that could be answered, or a leg that was given up
		return state{}
	}
	c.session.Secret(rtp.Device, r.Replacement.Secret())
	c.session.SignalledFrom(rtp.Device, r.Replacement.PeerAddress())
	undo, err := c.session.StandIn(rtp.Device, r.Replacement.SDP)
	var sdp []byte
	if err == nil {
		sdp, err = c.session.Reoffer(rtp.Device, r.Replacement.SDP)
	}
	if err != nil {
		undo()
		c.refuseReplacement(r, err)
		return state{}
	}
	rings := c.find(r.Replacement.Binding.DeviceID) // it may be another device, which rings too
	var ringing *sip.Outbound
	if rings != nil {
		ringing = rings.out
	}
	d := c.adopted(r, sdp)
	if d == nil {
		undo() // others may answer
		return state{}
	}
	c.endRinging(e.dev, e.dev != d)
	if ringing != nil {
		ringing.Cancel(sip.CompletedElsewhere())
	}
	d.answer, c.winner = r.Replacement.SDP, d
	return state{"connecting", c.connecting}
}

// endRinging ends the leg that was replaced; gone: its device is out of the call.
func (c *Call) endRinging(d *device, gone bool) {
	c.dropLost(d)
	if gone && d.out != nil {
		d.out.Cancel(sip.CompletedElsewhere())
		d.out, d.finished = nil, true
	}
}
