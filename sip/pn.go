package sip

import (
	"slices"
	"strings"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// pnsregSeconds is how long before its expiry a phone that can wake itself is
// to refresh its binding. RFC 8599 §4.1.4 wants more than 120; OpenSIPS says 130.
const pnsregSeconds = "130"

// maxToken bounds pn-prid, in bytes.
const maxToken = 1024

// Sleepers is what Accounts may know besides: the extensions whose apps remove
// their bindings when they go to the background, and want to be woken again.
// For all others that is a logout, which ends the pushes.
type Sleepers interface {
	KeepsPush(user string) bool
}

// pushing is what a REGISTER says about push notifications (RFC 8599 §4).
type pushing struct {
	targets []location.Target // that are to be kept
	query   bool              // pn-provider without a value: which services are there?
	pnsreg  bool              // the phone can wake itself to refresh
}

// add reads the pn-* parameters of one Contact URI into out.
func (p *pushing) add(c *sipgo.ContactHeader, out *location.Contact) {
	provider, ok := paramOf(c.Address.UriParams, "pn-provider")
	if !ok {
		return
	}
	if provider == "" {
		p.query = true
		return
	}
	t := location.Target{Provider: strings.ToLower(unescapeURI(provider))}
	t.Param, t.PRID, t.Key = pnValue(c, "pn-param"), pnValue(c, "pn-prid"), pnValue(c, "pn-key")
	if t.PRID == "" {
		// The service is named but no token given: no more pushes (§4.1.2).
		out.NoPush = true
		return
	}
	out.Target = t
	if out.Expires == 0 {
		return // a device that leaves may do so whatever we serve
	}
	p.targets = append(p.targets, t)
	for _, kv := range c.Params {
		name := strings.ToLower(kv.K)
		p.pnsreg = p.pnsreg || name == "+sip.pnsreg" || name == "sip.pnsreg"
	}
}

// pnValue is a parameter with its escapes resolved.
func pnValue(c *sipgo.ContactHeader, name string) string {
	v, _ := paramOf(c.Address.UriParams, name)
	return unescapeURI(v)
}

// checkPush refuses a target that cannot be pushed.
func (r *registrar) checkPush(x *registration) *registerRefusal {
	for _, t := range x.push.targets {
		if refused := malformed(t); refused != nil {
			return refused
		}
		if refused := r.unpushable(x, t); refused != nil {
			return refused
		}
	}
	return nil
}

// malformed refuses what is outside the bounds of any push service.
func malformed(t location.Target) *registerRefusal {
	switch {
	case len(t.PRID) > maxToken:
		return refuseRegister(400, "pn-prid Too Long")
	case !visible(t.PRID):
		return refuseRegister(400, "pn-prid Is Not ASCII Without Spaces")
	case len(t.Param) > maxInstance || !visible(t.Param):
		return refuseRegister(400, "pn-param Is Not ASCII Without Spaces, or Too Long")
	case location.CheckKey(t.Key) != nil:
		return refuseRegister(400, "pn-key Is Not an X25519 Public Key in Base64url (43 Characters)")
	}
	return nil
}

// unpushable refuses a service, topic or token that nothing can be done with:
// there is no other registrar behind us that could (RFC 8599 §5.3.1). The
// phone that is refused shows it at once; one that registered would be missed
// only when it sleeps and a call comes.
func (r *registrar) unpushable(x *registration, t location.Target) *registerRefusal {
	why := ""
	if r.o.Push == nil || !r.o.Push.Supports(t.Provider, t.Param) {
		why = "this pn-provider with this pn-param is not configured here"
	} else if c, ok := r.o.Push.(TokenChecker); ok {
		if err := c.CheckToken(t.Provider, t.PRID); err != nil {
			why = err.Error()
		}
	}
	if why == "" {
		return nil
	}
	r.o.Rejected("push_not_supported")
	if r.gripes.allow(time.Now()) {
		r.log.Warn("REGISTER with a push service, topic or token that cannot be used; configure it under push:, or mend the app",
			"aor", x.aor, "provider", SanitiseText(t.Provider, 32), "topic", SanitiseText(t.Param, 128), "err", why)
	}
	return refuseRegister(555, "Push Notification Service Not Supported", warning(why))
}

// warning tells the app's developer what is wrong (RFC 3261 §20.43; 399 is any text).
func warning(text string) sipgo.Header {
	return sipgo.NewHeader("Warning", "399 reveille "+Quote(text))
}

// featureCaps lists the push services that the 200 promises (RFC 8599 §5.3): the
// one that the phone asked for, or all if it only asked which there are.
func (r *registrar) featureCaps(x *registration) []string {
	var names []string
	for _, t := range x.push.targets {
		if !slices.Contains(names, t.Provider) {
			names = append(names, t.Provider)
		}
	}
	if x.push.query && len(names) == 0 && r.o.Push != nil {
		names = r.o.Push.Providers()
	}
	var caps []string
	for _, name := range names {
		v := "*;+sip.pns=" + Quote(name)
		if x.push.pnsreg {
			v += `;+sip.pnsreg="` + pnsregSeconds + `"`
		}
		caps = append(caps, v)
	}
	return caps
}

// withoutToken takes pn-prid and pn-key out of a Contact URI.
func withoutToken(uri string) string {
	parts := strings.Split(uri, ";")
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool {
		name, _, _ := strings.Cut(p, "=")
		name = strings.TrimSpace(name)
		return strings.EqualFold(name, "pn-prid") || strings.EqualFold(name, "pn-key")
	}), ";")
}

// gripes bounds the log lines that strangers can cause: ten in ten seconds.
type gripes struct {
	mu    sync.Mutex // guards the following
	since time.Time
	n     int
}

func (g *gripes) allow(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.since) >= 10*time.Second {
		g.since, g.n = now, 0
	}
	g.n++
	return g.n <= 10
}
