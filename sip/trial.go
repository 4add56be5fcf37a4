package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// Trial is what trying one thing at a trunk has shown.
type Trial struct {
	Trunk string
	What  string // "DNS", "OPTIONS", "login", or "login of EXTENSION"
	// Proved is what is known to be good; with Err, what was known before.
	Proved string
	Err    error // what is wrong, and the next step
	// Doubtful: with Err, calls may come all the same.
	Doubtful bool
}

// What a trial may take: each step has its own time, so that the one that is
// too slow can be told, and all of them together some 12 s.
const (
	trialDNS    = 4 * time.Second
	trialDial   = 4 * time.Second
	trialAnswer = 4 * time.Second // four sendings over UDP: 0, 0.5, 1.5 and 3.5 s
	// trialTargets and trialLogins are how many of a trunk are tried: the rest
	// will be like them.
	trialTargets = 4
	trialLogins  = 5
)

// TryTrunks asks each trunk's servers by OPTIONS, and logs in by a REGISTER
// without Contact, which fetches the bindings and changes none (RFC 3261
// §10.2.3). It uses ports of the system's choice on the addresses of
// cfg.Listen, so that a running bridge is not disturbed. Of o it uses Network
// and Log. The trials are in the order of the trunks.
func TryTrunks(ctx context.Context, cfg Config, trunks []TrunkConfig, upstreams []Upstream, o Options) ([]Trial, error) {
	s, end, err := newTrialServer(ctx, cfg, trunks, o)
	if err != nil {
		return nil, err
	}
	defer end()
	found := make([][]Trial, len(trunks))
	var work sync.WaitGroup
	for i, t := range s.Trunks() {
		var mine []Upstream
		for _, u := range upstreams {
			if u.Trunk == t.cfg.Name {
				mine = append(mine, u)
			}
		}
		work.Go(func() { found[i] = t.try(ctx, mine) })
	}
	work.Wait()
	return slices.Concat(found...), nil
}

// newTrialServer is a server that takes no call and no registration.
func newTrialServer(ctx context.Context, cfg Config, trunks []TrunkConfig, o Options) (s *Server, end func(), err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Listen = trialListen(cfg.Listen)
	loc, err := location.New(location.NewMemory(), location.Options{})
	if err != nil {
		return nil, nil, err
	}
	s, err = New(cfg, trunks, Options{Log: o.Log, Network: o.Network, Location: loc, Accounts: nobody{}})
	if err == nil {
		s.Drain(time.Minute)
		err = s.transport.listen(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, loc.Close())
	}
	return s, func() {
		s.txs.close()
		s.transport.close()
		_ = loc.Close() // it is in memory
	}, nil
}

// trialListen are the same addresses with ports that are free. TCP stands for
// all streams.
func trialListen(listen []string) (out []string) {
	for _, l := range listen {
		network, addr, err := ParseListen(l)
		if err != nil {
			continue
		}
		if network != "udp" {
			network = "tcp"
		}
		host, _, _ := net.SplitHostPort(addr)
		if free := network + "://" + net.JoinHostPort(host, "0"); !slices.Contains(out, free) {
			out = append(out, free)
		}
	}
	return out
}

// nobody has no account.
type nobody struct{}

func (nobody) HA1(string, string, string) (string, bool) { return "", false }

// try tries one trunk: its names, its servers, its logins.
func (t *Trunk) try(ctx context.Context, upstreams []Upstream) []Trial {
	if t.cfg.Registrar == "" && len(t.singles()) == 0 {
		return []Trial{t.trial("OPTIONS", "its peers are networks, which cannot be asked", nil)}
	}
	targets, dns := t.tryDNS(ctx)
	if dns.Err != nil {
		return []Trial{dns}
	}
	logins := t.logins(upstreams)
	reached := make([]reached, len(targets))
	answers := make([]Trial, len(logins))
	var work sync.WaitGroup
	for i, target := range targets {
		work.Go(func() { reached[i] = t.knock(ctx, target) })
	}
	work.Wait()
	f := best(reached)
	for i, l := range logins {
		if f != nil {
			work.Go(func() { answers[i] = t.tryLogin(ctx, f, l) })
		}
	}
	work.Wait()
	options := t.judgeReach(reached)
	out := []Trial{dns, options}
	if f == nil {
		return out
	}
	if options.Err != nil && slices.ContainsFunc(answers, func(a Trial) bool { return a.Err == nil }) {
		out[1] = t.trial("OPTIONS", "it answers none, but takes the login", nil)
	}
	return append(out, answers[:len(logins)]...)
}

