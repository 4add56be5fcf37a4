package admin

import (
	"errors"
	"strings"
	"testing"
)

func TestOnlyWithTheToken(t *testing.T) {
	a := serve(t, func(o *Options) { o.Token, o.Loopback = token, false })
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic " + token, "Bearer " + token + "x", token} {
		for _, r := range (&server{}).routes() {
			res, body := a.do(r.method, r.path, "Authorization", header)
			if r.who == anyone {
				if res.StatusCode != 200 {
					t.Errorf("%s is open and gives %d", r.path, res.StatusCode)
				}
				continue
			}
			a.wantProblem(res, body, 401, "token")
			if !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s has WWW-Authenticate %q", r.path, res.Header.Get("WWW-Authenticate"))
			}
		}
	}
	if len(a.calls.hungUp) > 0 {
		t.Errorf("without the token were hung up %v", a.calls.hungUp)
	}
	for _, header := range []string{"Bearer " + token, "bearer " + token} {
		if res, _ := a.do("GET", "/api/v1/status", "Authorization", header); res.StatusCode != 200 {
			t.Errorf("with the token: %d", res.StatusCode)
		}
	}
}

func TestNoTokenNeedsLoopback(t *testing.T) {
	if _, err := NewHandler(Options{}); !errors.Is(err, ErrNoToken) {
		t.Errorf("NewHandler gives %v", err)
	}
}

func TestOnlyLocalNamesOnLoopback(t *testing.T) {
	a := serve(t, nil)
	for _, host := range []string{"evil.example", "evil.example:8060", "127.0.0.1.evil.example", "localhost.evil.example"} {
		res, body := a.do("GET", "/healthz", "Host", host)
		a.wantProblem(res, body, 421, host)
	}
	for _, host := range []string{"localhost", "LOCALHOST:8060", "127.0.0.1:8060", "[::1]:8060", "[::1]", "localhost."} {
		if res, _ := a.do("GET", "/healthz", "Host", host); res.StatusCode != 200 {
			t.Errorf("Host %s gives %d", host, res.StatusCode)
		}
	}
}

func TestPagesOfOtherSitesCannotAct(t *testing.T) {
	a := serve(t, nil)
	res, body := a.do("DELETE", "/api/v1/calls/11111111-0000-4000-8000-000000000001", "Origin", "http://evil.example")
	a.wantProblem(res, body, 403, "other sites")
	res, body = a.do("POST", "/api/v1/extensions/1001/push-test", "Sec-Fetch-Site", "cross-site")
	a.wantProblem(res, body, 403, "other sites")
	if len(a.calls.hungUp) > 0 {
		t.Error("the call was hung up all the same")
	}
}

func TestNoSecretLeaves(t *testing.T) {
	a := serve(t, nil)
	for _, r := range (&server{}).routes() {
		if r.method != "GET" {
			continue
		}
		_, body := a.do("GET", strings.NewReplacer("{uuid}", "11111111-0000-4000-8000-000000000001").Replace(r.path))
		for _, secret := range []string{"SECRETTOKEN", "hidden-password", "hidden-hash"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s shows %s", r.path, secret)
			}
		}
	}
}
