package bridge

import (
	"slices"
	"sync"

	"reveille/sip/location"
)

// maxInsists bounds what is kept of what devices insist on; the rest is asked again.
const maxInsists = 10000

// insists remembers what kind of media a device takes that has refused the first one, so that its next call begins with
// that: each refusal costs the caller a round trip, and some phones a blink of the screen. An app that has been updated
// is asked anew.
type insists struct {
	mu    sync.Mutex // guards the following
	kinds map[insistent]offering
}

// insistent is a device with one version of its app.
type insistent struct{ aor, device, agent string }

func insistentOf(b location.Binding) insistent { return insistent{b.AOR, b.DeviceID, b.UserAgent} }

// note takes the kind that a device has accepted; first is the one that it would be offered without a memory.
func (i *insists) note(b location.Binding, kind, first offering) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if kind == first {
		delete(i.kinds, insistentOf(b))
		return
	}
	if i.kinds == nil {
		i.kinds = map[insistent]offering{}
	}
	if len(i.kinds) >= maxInsists {
		for k := range i.kinds {
			delete(i.kinds, k)
			break
		}
	}
	i.kinds[insistentOf(b)] = kind
}

// order puts what a device insists on first.
func (i *insists) order(b location.Binding, list []offering) []offering {
	i.mu.Lock()
	kind, ok := i.kinds[insistentOf(b)]
	i.mu.Unlock()
	at := slices.Index(list, kind)
	if !ok || at < 0 {
		return list
	}
	return slices.Insert(slices.Delete(list, at, at+1), 0, kind)
}
