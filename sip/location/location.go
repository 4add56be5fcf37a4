// Package location knows where the devices of an AOR are: the bindings that
// their REGISTERs made (RFC 3261 §10, RFC 5626), and the push targets that
// wake them when there is no binding (RFC 8599).
//
// Bindings live in memory, because the flows they stand on die with the
// process. Devices, their targets and tombstones are kept in a Store and are
// durable before the REGISTER that made them is answered.
package location

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Errors of Put. The update has changed nothing then.
var (
	// ErrStaleCSeq: a binding was set by the same Call-ID with this CSeq or a
	// higher one (RFC 3261 §10.3 step 7).
	ErrStaleCSeq = errors.New("CSeq is not higher than that of the binding it would change")
	// ErrTooManyContacts: the AOR would have more than Update.MaxContacts.
	ErrTooManyContacts = errors.New("too many contacts for one address-of-record")
	// ErrClosed: the Service has been closed.
	ErrClosed = errors.New("location is closed")
)

// DeviceLifetime is how long a device is kept after its last REGISTER.
// Expired Contacts are normal for phones that sleep for weeks.
const DeviceLifetime = 90 * 24 * time.Hour

// seenGrain is how old the stored Seen of a device may be before a REGISTER
// that changes nothing else is worth a disk write.
const seenGrain = time.Hour

// Options of a Service. All may be zero.
type Options struct {
	Log            *slog.Logger
	Registerer     prometheus.Registerer // nil: no metrics
	DeviceLifetime time.Duration         // 0: DeviceLifetime
	// Providers are the push services whose devices are counted by their names,
	// beside apns and fcm; nil: there are no others. It is asked at each count.
	Providers func() []string
}

// Service is the location service. Its methods may be called from any
// goroutine, and none but Put, Bury and Exhume waits for the disk.
type Service struct {
	log      *slog.Logger
	lifetime time.Duration
	services func() []string // Options.Providers
	writer   *writer
	done     chan struct{} // closed by Close
	children sync.WaitGroup

	mu       sync.Mutex // guards the following
	closed   bool
	accounts map[string]*account             // by AOR
	flows    map[string]map[*record]struct{} // bindings by flow id
	idle     func(flowID string)             // see OnIdleFlow
	tokens   map[token]*deviceRecord         // one push token belongs to one device
	tombs    map[TombstoneKey]*tombRecord
	everyone map[*Watcher]struct{} // who watches all AORs
	alarms   alarms                // what expires next
	rings    time.Time             // when timer rings next
	timer    *time.Timer           // rings at alarms[0]
}

// account is all that belongs to one AOR.
type account struct {
	aor      string
	bindings map[string]*record // by binding key
	devices  map[string]*deviceRecord
	tombs    map[TombstoneKey]*tombRecord
	watchers map[*Watcher]struct{}
	held     bool // an update is at work on it
}

// record is a binding in the table. It is replaced, never changed, except for
// visible: a new binding stays out of sight until its change is published.
type record struct {
	Binding
	key     string
	uriKey  string
	visible bool
	alarm   alarm
}

// New loads the store and returns the service over it. The Service owns the
// store from then on and closes it.
func New(store Store, o Options) (*Service, error) {
	l := &Service{
		log:      o.Log,
		lifetime: o.DeviceLifetime,
		services: o.Providers,
		done:     make(chan struct{}),
		accounts: map[string]*account{},
		flows:    map[string]map[*record]struct{}{},
		tokens:   map[token]*deviceRecord{},
		tombs:    map[TombstoneKey]*tombRecord{},
		everyone: map[*Watcher]struct{}{},
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.lifetime == 0 {
		l.lifetime = DeviceLifetime
	}
	if l.services == nil {
		l.services = func() []string { return nil }
	}
	l.writer = newWriter(l, store)
	snapshot, err := store.Load()
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(collector{l}); err != nil {
			return nil, errors.Join(fmt.Errorf("register the location metrics: %w", err), store.Close())
		}
	}
	l.restore(snapshot)
	l.children.Go(l.writer.run)
	return l, nil
}

