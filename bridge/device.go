package bridge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"reveille/push"
	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// device is one device within one call.
type device struct {
	location.Device
	callID string // of its leg, chosen before the push leaves

	pushed   bool // a push was sent, or tried
	spends   int  // pushes of its budget that it has had
	spent    bool // none may be sent: its budget is used up
	pushing  bool // its outcome is still open
	stopPush context.CancelFunc
	pushedAt time.Time
	asleep   bool          // a push was accepted, or may have been, and the device has not registered since
	patience time.Duration // from the accepted push to its REGISTER, see Config.patience
	until    time.Time     // of a device that is asleep: the end of that; of one that woke: until when it may ring
	outcome  outcome       // of the last push
	wake     time.Duration // from the push to its REGISTER; 0: not by the push, or not yet
	woke     bool
	sleeps   bool // it has, or had, a push target: what is silent there is asleep

	out      *sip.Outbound // its leg, if it was invited
	invited  time.Time
	since    time.Time         // of its first INVITE
	heard    bool              // the device answered the INVITE in some way
	quiet    bool              // nothing was heard in time: its flow is as good as dead
	next     *location.Binding // a newer flow, to be used if the older one is dead
	tried    []string          // flows that were, or are, of no use
	lost     *sip.Outbound     // the leg before, which rings on a dead flow: it may still be answered
	checking bool              // whether the flow of its leg is alive
	orphaned time.Time         // when its flow died after it had answered in some way
	recalled time.Time         // when it was pushed for that
	finished bool              // it refused, or is out of the call for another reason
	answer   []byte            // SDP of its 200
	offered  offering          // the kind of media of its last INVITE
	refused  []offering        // kinds that it has refused
}

// outcome is what a call remembers of a push while it is parked: a whole
// push.Outcome is five times as large. The zero value is that of an open one.
type outcome struct {
	known            bool
	uncertain, alert bool
	verdict          push.Verdict
	status           int
	reason           string
}

func outcomeOf(o *push.Outcome) outcome {
	return outcome{known: true, uncertain: o.Uncertain, alert: o.Alert, verdict: o.Verdict, status: o.Status, reason: o.Reason}
}

// event is what pushes and device legs tell the call.
type event struct {
	dev   *device
	push  *push.Outcome
	out   *sip.Outbound
	step  sip.Progress
	quiet bool         // no answer of any kind within probe_timeout
	asked *sip.Request // the leg is to be replaced
	nudge bool         // look again whether there is hope

	checked *bool // whether the flow of its leg is alive
	astray  bool  // it has been without a flow for some time

	roam *location.Binding // of an answered call: the newer flow that it is to go on by
	deaf bool              // of an answered call: its device does not know it any more
}

// freshFlow: a flow heard within this time is awake. iOS suspends an app's
// sockets silently after about that long in the background.
const freshFlow = 10 * time.Second

// device finds or makes the call's device.
func (c *Call) device(d location.Device) *device {
	if dev := c.find(d.ID); dev != nil {
		return dev
	}
	dev := &device{Device: d, callID: fmt.Sprintf("%s.dev%d@reveille", c.id, c.former+len(c.devices)+1), pushed: slices.Contains(c.pushed, d.ID), sleeps: !d.Target.IsZero()}
	c.devices = append(c.devices, dev)
	if c.former > 0 { // it may have been told already that the call is over for it
		c.bridge.tombs.Exhume(c.id, d.ID)
	}
	return dev
}

// find is the call's device of that id, nil if it has none.
func (c *Call) find(id string) *device {
	for _, d := range c.devices {
		if d.ID == id {
			return d
		}
	}
	return nil
}

func (c *Call) post(ctx context.Context, e *event) {
	select {
	case c.events <- e:
	case <-ctx.Done():
	}
}

// ask is post for a request, which must be answered.
func (c *Call) ask(ctx context.Context, e *event) {
	select {
	case c.events <- e:
	case <-ctx.Done():
		e.asked.Answer(487, "")
	}
}

// known is the device of a binding, as the location has it.
func (c *Call) known(b location.Binding) location.Device {
	if d := c.find(b.DeviceID); d != nil {
		return d.Device
	}
	for _, d := range c.bridge.loc.Devices(b.AOR) {
		if d.ID == b.DeviceID {
			return d
		}
	}
	return location.Device{ID: b.DeviceID, AOR: b.AOR, Instance: b.Instance}
}

// follow brings a leg's steps to the call. It outlives the wait for an answer
// only as long as the leg has something to say.
func (c *Call) follow(ctx context.Context, d *device, out *sip.Outbound) {
	probe := time.NewTimer(c.bridge.cfg.ProbeTimeout)
	defer probe.Stop()
	asks, later := out.Requests(), (*sip.Request)(nil)
	for {
		select {
		case p := <-out.Progress():
			probe.Stop()
			c.post(ctx, &event{dev: d, out: out, step: p})
			if p.Code >= 200 && !p.Lost {
				if later != nil {
					c.ask(ctx, &event{dev: d, out: out, asked: later})
				}
				return
			}
		case r := <-asks:
			if r.Replacement != nil && r.Replacement.Early {
				c.ask(ctx, &event{dev: d, out: out, asked: r})
				continue
			}
			later, asks = r, nil // it came after the answer, and is told after that
		case <-probe.C:
			c.post(ctx, &event{dev: d, out: out, quiet: true})
		case <-ctx.Done():
			if later != nil {
				later.Answer(487, "")
			}
			return
		}
	}
}

