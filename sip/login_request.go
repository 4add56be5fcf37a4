package sip

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// registerError is a REGISTER that failed.
type registerError struct {
	code  int // 0: no answer
	text  string
	after time.Duration // Retry-After
}

func (e *registerError) Error() string { return e.text }

// grant is what a 2xx to REGISTER gives.
type grant struct {
	lifetime     time.Duration
	doubt        string // why no calls might come all the same
	serviceRoute []string
	associated   []string
}

// register runs one registration at the best target that takes it. Expires 0
// removes the binding.
func (r *login) register(ctx context.Context, expires time.Duration) (grant, error) {
	var last error
	for range maxTargets {
		f, err := r.up.connect(ctx)
		if err != nil {
			if last == nil {
				last = &registerError{text: "no way to the registrar: " + err.Error()}
			}
			return grant{}, last
		}
		g, err := r.enter(ctx, f, expires)
		var re *registerError
		if err == nil || ctx.Err() != nil || !errors.As(err, &re) || re.code != 0 && re.code != 503 {
			return g, err
		}
		last = err
		r.up.failed(f, re.code == 0, re.after)
		if !r.up.another() {
			return grant{}, err
		}
	}
	return grant{}, last
}

// enter is the REGISTER at one target, with the digest and a 423.
func (r *login) enter(ctx context.Context, f *flow, expires time.Duration) (grant, error) {
	own := r.ownContact(f)
	if expires > 0 {
		expires = max(expires, r.minimum)
		r.dropOld(ctx, f, own)
	}
	res, err := r.ask(ctx, f, own, &expires)
	if err != nil {
		return grant{}, err
	}
	g := granted(res, expires, own)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flow, r.contact = nil, &own; f.reliable() {
		r.flow = f
	}
	r.at = target{proto: f.transport(), addr: f.remote()}
	if expires == 0 {
		r.contact = nil
	}
	return g, nil
}

// dropOld removes the binding of an address, or of a connection, that we no
// longer have: calls to it would ring into the void, and some registrars take
// only one for each user (RFC 3261 §10.2.2). It does not insist.
func (r *login) dropOld(ctx context.Context, f *flow, own sipgo.Uri) {
	r.mu.Lock()
	old := r.contact
	held := r.state.Up
	r.mu.Unlock()
	if old == nil || !held || old.Host == own.Host && old.Port == own.Port {
		return
	}
	none := time.Duration(0)
	if _, err := r.ask(ctx, f, *old, &none); err != nil {
		r.up.log.Info("the binding of our old address was not removed; it will expire", "err", err)
	}
}

// ask sends one REGISTER and answers what it is asked in return. It raises
// expires to what a 423 demands.
func (r *login) ask(ctx context.Context, f *flow, contact sipgo.Uri, expires *time.Duration) (*sipgo.Response, error) {
	challenged := map[int]bool{} // a proxy may ask by 407 and the registrar by 401
	for range 6 {                // REGISTER, 407, 401, 423, and one stale nonce
		req, err := r.request(f, contact, *expires)
		if err != nil {
			return nil, err
		}
		res, err := r.srv.exchangeOrElse(ctx, f, req, r.up.patience())
		if err != nil {
			return nil, &registerError{text: "no answer from the registrar: " + err.Error()}
		}
		code := res.StatusCode
		said := fmt.Sprintf("%d %s", code, SanitiseText(res.Reason, 64))
		switch {
		case code == 401 || code == 407:
			stale, err := r.client.challenged(res)
			if err != nil {
				return nil, &registerError{code: code, text: fmt.Sprintf("the registrar answered %s, and %v", said, err)}
			}
			if challenged[code] && !stale {
				return nil, &registerError{code: code, text: fmt.Sprintf("the registrar refused our login (%s); check username and password", said)}
			}
			challenged[code] = true
		case code == 423:
			if *expires = minExpires(res, *expires); *expires == 0 {
				return nil, &registerError{code: 423, text: "the registrar wants a longer registration but does not say how long (423 without Min-Expires); set expires"}
			}
			r.minimum = *expires // only the one REGISTER under way touches it
		case code/100 == 2:
			return res, nil
		case code == 420 && r.cfg.bulk:
			return nil, &registerError{code: 420, text: "the registrar does not know the registration of all numbers at once (420, RFC 6140); remove gin, or ask the carrier for it"}
		default:
			return nil, &registerError{code: code, after: retryAfter(res), text: "the registrar answered " + said}
		}
	}
	return nil, &registerError{code: 401, text: "the registrar keeps asking; it does not accept any of our answers"}
}

// ownContact is where the registrar's calls are to come to by this flow.
func (r *login) ownContact(f *flow) sipgo.Uri {
	if !r.cfg.bulk {
		return r.srv.ownURI(r.cfg.contact, f)
	}
	own := r.srv.ownURI("", f) // RFC 6140 §5.2: no user part
	own.UriParams = append(own.UriParams, sipgo.HeaderKV{K: "bnc"})
	return own
}

