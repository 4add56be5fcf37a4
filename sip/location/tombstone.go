package location

import (
	"context"
	"slices"
	"strings"
)

type tombRecord struct {
	Tombstone
	alarm alarm
}

// insertTombstone enters a tombstone into every table. mu is held.
func (l *Service) insertTombstone(t Tombstone) {
	l.takeTombstone(t.Key())
	r := &tombRecord{Tombstone: t}
	l.tombs[t.Key()] = r
	l.account(t.AOR).tombs[t.Key()] = r
	r.alarm.fire = func() {
		l.takeTombstone(t.Key())
		l.writer.dropTombstone(t.Key())
	}
	l.schedule(&r.alarm, t.Expires)
}

// takeTombstone removes a tombstone from every table and reports whether it
// was there. mu is held.
func (l *Service) takeTombstone(key TombstoneKey) bool {
	r := l.tombs[key]
	if r == nil {
		return false
	}
	l.unschedule(&r.alarm)
	delete(l.tombs, key)
	a := l.accounts[r.AOR]
	delete(a.tombs, key)
	l.prune(a)
	return true
}

// Bury keeps a tombstone until it expires or is exhumed; it replaces an earlier
// one of the same call and device. It returns when the tombstone is durable; a
// failing store is logged, the tombstone then lives in memory only.
func (l *Service) Bury(t Tombstone) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.insertTombstone(t)
	f := l.writer.putTombstone(t)
	l.mu.Unlock()
	l.waitLogged(f, "tombstone not stored: it will not survive a restart", t.Key())
}

// Tombstones returns what a device has to be told, oldest expiry first.
func (l *Service) Tombstones(aor, deviceID string) []Tombstone {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[aor]
	if a == nil {
		return nil
	}
	var out []Tombstone
	for _, r := range a.tombs {
		if r.DeviceID == deviceID {
			out = append(out, r.Tombstone)
		}
	}
	slices.SortFunc(out, func(x, y Tombstone) int {
		if c := x.Expires.Compare(y.Expires); c != 0 {
			return c
		}
		return strings.Compare(x.CallUUID, y.CallUUID)
	})
	return out
}

// Exhume claims a tombstone: true once, for the one who tells the device. The
// claim is durable when it returns. If the store fails it stands all the same,
// since a phone that rings for nothing now is worse than one told twice.
func (l *Service) Exhume(callUUID, deviceID string) bool {
	key := TombstoneKey{callUUID, deviceID}
	l.mu.Lock()
	if l.closed || !l.takeTombstone(key) {
		l.mu.Unlock()
		return false
	}
	f := l.writer.dropTombstone(key)
	l.mu.Unlock()
	l.waitLogged(f, "claim of a tombstone not stored: a restart may repeat it", key)
	return true
}

func (l *Service) waitLogged(f *flush, problem string, key TombstoneKey) {
	if err := f.wait(context.Background()); err != nil {
		l.log.Error(problem, "call", key.CallUUID, "device", key.DeviceID, "err", err)
	}
}