// restore fills the tables with what the store remembers.
func (l *Service) restore(s Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	// Who has confirmed a token last has it. Two may have one where an older
	// version wrote them, which took its spellings for different tokens.
	slices.SortFunc(s.Devices, func(x, y Device) int { return x.Confirmed.Compare(y.Confirmed) })
	for _, d := range s.Devices {
		if d.Seen.Add(l.lifetime).After(now) {
			l.evict(d.key(), d.Target)
			l.insertDevice(d)
		} else {
			l.writer.dropDevice(d.key())
		}
	}
	for _, t := range s.Tombstones {
		if t.Expires.After(now) {
			l.insertTombstone(t)
		} else {
			l.writer.dropTombstone(t.Key())
		}
	}
}

// Close flushes what is not yet on disk, ends every watch and closes the store.
func (l *Service) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	close(l.done)
	l.children.Wait()
	return l.writer.close()
}

// account returns the AOR's tables, made if need be. mu is held.
func (l *Service) account(aor string) *account {
	a := l.accounts[aor]
	if a == nil {
		a = &account{
			aor:      aor,
			bindings: map[string]*record{},
			devices:  map[string]*deviceRecord{},
			tombs:    map[TombstoneKey]*tombRecord{},
			watchers: map[*Watcher]struct{}{},
		}
		l.accounts[aor] = a
	}
	return a
}

// prune forgets an account that holds nothing. mu is held.
func (l *Service) prune(a *account) {
	if !a.held && len(a.bindings)+len(a.devices)+len(a.tombs)+len(a.watchers) == 0 {
		delete(l.accounts, a.aor)
	}
}

// Lookup returns the AOR's visible bindings: highest q first, then newest.
func (l *Service) Lookup(aor string) []Binding {
	return l.lookup(aor, func(r *record) bool { return r.visible })
}

// Authenticated is Lookup with the bindings of REGISTERs that are being answered: their devices have proved who they
// are, and what they send next, or a call to them, may overtake Publish.
func (l *Service) Authenticated(aor string) []Binding {
	return l.lookup(aor, func(*record) bool { return true })
}

func (l *Service) lookup(aor string, want func(*record) bool) []Binding {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[aor]
	if a == nil {
		return nil
	}
	return a.list(want)
}

// HasFlow reports whether a visible binding stands on a flow.
func (l *Service) HasFlow(flowID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.flows[flowID] {
		if r.visible {
			return true
		}
	}
	return false
}

// FlowClosed removes the bindings that stood on a flow. Their devices stay, and
// so do bindings behind a proxy: it can be connected to again.
func (l *Service) FlowClosed(flowID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.flows[flowID] {
		if r.Path == "" {
			l.remove(r)
		}
	}
}

// remove takes a binding out of every table. mu is held.
func (l *Service) remove(r *record) {
	a := l.accounts[r.AOR]
	l.detach(r)
	delete(a.bindings, r.key)
	for w := range l.watching(a) {
		w.drop(r)
	}
	l.forgetIdle(a, r.DeviceID)
	l.prune(a)
}

// detach undoes attach. mu is held.
func (l *Service) detach(r *record) {
	l.unschedule(&r.alarm)
	on := l.flows[r.FlowID]
	delete(on, r)
	if len(on) > 0 {
		return
	}
	delete(l.flows, r.FlowID)
	if l.idle != nil {
		l.idle(r.FlowID)
	}
}

// OnIdleFlow has f called whenever the last binding of a flow has gone, so that
// its keeper can forget it. f must not block nor call the Service.
func (l *Service) OnIdleFlow(f func(flowID string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = f
}

// attach enters a binding into every table, in place of one with its key. mu is held.
func (l *Service) attach(a *account, r *record) {
	if l.flows[r.FlowID] == nil {
		l.flows[r.FlowID] = map[*record]struct{}{}
	}
	l.flows[r.FlowID][r] = struct{}{} // before its old one goes: the flow is not idle
	if old := a.bindings[r.key]; old != nil {
		// Same flow and Contact: whoever uses it now may go on using it.
		r.visible = old.visible && old.FlowID == r.FlowID && old.Contact == r.Contact
		l.detach(old)
		if !r.visible {
			for w := range l.watching(a) {
				w.drop(old)
			}
		}
	}
	a.bindings[r.key] = r
	r.alarm.fire = func() { l.remove(r) }
	l.schedule(&r.alarm, r.Expires)
}
