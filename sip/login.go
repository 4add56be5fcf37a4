package sip

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

const (
	unregisterTimeout = 2 * time.Second // at shutdown; the binding would expire anyway
	backoffFirst      = 2 * time.Second
	backoffMax        = 5 * time.Minute
	backoffRejected   = time.Minute // wrong password: faster would look like an attack
)

// login keeps one address-of-record registered at one server (RFC 3261
// §10.2): it logs in, refreshes at 80 % of what was granted, goes on to the
// server's next target, and backs off with jitter. Between two REGISTERs it is
// a timer and some 1.5 kB, no goroutine, so that thousands may share an uplink.
//
//	start → (REGISTER → wait)* → stop
type login struct {
	cfg    loginConfig
	srv    *Server
	up     *uplink
	client *digestClient
	callID string // one for all REGISTERs of this process (RFC 3261 §10.2.4)
	busy   sync.WaitGroup

	mu       sync.Mutex // guards the following
	ctx      context.Context
	timer    *time.Timer
	stopped  bool
	running  bool // a REGISTER is under way
	repeat   bool // and another is wanted behind it
	failures int
	seq      uint32
	minimum  time.Duration // what a 423 asked for
	contact  *sipgo.Uri    // that the server has now; nil: none
	flow     *flow         // the stream that the binding lives on
	at       target        // where it was made
	state    loginState
}

// loginConfig is who registers where, as whom.
type loginConfig struct {
	registrar sipgo.Uri // its domain becomes the Request-URI
	aor       sipgo.Uri // To and From
	username  string    // of the digest
	password  Secret
	contact   string        // user part of our Contact
	bulk      bool          // all numbers at once (RFC 6140): the Contact has bnc in place of a user
	expires   time.Duration // to ask for
	proxy     string        // URI for Route; "" for none
	// changed is told of every change, one at a time, with no locks held. It
	// must not block. nil for nobody.
	changed func(loginState)
}

// loginState is how a registration stands. The zero State is before start.
type loginState struct {
	State   string    // registering | registered | failed | unregistered
	Up      bool      // a binding is in force: also while a refresh fails, until it expires
	Code    int       // of the last answer; 0: there was none
	Error   string    // in words; no secrets
	Expires time.Time // of the binding
	NextTry time.Time

	ServiceRoute []string // RFC 3608: URIs to route our requests by, as they stand between < and >
	Associated   []string // RFC 7315 P-Associated-URI: the URIs that are ours at that server
}

// newLogin makes a login over an uplink; start begins it.
func newLogin(s *Server, up *uplink, cfg loginConfig) *login {
	return &login{
		cfg: cfg, srv: s, up: up, callID: newTag() + newTag(),
		client: newDigestClient(cfg.username, cfg.password),
	}
}

// start registers after a while (0: now) and keeps registered until ctx ends;
// then stop must be called.
func (r *login) start(ctx context.Context, after time.Duration) {
	r.up.join(r)
	r.mu.Lock()
	r.ctx = ctx
	r.state.State = "registering"
	r.timer = time.AfterFunc(after, r.fire)
	r.mu.Unlock()
}

// stop ends the loop and removes our binding (RFC 3261 §10.2.2); it does not
// insist, and takes 2 s at most once the context of start has ended.
func (r *login) stop() {
	r.mu.Lock()
	r.stopped = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	r.busy.Wait()
	r.up.leave(r)
	if !r.status().Up {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), unregisterTimeout)
	defer cancel()
	if _, err := r.register(ctx, 0); err != nil {
		r.up.log.Info("the registration was not removed; it will expire", "err", err)
	}
	r.set(func(s *loginState) { s.Up, s.State, s.Error = false, "unregistered", "" })
}

// status is how the registration stands now.
func (r *login) status() loginState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// again refreshes a registration that is in force after a while, or sooner if
// that is due. One that fails goes on with its back-off: a server that refuses
// us often closes the connection, and is not to be asked again for that.
func (r *login) again(after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped || r.timer == nil:
	case r.running:
		r.repeat = true
	case r.state.State == "registered" && time.Until(r.state.NextTry) > after:
		r.wake(after)
	}
}

// retry tries a registration that has failed at once, because there is reason
// to believe that the server is back.
func (r *login) retry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped && !r.running && r.timer != nil && r.state.State == "failed" && r.state.Code/100 != 4 {
		r.wake(jitter(time.Second))
	}
}

