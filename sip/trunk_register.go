package sip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

const (
	dialTimeout       = 5 * time.Second
	unregisterTimeout = 2 * time.Second // at shutdown; the binding would expire anyway
	backoffFirst      = 2 * time.Second
	backoffMax        = 5 * time.Minute
	backoffRejected   = time.Minute // wrong password: faster would look like an attack
)

// registerError is a REGISTER that failed.
type registerError struct {
	code  int // 0: no answer
	text  string
	after time.Duration // Retry-After
}

func (e *registerError) Error() string { return e.text }

// keepRegistered registers, refreshes at 80 % of what was granted, and backs
// off with jitter on failure, until ctx ends; then it unregisters.
func (t *Trunk) keepRegistered(ctx context.Context) {
	failures := 0
	for {
		granted, err := t.register(ctx, t.cfg.Expires)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			wait := backoff(failures, err)
			failures++
			t.registrationFailed(err, wait)
			if !t.backOff(ctx, wait) {
				break
			}
			continue
		}
		failures = 0
		wait := granted * 8 / 10
		t.set(func(s *TrunkState) {
			now := time.Now()
			s.Up, s.State, s.LastCode, s.LastError = true, "registered", 200, ""
			s.Expires, s.NextTry = now.Add(granted), now.Add(wait)
		})
		if !t.pause(ctx, wait) {
			break
		}
	}
	t.unregister()
}

// backOff waits after a failure, whatever becomes of the connection: a server
// that refuses us often closes it, and is not to be asked again for that. A
// registration that expires meanwhile is down. False when ctx has ended.
func (t *Trunk) backOff(ctx context.Context, wait time.Duration) bool {
	s := t.State()
	if left := time.Until(s.Expires); s.Up && left < wait {
		if !sleep(ctx, left) {
			return false
		}
		wait -= left
		t.set(func(s *TrunkState) { s.Up = false })
	}
	return sleep(ctx, wait)
}

// pause waits; a lost connection ends it early. False when ctx has ended.
func (t *Trunk) pause(ctx context.Context, wait time.Duration) bool {
	t.mu.Lock()
	lost := t.lost
	if t.cfg.Transport != "udp" && (t.flow == nil || t.flow.isDead()) { // behind the 200
		ended := make(chan struct{})
		close(ended)
		lost = ended
	}
	t.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-lost:
		// The server has gone or restarted: it forgot us, come back soon, but
		// not all at the same instant.
		return sleep(ctx, jitter(backoffFirst))
	case <-timer.C:
		return true
	}
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

func (t *Trunk) registrationFailed(err error, wait time.Duration) {
	code := 0
	var re *registerError
	if errors.As(err, &re) {
		code = re.code
	}
	t.set(func(s *TrunkState) {
		s.State, s.LastCode, s.LastError, s.NextTry = "failed", code, err.Error(), time.Now().Add(wait)
		s.Up = time.Now().Before(s.Expires) // the last registration may still hold
	})
}

// backoff doubles from 2 s to 5 min with jitter; a rejected login starts at a
// minute; Retry-After wins where it is longer.
func backoff(failures int, err error) time.Duration {
	d := backoffFirst << min(failures, 10)
	var re *registerError
	if errors.As(err, &re) {
		if re.code == 401 || re.code == 403 || re.code == 407 {
			d = max(d, backoffRejected)
		}
		d = max(d, min(re.after, time.Hour))
	}
	return jitter(min(d, max(backoffMax, reAfter(re))))
}

func reAfter(re *registerError) time.Duration {
	if re == nil {
		return 0
	}
	return min(re.after, time.Hour)
}

// jitter spreads d by a quarter either way, so that a fleet does not come back at once.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(rand.Int64N(int64(d)/2+1))
}

