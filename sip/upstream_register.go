package sip

import (
	"context"
	"fmt"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// attempt is one registration under way: a REGISTER, and what it is asked in
// return. Only the goroutine that holds it touches it, but for its digest.
type attempt struct {
	e       *upstream
	expires time.Duration // asked for; 0: to be removed
	flow    *flow
	sent    int
	probe   bool        // of a PBX that did not answer
	waiting bool        // for an answer; guarded by upstreams.mu
	www     *answerable // the challenge that this very attempt was given
	proxy   *answerable
}

// maxSent bounds the REGISTERs of an attempt: 407, 401, 423 and a stale nonce.
const maxSent = 6

// newAttempt takes an entry out of the waiting. The caller holds u.mu.
func (u *upstreams) newAttempt(e *upstream) *attempt {
	e.index, e.changed = underWay, false
	a := &attempt{e: e, probe: u.outage.down}
	if !e.leaving {
		a.expires = max(u.trunk.cfg.Expires, u.minimum)
	}
	return a
}

// send sends the next REGISTER of an attempt.
func (u *upstreams) send(ctx context.Context, a *attempt) {
	f, err := u.trunk.up.connect(ctx)
	if err != nil {
		u.done(a, nil, &registerError{text: "no way to the registrar: " + err.Error()})
		return
	}
	req, err := u.request(a, f)
	if err == nil {
		_, err = u.trunk.srv.txs.request(f, req, func(res *sipgo.Response, err error) { // on the reader of the flow
			if err != nil || res.StatusCode >= 200 {
				u.answered(a, res, err)
			}
		})
	}
	if err != nil {
		u.answered(a, nil, err)
	}
}

func (u *upstreams) request(a *attempt, f *flow) (*sipgo.Request, error) {
	t := u.trunk
	registrar, err := parseURI(t.cfg.Registrar)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	e := a.e
	e.seq++
	a.sent++
	a.flow, a.waiting, u.flow = f, true, f
	registrar.User = "" // RFC 3261 §10.2: the Request-URI names the domain alone
	aor := sipgo.Uri{Scheme: registrar.Scheme, User: escapeUser(e.Username), Host: registrar.Host}
	req := sipgo.NewRequest(sipgo.REGISTER, registrar)
	req.AppendHeader(t.srv.via(f))
	if t.cfg.OutboundProxy != "" {
		req.AppendHeader(sipgo.NewHeader("Route", "<"+loose(t.cfg.OutboundProxy)+">"))
	}
	maxForwards := sipgo.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&sipgo.FromHeader{Address: aor, Params: party{tag: newTag()}.params()})
	req.AppendHeader(&sipgo.ToHeader{Address: *aor.Clone()})
	callID := sipgo.CallIDHeader(u.callID + "-" + e.token)
	req.AppendHeader(&callID)
	req.AppendHeader(&sipgo.CSeqHeader{SeqNo: e.seq, MethodName: sipgo.REGISTER})
	req.AppendHeader(&sipgo.ContactHeader{Address: t.srv.ownURI(e.token, f)})
	req.AppendHeader(sipgo.NewHeader("Expires", seconds(int(a.expires/time.Second))))
	if ua := t.srv.cfg.UserAgent; ua != "" {
		req.AppendHeader(sipgo.NewHeader("User-Agent", ua))
	}
	return req, u.authorize(a, req)
}

// authorize answers the attempt's own challenges, or the last that the PBX gave
// to anybody: most registrars take a nonce from any user, and that saves a 401
// for each. The caller holds u.mu.
func (u *upstreams) authorize(a *attempt, req *sipgo.Request) error {
	who := a.e.client()
	www, proxy := a.www, a.proxy
	if www == nil {
		www = u.www
	}
	if proxy == nil {
		proxy = u.proxy
	}
	for name, challenge := range map[string]*answerable{"Authorization": www, "Proxy-Authorization": proxy} {
		if challenge == nil {
			continue
		}
		value, err := who.answer(challenge, req)
		if err != nil {
			return err
		}
		req.AppendHeader(sipgo.NewHeader(name, value))
	}
	return nil
}

// answered takes the end of one REGISTER. It does not block.
func (u *upstreams) answered(a *attempt, res *sipgo.Response, err error) {
	u.mu.Lock()
	waiting := a.waiting
	a.waiting = false
	u.mu.Unlock()
	switch {
	case !waiting: // an answer that came twice
	case err != nil:
		u.done(a, nil, &registerError{text: "no answer from the registrar: " + err.Error()})
	case res.StatusCode == 401 || res.StatusCode == 407:
		u.challenged(a, res)
	case res.StatusCode == 423 && a.expires > 0:
		u.tooBrief(a, res)
	case res.StatusCode/100 == 2:
		u.done(a, res, nil)
	default:
		u.done(a, nil, &registerError{code: res.StatusCode, after: retryAfter(res),
			text: fmt.Sprintf("the registrar answered %d %s", res.StatusCode, SanitiseText(res.Reason, 64))})
	}
}