func (t *Trunk) trial(what, proved string, err error) Trial {
	return Trial{Trunk: t.cfg.Name, What: what, Proved: proved, Err: err}
}

// tryDNS finds the trunk's servers.
func (t *Trunk) tryDNS(ctx context.Context) ([]target, Trial) {
	ctx, cancel := context.WithTimeout(ctx, trialDNS)
	defer cancel()
	targets, err := t.up.targets(ctx)
	if err == nil && len(targets) == 0 {
		err = errNoTarget
	}
	if err != nil {
		return nil, t.trial("DNS", "", err)
	}
	var names []string
	for _, target := range targets {
		names = append(names, target.String())
	}
	proved := t.up.name + " is " + strings.Join(names[:min(len(names), trialTargets)], ", ")
	if more := len(names) - trialTargets; more > 0 {
		proved += fmt.Sprintf(" and %d more", more)
	}
	return targets[:min(len(targets), trialTargets)], t.trial("DNS", proved, nil)
}

// reached is what came of one target.
type reached struct {
	target target
	flow   *flow // nil: no connection
	code   int   // of the answer to OPTIONS; 0: none
	said   string
	err    error
}

// knock connects to a target, and asks it by OPTIONS.
func (t *Trunk) knock(ctx context.Context, to target) reached {
	r := reached{target: to}
	dial, cancel := context.WithTimeout(ctx, trialDial)
	defer cancel()
	if r.flow, r.err = t.up.dial(dial, to); r.err != nil {
		r.flow, r.err = nil, explainDial(to, r.err)
		return r
	}
	ctx, cancel = context.WithTimeout(ctx, trialAnswer)
	defer cancel()
	res, err := t.srv.exchangeOrElse(ctx, r.flow, t.newOptions(r.flow), trialAnswer)
	switch {
	case err != nil && r.flow.isDead():
		r.err = fmt.Errorf("%s takes the connection and ends it without an answer to OPTIONS; is it a SIP server, and does it want another transport, or a certificate of ours?", to)
		r.flow = nil
		return r
	case err != nil:
		r.err = fmt.Errorf("%s gives no answer to OPTIONS within %v; is it up, does a firewall let %s out and the answers in, and does it know this machine's address?", to, trialAnswer, to.proto)
		return r
	}
	r.code, r.said = res.StatusCode, fmt.Sprintf("%d %s", res.StatusCode, SanitiseText(res.Reason, 64))
	if r.code == 503 || r.code == 408 {
		r.err = fmt.Errorf("%s answers OPTIONS with %s: it cannot serve now; ask those who run it", to, r.said)
	}
	return r
}

// explainDial adds the next step to a connection that could not be had.
func explainDial(to target, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s refuses connections: nothing listens there; check host, port and transport of the trunk", to)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s does not take the connection within %v: a firewall drops it, or the host is down; let it out, or check the address", to, trialDial)
	}
	return err // it says what to do
}

// best is the flow for the logins: to a target that answers, else to any.
func best(all []reached) *flow {
	var f *flow
	for _, r := range all {
		if r.flow != nil && r.err == nil {
			return r.flow
		}
		if f == nil {
			f = r.flow
		}
	}
	return f
}

// judgeReach sums up what the targets have said.
func (t *Trunk) judgeReach(all []reached) Trial {
	var good, bad []string
	var first error
	for _, r := range all {
		if r.err == nil {
			good = append(good, fmt.Sprintf("%s (%s)", r.target, r.said))
			continue
		}
		bad = append(bad, r.target.String())
		if first == nil {
			first = r.err
		}
	}
	out := t.trial("OPTIONS", strings.Join(good, ", "), first)
	switch {
	case first == nil:
		out.Proved += ": answered"
	case len(good) > 0:
		out.Doubtful = true
		out.Err = fmt.Errorf("%d of %d servers fail, calls go by the others: %w", len(bad), len(all), first)
	case t.cfg.Registrar == "" && t.cfg.OptionsInterval == 0:
		out.Doubtful = true // its calls are taken all the same
	}
	return out
}