// register runs one registration: the REGISTER, the digest, a 423; it returns
// what the server granted.
func (t *Trunk) register(ctx context.Context, expires time.Duration) (time.Duration, error) {
	f, err := t.connect(ctx)
	if err != nil {
		return 0, &registerError{text: "no way to the registrar: " + err.Error()}
	}
	challenged := map[int]bool{} // a proxy may ask by 407 and the registrar by 401
	for range 6 {                // REGISTER, 407, 401, 423, and one stale nonce
		req, err := t.newRegister(f, expires)
		if err != nil {
			return 0, err
		}
		res, err := t.exchange(ctx, f, req)
		if err != nil {
			return 0, &registerError{text: "no answer from the registrar: " + err.Error()}
		}
		switch {
		case res.StatusCode == 401 || res.StatusCode == 407:
			stale, err := t.client.challenged(res)
			if err != nil || challenged[res.StatusCode] && !stale {
				return 0, &registerError{code: res.StatusCode, text: fmt.Sprintf("the registrar refused our login (%d %s); check username and password", res.StatusCode, SanitiseText(res.Reason, 64))}
			}
			challenged[res.StatusCode] = true
		case res.StatusCode == 423:
			if expires = minExpires(res, expires); expires == 0 {
				return 0, &registerError{code: 423, text: "the registrar wants a longer registration but does not say how long (423 without Min-Expires); set expires"}
			}
		case res.StatusCode/100 == 2:
			return t.granted(res, expires, t.srv.ownURI(t.cfg.Username, f)), nil
		default:
			return 0, &registerError{code: res.StatusCode, after: retryAfter(res), text: fmt.Sprintf("the registrar answered %d %s", res.StatusCode, SanitiseText(res.Reason, 64))}
		}
	}
	return 0, &registerError{code: 401, text: "the registrar keeps asking; it does not accept any of our answers"}
}

func (t *Trunk) newRegister(f *flow, expires time.Duration) (*sipgo.Request, error) {
	registrar, err := parseURI(t.cfg.Registrar)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.seq++
	seq := t.seq
	t.mu.Unlock()
	user := registrar.User
	registrar.User = "" // RFC 3261 §10.2: the Request-URI names the domain alone
	aor := sipgo.Uri{Scheme: registrar.Scheme, User: t.cfg.Username, Host: registrar.Host}
	if user != "" {
		aor.User = user
	}
	req := sipgo.NewRequest(sipgo.REGISTER, registrar)
	req.AppendHeader(t.srv.via(f))
	if t.cfg.OutboundProxy != "" {
		req.AppendHeader(sipgo.NewHeader("Route", "<"+loose(t.cfg.OutboundProxy)+">"))
	}
	maxForwards := sipgo.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&sipgo.FromHeader{Address: *aor.Clone(), Params: party{tag: newTag()}.params()})
	req.AppendHeader(&sipgo.ToHeader{Address: *aor.Clone()})
	callID := sipgo.CallIDHeader(t.callID)
	req.AppendHeader(&callID)
	req.AppendHeader(&sipgo.CSeqHeader{SeqNo: seq, MethodName: sipgo.REGISTER})
	req.AppendHeader(&sipgo.ContactHeader{Address: t.srv.ownURI(t.cfg.Username, f)})
	req.AppendHeader(sipgo.NewHeader("Expires", seconds(int(expires/time.Second))))
	if ua := t.srv.cfg.UserAgent; ua != "" {
		req.AppendHeader(sipgo.NewHeader("User-Agent", ua))
	}
	return req, t.client.authorize(req)
}

// loose marks a proxy URI as a loose router (RFC 3261 §16.4), unless it says so itself.
func loose(uri string) string {
	if strings.Contains(uri, ";lr") {
		return uri
	}
	return uri + ";lr"
}

