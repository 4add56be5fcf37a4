package bridge

import (
	"slices"
	"sync"
	"time"

	"reveille/sip/location"
)

// maxInsists bounds what is kept of what devices insist on; the rest is asked again.
const maxInsists = 10000

// insistTime is how long it is kept: a phone whose user has switched encryption on says nothing of that, and would be
// offered plain RTP for ever.
const insistTime = 24 * time.Hour

// insists remembers what kind of media a device takes that has refused the first one, so that its next call begins with
// that: each refusal costs the caller a round trip, and some phones a blink of the screen. An app that has been updated
// is asked anew.
type insists struct {
	mu    sync.Mutex // guards the following
	kinds map[insistent]insistence
}

// insistence is what a device has taken, and when that was found out.
type insistence struct {
	kind  offering
	since time.Time
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
		i.kinds = map[insistent]insistence{}
	}
	if i.kinds[insistentOf(b)].kind == kind {
		return
	}
	if len(i.kinds) >= maxInsists {
		for k := range i.kinds {
			delete(i.kinds, k)
			break
		}
	}
	i.kinds[insistentOf(b)] = insistence{kind, time.Now()}
}

// order puts what a device insists on first.
func (i *insists) order(b location.Binding, list []offering) []offering {
	i.mu.Lock()
	known := i.kinds[insistentOf(b)]
	if time.Since(known.since) > insistTime {
		delete(i.kinds, insistentOf(b))
		known.kind = 0
	}
	i.mu.Unlock()
	at := slices.Index(list, known.kind)
	if at < 0 {
		return list
	}
	return slices.Insert(slices.Delete(list, at, at+1), 0, known.kind)
}