func (r *login) request(f *flow, contact sipgo.Uri, expires time.Duration) (*sipgo.Request, error) {
	r.mu.Lock()
	r.seq++
	seq := r.seq
	r.mu.Unlock()
	registrar := *r.cfg.registrar.Clone()
	registrar.User = "" // RFC 3261 §10.2: the Request-URI names the domain alone
	req := sipgo.NewRequest(sipgo.REGISTER, registrar)
	req.AppendHeader(r.srv.via(f))
	if r.cfg.proxy != "" {
		req.AppendHeader(sipgo.NewHeader("Route", "<"+loose(r.cfg.proxy)+">"))
	}
	maxForwards := sipgo.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&sipgo.FromHeader{Address: *r.cfg.aor.Clone(), Params: party{tag: newTag()}.params()})
	req.AppendHeader(&sipgo.ToHeader{Address: *r.cfg.aor.Clone()})
	callID := sipgo.CallIDHeader(r.callID)
	req.AppendHeader(&callID)
	req.AppendHeader(&sipgo.CSeqHeader{SeqNo: seq, MethodName: sipgo.REGISTER})
	req.AppendHeader(&sipgo.ContactHeader{Address: contact})
	req.AppendHeader(sipgo.NewHeader("Expires", seconds(int(expires/time.Second))))
	if r.cfg.bulk {
		req.AppendHeader(sipgo.NewHeader("Require", "gin"))
		req.AppendHeader(sipgo.NewHeader("Proxy-Require", "gin"))
	}
	if ua := r.srv.cfg.UserAgent; ua != "" {
		req.AppendHeader(sipgo.NewHeader("User-Agent", ua))
	}
	return req, r.client.authorize(req)
}

// loose marks a proxy URI as a loose router (RFC 3261 §16.4), unless it says so itself.
func loose(uri string) string {
	if strings.Contains(uri, ";lr") {
		return uri
	}
	return uri + ";lr"
}

// exchangeOrElse sends a request that is not INVITE and waits for its final
// answer. With a patience above 0 the first answer of any kind must come within it,
// else Timer F has the say (32 s).
func (s *Server) exchangeOrElse(ctx context.Context, f *flow, req *sipgo.Request, patience time.Duration) (*sipgo.Response, error) {
	type result struct {
		res *sipgo.Response
		err error
	}
	done, heard := make(chan result, 1), make(chan struct{}, 1)
	tx, err := s.txs.request(f, req, func(res *sipgo.Response, err error) {
		if err != nil || res.StatusCode >= 200 {
			select {
			case done <- result{res, err}:
			default:
			}
			return
		}
		select {
		case heard <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, err
	}
	var silence <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		silence = timer.C
	}
	for {
		select {
		case r := <-done:
			return r.res, r.err
		case <-heard:
			silence = nil
		case <-silence:
			tx.terminate()
			return nil, fmt.Errorf("%s to %s: no answer within %v", req.Method, f, patience)
		case <-ctx.Done():
			tx.terminate()
			return nil, ctx.Err()
		}
	}
}

// granted reads a 2xx. The lifetime is what the server gave our Contact (RFC
// 3261 §10.2.4). It may list others of the same user, and ours with another
// address; the shortest is right where none is quite ours.
func granted(res *sipgo.Response, asked time.Duration, own sipgo.Uri) grant {
	g := grant{serviceRoute: addressList(res, "Service-Route"), associated: addressList(res, "P-Associated-URI")}
	if n, ok := headerSeconds(res, "Expires"); ok {
		asked = n
	}
	shortest, found := asked, false
	listed := contacts(res)
	for _, c := range listed {
		v, _ := c.Params.Get("expires")
		n, err := strconv.Atoi(v)
		if c.Address.User != own.User {
			continue
		}
		if err != nil || n <= 0 {
			found = found || err != nil // listed, with the lifetime of Expires
			continue
		}
		given := time.Duration(n) * time.Second
		if c.Address.Host == own.Host && c.Address.Port == own.Port {
			shortest, found = given, true
			break
		}
		if !found || given < shortest {
			shortest, found = given, true
		}
	}
	if len(listed) > 0 && !found {
		g.doubt = "the registrar answered 200 but does not list our Contact, so calls may not come; look there at the limit of contacts for this user"
		shortest = min(shortest, time.Minute)
	}
	g.lifetime = min(max(shortest, 10*time.Second), 24*time.Hour)
	return g
}

// addressList gives the URIs of a header such as Service-Route, at most 32.
func addressList(res *sipgo.Response, name string) []string {
	var out []string
	for _, v := range headerList(res, name) {
		if _, err := parseNameAddr(v); err != nil || len(out) >= 32 || len(v) > 512 {
			continue
		}
		if open := indexOutsideQuotes(v, '<'); open >= 0 {
			v, _, _ = strings.Cut(v[open+1:], ">")
		}
		if v = strings.TrimSpace(v); !visible(v) { // it is written again, into our Route
			continue
		}
		out = append(out, v)
	}
	return out
}

func minExpires(res *sipgo.Response, asked time.Duration) time.Duration {
	if n, ok := headerSeconds(res, "Min-Expires"); ok && n <= 24*time.Hour && n > asked {
		return n
	}
	return 0
}

func retryAfter(res *sipgo.Response) time.Duration {
	n, _ := headerSeconds(res, "Retry-After")
	return n
}

// headerSeconds reads a header that holds seconds; a comment or parameters may
// follow (Retry-After, RFC 3261 §20.33). Only 1 and more count.
func headerSeconds(res *sipgo.Response, name string) (time.Duration, bool) {
	h := res.GetHeader(name)
	if h == nil {
		return 0, false
	}
	digits, _, _ := strings.Cut(strings.TrimSpace(h.Value()), ";")
	digits, _, _ = strings.Cut(digits, " ")
	n, err := strconv.ParseInt(digits, 10, 32)
	return time.Duration(n) * time.Second, err == nil && n > 0
}
