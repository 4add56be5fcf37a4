package ng

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"
)

// How a daemon's health is found out. Three pings a second apart: a daemon that is started anew by its system is back
// before that, and one that is gone costs no more than a few calls a try elsewhere.
const (
	pingEvery = time.Second
	maxMissed = 3
)

// ErrNoEngine says that no daemon can take a call: all are out, or drained.
var ErrNoEngine = errors.New("no rtpengine takes calls now")

// Target is a daemon as configured.
type Target struct {
	URL   string // udp://HOST:PORT
	Drain bool   // it gets no new calls
}

// HostPort reads the URL of a daemon: udp://HOST:PORT.
func HostPort(text string) (string, error) {
	u, err := url.Parse(text)
	if err == nil && u.Scheme == "udp" && u.Hostname() != "" && u.Port() != "" && u.User == nil && u.Path == "" && u.RawQuery == "" && u.Fragment == "" {
		if _, err := net.LookupPort("udp", u.Port()); err == nil {
			return u.Host, nil
		}
	}
	return "", fmt.Errorf("%q is no address of an rtpengine; write udp://HOST:PORT, where it has its listen-ng, such as udp://127.0.0.1:2223", text)
}

// Status is how a daemon is.
type Status struct {
	URL   string
	Up    bool
	Drain bool
	Since time.Time // of Up, or of its opposite
	Calls int       // of ours
	Cause string    // why it is not up
}

// Options are what a Pool works with. All may be zero.
type Options struct {
	Log    *slog.Logger
	Dial   Dial
	Result func(engine, command, result string) // is told of each request: "ok", "refused" or "failed"
}

// Pool has several daemons. Its methods may be called from any goroutine.
type Pool struct {
	options Options
	ctx     context.Context // the pings' lifetime
	end     context.CancelFunc
	pings   sync.WaitGroup

	mu      sync.Mutex // guards the following, and the fields of the engines that say so
	engines []*Engine
	turn    int
	closed  bool
}

// Engine is one daemon of a Pool.
type Engine struct {
	pool   *Pool
	url    string
	client *Client
	stop   context.CancelFunc // of its pings

	// Guarded by the pool's mu.
	drain  bool
	gone   bool // no longer configured
	up     bool
	since  time.Time
	missed int
	calls  int
	cause  string
}

// NewPool makes a pool and begins to ping. Until the first ping has failed, an engine counts as well.
func NewPool(targets []Target, o Options) (*Pool, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Result == nil {
		o.Result = func(string, string, string) {}
	}
	p := &Pool{options: o}
	p.ctx, p.end = context.WithCancel(context.Background())
	if err := p.Set(targets); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// Set replaces the daemons. Those that stay keep their calls and their state; one that goes keeps its calls until they end.
// On error nothing changes.
func (p *Pool) Set(targets []Target) error {
	for _, t := range targets {
		if _, err := HostPort(t.URL); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.engines {
		e.gone = !slices.ContainsFunc(targets, func(t Target) bool { return t.URL == e.url })
	}
	for _, t := range targets {
		i := slices.IndexFunc(p.engines, func(e *Engine) bool { return e.url == t.URL })
		if i < 0 {
			i = len(p.engines)
			p.engines = append(p.engines, p.newEngine(t.URL))
		}
		p.engines[i].drain = t.Drain
	}
	p.sweepLocked()
	return nil
}

func (p *Pool) newEngine(address string) *Engine {
	host, _ := HostPort(address) // it was read before
	e := &Engine{pool: p, url: address, client: NewClient(host, p.options.Dial), up: true, since: time.Now()}
	ctx, stop := context.WithCancel(p.ctx)
	e.stop = stop
	p.pings.Go(func() { e.watch(ctx) })
	return e
}

// sweepLocked forgets engines that are not configured any more and have no calls left.
func (p *Pool) sweepLocked() {
	p.engines = slices.DeleteFunc(p.engines, func(e *Engine) bool {
		over := e.gone && e.calls == 0
		if over {
			e.stop()
		}
		return over
	})
}

// Take gives a call to a daemon: the one with the fewest of our calls among those that answer. Release is for its end.
func (p *Pool) Take() (*Engine, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++ // among equals each has its turn
	var best *Engine
	for i := range p.engines {
		e := p.engines[(i+p.turn)%len(p.engines)]
		if e.up && !e.drain && !e.gone && (best == nil || e.calls < best.calls) {
			best = e
		}
	}
	if best == nil || p.closed {
		return nil, fmt.Errorf("%w: %s", ErrNoEngine, p.whyLocked())
	}
	best.calls++
	return best, nil
}

// whyLocked says of each daemon why it takes no calls.
func (p *Pool) whyLocked() string {
	text := ""
	for _, e := range p.engines {
		cause := e.cause
		if e.up {
			cause = "is drained"
		}
		text += "; " + e.url + " " + cause
	}
	return cmp.Or(text, "; none is configured")[2:]
}

// Statuses tells how each daemon is, in the order of the configuration.
func (p *Pool) Statuses() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Status
	for _, e := range p.engines {
		out = append(out, e.statusLocked())
	}
	return out
}

// Close ends the pings and all requests, and waits for what runs.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	engines := p.engines
	p.mu.Unlock()
	p.end()
	for _, e := range engines {
		e.client.Close()
	}
	p.pings.Wait()
}

