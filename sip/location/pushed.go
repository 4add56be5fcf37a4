package location

import "time"

// LastPush is what became of the last push to a device: for who asks why it did
// not ring. It lives in memory, and as long as the device.
type LastPush struct {
	At      time.Time // when its outcome was known
	Outcome string    // as in a call's record: "sent", "gone", ...
	Reason  string    // the push service's, "" if there is none
}

// Pushed notes the outcome of a push to a device ; d is the device as it was
// then. One that has another target by now was not meant.
func (l *Service) Pushed(d Device, p LastPush) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.still(d); r != nil {
		r.pushed = &p
	}
}

// LastPush returns what became of the last push to the device's target; false
// if there was none since the start.
func (l *Service) LastPush(aor, id string) (LastPush, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[aor]; a != nil && a.devices[id] != nil && a.devices[id].pushed != nil {
		return *a.devices[id].pushed, true
	}
	return LastPush{}, false
}
