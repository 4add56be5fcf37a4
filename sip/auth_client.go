package sip

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	sipgo "github.com/emiago/sipgo/sip"
)

var errNoChallenge = errors.New("the server asks for credentials but offers no challenge we can answer (we know Digest with MD5, SHA-256, SHA-512-256)")

// digestClient answers a trunk's challenges (RFC 3261 §22, RFC 8760). It keeps
// the last challenge, so that later requests carry credentials at once and cost
// no 401, with a count that rises by one.
type digestClient struct {
	username string
	password Secret

	mu    sync.Mutex // guards the following
	www   *answerable
	proxy *answerable
}

// answerable is a challenge that we can answer, and how often we have.
type answerable struct {
	realm, nonce, opaque, algorithm, qop string
	cnonce                               string // one per nonce, which -sess needs
	count                                uint32
}

func newDigestClient(username string, password Secret) *digestClient {
	return &digestClient{username: username, password: password}
}

// challenged takes a 401 or 407. stale says that the server accepts the
// password and only wants another nonce: the request may be sent again even if
// it carried credentials. The error is for a challenge that we can't answer.
func (c *digestClient) challenged(res *sipgo.Response) (stale bool, err error) {
	name := "WWW-Authenticate"
	if res.StatusCode == 407 {
		name = "Proxy-Authenticate"
	}
	var offers []string
	for _, h := range res.GetHeaders(name) {
		values, err := parseAuth(h.Value())
		if err != nil {
			continue
		}
		for _, v := range values {
			if a := newAnswerable(v); a != nil {
				c.keep(res.StatusCode, a)
				return strings.EqualFold(v.params["stale"], "true"), nil
			}
			offers = append(offers, SanitiseToken(v.scheme, 16)+" "+SanitiseToken(v.params["algorithm"], 32))
		}
	}
	if len(offers) == 0 {
		return false, errNoChallenge
	}
	return false, fmt.Errorf("%w; it offers %s", errNoChallenge, strings.Join(offers, ", "))
}

func (c *digestClient) keep(status int, a *answerable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if status == 407 {
		c.proxy = a
	} else {
		c.www = a
	}
}

// newAnswerable returns nil for a challenge that we can't answer: the first one
// that we can is taken (RFC 8760 §2.4).
func newAnswerable(v authValue) *answerable {
	p := v.params
	if !v.isDigest() || p["nonce"] == "" || newDigestHash(p["algorithm"]) == nil {
		return nil
	}
	qop, ok := pickQop(p["qop"])
	if !ok {
		return nil
	}
	return &answerable{
		realm: p["realm"], nonce: p["nonce"], opaque: p["opaque"],
		algorithm: p["algorithm"], qop: qop, cnonce: rand.Text(),
	}
}

func pickQop(list string) (qop string, ok bool) {
	if strings.TrimSpace(list) == "" {
		return "", true
	}
	offered := strings.FieldsFunc(strings.ToLower(list), func(r rune) bool { return strings.ContainsRune(", \t", r) })
	for _, qop := range []string{"auth", "auth-int"} {
		if slices.Contains(offered, qop) {
			return qop, true
		}
	}
	return "", false
}

// authorize adds credentials for every challenge met so far; none at first.
func (c *digestClient) authorize(req *sipgo.Request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, a := range map[string]*answerable{"Authorization": c.www, "Proxy-Authorization": c.proxy} {
		if a == nil {
			continue
		}
		value, err := c.answer(a, req)
		if err != nil {
			return err
		}
		req.AppendHeader(sipgo.NewHeader(name, value))
	}
	return nil
}

func (c *digestClient) answer(a *answerable, req *sipgo.Request) (string, error) {
	a.count++
	in := digestInput{
		algorithm: a.algorithm, method: string(req.Method), uri: req.Recipient.String(),
		nonce: a.nonce, cnonce: a.cnonce, qop: a.qop, body: req.Body(),
		nc: fmt.Sprintf("%08x", a.count),
	}
	response, ok := in.response(HA1(a.algorithm, c.username, a.realm, c.password.Reveal()))
	if !ok {
		return "", errNoChallenge
	}
	v := "Digest username=" + Quote(c.username) + ", realm=" + Quote(a.realm) +
		", nonce=" + Quote(a.nonce) + ", uri=" + Quote(in.uri) + `, response="` + response + `"`
	if a.algorithm != "" {
		v += ", algorithm=" + a.algorithm
	}
	if a.opaque != "" {
		v += ", opaque=" + Quote(a.opaque)
	}
	if a.qop != "" {
		v += ", qop=" + a.qop + ", nc=" + in.nc + `, cnonce="` + a.cnonce + `"`
	} else if strings.HasSuffix(strings.ToUpper(a.algorithm), "-SESS") {
		v += `, cnonce="` + a.cnonce + `"`
	}
	return v, nil
}