// URL is the daemon's, as configured.
func (e *Engine) URL() string { return e.url }

// Up reports whether the daemon answers, and if not, why.
func (e *Engine) Up() (up bool, cause string) {
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	return e.up, e.cause
}

func (e *Engine) statusLocked() Status {
	return Status{URL: e.url, Up: e.up, Drain: e.drain || e.gone, Since: e.since, Calls: e.calls, Cause: e.cause}
}

// Release ends a call's place that Take gave.
func (e *Engine) Release() {
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	e.calls--
	e.pool.sweepLocked()
}

// Do asks the daemon; see Client.Do. One that is out is not asked. One that gives no answer is out at once: each call
// would have to wait for it anew.
func (e *Engine) Do(ctx context.Context, command string, args Dict) (Dict, error) {
	if up, cause := e.Up(); !up {
		return nil, fmt.Errorf("%w: %s %s", ErrNoAnswer, e.url, cause)
	}
	answer, err := e.client.Do(ctx, command, args)
	e.pool.options.Result(e.url, command, result(err))
	if errors.Is(err, ErrNoAnswer) {
		e.missedOne(err, maxMissed)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", e.url, command, err)
	}
	return answer, nil
}

// result is what became of a request, for metrics.
func result(err error) string {
	var refusal *Refusal
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refusal):
		return "refused"
	}
	return "failed"
}

// watch pings until ctx ends.
func (e *Engine) watch(ctx context.Context) {
	defer e.client.Close()
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		e.ping(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *Engine) ping(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, pingEvery)
	defer cancel()
	_, err := e.client.Do(within, "ping", nil)
	if ctx.Err() != nil {
		return
	}
	e.pool.options.Result(e.url, "ping", result(err))
	if err != nil {
		e.missedOne(err, 1)
		e.client.Reset() // its name may have moved
		return
	}
	e.pool.mu.Lock()
	e.missed = 0
	back := !e.up
	if back {
		e.up, e.since, e.cause = true, time.Now(), ""
	}
	e.pool.mu.Unlock()
	if back {
		e.pool.options.Log.Info("rtpengine answers again and takes calls", "engine", e.url)
	}
}

// missedOne counts missed answers; too many put the daemon out.
func (e *Engine) missedOne(err error, n int) {
	if errors.Is(err, ErrClosed) {
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = ErrNoAnswer
	}
	e.pool.mu.Lock()
	e.missed += n
	out := e.up && e.missed >= maxMissed
	if out {
		e.up, e.since = false, time.Now()
		e.cause = "does not answer: " + err.Error()
	}
	calls := e.calls
	e.pool.mu.Unlock()
	if out {
		e.pool.options.Log.Error("rtpengine does not answer: new calls go to another", "engine", e.url, "calls", calls, "err", err)
	}
}
