// Package bridge turns calls from trunks into pushes and pushes into calls: it
// owns each call from the INVITE to the CDR. call.go is the life of one call.
package bridge

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/push"
	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// locator is what a call needs of the location service.
type locator interface {
	Devices(aor string) []location.Device
	Device(aor, id string) (location.Device, bool)
	HasTarget(d location.Device) bool
	Lookup(aor string) []location.Binding
	Authenticated(aor string) []location.Binding
	Watch(aor string) *location.Watcher
	WatchAll() *location.Watcher
}

// targets is what the outcome of a push changes.
type targets interface {
	TargetGone(d location.Device)
	SetEnvironment(d location.Device, environment string)
	Pushed(d location.Device, p location.LastPush)
	Woke(aor, deviceID string, took time.Duration)
	Overslept(aor, deviceID string, whole bool)
}

// graveyard keeps the tombstones.
type graveyard interface {
	Bury(t location.Tombstone)
	Tombstones(aor, deviceID string) []location.Tombstone
	Exhume(callUUID, deviceID string) bool
}

// dialer invites devices.
type dialer interface {
	Dial(b location.Binding, inv sip.Invitation) (*sip.Outbound, error)
	Heard(b location.Binding) time.Time
	LocalAddress(flowID string) netip.Addr
	PeerAddress(b location.Binding) netip.Addr
	Rejected(reason string)
	Replaced(aor string, r *sip.Replaces) *sip.Outbound
}

// pusher wakes devices.
type pusher interface {
	Send(ctx context.Context, device string, t push.Target, m push.Message) push.Outcome
	Providers() []string // as configured
}

// relay carries the audio.
type relay interface {
	Open(o rtp.SessionOptions) (*rtp.Session, error)
}

// Options are what a Bridge works with besides its configuration.
type Options struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Location   *location.Service
	Dialer     *sip.Server
	Pusher     *push.Sender
	Relay      *rtp.Relay
	CDR        *CDRWriter
	UUIDHeader string // header that carries the call UUID; default X-Call-UUID
}

// Bridge is the sip.Handler: it admits calls, knows the live ones, and drains.
type Bridge struct {
	cfg     Config
	log     *slog.Logger
	loc     locator
	targets targets
	tombs   graveyard
	dial    dialer
	push    pusher
	relay   relay
	cdr     *CDRWriter
	metrics *metrics
	header  string
	budget  *budget
	insists insists
	routes  atomic.Pointer[routes] // replaced by SetExtensions

	work sync.WaitGroup // late devices
	quit chan struct{}  // closed when Run is told to end

	mu        sync.Mutex // guards the following
	stopped   bool
	calls     map[string]*Call
	perTrunk  map[string]int
	perCallee map[string]int
	doubles   doubles
	recent    []Record // ended calls: a ring
	oldest    int      // of the full ring
}

// recentCalls is how many ended calls the API can still show. A Record with
// its timeline is about 2 kB.
const recentCalls = 500

// New builds a bridge over its parts.
func New(cfg Config, extensions []Extension, o Options) (*Bridge, error) {
	r, err := newRoutes(extensions)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.UUIDHeader == "" {
		o.UUIDHeader = "X-Call-UUID"
	}
	b := &Bridge{
		cfg: cfg, log: o.Log, metrics: newMetrics(o.Registerer), header: o.UUIDHeader,
		loc: o.Location, targets: o.Location, tombs: o.Location, dial: o.Dialer, push: o.Pusher, relay: o.Relay, cdr: o.CDR,
		quit: make(chan struct{}), calls: map[string]*Call{}, perTrunk: map[string]int{}, perCallee: map[string]int{}, budget: newBudget(cfg.Limits),
	}
	b.routes.Store(r)
	return b, nil
}

// Run tells devices that come late, until ctx ends; then it stops the calls
// that are left. They end on goroutines of the SIP server's.
func (b *Bridge) Run(ctx context.Context) {
	b.work.Go(func() { b.tellLate(ctx) })
	<-ctx.Done()
	close(b.quit)
	b.mu.Lock()
	b.stopped = true
	for _, c := range b.calls {
		c.cancel(EndShutdown)
	}
	b.mu.Unlock()
	b.work.Wait()
}

// Incoming is sip.Handler: one call, from the INVITE to the CDR.
func (b *Bridge) Incoming(in *sip.Inbound) { b.admit(in).run() }

func (b *Bridge) admit(in *sip.Inbound) *Call {
	c := newCall(b, in)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls[c.id] = c
	b.perTrunk[in.Trunk().Name()]++
	if b.stopped {
		c.cancel(EndShutdown)
	}
	return c
}

func (b *Bridge) forget(c *Call) {
	rec := c.rec.snapshot()
	if c.counted != nil {
		b.leaveRoom(c.counted)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.calls, c.id)
	name := c.in.Trunk().Name()
	if b.perTrunk[name]--; b.perTrunk[name] == 0 {
		delete(b.perTrunk, name)
	}
	if len(b.recent) < recentCalls {
		b.recent = append(b.recent, rec)
		return
	}
	b.recent[b.oldest] = rec
	b.oldest = (b.oldest + 1) % recentCalls
}

// full reports whether the trunk has more calls than its max_calls allows; the
// call that asks is counted already.
func (b *Bridge) full(t *sip.Trunk) bool {
	limit := t.Config().MaxCalls
	b.mu.Lock()
	defer b.mu.Unlock()
	return limit > 0 && b.perTrunk[t.Name()] > limit
}

// Active is the number of live calls.
func (b *Bridge) Active() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls)
}

// Calls lists the live calls and then the recent ones, newest first in each.
func (b *Bridge) Calls() []Record {
	b.mu.Lock()
	live := make([]*Call, 0, len(b.calls))
	for _, c := range b.calls {
		live = append(live, c)
	}
	recent := b.ended()
	b.mu.Unlock()
	out := make([]Record, 0, len(live)+len(recent))
	for _, c := range live {
		out = append(out, c.rec.snapshot())
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Start.After(out[j].Start) })
	return append(out, recent...)
}

// ended copies the recent calls, newest first. The caller holds b.mu.
func (b *Bridge) ended() []Record {
	out := make([]Record, 0, len(b.recent))
	for i := len(b.recent) - 1; i >= 0; i-- {
		out = append(out, b.recent[(b.oldest+i)%len(b.recent)])
	}
	return out
}

// Call finds a live or recent call by its UUID.
func (b *Bridge) Call(id string) (Record, bool) {
	b.mu.Lock()
	c := b.calls[id]
	recent := b.ended()
	b.mu.Unlock()
	if c != nil {
		return c.rec.snapshot(), true
	}
	for _, r := range recent {
		if r.Call == id {
			return r, true
		}
	}
	return Record{}, false
}

// ErrNoCall: the call is not live.
var ErrNoCall = errors.New("no live call has this UUID")

// Hangup ends a live call on an administrator's word.
func (b *Bridge) Hangup(id string) error {
	b.mu.Lock()
	c := b.calls[id]
	b.mu.Unlock()
	if c == nil {
		return ErrNoCall
	}
	c.cancel(EndByAdmin)
	return nil
}

// Drain waits until no call is live or ctx ends; it reports how many are left.
func (b *Bridge) Drain(ctx context.Context) int {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for b.Active() > 0 {
		select {
		case <-ctx.Done():
			return b.Active()
		case <-tick.C:
		}
	}
	return 0
}

func pushTarget(t location.Target) push.Target {
	return push.Target{Provider: t.Provider, Param: t.Param, PRID: t.PRID, Environment: t.Environment, Key: t.Key}
}