// challenged: once for each of 401 and 407, and once more for a nonce that went
// stale. A nonce that another registration was given may be refused.
func (u *upstreams) challenged(a *attempt, res *sipgo.Response) {
	var parsed digestClient
	stale, err := parsed.challenged(res)
	if err != nil {
		u.done(a, nil, &registerError{code: res.StatusCode, text: err.Error()})
		return
	}
	u.mu.Lock()
	own, shared, given := &a.www, &u.www, parsed.www
	if res.StatusCode == 407 {
		own, shared, given = &a.proxy, &u.proxy, parsed.proxy
	}
	refused := *own != nil && !stale || a.sent >= maxSent
	*own, *shared = given, given
	u.mu.Unlock()
	if refused {
		u.done(a, nil, &registerError{code: res.StatusCode,
			text: fmt.Sprintf("the registrar refused the login (%d %s); check username and password", res.StatusCode, SanitiseText(res.Reason, 64))})
		return
	}
	u.resend(a)
}

// tooBrief: what the PBX asks of one registration goes for all.
func (u *upstreams) tooBrief(a *attempt, res *sipgo.Response) {
	longer := minExpires(res, a.expires)
	if longer == 0 || a.sent >= maxSent {
		u.done(a, nil, &registerError{code: 423, text: "the registrar wants a longer registration but does not say how long (423 without Min-Expires); set the trunk's expires"})
		return
	}
	a.expires = longer
	u.mu.Lock()
	u.minimum = max(u.minimum, longer)
	u.mu.Unlock()
	u.resend(a)
}

func (u *upstreams) resend(a *attempt) {
	u.mu.Lock()
	u.answering = append(u.answering, a)
	u.mu.Unlock()
	u.rouse()
}

// done ends an attempt: res is its 2xx, or err says why there is none.
func (u *upstreams) done(a *attempt, res *sipgo.Response, err *registerError) {
	fault := err != nil && isOutage(err.code)
	down := fault && !u.nextTarget(a.flow, err)
	u.mu.Lock()
	now := time.Now()
	u.flying--
	if a.probe { // however it ended
		u.outage.probing = false
	}
	e := a.e
	e.index = nowhere
	e.code, e.problem = 0, ""
	switch {
	case down:
		u.failed(a, err, now)
		u.reschedule(e, now)
	case fault: // the next server of the PBX has its turn
		u.reschedule(e, now)
	case err != nil:
		e.code, e.problem = err.code, err.text
		u.reschedule(e, now.Add(rejectedBackoff(e.failures, err.after)))
		e.failures++
	case a.expires == 0:
		e.expires = time.Time{}
	default:
		given := granted(res, a.expires, u.trunk.srv.ownURI(e.token, a.flow))
		u.granted, e.problem = given.lifetime, given.doubt
		e.code, e.failures, e.expires = 200, 0, now.Add(u.granted)
		u.reschedule(e, now.Add(refreshIn(u.granted)))
	}
	if !fault {
		u.outage, u.heard = outage{}, true
	}
	u.settle(e, now, down)
	u.mu.Unlock()
	u.rouse()
}

// settle: an entry that leaves has had its one chance; one that was changed
// while it was under way is tried again at once. The caller holds u.mu.
func (u *upstreams) settle(e *upstream, now time.Time, down bool) {
	switch {
	case e.leaving && (e.expires.IsZero() || e.failures > 0 || down && u.ending > 0):
		u.forget(e)
	case e.leaving || e.changed:
		u.reschedule(e, now)
	}
	e.changed = false
}

// nextTarget leaves a server of the PBX that does not serve; true if there is
// another.
func (u *upstreams) nextTarget(f *flow, err *registerError) bool {
	if f == nil { // all have been tried
		return false
	}
	u.trunk.up.failed(f, err.code == 0, err.after)
	return u.trunk.up.another()
}

// upstreamState takes over how the PBX stands that extensions register at.
func (t *Trunk) upstreamState(o outage) {
	if t.login == nil {
		t.set(func(s *TrunkState) {
			t.outage = &o
			t.compose(s)
		})
	}
}

// composeUpstreams is the state of a trunk that only extensions register at.
func (t *Trunk) composeUpstreams(s *TrunkState) {
	switch o := t.outage; {
	case o == nil:
	case o.down:
		s.Up, s.State, s.LastError, s.NextTry = false, "unreachable", o.problem, o.until
	default:
		s.Up, s.State, s.LastError, s.NextTry = true, "reachable", "", time.Time{}
	}
}

// isOutage: the fault is the PBX's, not the account's. 0: no answer at all.
func isOutage(code int) bool { return code == 0 || code == 408 || code == 503 || code == 504 }

// failed notes that the PBX does not serve. Of the many attempts that it leaves
// hanging only the first counts, and then each that asks for it.
// The caller holds u.mu.
func (u *upstreams) failed(a *attempt, err *registerError, now time.Time) {
	o := &u.outage
	if o.down && !a.probe {
		return
	}
	wait := backoff(o.failures, err)
	if o.back && err.code == 0 { // what it answers counts, with the wait that it asks for
		wait = jitter(time.Second)
	}
	*o = outage{down: true, failures: o.failures + 1, until: now.Add(wait), problem: err.text}
}
