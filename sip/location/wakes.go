package location

import (
	"encoding/json"
	"time"
)

// Wakes are the last wake times of a device, from the push to the REGISTER that
// it brought, the newest first; 0 is none. They are kept in hundredths of a
// second: 16 bytes a device.
type Wakes [8]uint16

// wakeGrain is the unit of Wakes; maxWake the longest that fits, 10 minutes and
// 55 seconds, which is beyond every wait there is (calls.wake_timeout).
const (
	wakeGrain = 10 * time.Millisecond
	maxWake   = 1<<16*wakeGrain - wakeGrain
)

// Add gives the wake times with one more, at the cost of the oldest. What no
// wake can have taken is left out: a clock has jumped then.
func (w Wakes) Add(took time.Duration) Wakes {
	if took <= 0 || took > maxWake {
		return w
	}
	copy(w[1:], w[:])
	w[0] = uint16(max(1, (took+wakeGrain/2)/wakeGrain))
	return w
}

// Slowest is the longest of the wake times, and how many there are.
func (w Wakes) Slowest() (longest time.Duration, n int) {
	for _, took := range w {
		if took > 0 {
			n++
			longest = max(longest, time.Duration(took)*wakeGrain)
		}
	}
	return longest, n
}

// List gives the wake times, the newest first.
func (w Wakes) List() []time.Duration {
	var list []time.Duration
	for _, took := range w {
		if took > 0 {
			list = append(list, time.Duration(took)*wakeGrain)
		}
	}
	return list
}

// MarshalJSON writes them as [93, 87]: hundredths of a second, newest first.
func (w Wakes) MarshalJSON() ([]byte, error) {
	list := make([]uint16, 0, len(w))
	for _, took := range w {
		if took > 0 {
			list = append(list, took)
		}
	}
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON writes; what does not fit is left out,
// since a device must not be lost for it.
func (w *Wakes) UnmarshalJSON(data []byte) error {
	*w = Wakes{}
	var list []float64
	if json.Unmarshal(data, &list) != nil {
		return nil
	}
	n := 0
	for _, took := range list {
		if took >= 1 && took < 1<<16 && n < len(w) {
			w[n] = uint16(took)
			n++
		}
	}
	return nil
}

// Woke notes how long a device took from its push to its REGISTER. It waits for
// no disk and asks for no write of its own: the wake time goes with the next one
// that there is, at the latest when the Service closes. A crash may cost the
// last ones, and with them no more than a longer wait.
func (l *Service) Woke(aor, deviceID string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[aor]
	if a == nil || l.closed {
		return
	}
	r := a.devices[deviceID]
	if r == nil {
		return
	}
	r.Wakes, r.Doubt = r.Wakes.Add(took), 0
	if !r.Target.IsZero() { // only those are stored
		l.writer.alongDevice(r.Device)
	}
}

// wholeWaits is in how many waits in vain a device gets all the time there is.
const wholeWaits = 4

// Overslept notes that a device has not come in the time that it was waited
// for, after a push that was accepted; whole: that was all the time there is.
// After a shorter one Doubt is above 0, for one whole wait: then it is off, more
// likely, and doubted again after three further calls.
func (l *Service) Overslept(aor, deviceID string, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[aor]
	if a == nil || a.devices[deviceID] == nil {
		return
	}
	r := a.devices[deviceID]
	if whole {
		r.Doubt = 2 - wholeWaits
	} else {
		r.Doubt = min(r.Doubt+1, 1)
	}
}
