package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// resource is what one path has: an operation for each method.
type resource struct {
	server  *server
	methods map[string]route
}

const bearerChallenge = `Bearer realm="reveille"`

// ServeHTTP checks method and token, then serves.
func (res *resource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http leaves the body out
	}
	op, known := res.methods[method]
	if !known {
		allow := strings.Join(slices.Sorted(maps.Keys(res.methods)), ", ")
		w.Header().Set("Allow", allow)
		res.server.problem(w, http.StatusMethodNotAllowed, "this path takes "+allow)
		return
	}
	if op.who == operator && !res.server.authorised(r) {
		w.Header().Set("WWW-Authenticate", bearerChallenge)
		res.server.problem(w, http.StatusUnauthorized, "send the token of http.token_file as: Authorization: Bearer TOKEN")
		return
	}
	op.serve(w, r)
}

// authorised compares hashes, so that neither the content nor the length of
// the token shows in the time it takes.
func (s *server) authorised(r *http.Request) bool {
	if s.Token == "" {
		return true
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(s.Token.Reveal())), sha256.Sum256([]byte(strings.TrimSpace(given)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// guard is what every request goes through first.
func (s *server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection() // a web page must not hang up calls by way of its visitor
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.problem(w, http.StatusForbidden, "requests by pages of other sites are not served")
	}))
	limited := cross.Handler(http.MaxBytesHandler(next, maxBody))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if s.Loopback && !localName(r.Host) {
			s.problem(w, http.StatusMisdirectedRequest, "the Host header names "+printable(r.Host)+"; ask for localhost or an IP address")
			return
		}
		limited.ServeHTTP(w, r)
	})
}

// localName holds for what no web page can make its own name: localhost and
// IP addresses.
func localName(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = hostPort
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	_, err = netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