// exchange sends a request outside a dialog and waits for its final answer.
func (t *Trunk) exchange(ctx context.Context, f *flow, req *sipgo.Request) (*sipgo.Response, error) {
	type result struct {
		res *sipgo.Response
		err error
	}
	done := make(chan result, 1)
	tx, err := t.srv.txs.request(f, req, func(res *sipgo.Response, err error) {
		if err != nil || res.StatusCode >= 200 {
			select {
			case done <- result{res, err}:
			default:
			}
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case r := <-done:
		return r.res, r.err
	case <-ctx.Done():
		tx.terminate()
		return nil, ctx.Err()
	}
}

// connect finds the flow towards the registrar or outbound proxy.
func (t *Trunk) connect(ctx context.Context) (*flow, error) {
	next := t.cfg.Registrar
	if t.cfg.OutboundProxy != "" {
		next = t.cfg.OutboundProxy
	}
	return t.flowTo(ctx, next)
}

func (t *Trunk) flowTo(ctx context.Context, uri string) (*flow, error) {
	u, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	f := t.flow
	t.mu.Unlock()
	if f != nil && !f.isDead() {
		return f, nil
	}
	addrs, err := t.resolve(ctx, u.Host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address", u.Host)
	}
	port := u.Port
	if port == 0 {
		port = map[string]int{"udp": 5060, "tcp": 5060, "tls": 5061}[t.cfg.Transport]
	}
	if t.cfg.Transport == "udp" {
		return t.srv.datagramsTo(netip.AddrPortFrom(addrs[0], uint16(port)))
	}
	return t.dial(ctx, net.JoinHostPort(addrs[0].String(), strconv.Itoa(port)), u.Host)
}

func (t *Trunk) dial(ctx context.Context, addr, name string) (*flow, error) {
	tlsConfig, err := trunkTLS(t.cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	f, err := t.srv.transport.dial(ctx, t.cfg.Transport, addr, strings.Trim(name, "[]"), tlsConfig)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.flow = f
	t.mu.Unlock()
	return f, nil
}

// granted is the lifetime the server gave our Contact (RFC 3261 §10.2.4). It
// may list others of the same user, and ours with another address; the
// shortest is right where none is quite ours.
func (t *Trunk) granted(res *sipgo.Response, asked time.Duration, own sipgo.Uri) time.Duration {
	if h := res.GetHeader("Expires"); h != nil {
		if n, err := strconv.Atoi(strings.TrimSpace(h.Value())); err == nil && n > 0 {
			asked = time.Duration(n) * time.Second
		}
	}
	shortest, found := asked, false
	for _, c := range contacts(res) {
		v, _ := c.Params.Get("expires")
		n, err := strconv.Atoi(v)
		if err != nil || n <= 0 || c.Address.User != own.User {
			continue
		}
		given := time.Duration(n) * time.Second
		if c.Address.Host == own.Host && c.Address.Port == own.Port {
			shortest = given
			break
		}
		if !found || given < shortest {
			shortest, found = given, true
		}
	}
	return min(max(shortest, 10*time.Second), 24*time.Hour)
}

// unregister removes our binding (RFC 3261 §10.2.2); it does not insist.
func (t *Trunk) unregister() {
	if !t.State().Up {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), unregisterTimeout)
	defer cancel()
	if _, err := t.register(ctx, 0); err != nil {
		t.log.Info("trunk was not unregistered; the registration will expire", "err", err)
	}
	t.set(func(s *TrunkState) { s.Up, s.State, s.LastError = false, "unregistered", "" })
}

func minExpires(res *sipgo.Response, asked time.Duration) time.Duration {
	if h := res.GetHeader("Min-Expires"); h != nil {
		if n, err := strconv.Atoi(strings.TrimSpace(h.Value())); err == nil && n > 0 && n <= 86400 && time.Duration(n)*time.Second > asked {
			return time.Duration(n) * time.Second
		}
	}
	return 0
}

func retryAfter(res *sipgo.Response) time.Duration {
	if h := res.GetHeader("Retry-After"); h != nil {
		digits, _, _ := strings.Cut(strings.TrimSpace(h.Value()), ";")
		digits, _, _ = strings.Cut(digits, " ")
		if n, err := strconv.Atoi(digits); err == nil && n > 0 {
			return time.Duration(n) * time.Second
		}
	}
	return 0
}
