package sip

import (
	"crypto/rand"
	"crypto/subtle"
	"net/netip"
	"slices"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// defaultRealm is the realm of a server without domains.
const defaultRealm = "reveille"

// digestServer authenticates devices (RFC 8760): SHA-256 is offered before MD5,
// qop is auth, nonces may be used again with a higher count, and a sender can't
// tell an unknown extension from a wrong password.
type digestServer struct {
	algorithms []string
	domains    []string
	accounts   Accounts
	nonces     *nonces
	nobody     string // in place of the hash of extensions that do not exist
	rejected   func(reason string)
}

func newDigestServer(cfg Config, accounts Accounts, rejected func(reason string)) *digestServer {
	return &digestServer{
		algorithms: cfg.Auth.Algorithms,
		domains:    cfg.Domains,
		accounts:   accounts,
		nonces:     newNonces(cfg.Auth.NonceLifetime),
		nobody:     strings.ToLower(rand.Text() + rand.Text()), // of about the length of one
		rejected:   rejected,
	}
}

// denied says why a request was not authenticated. Only stale is told to the
// sender; reason and user are for the log.
type denied struct {
	status int    // 401 or 400
	stale  bool   // the password was right, the nonce was not
	reason string // value of the metric's label
	user   string // as claimed, "" if there were no credentials
}

// realm is the domain of the request if it is one of ours, else our first.
func (d *digestServer) realm(req *sipgo.Request) string {
	for _, host := range []string{req.To().Address.Host, req.Recipient.Host} {
		for _, domain := range d.domains {
			if strings.EqualFold(host, domain) {
				return domain
			}
		}
	}
	if len(d.domains) > 0 {
		return d.domains[0]
	}
	return defaultRealm
}

// authenticate returns the extension that the request proves to come from, or
// why it does not.
func (d *digestServer) authenticate(req *sipgo.Request, source netip.Addr) (user string, no *denied) {
	realm := d.realm(req)
	creds, found := credentialsFor(req, realm)
	if !found {
		return "", &denied{status: 401, reason: "auth_missing"}
	}
	no = d.verify(req, creds, realm, source)
	if no == nil {
		return creds["username"], nil
	}
	no.user = creds["username"]
	d.rejected(no.reason)
	return "", no
}

// credentialsFor picks the digest credentials for our realm; a request may
// carry others for proxies it passed.
func credentialsFor(req *sipgo.Request, realm string) (map[string]string, bool) {
	for _, h := range req.GetHeaders("Authorization") {
		if creds, found := credentialsIn(h.Value(), realm); found {
			return creds, true
		}
	}
	return nil, false
}

// credentialsIn reads one Authorization header.
func credentialsIn(header, realm string) (map[string]string, bool) {
	values, err := parseAuth(header)
	if err != nil {
		return nil, false
	}
	for _, v := range values {
		if v.isDigest() && v.params["realm"] == realm {
			return v.params, true
		}
	}
	return nil, false
}

func (d *digestServer) verify(req *sipgo.Request, creds map[string]string, realm string, source netip.Addr) *denied {
	return d.check(creds, realm, string(req.Method), source, func(uri string) bool { return d.sameResource(req, uri) })
}

// check holds credentials against the method of their request, of SIP or HTTP;
// same tells whether a digest uri is the request's.
func (d *digestServer) check(creds map[string]string, realm, method string, source netip.Addr, same func(uri string) bool) *denied {
	algorithm := canonicalAlgorithm(creds["algorithm"])
	if !slices.Contains(d.algorithms, algorithm) {
		return &denied{status: 401, reason: "auth_algorithm"}
	}
	nc, ok := parseNonceCount(creds["nc"])
	if !ok || creds["qop"] != "auth" || creds["cnonce"] == "" || creds["nonce"] == "" || creds["username"] == "" {
		return &denied{status: 401, reason: "auth_incomplete"}
	}
	if !same(creds["uri"]) {
		return &denied{status: 400, reason: "auth_uri"}
	}
	// The nonce comes first: a password that is tried on one that was never
	// sent there tells nobody anything, and costs us little (RFC 7616 §3.3).
	if !d.nonces.fresh(creds["nonce"], source) {
		return &denied{status: 401, stale: true, reason: "auth_stale"}
	}
	if !d.knows(method, creds, realm, algorithm) {
		return &denied{status: 401, reason: "auth_failed"}
	}
	if !d.nonces.spend(creds["nonce"], nc, source) {
		return &denied{status: 401, stale: true, reason: "auth_stale"}
	}
	return nil
}

// knows checks the response. An unknown extension takes the same steps as one
// that has a password, with a hash that nobody knows.
func (d *digestServer) knows(method string, creds map[string]string, realm, algorithm string) bool {
	ha1, exists := d.accounts.HA1(creds["username"], realm, algorithm)
	if !exists {
		ha1 = d.nobody
	}
	want, _ := digestInput{
		algorithm: algorithm, method: method, uri: creds["uri"],
		nonce: creds["nonce"], nc: creds["nc"], cnonce: creds["cnonce"], qop: "auth",
	}.response(strings.ToLower(ha1))
	same := subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(creds["response"])))
	return exists && same == 1
}

// sameResource holds the digest's uri against the Request-URI (RFC 7616
// §3.4.6). A proxy on the way may have rewritten the latter, so that any domain
// of ours will do.
func (d *digestServer) sameResource(req *sipgo.Request, uri string) bool {
	var u sipgo.Uri
	if err := readURI(uri, &u); err != nil {
		return false
	}
	return strings.EqualFold(u.Host, req.Recipient.Host) ||
		slices.ContainsFunc(d.domains, func(domain string) bool { return strings.EqualFold(domain, u.Host) })
}

// challenge adds a WWW-Authenticate header for each algorithm, best first.
func (d *digestServer) challenge(res *sipgo.Response, req *sipgo.Request, source netip.Addr, stale bool) {
	for _, v := range d.challenges(d.realm(req), source, stale) {
		res.AppendHeader(sipgo.NewHeader("WWW-Authenticate", v))
	}
}

func (d *digestServer) challenges(realm string, source netip.Addr, stale bool) (out []string) {
	nonce := d.nonces.mint(source)
	for _, algorithm := range d.algorithms {
		v := "Digest realm=" + Quote(realm) + `, nonce="` + nonce + `", algorithm=` + algorithm + `, qop="auth"`
		if stale {
			v += ", stale=true"
		}
		out = append(out, v)
	}
	return out
}
