package bridge

import (
	"context"
	"time"

	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// lateProbe is how long a late device has to give its first provisional; pjsip,
// linphone and JsSIP all answer an INVITE within milliseconds once awake.
const lateProbe = 4 * time.Second

// buryRest leaves a tombstone for each device that was pushed and is not told
// by its own leg: it may register late, and its CallKit screen must close.
func (c *Call) buryRest(why sip.Reason) {
	caller := c.in.Caller()
	for _, d := range c.devices {
		if !d.pushed || d.finished || d == c.winner || d.out != nil && d.heard {
			continue
		}
		reason := why
		if c.winner != nil {
			reason = sip.CompletedElsewhere()
		}
		d.finished = true // told from here on by its tombstone, once
		c.bridge.tombs.Bury(location.Tombstone{
			CallUUID: c.id, AOR: d.AOR, DeviceID: d.ID, CallID: d.callID,
			Cause: sipCause(reason), CauseText: reason.Text,
			From: caller.Handle, FromName: caller.Name, To: c.ext.Name,
			Expires: time.Now().Add(c.bridge.cfg.LateWindow),
		})
		c.bridge.catchUp(d, c.started)
	}
}

// catchUp tells a device that registered while the call was ending: its
// binding came after the call's last look and before the tombstone.
func (b *Bridge) catchUp(d *device, since time.Time) {
	for _, binding := range b.loc.Lookup(d.AOR) {
		if binding.DeviceID == d.ID && binding.Registered.After(since) && (d.out == nil || d.out.Binding().FlowID != binding.FlowID) {
			b.tellAll(binding)
		}
	}
}

// sipCause: a tombstone keeps SIP causes only; other reasons are not for the phone.
func sipCause(r sip.Reason) int {
	if r.Protocol == "SIP" {
		return r.Cause
	}
	return 0
}

// tellLate watches every registration for devices that come after the end of
// their call, this process's calls or those of the one before.
func (b *Bridge) tellLate(ctx context.Context) {
	for binding := range b.loc.WatchAll().All(ctx) {
		b.tellAll(binding)
	}
}

func (b *Bridge) tellAll(binding location.Binding) {
	for _, t := range b.tombs.Tombstones(binding.AOR, binding.DeviceID) {
		b.work.Go(func() {
			if b.tombs.Exhume(t.CallUUID, t.DeviceID) {
				b.tell(binding, t)
			}
		})
	}
}

// tell closes a late device's call screen: INVITE, its first provisional,
// CANCEL with the reason. A 200 that comes first gets ACK and BYE.
func (b *Bridge) tell(binding location.Binding, t location.Tombstone) {
	log := b.log.With("call", t.CallUUID, "aor", t.AOR, "device", t.DeviceID)
	session, err := b.relay.Open(rtp.SessionOptions{ID: t.CallUUID, DeviceAddress: b.dial.LocalAddress(binding.FlowID)})
	if err != nil {
		log.Warn("a late device cannot be told that its call is over", "err", err)
		return
	}
	defer session.Close()
	offer, err := session.Offer(rtp.Device)
	if err != nil {
		log.Error("a late device cannot be told that its call is over", "err", err)
		return
	}
	out, err := b.dial.Dial(binding, sip.Invitation{
		CallID: t.CallID, SDP: offer,
		Caller:  sip.Caller{Handle: t.From, Name: t.FromName, Anonymous: t.From == ""},
		Headers: []sip.Header{{Name: b.header, Value: t.CallUUID}},
	})
	if err != nil {
		log.Info("a late device has gone again", "err", err)
		return
	}
	log.Info("device registered after the end of its call; sent INVITE, CANCEL follows")
	b.cancelLate(out, t)
}

func (b *Bridge) cancelLate(out *sip.Outbound, t location.Tombstone) {
	var why sip.Reason
	if t.Cause != 0 {
		why = sip.Reason{Protocol: "SIP", Cause: t.Cause, Text: t.CauseText}
	}
	probe := time.NewTimer(lateProbe)
	defer probe.Stop()
	select {
	case <-out.Progress(): // a provisional, or a final answer
		out.Cancel(why)
		<-out.Ended()
	case <-probe.C:
		out.Abandon()
	case <-out.Ended():
	}
}