// logins are those of the trunk and of the first of its extensions.
func (t *Trunk) logins(upstreams []Upstream) (out []trialLogin) {
	if t.login != nil {
		cfg := t.login.cfg
		cfg.bulk = false // all that is asked is who we are
		out = append(out, trialLogin{"login", cfg})
	}
	registrar, err := parseURI(t.cfg.Registrar)
	if err != nil {
		return out
	}
	for _, u := range upstreams[:min(len(upstreams), trialLogins)] {
		e := upstream{Upstream: u}
		who := e.client()
		out = append(out, trialLogin{"login of " + u.Extension, loginConfig{
			registrar: registrar, aor: sipgo.Uri{Scheme: registrar.Scheme, User: escapeUser(u.Username), Host: registrar.Host},
			username: who.username, password: who.password, proxy: t.cfg.OutboundProxy,
		}})
	}
	return out
}

// trialLogin is one account.
type trialLogin struct {
	what string
	cfg  loginConfig
}

// tryLogin queries the bindings of an account, with its password.
func (t *Trunk) tryLogin(ctx context.Context, f *flow, l trialLogin) Trial {
	ctx, cancel := context.WithTimeout(ctx, trialAnswer)
	defer cancel()
	r := newLogin(t.srv, t.up, l.cfg)
	challenged := map[int]bool{} // a proxy may ask by 407 and the registrar by 401
	for range 5 {                // REGISTER, 407, 401, and one stale nonce
		req, err := r.request(f, sipgo.Uri{}, 0)
		if err != nil {
			return t.trial(l.what, "", err)
		}
		req.RemoveHeader("Contact")
		req.RemoveHeader("Expires")
		res, err := t.srv.exchangeOrElse(ctx, f, req, trialAnswer)
		if err != nil && f.isDead() {
			return t.trial(l.what, "", errors.New("the registrar ends the connection without an answer to REGISTER; see its log, and its limits for this address"))
		} else if err != nil {
			return t.trial(l.what, "", fmt.Errorf("no answer to REGISTER within %v; does the registrar know this machine's address, and is the transport (%s) the right one?", trialAnswer, f.transport()))
		}
		if code := res.StatusCode; code == 401 || code == 407 {
			stale, err := r.client.challenged(res)
			if err != nil {
				return t.trial(l.what, "", fmt.Errorf("the registrar answers %d: %w", code, err))
			}
			if stale || !challenged[code] {
				challenged[code] = true
				continue
			}
		}
		return t.judgeLogin(l, res, len(challenged) > 0)
	}
	return t.trial(l.what, "", errors.New("the registrar goes on asking for the password; check the user name, and the realm there"))
}

// judgeLogin reads the registrar's last word.
func (t *Trunk) judgeLogin(l trialLogin, res *sipgo.Response, challenged bool) Trial {
	said := fmt.Sprintf("%d %s", res.StatusCode, SanitiseText(res.Reason, 64))
	user := l.cfg.username
	out := t.trial(l.what, "", nil)
	switch code := res.StatusCode; {
	case code/100 == 2 && challenged:
		out.Proved = fmt.Sprintf("%s is taken as %s", user, t.cfg.Registrar)
	case code/100 == 2:
		out.Proved = fmt.Sprintf("%s is taken without asking for its password", user)
	case code == 401 || code == 407:
		out.Err = fmt.Errorf("the registrar answers %s to the password of %q: it is wrong, or belongs to another user; check the user name and password_file", said, user)
	case code == 403:
		out.Err = fmt.Errorf("the registrar answers %s to %q: the account is blocked, or not for this address, or the password is wrong (some say 403 to that); ask the carrier", said, user)
	case code == 404 || code == 604:
		out.Err = fmt.Errorf("the registrar answers %s: it does not know %q; check username, and the host in registrar", said, user)
	default:
		// A registrar need not like a query, whatever RFC 3261 says.
		out.Doubtful = true
		out.Err = fmt.Errorf("the registrar answers %s to a query without Contact, so the login is not proved; start the bridge, then see: reveille trunks", said)
	}
	return out
}
