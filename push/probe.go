package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ProbeResult is what a probe has found out about one app at one push service.
type ProbeResult struct {
	Provider string // "apns", "fcm", or a webhook's
	App      string // topic, project, or "" where the provider says it all
	// Environment is APNs'; "" elsewhere, and where both are one host.
	Environment string
	Host        string // host:port
	Proved      string // what is known to be good now
	// Err is what is wrong, and the next step; nil: nothing.
	Err error
	// Doubtful: with Err, pushes may work all the same.
	Doubtful bool
	// Skew is this machine's clock minus the service's, to the second; only
	// with Dated.
	Skew  time.Duration
	Dated bool
}

// prober is what a Provider also has when it can try its credentials without a
// device. It changes nothing, and wakes nobody.
type prober interface {
	probe(ctx context.Context) []ProbeResult
}

// Probe tries every configured app at its push service, with a push to a token
// that cannot exist. It takes as long as ctx lets it, at most some 14 s.
func (s *Sender) Probe(ctx context.Context) []ProbeResult {
	set := s.hold()
	defer s.release(set)
	found := make([][]ProbeResult, len(set.providers))
	var work sync.WaitGroup
	for i, p := range set.providers {
		if p, ok := p.(prober); ok {
			work.Go(func() { found[i] = p.probe(ctx) })
		}
	}
	work.Wait()
	var out []ProbeResult
	for _, results := range found {
		out = append(out, results...)
	}
	return out
}

// probeAll runs one probe for each of n apps, side by side.
func probeAll(n int, one func(i int) ProbeResult) []ProbeResult {
	out := make([]ProbeResult, n)
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() { out[i] = one(i) })
	}
	work.Wait()
	return out
}

// Each step of a probe has its own time, so that the one that takes too long
// can be told.
const (
	probeStep   = 3 * time.Second // DNS, TCP, TLS
	probeAnswer = 5 * time.Second
)

// walk goes the way step by step (name, connection, certificate), so that each
// fault gets its own words. It sends no request. Behind a proxy it has nothing
// to look at.
func (w way) walk(ctx context.Context) error {
	addr := w.host()
	name, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base, http.NoBody)
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	if proxy, err := http.ProxyFromEnvironment(req); w.dial == nil && (proxy != nil || err != nil) {
		return nil
	}
	if err := w.resolve(ctx, name); err != nil {
		return err
	}
	conn, err := w.connect(ctx, addr, port)
	if err != nil {
		return err
	}
	defer conn.Close()
	if strings.HasPrefix(w.base, "http:") {
		return nil
	}
	return w.shake(ctx, conn, name)
}

func (w way) resolve(ctx context.Context, name string) error {
	if w.dial != nil || net.ParseIP(name) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeStep)
	defer cancel()
	_, err := net.DefaultResolver.LookupHost(ctx, name)
	return explainDNS(name, err)
}

func (w way) connect(ctx context.Context, addr, port string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, probeStep)
	defer cancel()
	dial := w.dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", addr)
	if err == nil {
		return conn, nil
	}
	if problem := w.explain(err); problem != nil {
		return nil, problem
	}
	switch {
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%s does not take the connection within %v: a firewall drops it without a word; let TCP %s out", addr, probeStep, port)
	}
	return nil, fmt.Errorf("%s cannot be reached: %w", addr, err)
}

func (w way) shake(ctx context.Context, conn net.Conn, name string) error {
	ctx, cancel := context.WithTimeout(ctx, probeStep)
	defer cancel()
	secure := tls.Client(conn, &tls.Config{RootCAs: w.roots, Certificates: w.certificates, ServerName: name, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
	err := secure.HandshakeContext(ctx)
	if err == nil {
		return nil
	}
	if problem := w.untrusted(name, err); problem != nil {
		return problem
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s takes the connection, and then no TLS handshake within %v: it hangs, or a firewall looks into TLS; try: openssl s_client -connect %s", w.host(), probeStep, w.host())
	}
	return fmt.Errorf("TLS with %s fails: %w; is it the right port, and does a proxy sit in between?", w.host(), err)
}

// The clock: tokens are refused when it is minutes off.
func (r *ProbeResult) dated(a *answer) {
	if at := a.date(); !at.IsZero() {
		// The header has whole seconds: half of one is the best guess.
		r.Skew, r.Dated = time.Since(at.Add(500*time.Millisecond)).Round(time.Second), true
	}
}

// silent is the fault of a request that brought no answer, behind a way that
// was good a moment ago.
func (w way) silent(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errLost) {
		return fmt.Errorf("%s takes the connection and gives no answer within %v: it hangs, or a proxy or firewall swallows HTTP/2; try again, then look at what is in between", w.host(), probeAnswer)
	}
	return fmt.Errorf("%s gives no answer: %s; try again, then look at what is in between", w.host(), unquoted(err.Error()))
}
