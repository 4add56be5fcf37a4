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
	pushed  *LastPush // of Target, or of the one that it had; nil: none
}

// insertDevice enters a device into every table. mu is held.
func (l *Service) insertDevice(d Device) *deviceRecord {
	r := &deviceRecord{Device: d, saved: d.Seen}
	l.account(d.AOR).devices[d.ID] = r
	l.claim(r)
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
		l.crowdOut(a)
		r = l.insertDevice(Device{ID: id, AOR: a.aor, Seen: now})
	}
	changed := r.Instance != c.Instance || r.UserAgent != u.UserAgent
	r.Instance, r.UserAgent, r.Seen = c.Instance, u.UserAgent, now
	l.schedule(&r.alarm, now.Add(l.lifetime))
	if c.NoPush && !r.Target.IsZero() {
		return l.untarget(r)
	}
	moved := l.retarget(r, c.Target, now)
	if !c.Target.IsZero() {
		r.Confirmed = now
	}
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

// mostDevices bounds what one password can fill the store with: a phone that
// makes up a new instance at each REGISTER would else leave one for the whole
// lifetime. Ten of them are pushed for a call.
const mostDevices = 100

// crowdOut makes room for a new device where there are too many: the one that
// has not been seen for longest, and is not bound now, is forgotten. mu is held.
func (l *Service) crowdOut(a *account) {
	if len(a.devices) < mostDevices {
		return
	}
	var oldest *deviceRecord
	for _, r := range a.devices {
		if !a.bound(r.ID) && (oldest == nil || r.Seen.Before(oldest.Seen)) {
			oldest = r
		}
	}
	if oldest == nil { // all are bound: Update.MaxContacts is the limit then
		return
	}
	l.log.Warn("device forgotten: its extension has too many; it is the one that has not registered for longest", "aor", a.aor, "device", oldest.ID, "devices", len(a.devices))
	l.dropTarget(a, oldest.ID)
}

// retarget gives a device its target and reports whether that is news. A token
// that belonged to another device, of whichever AOR, leaves it: the REGISTER is
// authenticated, and the phone rings for its present account only. mu is held.
func (l *Service) retarget(r *deviceRecord, t Target, now time.Time) bool {
	old := r.Target
	if t.IsZero() {
		return false
	}
	if sameTarget(t, old) {
		r.Target.Key = t.Key // a target is stated as a whole: without a key it has none
		return t.Key != old.Key
	}
	l.evict(r.key(), t)
	l.release(r)
	r.Target, r.pushed = learned(t, old), nil
	r.Registered, r.Confirmed = now, now
	l.claim(r)
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
	l.release(r)
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

// Device returns one device of an AOR as it is now; false if there is none.
func (l *Service) Device(aor, id string) (Device, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[aor]; a != nil && a.devices[id] != nil {
		return a.devices[id].Device, true
	}
	return Device{}, false
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

// TargetGone forgets a target that its provider has declared dead; d is the
// device as it was when it was pushed. A device that has registered another
// target since keeps it, and so does one that has confirmed this one.
func (l *Service) TargetGone(d Device) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.still(d); r != nil && !r.Confirmed.After(d.Confirmed) {
		a := l.accounts[d.AOR]
		l.dropTarget(a, d.ID)
		l.prune(a)
	}
}

// SetEnvironment notes the provider's environment that the target of a device
// lives in; d is the device as it was when it was pushed.
func (l *Service) SetEnvironment(d Device, environment string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.still(d); r != nil && r.Target.Environment != environment {
		r.Target.Environment = environment
		l.save(r)
	}
}

// HasTarget reports whether a device still has the target that d has, which is
// the device as it was.
func (l *Service) HasTarget(d Device) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.still(d) != nil
}

// still is the device in the table if it has the target that d has, else nil.
// mu is held.
func (l *Service) still(d Device) *deviceRecord {
	a := l.accounts[d.AOR]
	if a == nil {
		return nil
	}
	r := a.devices[d.ID]
	if r == nil || r.Target.IsZero() || !sameTarget(r.Target, d.Target) {
		return nil
	}
	return r
}
