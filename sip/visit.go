package sip

import (
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Visit is an HTTP request of an app that is to prove, with its SIP
// credentials, which extension it belongs to (HTTP Digest, RFC 7616).
type Visit struct {
	Method, URI   string // as on the request line
	Host          string // as in the Host header; picks the realm
	Authorization []string
	Source        netip.AddrPort
}

// VisitRefused says why a visitor was not let in. It is the same whether the
// extension exists or not.
type VisitRefused struct {
	Status     int           // of HTTP: 401, 429, or 400 for credentials of another request
	Challenges []string      // values of WWW-Authenticate, best first, for 401
	RetryAfter time.Duration // for 429
	Tried      bool          // there were credentials
}

// Login returns the extension that an HTTP request proves to come from. Realm,
// nonces and hashes are the registrar's, and what it costs to be wrong too:
// passwords that fail, here and in REGISTERs, count together (sip.limits).
func (s *Server) Login(v Visit) (extension string, no *VisitRefused) {
	return s.registrar.visited(v)
}

func (r *registrar) visited(v Visit) (string, *VisitRefused) {
	source := v.Source.Addr()
	f := &flow{peer: v.Source} // for the guard, which counts by flow
	realm := r.digest.realmOf(v.Host)
	if reason := r.o.Guard.visitor(source); reason != "" {
		r.o.Rejected(reason)
		return "", &VisitRefused{Status: 429, RetryAfter: r.o.Guard.mercy(reason)}
	}
	creds, found := v.credentials(realm)
	if !found {
		return "", &VisitRefused{Status: 401, Challenges: r.digest.challenges(realm, source, false)}
	}
	if r.o.Guard.exhausted(f, creds["username"]) {
		r.stall()
		return "", &VisitRefused{Status: 429, RetryAfter: failureWindow, Tried: true}
	}
	no := r.digest.check(creds, realm, v.Method, source, v.sameResource)
	if no == nil {
		r.o.Guard.loggedIn(f, creds["username"])
		return creds["username"], nil
	}
	r.o.Rejected(no.reason)
	if no.reason == "auth_failed" {
		r.o.Guard.failed(f, creds["username"])
		if r.gripes.allow(time.Now()) {
			r.log.Info("HTTP request with a wrong password or unknown extension", "aor", SanitiseText(creds["username"], 64), "address", v.Source.String())
		}
	}
	if no.status != 401 {
		return "", &VisitRefused{Status: no.status, Tried: true}
	}
	return "", &VisitRefused{Status: 401, Challenges: r.digest.challenges(realm, source, no.stale), Tried: !no.stale}
}

// realmOf is the domain that a visitor asked for if it is one of ours, else our
// first, as for a REGISTER.
func (d *digestServer) realmOf(hostPort string) string {
	host := hostPort
	if u, err := url.Parse("//" + hostPort); err == nil {
		host = u.Hostname()
	}
	for _, domain := range d.domains {
		if strings.EqualFold(domain, host) {
			return domain
		}
	}
	if len(d.domains) > 0 {
		return d.domains[0]
	}
	return defaultRealm
}

func (v Visit) credentials(realm string) (map[string]string, bool) {
	for _, h := range v.Authorization {
		if creds, found := credentialsIn(h, realm); found {
			return creds, true
		}
	}
	return nil, false
}

// sameResource holds the digest's uri against the request target (RFC 7616
// §3.4.6); it may be absolute.
func (v Visit) sameResource(uri string) bool {
	if uri == v.URI {
		return true
	}
	asked, err := url.Parse(v.URI)
	if err != nil {
		return false
	}
	signed, err := url.Parse(uri)
	return err == nil && signed.EscapedPath() == asked.EscapedPath() && signed.RawQuery == asked.RawQuery &&
		(signed.Host == "" || strings.EqualFold(signed.Host, v.Host))
}

// visitor says why an HTTP request is not looked at, "" if it is. It counts
// like a REGISTER, and nobody waits.
func (g *guard) visitor(a netip.Addr) (reason string) {
	if g == nil {
		return ""
	}
	now := time.Now().UnixNano()
	g.mu.Lock()
	s := g.sources.get(sourceKey(a), now)
	switch {
	case s.value.until > now && !s.value.datagramsOnly:
		reason = rejectedBanned
	case g.turn(s, now, false, 0) > 0:
		reason = rejectedRegister
	}
	g.mu.Unlock()
	if reason != "" && g.spared(a) {
		return ""
	}
	return reason
}

// mercy is when a visitor who was turned away may try again.
func (g *guard) mercy(reason string) time.Duration {
	if reason == rejectedBanned {
		return g.cfg.BanTime
	}
	return time.Second
}
