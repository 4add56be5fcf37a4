package bridge

import "time"

// doubleWindow is how close together the two halves of one call arrive that a
// carrier sent by two trunks.
const doubleWindow = 3 * time.Second

// doubleKey is what two INVITEs of one call have in common.
type doubleKey struct {
	callee, caller string
	proof          uint64
}

type double struct {
	key  doubleKey
	call string
	at   time.Time
}

// doubles knows the calls of the last doubleWindow.
type doubles struct {
	recent []double // oldest first
	calls  map[doubleKey]string
}

// doubled reports whether the call is there already, by another trunk or
// another branch: same caller and callee, and a proof that it is the same call
// (Call-ID, Session-ID, icid-value or origid). Without a proof it is another
// call, and waits as such.
func (b *Bridge) doubled(c *Call) bool {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	d := &b.doubles
	for len(d.recent) > 0 && now.Sub(d.recent[0].at) > doubleWindow {
		if old := d.recent[0]; d.calls[old.key] == old.call {
			delete(d.calls, old.key)
		}
		d.recent = d.recent[1:]
	}
	keys := make([]doubleKey, 0, 4)
	for _, p := range c.in.Proofs() {
		k := doubleKey{c.ext.Name, c.in.Caller().Handle, p}
		if first := d.calls[k]; first != "" && b.calls[first] != nil {
			return true
		}
		keys = append(keys, k)
	}
	if d.calls == nil {
		d.calls = map[doubleKey]string{}
	}
	for _, k := range keys {
		d.calls[k] = c.id
		d.recent = append(d.recent, double{k, c.id, now})
	}
	return false
}
