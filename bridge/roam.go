package bridge

import (
	"context"
	"errors"
	"slices"
	"time"

	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// This file keeps an answered call on its device when that changes networks.

const (
	// roamTime is how long a device that has registered by a new flow gets to
	// change the dialog itself before we do: pjsip and linphone send their
	// re-INVITE right behind the REGISTER.
	roamTime = 2 * time.Second

	// deafTime is how long a device that does not know the call any more may be
	// silent before it is given up: it may yet take the call up.
	deafTime = 20 * time.Second
)

// roamed looks whether the device of an answered call has registered by a new
// flow. Its audio may then come from another address, of a new network or a new
// NAT binding, even if the device says nothing more. Where the flow that the
// dialog lives on is superseded or dead the dialog has to follow.
func (c *Call) roamed(ctx context.Context) {
	d, out := c.winner, c.winner.out
	for b, ok := c.watch.Next(); ok; b, ok = c.watch.Next() {
		flow := out.FlowID()
		besides := c.on(d, flow) // RFC 5626: another reg-id
		if b.DeviceID != d.ID || b.FlowID == flow || besides && slices.Contains(d.tried, b.FlowID) {
			continue
		}
		d.tried = append(d.tried, b.FlowID)
		c.rec.step("REGISTER by a new flow", d.ID, b.Transport)
		c.session.SignalledFrom(rtp.Device, c.bridge.dial.PeerAddress(b))
		c.session.Relatch(rtp.Device)
		if besides {
			continue
		}
		time.AfterFunc(roamTime, func() { c.post(ctx, &event{dev: d, out: out, roam: &b}) })
	}
}

// pursue changes the dialog where the device has not done so in its time.
func (c *Call) pursue(ctx context.Context, out *sip.Outbound, b location.Binding) {
	if c.winner == nil || out != c.winner.out || !c.on(c.winner, b.FlowID) || c.on(c.winner, out.FlowID()) {
		return // it has; or it has gone on to yet another flow
	}
	d := c.winner
	c.rec.step("re-INVITE by the new flow", d.ID, "")
	go func() {
		err := out.Follow(ctx, b)
		switch {
		case err == nil:
		case errors.Is(err, sip.ErrForgotten):
			c.log().Warn("the device does not know the call on its new flow; the call ends when it stays silent", "device", b.DeviceID)
			c.post(ctx, &event{dev: d, out: out, deaf: true})
		default:
			c.log().Info("re-INVITE by the new flow failed", "device", b.DeviceID, "err", err)
		}
	}()
}

// deafened waits for a sign of life from a device that does not know the call:
// true when it has been silent for too long. A leg that took the place of the one
// that it has forgotten knows the call.
func (c *Call) deafened(ctx context.Context, e *event) bool {
	if e.out != c.winner.out {
		return false
	}
	last := c.session.Stats().Device.LastPacket
	if last.Before(c.answer) {
		last = c.answer
	}
	left := deafTime - time.Since(last)
	if left <= 0 {
		return true
	}
	time.AfterFunc(left, func() { c.post(ctx, e) })
	return false
}
