package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	retryAfterFailure = 300 * time.Millisecond // long enough for a fresh connection, short enough for a call
	maxAttempts       = 2
)

// Options are what a Sender needs beside its configuration.
type Options struct {
	Log        *slog.Logger          // nil: slog.Default()
	Registerer prometheus.Registerer // nil: no metrics
	// Dial opens the providers' connections; nil: the real network. Tests give
	// the in-memory one.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// LogTo is where pushes are printed when no provider is configured; nil:
	// standard output.
	LogTo io.Writer

	// What outlives a reload.
	accounts    *accounts
	fcmAccounts *fcmAccounts
	kept        *kept // other providers
}

// Sender delivers pushes: it sends each call to each device once, retries
// within the call's deadline, and knows which provider serves whom. It is safe
// for concurrent use.
type Sender struct {
	log      *slog.Logger
	options  Options
	metrics  *metrics
	accepted *dedupe
	alarms   *alarms

	reloading sync.Mutex // one reload at a time
	stop      chan struct{}
	tasks     sync.WaitGroup

	mu       sync.Mutex // guards the following
	now      *set
	watching bool
	closed   bool
}

// NewSender makes the configured providers and starts connecting to them. With
// none configured, pushes are printed.
func NewSender(cfg Config, o Options) (*Sender, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.LogTo == nil {
		o.LogTo = os.Stdout
	}
	if err := cfg.first(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	o.accounts, o.fcmAccounts, o.kept = newAccounts(o.Dial, o.Log), newFCMAccounts(o.Dial, o.Log), &kept{}
	s := &Sender{log: o.Log, options: o, metrics: m, accepted: newDedupe(dedupeFor, dedupeMost),
		alarms: newAlarms(o.Log, m), stop: make(chan struct{})}
	if s.now, err = newSet(cfg, o); err != nil {
		return nil, err
	}
	s.alarms.look(s.now.expiries, time.Now())
	s.watch()
	return s, nil
}

// newProviders makes what is configured. On error the ones that were made are
// returned too, to be closed.
func newProviders(cfg Config, o Options) (made []Provider, err error) {
	if len(cfg.APNs) > 0 {
		a, err := newAPNs(cfg.APNs, o.accounts)
		if err != nil {
			return made, err
		}
		made = append(made, a)
	}
	if len(cfg.FCM) > 0 {
		f, err := newFCM(cfg.FCM, o.fcmAccounts)
		if err != nil {
			return made, err
		}
		made = append(made, f)
	}
	for _, cfg := range cfg.Webhook {
		w, err := o.kept.use(cfg, cfg.files(), func() (Provider, error) { return newWebhook(cfg, o.Dial) })
		if err != nil {
			return made, err
		}
		made = append(made, w)
	}
	if len(made) == 0 {
		l, err := newLogProvider(o.LogTo)
		return []Provider{l}, err
	}
	return made, nil
}

// Close ends the providers' connections. Pushes under way fail.
func (s *Sender) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	now := s.now
	s.mu.Unlock()
	now.close()
	s.tasks.Wait()
}

// Providers are the pn-provider values served here, for Feature-Caps.
func (s *Sender) Providers() []string { return s.current().names() }

// Supports says whether a device with this pn-provider and pn-param can be
// woken. The log provider takes every device.
func (s *Sender) Supports(provider, param string) bool {
	p := s.current().provider(provider)
	return p != nil && p.Serves(param)
}

// Send pushes the call m to a device and returns when the provider has
// accepted or finally refused, or when ctx ends.
//
// A call is accepted at most once per device: while a push is under way, and
// for minutes after it was accepted (or may have been), another Send for the
// same m.UUID and device waits for and returns that outcome, as Duplicate if
// it was accepted. After a clear failure a later Send tries again. A message
// with Again counts by itself.
func (s *Sender) Send(ctx context.Context, device string, t Target, m Message) Outcome {
	start := time.Now()
	set := s.hold()
	defer s.release(set)
	p := set.provider(t.Provider)
	if p == nil {
		return s.finish("none", m, device, Outcome{Verdict: Refused, Alarm: true, Reason: "UnknownProvider",
			Err: fmt.Errorf("pn-provider %q is not configured: add it under push", clean(t.Provider, 32))}, start)
	}
	key := keyOf(m.UUID, device)
	if m.Again {
		key = keyOf(m.UUID, device+"\x00again")
	}
	for {
		e, mine := s.accepted.claim(key, start)
		if mine {
			out := t.redacted(s.guard(ctx, key, e, p, t, m))
			return s.finish(p.Name(), m, device, out, start)
		}
		select {
		case <-e.done:
		case <-ctx.Done():
			return s.finish(p.Name(), m, device, Outcome{Verdict: Failed, Reason: "Deadline", Err: ctx.Err()}, start)
		}
		if abandoned(e.out) && ctx.Err() == nil {
			continue // the one who sent gave up before anything left; we need not
		}
		out := t.redacted(e.out)
		out.Duplicate = out.Verdict == Sent
		return s.finish(p.Name(), m, device, out, start)
	}
}