// take is one event of a call that nobody has answered yet. The zero state
// means: go on waiting.
func (c *Call) take(ctx context.Context, e *event) state {
	switch {
	case e.nudge:
	case e.push != nil:
		c.pushAnswered(ctx, e.dev, e.push)
	case e.asked != nil:
		return c.answeredBy(e)
	case e.astray:
		c.recall(ctx, e.dev)
	case e.out == e.dev.lost:
		return c.lostSpeaks(ctx, e)
	case e.out != e.dev.out: // a leg that was given up
	case e.checked != nil:
		return c.checked(ctx, e.dev, *e.checked)
	case e.quiet && e.dev.heard:
	case e.quiet:
		return c.silent(ctx, e.dev)
	case e.step.Code < 200:
		return c.deviceRings(e.dev, e.step)
	case e.step.Code < 300:
		e.dev.heard, e.dev.answer = true, e.step.SDP
		c.winner = e.dev
		return state{"connecting", c.connecting}
	default:
		return c.deviceRefused(ctx, e.dev, e.step)
	}
	return state{}
}

// deviceRings: the first device that rings makes the call alerting.
func (c *Call) deviceRings(d *device, p sip.Progress) state {
	d.heard = true
	if p.Code == 100 || p.Code == 199 { // 199: one of several early dialogs has ended (RFC 6228)
		return state{}
	}
	c.rec.step(fmt.Sprint(p.Code, " from device"), d.ID, "")
	if c.rang {
		return state{}
	}
	c.rang = true
	delay := time.Since(c.started)
	c.bridge.metrics.ring.Observe(delay.Seconds())
	c.rec.update(func(r *Record) { r.RingMS = millis(delay) })
	return state{"alerting", c.alerting}
}

// deviceRefused: 6xx ends the call for all devices (RFC 3261 §21.6); any other
// status ends it for this one. A lost flow is no refusal: the device may be
// woken, or come back.
func (c *Call) deviceRefused(ctx context.Context, d *device, p sip.Progress) state {
	c.rec.step(fmt.Sprint(p.Code, " from device"), d.ID, p.Phrase)
	if p.Local {
		return c.flowLost(ctx, d, p)
	}
	if p.Code == 488 {
		if again, err := c.offerAgain(ctx, d); err != nil {
			return c.over(c.mediaEnding(err))
		} else if again {
			return state{}
		}
	}
	d.heard, d.finished, d.out = true, true, nil
	switch {
	case p.Code >= 600:
		e := EndDeclined.refusedBy(p)
		if p.Code == 600 {
			e = EndBusyEverywhere.refusedBy(p)
		}
		return c.over(e)
	case p.Code == 486:
		c.refused = EndBusy.refusedBy(p)
	case (p.Code == 415 || p.Code == 488) && c.refused.Name != EndBusy.Name:
		c.refused = EndNoCodec.refusedBy(p)
	case c.refused.Name == EndFailed.Name:
		c.refused = EndFailed.refusedBy(p)
	}
	c.nudgeForSleepers(ctx)
	return state{}
}

// takeLate is an event after the answer: outcomes still count, a leg that
// crossed our CANCEL takes care of itself.
func (c *Call) takeLate(ctx context.Context, e *event) {
	switch {
	case e.push != nil:
		c.pushAnswered(ctx, e.dev, e.push)
	case e.roam != nil:
		c.pursue(ctx, e.out, *e.roam)
	}
	switch {
	case e.asked == nil:
	case c.winner != nil && e.out == c.winner.out:
		c.requested(c.ctx, rtp.Device, e.asked)
	default: // another device was faster
		e.asked.Answer(603, "")
	}
}

// hopeless: no device rings, is being pushed, or may still wake or come back.
func (c *Call) hopeless() bool {
	for _, d := range c.devices {
		switch {
		case d.finished:
		case d.pushing, d.woke, d.asleep && !d.overslept(), time.Since(d.orphaned) < orphanTime:
			return false
		case d.out != nil && (d.heard || !d.quiet || !d.sleeps): // else its flow is as good as dead
			return false
		case !d.pushed && c.untried(d): // its binding is about to come from the watch
			return false
		}
	}
	return true
}

// untried: the device has a flow that the call has not tried, or its REGISTER is just being answered.
func (c *Call) untried(d *device) bool {
	for _, b := range c.bridge.loc.Authenticated(c.ext.Name) {
		if b.DeviceID == d.ID && !slices.Contains(d.tried, b.FlowID) && !c.bridge.dial.Heard(b).IsZero() {
			return true
		}
	}
	return false
}

// best is the ending of a call that every device has refused or could not be
// reached for: the refusal of a person outranks the failure of a push.
func (c *Call) best() *Ending {
	refused, spent, silent := false, false, false
	var failed *Ending
	for _, d := range c.devices {
		refused = refused || d.finished
		spent = spent || d.spent
		silent = silent || !d.invited.IsZero()
		if d.pushed && !d.finished {
			failed = likelier(failed, d.pushEnding())
		}
	}
	switch {
	case refused:
		return c.refused
	case c.rang:
		return EndNoAnswer
	case failed != nil:
		return failed
	case spent:
		return EndPushBudget
	case silent:
		return EndDeviceSilent
	}
	return EndNoDevice
}
