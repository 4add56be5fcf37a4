package bridge

import (
	"context"
	"time"

	"reveille/sip/location"
)

// This file says how long a call waits for a device that sleeps.

const (
	// wakesKnown is how many wake times make a device known. With fewer it has
	// the whole of calls.wake_timeout.
	wakesKnown = 3

	// wakeMargin is added to twice the slowest wake, for devices that are woken in
	// no time from their desk and then carried to where the network is poor.
	wakeMargin = 2 * time.Second
)

// patience is how long a device gets from the accepted push to its REGISTER:
// twice the slowest of its last eight wakes and two seconds, within
// calls.wake_timeout_min and calls.wake_timeout.
//
// One slow wake counts in full: to wait too long costs the caller seconds, to
// wait too short the call. It does no lasting harm, since calls.wake_timeout
// bounds it and eight further wakes make it forgotten. Quick ones (an app that
// was opened by hand just then) can't make the wait too short, since the slowest
// rules.
//
// A push is valid for as long as it is waited for its device: Apple drops it
// then, and so does the app. So a device whose wakes have become slower than
// that never comes, and nothing would be learned of it ever again. A device in
// doubt (see location.Service.Overslept) has the whole of calls.wake_timeout
// therefore: the call after one that it has missed, and then one in four.
func (c Config) patience(d location.Device) time.Duration {
	slowest, n := d.Wakes.Slowest()
	if n < wakesKnown || d.Doubt > 0 {
		return c.WakeTimeout
	}
	return min(max(2*slowest+wakeMargin, c.WakeTimeoutMin), c.WakeTimeout)
}

// learnWake notes a wake time, also of a device that came when its call was
// over: it gets longer next time. Beyond calls.wake_timeout nobody would have
// waited, and it is as likely the user who has opened the app. Both times have a
// monotonic reading, which no clock that is set can change, but for that of a
// tombstone after a restart.
func (b *Bridge) learnWake(aor, deviceID string, took time.Duration) {
	if took > 0 && took <= b.cfg.WakeTimeout {
		b.targets.Woke(aor, deviceID, took)
	}
}

// awake notes that a pushed device has registered.
func (c *Call) awake(d *device, b location.Binding) {
	if d.woke || !d.pushed || d.pushedAt.IsZero() || b.Registered.Before(d.pushedAt) || d.pushedAt.Before(d.orphaned) {
		return
	}
	byPush := d.asleep || d.pushing // else the push has failed, and it came by itself
	d.woke, d.asleep = true, false
	// It has shown that it is there: what it is used to counts no more. One that
	// comes in the last moment gets the time to ring.
	d.until = d.pushedAt.Add(c.bridge.cfg.WakeTimeout)
	if soonest := time.Now().Add(c.bridge.cfg.ProbeTimeout); d.until.Before(soonest) {
		d.until = soonest
	}
	c.rec.step("REGISTER", d.ID, "")
	if byPush {
		d.wake = b.Registered.Sub(d.pushedAt)
		c.bridge.metrics.woke(providerLabel(d.Target.Provider, c.bridge.push.Providers()), d.wake)
		if !d.touched() {
			c.bridge.learnWake(d.AOR, d.ID, d.wake)
		}
		c.rec.woke(d.ID, millis(d.wake))
	}
	c.tellPushes()
}

// touched: what wakes the device is its user, who touches a notification. How
// long that takes says nothing of the next time.
func (d *device) touched() bool { return d.outcome.alert }

// lateWake is awake for a device that comes when its call is over.
func (b *Bridge) lateWake(binding location.Binding, t location.Tombstone) (took time.Duration) {
	if t.Pushed.IsZero() {
		return 0
	}
	took = binding.Registered.Sub(t.Pushed)
	b.learnWake(t.AOR, t.DeviceID, took)
	return took
}

// fellAsleep: a push was accepted, or may have been, and the device is to come
// within its time. Where no answer came to the push a wake is less likely: the
// caller is kept for no longer than a device needs that wakes well. One that does
// not come when another has rung is noticed by a nudge: no other timer runs for
// it then.
func (c *Call) fellAsleep(ctx context.Context, d *device, uncertain bool) {
	if d.woke {
		return
	}
	d.asleep, d.until = true, time.Now().Add(d.patience)
	if uncertain {
		d.until = d.pushedAt.Add(min(d.patience, c.bridge.cfg.WakeTimeoutMin))
	}
	if c.rang {
		c.nudgeAt(ctx, d.until)
	}
}

// nudgeAt has the call look again whether there is hope.
func (c *Call) nudgeAt(ctx context.Context, at time.Time) {
	time.AfterFunc(time.Until(at), func() { c.post(ctx, &event{nudge: true}) })
}

// nudgeForSleepers is for a call that rang, and now hopes for others alone.
func (c *Call) nudgeForSleepers(ctx context.Context) {
	if !c.rang {
		return
	}
	for _, d := range c.devices {
		if d.asleep && !d.overslept() {
			c.nudgeAt(ctx, d.until)
		}
	}
}

// overslept: a push was accepted, and the device has had its time to wake.
func (d *device) overslept() bool { return !time.Now().Before(d.until) }

// hopedFor is until when a device may yet ring; zero: it will not.
func (c *Call) hopedFor(d *device) time.Time {
	cfg := c.bridge.cfg
	switch {
	case d.finished:
		return time.Time{}
	case d.pushing:
		return d.pushedAt.Add(cfg.PushTimeout + d.patience)
	case d.asleep && !d.heard, d.woke:
		return d.until
	case d.out != nil && d.quiet && d.sleeps: // its push has failed
	case d.out != nil:
		// From the first: one that comes by new flows for ever, and says nothing
		// on any, keeps no caller for ever.
		return d.since.Add(cfg.PushTimeout + cfg.WakeTimeout)
	}
	return time.Time{}
}

// patienceLeft is how long a call on which nothing has rung yet waits: for the
// last of the devices that are hoped for.
func (c *Call) patienceLeft() time.Duration {
	var last time.Time
	for _, d := range c.devices {
		if t := c.hopedFor(d); t.After(last) {
			last = t
		}
	}
	return time.Until(last)
}

// tooLate is the ending of a call whose time is up: nobody has answered, or,
// where nothing rang, what is to be said of the devices.
func (c *Call) tooLate(late *Ending) *Ending {
	if c.rang {
		return late
	}
	if e := c.best(); e != EndNoDevice {
		return e
	}
	return late // a device that is awake, and did not ring
}

// wait sets the timer of a call on which nothing has rung yet; false: the time
// is up.
func (c *Call) wait(deadline *time.Timer) bool {
	if c.rang {
		return false
	}
	left := c.patienceLeft()
	if left > 0 {
		deadline.Reset(left)
	}
	return left > 0
}