// lost: the connection has ended. If ours was on it the server may have
// forgotten us: come back soon, but not all at the same instant.
func (r *login) lost(f *flow, spread time.Duration) {
	r.mu.Lock()
	ours := r.flow == f && !r.running // what is under way finds out itself
	r.mu.Unlock()
	if ours {
		r.again(jitter(backoffFirst) + spread)
	}
}

// moved: requests go to another target now, where our binding may be unknown.
func (r *login) moved(t target, after time.Duration) {
	r.mu.Lock()
	stay := r.running || r.at.same(t)
	r.mu.Unlock()
	if !stay {
		r.again(after)
	}
}

// wake sets the timer. The caller holds r.mu.
func (r *login) wake(after time.Duration) {
	r.state.NextTry = time.Now().Add(after)
	r.timer.Reset(after)
}

// fire is the timer's: on the goroutine that it brings a REGISTER is made.
func (r *login) fire() {
	r.mu.Lock()
	if r.stopped || r.running || r.ctx.Err() != nil {
		r.mu.Unlock()
		return
	}
	now := time.Now()
	if left := r.state.NextTry.Sub(now); left > 0 && r.state.Up { // the binding expires before the next try
		r.timer.Reset(left)
		r.mu.Unlock()
		r.set(func(s *loginState) { s.Up = now.Before(s.Expires) })
		return
	}
	r.running, r.repeat = true, false
	ctx := r.ctx
	r.busy.Add(1)
	r.mu.Unlock()
	defer r.busy.Done()
	granted, err := r.register(ctx, r.cfg.expires)
	r.mu.Lock()
	r.running = false
	r.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.failed(err)
		return
	}
	r.succeeded(granted)
}

func (r *login) succeeded(granted grant) {
	r.mu.Lock()
	r.failures = 0
	wait := granted.lifetime * 8 / 10
	gone := r.repeat || r.flow != nil && r.flow.isDead() // it may have ended behind the 200
	if gone {
		wait = min(wait, jitter(backoffFirst))
	}
	if !r.stopped {
		r.timer.Reset(wait)
	}
	r.mu.Unlock()
	r.set(func(s *loginState) {
		now := time.Now()
		s.Up, s.State, s.Code, s.Error = true, "registered", 200, granted.doubt
		s.Expires, s.NextTry = now.Add(granted.lifetime), now.Add(wait)
		s.ServiceRoute, s.Associated = granted.serviceRoute, granted.associated
	})
}

func (r *login) failed(err error) {
	code := 0
	var re *registerError
	if errors.As(err, &re) {
		code = re.code
	}
	r.mu.Lock()
	wait := backoff(r.failures, err)
	if r.repeat && code == 0 { // the server is back, or another, and this one came too early; what it answers counts
		wait = min(wait, jitter(backoffFirst))
	}
	r.failures++
	now := time.Now()
	next := wait
	if left := r.state.Expires.Sub(now); left > 0 && left < wait {
		next = left // to say that it is down
	}
	r.state.NextTry = now.Add(wait)
	if !r.stopped {
		r.timer.Reset(next)
	}
	r.mu.Unlock()
	r.set(func(s *loginState) {
		s.State, s.Code, s.Error = "failed", code, err.Error()
		s.Up = now.Before(s.Expires) // the last registration may still hold
	})
}

// set changes the state and tells of it.
func (r *login) set(change func(*loginState)) {
	r.mu.Lock()
	change(&r.state)
	now := r.state
	r.mu.Unlock()
	now.ServiceRoute, now.Associated = slices.Clone(now.ServiceRoute), slices.Clone(now.Associated)
	if r.cfg.changed != nil {
		r.cfg.changed(now)
	}
}

// backoff doubles from 2 s to 5 min with jitter; a rejected login starts at a
// minute; Retry-After wins where it is longer, up to an hour.
func backoff(failures int, err error) time.Duration {
	d := min(backoffFirst<<min(failures, 10), backoffMax)
	var re *registerError
	if errors.As(err, &re) {
		if re.code == 401 || re.code == 403 || re.code == 407 {
			d = min(backoffRejected<<min(failures, 3), backoffMax)
		}
		d = max(d, min(re.after, time.Hour))
	}
	return jitter(d)
}

// jitter spreads d by a quarter either way, so that a fleet does not come back at once.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(rand.Int64N(int64(d)/2+1))
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