// abandoned: the sender's own context ended while nothing had been sent.
func abandoned(out Outcome) bool {
	return !out.Uncertain && (errors.Is(out.Err, context.Canceled) || errors.Is(out.Err, context.DeadlineExceeded))
}

// guard runs the push and settles the claim, also when a provider panics: a
// claim that stays open would hold later calls.
func (s *Sender) guard(ctx context.Context, key dedupeKey, e *entry, p Provider, t Target, m Message) (out Outcome) {
	out = Outcome{Verdict: Failed, Uncertain: true, Reason: "Panic", Err: errors.New("the provider panicked")}
	defer func() { s.accepted.settle(key, e, out, time.Now()) }()
	return s.deliver(ctx, p, t, m)
}

// deliver makes the attempts: a second one, after a pause, where the provider
// says that it may help and the deadline leaves room.
func (s *Sender) deliver(ctx context.Context, p Provider, t Target, m Message) Outcome {
	requests := 0
	for attempt := 1; ; attempt++ {
		out, retry := p.Push(ctx, t, m)
		requests += out.Attempts
		out.Attempts = requests
		if !retry || out.Uncertain || attempt == maxAttempts {
			return out
		}
		if !pause(ctx, max(retryAfterFailure, out.RetryAfter)) {
			return out
		}
		if m.Still != nil && !m.Still() {
			return moved(out)
		}
		if out.Environment != "" {
			t.Environment = out.Environment // not the wrong one again
		}
	}
}

// moved is the outcome of a push whose target is another device's by now.
func moved(out Outcome) Outcome {
	out.Verdict, out.Reason = Failed, "TargetMoved"
	out.Err = fmt.Errorf("not sent again: the push target is no longer this device's; the first attempt came to: %w", out.Err)
	return out
}

// pause waits for d; false when ctx would not last beyond it.
func pause(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// finish is the one place where an outcome is logged and counted.
func (s *Sender) finish(provider string, m Message, device string, out Outcome, start time.Time) Outcome {
	out.Took = time.Since(start)
	s.metrics.observe(provider, out)
	level := slog.LevelInfo
	switch {
	case out.Alarm:
		level = slog.LevelError
	case out.Verdict != Sent:
		level = slog.LevelWarn
	}
	if s.log.Enabled(context.Background(), level) {
		s.log.LogAttrs(context.Background(), level, "push "+out.Verdict.String(), outcomeAttrs(provider, m, device, out)...)
	}
	return out
}

func outcomeAttrs(provider string, m Message, device string, out Outcome) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("call", m.UUID), slog.String("device", device), slog.String("provider", provider),
		slog.Int("attempts", out.Attempts), slog.Duration("took", out.Took),
	}
	if out.Status != 0 {
		attrs = append(attrs, slog.Int("code", out.Status))
	}
	if out.Reason != "" {
		attrs = append(attrs, slog.String("reason", out.Reason))
	}
	if out.ID != "" {
		attrs = append(attrs, slog.String("id", out.ID))
	}
	if out.Environment != "" {
		attrs = append(attrs, slog.String("environment", out.Environment))
	}
	if out.Duplicate {
		attrs = append(attrs, slog.Bool("duplicate", true))
	}
	if len(out.Shortened) > 0 {
		attrs = append(attrs, slog.Any("shortened", out.Shortened))
	}
	if out.Err != nil {
		attrs = append(attrs, slog.Any("err", out.Err))
	}
	return attrs
}
