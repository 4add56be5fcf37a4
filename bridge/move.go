package bridge

import (
	"context"
	"slices"
	"time"

	"reveille/sip"
	"reveille/sip/location"
)

// This file moves a device's leg from one flow to another before the answer.

const (
	// firstWord is how long a device that has registered by a newer flow gets to
	// answer the INVITE on the older one before that counts as dead: T1, the round
	// trip that SIP reckons with (RFC 3261 §17.1.1.1). Were it moved at once, each
	// REGISTER of a storm would bring a further INVITE.
	firstWord = 500 * time.Millisecond

	// orphanTime is how long a device that rang and has lost its flow may take to
	// come back by another: Wi-Fi to mobile data is done in 2 to 5 s.
	orphanTime = 8 * time.Second

	// recallTime is how long it may take before it is pushed again.
	recallTime = 3 * time.Second
)

// inviteAll sends the call to each binding that the watch has.
func (c *Call) inviteAll(ctx context.Context) error {
	for b, ok := c.watch.Next(); ok; b, ok = c.watch.Next() {
		if err := c.invite(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// invite sends the call to a binding: one INVITE per call and device. A device
// that comes by another flow gets a second one there only if the first flow is
// dead. A flow of its own besides that one (RFC 5626: another reg-id) is kept
// for when the first fails, unless the device has come by it since the INVITE.
func (c *Call) invite(ctx context.Context, b location.Binding) error {
	d := c.device(c.known(b))
	c.awake(d, b)
	switch {
	case d.finished, d.out != nil && d.out.Binding().FlowID == b.FlowID:
		return nil
	case d.out == nil:
		return c.ring(ctx, d, c.liveliest(d, b))
	case d.quiet:
		return c.ring(ctx, d, b)
	case !d.heard && !b.Registered.After(d.invited) && c.on(d, d.out.Binding().FlowID):
		return nil
	}
	d.next = &b
	if d.heard {
		c.check(ctx, d)
		return nil
	}
	out := d.out
	time.AfterFunc(firstWord-time.Since(d.invited), func() { c.post(ctx, &event{dev: d, out: out, quiet: true}) })
	return nil
}

// liveliest is the flow to begin with, of a device that has another besides b:
// the one that was heard last. A device whose app is suspended may hold one by its
// network extension (Apple's Local Push Connectivity, for sites without the
// internet): that answers at once, the app's not at all. What the device itself
// prefers (q) goes first, as does a flow that is surely awake.
func (c *Call) liveliest(d *device, b location.Binding) location.Binding {
	heard := c.bridge.dial.Heard(b)
	if time.Since(heard) < freshFlow {
		return b
	}
	for _, other := range c.bridge.loc.Lookup(c.ext.Name) {
		if other.DeviceID != d.ID || other.Q < b.Q || slices.Contains(d.tried, other.FlowID) {
			continue
		}
		if at := c.bridge.dial.Heard(other); at.After(heard) {
			b, heard = other, at
		}
	}
	return b
}

// on reports whether a device has a binding on a flow.
func (c *Call) on(d *device, flowID string) bool {
	return slices.ContainsFunc(c.bridge.loc.Lookup(c.ext.Name), func(b location.Binding) bool {
		return b.DeviceID == d.ID && b.FlowID == flowID
	})
}

// ring sends the INVITE. The Call-ID is that of the push, also for a second
// INVITE: the device knows the call by it. A From tag of its own makes that one
// a dialog of its own (RFC 3261 §12).
func (c *Call) ring(ctx context.Context, d *device, b location.Binding) error {
	offer, err := c.offerFor(d, b)
	if err != nil {
		return c.unfit(d, err)
	}
	c.leaveFlow(d)
	d.tried = append(d.tried, b.FlowID)
	out, err := c.bridge.dial.Dial(b, sip.Invitation{
		CallID: d.callID, Caller: c.in.Caller(), SDP: offer,
		Headers:     []sip.Header{{Name: c.bridge.header, Value: c.id}, {Name: sip.LoopHeader, Value: c.in.LoopTrail()}},
		MaxForwards: c.in.MaxForwards(),
	})
	if err != nil {
		c.log().Info("the device's flow is gone", "device", d.ID, "err", err)
		c.wake(ctx, d)
		return nil
	}
	d.out, d.heard, d.quiet, d.next, d.invited = out, false, false, nil, time.Now()
	if d.since.IsZero() {
		d.since = d.invited
	}
	c.rec.step("INVITE to device", d.ID, b.Transport)
	go c.follow(ctx, d, out)
	return nil
}

// leaveFlow gives a device's leg up, without a word: its flow is dead. If the
// device had answered in some way its user may yet answer that one.
func (c *Call) leaveFlow(d *device) {
	switch {
	case d.out == nil:
	case d.heard:
		c.dropLost(d)
		d.lost = d.out
	default:
		d.out.Abandon()
	}
	d.out = nil
}

func (c *Call) dropLost(d *device) {
	if d.lost != nil {
		d.lost.Abandon()
		d.lost = nil
	}
}

// check asks whether a device is still there on the flow where it rings. It has
// registered by another one, in place of that or besides: the old connection
// may be open at our end only, or be in use yet. It is asked once at a time.
func (c *Call) check(ctx context.Context, d *device) {
	if d.checking {
		return
	}
	d.checking = true
	out, within := d.out, c.bridge.cfg.ProbeTimeout
	go func() {
		alive := out.Alive(ctx, within)
		c.post(ctx, &event{dev: d, out: out, checked: &alive})
	}()
}

// checked moves a device whose older flow gave no sign of life.
func (c *Call) checked(ctx context.Context, d *device, alive bool) state {
	d.checking = false
	if alive {
		d.next = nil
		return state{}
	}
	c.rec.step("old flow is dead", d.ID, "")
	return c.move(ctx, d)
}

// silent: the device has not answered the INVITE in any way. It is invited by
// another flow if it has one, else taken as asleep.
func (c *Call) silent(ctx context.Context, d *device) state {
	if !d.quiet {
		c.rec.step("no answer to INVITE", d.ID, "taken as asleep")
	}
	d.quiet = true
	return c.move(ctx, d)
}

// flowLost: the INVITE's flow is gone, or nothing came back at all.
func (c *Call) flowLost(ctx context.Context, d *device, p sip.Progress) state {
	if !p.Lost {
		d.out = nil
		return c.move(ctx, d)
	}
	c.leaveFlow(d)
	d.woke, d.asleep, d.checking, d.orphaned = false, false, false, time.Now()
	time.AfterFunc(orphanTime, func() { c.post(ctx, &event{nudge: true}) })
	if d.pushed {
		time.AfterFunc(recallTime, func() { c.post(ctx, &event{dev: d, astray: true}) })
	}
	return c.move(ctx, d)
}

// recall pushes a device that rang, lost its flow and has not come back: once
// per call. The push before this one was surely delivered, and is used up.
func (c *Call) recall(ctx context.Context, d *device) {
	if d.out != nil || d.finished || d.pushing || !d.recalled.IsZero() {
		return
	}
	d.recalled = time.Now()
	c.push(ctx, d)
	c.tellPushes()
}

// move invites a device by another flow that it has, or wakes it.
func (c *Call) move(ctx context.Context, d *device) state {
	b := c.spare(d)
	switch {
	case b != nil:
	case d.orphaned.IsZero():
		c.wake(ctx, d)
		return state{}
	default:
		if !d.pushed {
			c.recall(ctx, d)
		}
		return state{}
	}
	if err := c.ring(ctx, d, *b); err != nil {
		return c.over(c.mediaEnding(err))
	}
	return state{}
}

// spare is the flow to go on with: the newer one, else one of the device's
// others (RFC 5626 §5.3) that has not been tried yet. nil: there is none.
func (c *Call) spare(d *device) *location.Binding {
	if b := d.next; b != nil {
		d.next = nil
		return b
	}
	for _, b := range c.bridge.loc.Lookup(c.ext.Name) {
		if b.DeviceID == d.ID && !slices.Contains(d.tried, b.FlowID) && !c.bridge.dial.Heard(b).IsZero() {
			return &b
		}
	}
	return nil
}

// lostSpeaks: a device whose flow died while it rang says something by its next
// one. Its user's word counts; what else it may say is of the dead branch only.
func (c *Call) lostSpeaks(ctx context.Context, e *event) state {
	d, code := e.dev, e.step.Code
	if e.quiet || e.checked != nil || e.step.Local || code < 200 || code >= 300 && code != 486 && code < 600 {
		return state{}
	}
	if d.out != nil {
		d.out.Cancel(sip.CompletedElsewhere())
	}
	d.out, d.lost, e.out = d.lost, nil, d.lost
	return c.take(ctx, e)
}
