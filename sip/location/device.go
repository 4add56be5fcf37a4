package location

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// deviceRecord is a device in the table. Only devices with a target are stored:
// without one a device can't be woken, and is known as long as it is bound.
type deviceRecord struct {
	Device
	saved   time.Time // Seen as stored
	durable *flush    // the write that stored Target; nil: loaded from the store
	alarm   alarm
}

// insertDevice enters a device into every table. mu is held.
func (l *Service) insertDevice(d Device) *deviceRecord {
	r := &deviceRecord{Device: d, saved: d.Seen}
	l.account(d.AOR).devices[d.ID] = r
	if !d.Target.IsZero() {
		l.tokens[d.Target.token()] = r
	}
	r.alarm.fire = func() { l.outlived(r) }
	l.schedule(&r.alarm, d.Seen.Add(l.lifetime))
	return r
}

// outlived is the end of a device's lifetime. mu is held.
func (l *Service) outlived(r *deviceRecord) {
	a := l.accounts[r.AOR]
	if a.bound(r.ID) { // a registration longer than the lifetime
		l.schedule(&r.alarm, time.Now().Add(l.lifetime))
		return
	}
	l.log.Info("device forgotten: it has not registered for its whole lifetime", "aor", r.AOR, "device", r.ID)
	l.dropTarget(a, r.ID)
	l.prune(a)
}

// touch notes that a device has registered, with its target if the Contact has
// one. It returns the write that makes the target durable, which may be an
// earlier one, or nil. mu is held.
func (l *Service) touch(a *account, u Update, c Contact, now time.Time) *flush {
	id := c.DeviceID()
	r := a.devices[id]
	if r == nil {
		r = l.insertDevice(Device{ID: id, AOR: a.aor, Seen: now})
	}
	changed := r.Instance != c.Instance || r.UserAgent != u.UserAgent
	r.Instance, r.UserAgent, r.Seen = c.Instance, u.UserAgent, now
	l.schedule(&r.alarm, now.Add(l.lifetime))
	if c.NoPush && !r.Target.IsZero() {
		return l.untarget(r)
	}
	moved := l.retarget(r, c.Target, now)
	switch {
	case r.Target.IsZero():
		return nil
	case moved || r.durable.failed():
		r.durable = l.save(r)
	case changed || now.Sub(r.saved) > seenGrain:
		l.save(r) // no one needs to wait for this
	}
	return r.durable
}

// retarget gives a device its target and reports whether that is news. A token
// that belonged to another device, of whichever AOR, leaves it: the REGISTER is
// authenticated, and the phone rings for its present account only. mu is held.
func (l *Service) retarget(r *deviceRecord, t Target, now time.Time) bool {
	old := r.Target
	if t.IsZero() {
		return false
	}
	if t.token() == old.token() && t.Param == old.Param {
		r.Target.Key = t.Key // a target is stated as a whole: without a key it has none
		return t.Key != old.Key
	}
	if other := l.tokens[t.token()]; other != nil && other != r {
		l.log.Info("push target moved to another device", "aor", r.AOR, "device", r.ID,
			"from_aor", other.AOR, "from_device", other.ID)
		if a := l.accounts[other.AOR]; a != nil {
			l.dropTarget(a, other.ID)
			l.prune(a)
		}
	}
	if !old.IsZero() {
		delete(l.tokens, old.token())
	}
	r.Target, r.Registered = t, now
	l.tokens[t.token()] = r
	return true
}

// save queues the device for the store. mu is held.
func (l *Service) save(r *deviceRecord) *flush {
	r.saved = r.Seen
	return l.writer.putDevice(r.Device)
}

// dropTarget takes a device's target away, and the device with it if it is not
// bound. It returns what to wait for, or nil. mu is held.
func (l *Service) dropTarget(a *account, id string) *flush {
	r := a.devices[id]
	if r == nil {
		return nil
	}
	var durable *flush
	if !r.Target.IsZero() {
		durable = l.untarget(r)
	}
	l.forgetIdle(a, id)
	return durable
}

// untarget takes the target off a device that has one. mu is held.
func (l *Service) untarget(r *deviceRecord) *flush {
	delete(l.tokens, r.Target.token())
	r.Target = Target{}
	return l.writer.dropDevice(r.key())
}

// forgetIdle removes a device that has neither binding nor target. mu is held.
func (l *Service) forgetIdle(a *account, id string) {
	r := a.devices[id]
	if r != nil && r.Target.IsZero() && !a.bound(id) {
		l.unschedule(&r.alarm)
		delete(a.devices, id)
	}
}

// Devices returns the AOR's devices, longest known target first.
func (l *Service) Devices(aor string) []Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[aor]
	if a == nil {
		return nil
	}
	return a.appendDevices(nil)
}

// AllDevices returns the devices of every AOR, sorted by AOR.
func (l *Service) AllDevices() []Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Device
	for _, a := range l.accounts {
		out = a.appendDevices(out)
	}
	slices.SortStableFunc(out, func(x, y Device) int { return strings.Compare(x.AOR, y.AOR) })
	return out
}

func (a *account) appendDevices(out []Device) []Device {
	first := len(out)
	for _, r := range a.devices {
		out = append(out, r.Device)
	}
	slices.SortFunc(out[first:], func(x, y Device) int {
		return cmp.Or(x.Registered.Compare(y.Registered), strings.Compare(x.ID, y.ID))
	})
	return out
}

// DropTarget forgets a device's push target, whichever it is.
func (l *Service) DropTarget(aor, deviceID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[aor]; a != nil {
		l.dropTarget(a, deviceID)
		l.prune(a)
	}
}

// TargetGone forgets a target that its provider has declared dead, unless the
// device has registered another one in the meantime.
func (l *Service) TargetGone(aor, deviceID string, dead Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[aor]
	if a == nil {
		return
	}
	if r := a.devices[deviceID]; r != nil && r.Target.token() == dead.token() {
		l.dropTarget(a, deviceID)
		l.prune(a)
	}
}

// SetEnvironment notes the provider's environment that a device's target lives in.
func (l *Service) SetEnvironment(aor, deviceID, environment string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[aor]
	if a == nil {
		return
	}
	r := a.devices[deviceID]
	if r == nil || r.Target.IsZero() || r.Target.Environment == environment {
		return
	}
	r.Target.Environment = environment
	l.save(r)
}
