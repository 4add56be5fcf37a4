package bridge

import (
	"context"
	"time"

	"reveille/push"
	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// lateProbe is how long a late device has to give its first provisional; pjsip,
// linphone and JsSIP all answer an INVITE within milliseconds once awake.
const lateProbe = 4 * time.Second

// buryRest leaves a tombstone for each device that may know of the call, by a
// push or an INVITE, and is not told by its own leg: it may register late, and
// its CallKit screen must close.
func (c *Call) buryRest(why sip.Reason) {
	for _, d := range c.devices {
		if d.finished || d == c.winner || !d.pushed && d.invited.IsZero() {
			continue
		}
		reason := why
		if c.winner != nil {
			reason = sip.CompletedElsewhere()
		}
		d.finished = true // told from here on by its leg or its tombstone, once
		g := &grave{c.bridge, d, c.tombstone(d, reason), c.started, false}
		if d.out == nil || !d.heard {
			g.bury()
		}
		if d.out != nil {
			go g.seeLegOut() // not longer than the leg or the bridge lives
		}
	}
}

func (c *Call) tombstone(d *device, why sip.Reason) location.Tombstone {
	caller := c.in.Caller()
	cause, text := sipCause(why)
	t := location.Tombstone{
		CallUUID: c.id, AOR: d.AOR, DeviceID: d.ID, CallID: d.callID,
		Cause: cause, CauseText: text,
		From: caller.Handle, FromName: caller.Name, To: c.ext.Name,
		Expires: time.Now().Add(c.bridge.cfg.LateWindow),
	}
	if d.asleep && !d.touched() {
		t.Pushed = d.pushedAt
		if d.outcome.verdict == push.Sent && d.overslept() {
			c.bridge.targets.Overslept(d.AOR, d.ID, d.patience >= c.bridge.cfg.WakeTimeout)
		}
	}
	return t
}

// grave is the tombstone of a device, perhaps not set yet.
type grave struct {
	bridge  *Bridge
	device  *device
	stone   location.Tombstone
	started time.Time // of the call
	buried  bool
}

func (g *grave) bury() {
	if !g.buried {
		g.buried = true
		g.bridge.tombs.Bury(g.stone)
		g.bridge.catchUp(g.device, g.started)
	}
}

// seeLegOut waits for a leg that was cancelled. If the device has answered, it
// was told by that and its tombstone goes; if its flow died over the CANCEL or
// swallows it, a tombstone is set.
func (g *grave) seeLegOut() {
	out := g.device.out
	probe := time.NewTimer(lateProbe)
	defer probe.Stop()
	for {
		select {
		case <-out.Ended():
			switch out.End().Kind {
			case sip.EndLocal, sip.EndRefused, sip.EndHungUp:
				if g.buried {
					g.bridge.tombs.Exhume(g.stone.CallUUID, g.stone.DeviceID)
				}
			default:
				g.bury()
			}
			return
		case <-probe.C:
			g.bury()
		case <-g.bridge.quit:
			return
		}
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

// sipCause: a tombstone keeps a SIP cause only, the one that a phone heeds.
func sipCause(r sip.Reason) (cause int, text string) {
	switch {
	case r.Protocol == "SIP":
		return r.Cause, r.Text
	case r.Also != 0:
		return r.Also, sip.Phrase(r.Also)
	}
	return 0, ""
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
		b.spawn(func() {
			if b.tombs.Exhume(t.CallUUID, t.DeviceID) {
				took := b.lateWake(binding, t)
				t.Pushed = time.Time{} // noted once
				b.tell(binding, t, took)
			}
		})
	}
}

// spawn runs f unless the bridge has stopped: Run waits for it.
func (b *Bridge) spawn(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopped {
		b.work.Go(f)
	}
}

// again sets the tombstone of a device that was not reached back, for its next
// registration: one that has come meanwhile, or a later one.
func (b *Bridge) again(unreached location.Binding, t location.Tombstone) {
	b.tombs.Bury(t)
	for _, binding := range b.loc.Lookup(t.AOR) {
		if binding.DeviceID == t.DeviceID && binding.FlowID != unreached.FlowID {
			b.tellAll(binding)
		}
	}
}

// tell closes a late device's call screen: INVITE, its first provisional,
// CANCEL with the reason. A 200 that comes first gets ACK and BYE. woke is how
// long after its push it came; 0: it was not waited for.
func (b *Bridge) tell(binding location.Binding, t location.Tombstone, woke time.Duration) {
	log := b.log.With("call", t.CallUUID, "aor", t.AOR, "device", t.DeviceID)
	session, err := b.relay.Open(rtp.SessionOptions{ID: t.CallUUID, DeviceAddress: b.dial.LocalAddress(binding.FlowID)})
	if err != nil {
		log.Warn("a late device cannot be told that its call is over", "err", err)
		return
	}
	defer session.Close()
	session.Secret(rtp.Device, secret(binding))
	offering := session.Offer
	if web(binding) {
		offering = session.OfferWebRTC
	}
	offer, err := offering(rtp.Device)
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
		b.again(binding, t)
		return
	}
	log.Info("device registered after the end of its call; sent INVITE, CANCEL follows", "woke_after", woke)
	b.cancelLate(out, t)
}

func (b *Bridge) cancelLate(out *sip.Outbound, t location.Tombstone) {
	var why sip.Reason
	if t.Cause != 0 {
		why = sip.Reason{Protocol: "SIP", Cause: t.Cause, Text: t.CauseText}.Both()
	}
	probe := time.NewTimer(lateProbe)
	defer probe.Stop()
	select {
	case p := <-out.Progress(): // a provisional, or a final answer
		if p.Local && p.Code == 430 {
			b.again(out.Binding(), t)
			return
		}
		out.Cancel(why)
		select {
		case <-out.Ended():
		case <-b.quit:
		}
	case <-probe.C:
		out.Cancel(why) // for a provisional that comes after all
		out.Abandon()
	case <-b.quit:
		out.Cancel(why)
		b.tombs.Bury(t)
	}
}
