package bridge

import (
	"context"
	"slices"
	"time"

	"reveille/push"
	"reveille/rtp"
	"reveille/sip/location"
)

// rouseAll pushes every device that may sleep.
func (c *Call) rouseAll(ctx context.Context) {
	all := c.bridge.loc.Devices(c.ext.Name)
	slices.SortStableFunc(all, func(a, b location.Device) int { return b.Seen.Compare(a.Seen) })
	for _, d := range all[:min(len(all), maxForks)] {
		c.rouse(ctx, c.device(d))
	}
	c.tellPushes()
}

// rouse pushes a device, unless it is surely awake: then the INVITE alone will do.
func (c *Call) rouse(ctx context.Context, d *device) {
	for _, b := range c.bridge.loc.Lookup(c.ext.Name) {
		if b.DeviceID == d.ID && time.Since(c.bridge.dial.Heard(b)) < freshFlow {
			return
		}
	}
	if !d.pushed {
		c.push(ctx, d)
	}
}

// wake sends the push, once per call and device, and tells the caller.
func (c *Call) wake(ctx context.Context, d *device) {
	if !d.pushed {
		c.push(ctx, d)
		c.tellPushes()
	}
}

func (c *Call) push(ctx context.Context, d *device) {
	c.refresh(d)
	if d.Target.IsZero() || !c.mayPush(d) {
		return
	}
	d.pushed, d.pushing, d.pushedAt, d.outcome, d.wake = true, true, time.Now(), outcome{}, 0
	d.sleeps = true
	d.patience = c.bridge.cfg.patience(d.Device)
	c.rec.step("push", d.ID, d.Target.Provider)
	m, target := c.message(d), d.Device
	m.Still = func() bool { return c.bridge.loc.HasTarget(target) }
	// Not a child of the call's context, which would keep a table of children
	// for as long as the call is parked; the call's end stops it.
	pctx, cancel := context.WithTimeout(context.Background(), c.bridge.cfg.PushTimeout)
	d.stopPush = cancel
	go func() {
		defer cancel()
		o := c.bridge.push.Send(pctx, target.AOR+"/"+target.ID, pushTarget(target.Target), m)
		c.bridge.learn(target, o) // also when the call is over by now
		c.post(ctx, &event{dev: d, push: &o})
	}()
}

// refresh takes the device's target as it is now: since the call came the device
// may have got another token, or the token another device, of whichever account.
func (c *Call) refresh(d *device) {
	now, ok := c.bridge.loc.Device(d.AOR, d.ID)
	if !ok {
		now = d.Device
		now.Target = location.Target{}
	}
	d.Device = now
}

func (c *Call) message(d *device) push.Message {
	caller := c.in.Caller()
	kind := "generic"
	if caller.Number {
		kind = "number"
	}
	to := c.ext.Name
	if dialled := c.in.Dialled(); len(dialled) > 0 {
		to = dialled[0]
	}
	return push.Message{UUID: c.id, CallID: d.callID, Handle: caller.Handle, HandleType: kind, CallerName: caller.Name, To: to,
		Trunk: c.in.Trunk().Name(), Verstat: caller.Verstat, DivertedBy: caller.DivertedBy, IssuedAt: d.pushedAt,
		ExpiresAt: d.pushedAt.Add(d.patience), Headers: c.in.Copied(), TargetSince: d.Confirmed, Again: !d.recalled.IsZero(),
		HasVideo: c.session != nil && c.session.HasVideo(rtp.Trunk)}
}

// pushAnswered takes a provider's word. A push that may have been accepted is
// hoped for as one that was, and never sent again. The Sender has logged it.
func (c *Call) pushAnswered(ctx context.Context, d *device, o *push.Outcome) {
	d.pushing, d.stopPush, d.outcome = false, nil, outcomeOf(o)
	r := pushRecord(d.Device, *o)
	r.WakeMS = millis(d.wake)
	c.rec.push(r)
	c.rec.step("push "+r.Outcome, d.ID, r.line())
	if o.Verdict == push.Sent || o.Uncertain {
		c.fellAsleep(ctx, d, o.Uncertain)
	}
	c.tellPushes()
}

// learn keeps what a provider's answer says of a device's target.
func (b *Bridge) learn(d location.Device, o push.Outcome) {
	b.targets.Pushed(d, location.LastPush{At: time.Now(), Outcome: o.Verdict.String(), Reason: o.Reason})
	switch {
	case o.Verdict == push.Gone:
		b.targets.TargetGone(d)
	case o.Verdict == push.Sent && o.Environment != "" && o.Environment != d.Target.Environment:
		b.targets.SetEnvironment(d, o.Environment)
	}
}
