package sip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// tried runs the trials of trunks against a carrier at 192.0.2.9.
func tried(t *testing.T, trunks []TrunkConfig, upstreams []Upstream, script func(m *siptest.Message) reply) (lines []string, got []*siptest.Message) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &carrier{b: &serverBed{t: t, net: siptest.NewNetwork()}, script: script}
		c.open()
		defer c.restart(nil)
		cfg := DefaultConfig()
		cfg.Listen = []string{"udp://192.0.2.1:5060", "tls://192.0.2.1:5061", "wss://192.0.2.1:443"}
		start := time.Now()
		trials, err := TryTrunks(t.Context(), cfg, trunks, upstreams, Options{Network: c.b.net.Host("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 13*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, tr := range trials {
			line := fmt.Sprintf("%s %s: %s", tr.Trunk, tr.What, tr.Proved)
			if tr.Err != nil {
				line = fmt.Sprintf("%s %s: FAIL %v", tr.Trunk, tr.What, tr.Err)
			}
			if tr.Doubtful {
				line = strings.Replace(line, "FAIL", "warn", 1)
			}
			if strings.Contains(line, "secret") || strings.Contains(line, "\n") {
				t.Errorf("a secret, or a line break: %q", line)
			}
			lines = append(lines, line)
		}
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		got = c.got
	})
	return lines, got
}

// asking answers OPTIONS with 200, and REGISTER with a challenge until the
// credentials come, then by last.
func asking(last reply) func(m *siptest.Message) reply {
	return func(m *siptest.Message) reply {
		switch {
		case m.Method() == "OPTIONS":
			return reply{code: 200}
		case m.Get("Authorization") == "":
			return asks("n1", "")
		}
		return last
	}
}

func mustSay(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got\n%s\nwant %d lines", strings.Join(got, "\n"), len(want))
		return
	}
	for i := range got {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("got\n%s\nwant\n%s", got[i], want[i])
		}
	}
}

// TestTrialChangesNothing: the login is proved by a REGISTER without Contact,
// which fetches the bindings (RFC 3261 §10.2.3), from a port that is not ours.
func TestTrialChangesNothing(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		lines, got := tried(t, []TrunkConfig{loginAt(transport)}, nil, asking(reply{code: 200}))
		mustSay(t, lines,
			"carrier DNS: 192.0.2.9 is "+transport+"://192.0.2.9:5060",
			"carrier OPTIONS: "+transport+"://192.0.2.9:5060 (200 OK): answered",
			"carrier login: 4930 is taken as sip:192.0.2.9")
		registers := 0
		for _, m := range got {
			if m.Method() == "REGISTER" {
				registers++
				if m.Get("Contact") != "" || m.Get("Expires") != "" || m.Get("Require") != "" {
					t.Errorf("it would change a binding:\n%s", m)
				}
			}
			if strings.Contains(m.Get("Via"), "192.0.2.1:5060") {
				t.Errorf("it comes from the bridge's port: %s", m.Get("Via"))
			}
		}
		if registers != 2 {
			t.Errorf("%d REGISTERs, want one and one with the password", registers)
		}
	}
}

// TestTrialTellsLoginsApart: each answer to the password has its own cause.
func TestTrialTellsLoginsApart(t *testing.T) {
	for _, tt := range []struct {
		last reply
		want string
	}{
		{asks("n2", ""), `FAIL the registrar answers 401 Refused to the password of "4930": it is wrong`},
		{reply{code: 403}, `FAIL the registrar answers 403 Forbidden to "4930": the account is blocked`},
		{reply{code: 404}, `FAIL the registrar answers 404 Not Found: it does not know "4930"`},
		{reply{code: 400}, "warn the registrar answers 400 Bad Request to a query without Contact"},
		{reply{}, "FAIL no answer to REGISTER within 4s"},
		{reply{code: 401, headers: []string{`WWW-Authenticate: Bearer realm="x"`}}, "offers no challenge we can answer"},
	} {
		lines, _ := tried(t, []TrunkConfig{loginAt("udp")}, nil, asking(tt.last))
		mustSay(t, lines, "carrier DNS: ", "carrier OPTIONS: ", "carrier login: ")
		if last := lines[len(lines)-1]; !strings.Contains(last, tt.want) {
			t.Errorf("got\n%s\nwant\n%s", last, tt.want)
		}
	}
}

// TestTrialOfALoginWithAStaleNonceAndAProxy: it takes as many challenges as a
// login does.
func TestTrialOfALoginWithAStaleNonceAndAProxy(t *testing.T) {
	lines, _ := tried(t, []TrunkConfig{loginAt("udp")}, nil, func(m *siptest.Message) reply {
		switch {
		case m.Method() == "OPTIONS":
			return reply{code: 200}
		case m.Get("Proxy-Authorization") == "":
			return reply{code: 407, headers: []string{`Proxy-Authenticate: Digest realm="proxy", nonce="p"`}}
		case m.Get("Authorization") == "":
			return asks("n1", "")
		case strings.Contains(m.Get("Authorization"), `nonce="n1"`):
			return asks("n2", ", stale=true")
		}
		return reply{code: 200}
	})
	mustSay(t, lines, "DNS", "OPTIONS", "carrier login: 4930 is taken")
}

// TestTrialOfServersThatDoNotAnswer: silence, a refused connection, 503 and a
// name that is not there are told apart.
func TestTrialOfServersThatDoNotAnswer(t *testing.T) {
	silent := func(*siptest.Message) reply { return reply{} }
	lines, _ := tried(t, []TrunkConfig{loginAt("udp")}, nil, silent)
	mustSay(t, lines, "DNS", "OPTIONS: FAIL udp://192.0.2.9:5060 gives no answer to OPTIONS within 4s", "login: FAIL no answer to REGISTER")

	busy := loginAt("udp")
	lines, _ = tried(t, []TrunkConfig{busy}, nil, func(m *siptest.Message) reply {
		if m.Method() == "OPTIONS" {
			return reply{code: 503}
		}
		return asking(reply{code: 200})(m)
	})
	mustSay(t, lines, "DNS", "OPTIONS: it answers none, but takes the login", "login: 4930 is taken")

	closed := loginAt("tcp")
	closed.Registrar = "sip:192.0.2.9:5099"
	lines, _ = tried(t, []TrunkConfig{closed}, nil, silent)
	mustSay(t, lines, "DNS", "OPTIONS: FAIL tcp://192.0.2.9:5099 refuses connections")

	lines, _ = tried(t, []TrunkConfig{loginAt("tcp")}, nil, func(*siptest.Message) reply { return reply{hangUp: true} })
	mustSay(t, lines, "DNS", "OPTIONS: FAIL tcp://192.0.2.9:5060 takes the connection and ends it")

	lines, _ = tried(t, []TrunkConfig{loginAt("tcp")}, nil, func(m *siptest.Message) reply {
		return reply{code: 200, hangUp: m.Method() == "REGISTER"}
	})
	mustSay(t, lines, "DNS", "OPTIONS: tcp", "login: ")

	unknown := loginAt("udp")
	unknown.Registrar = "sip:carrier.invalid"
	lines, _ = tried(t, []TrunkConfig{unknown}, nil, silent)
	mustSay(t, lines, "DNS: FAIL DNS: ")
}

// TestTrialOfPeers: a peer that is one host is asked, a network is not; one
// that is not asked in service either only gives a warning.
func TestTrialOfPeers(t *testing.T) {
	asked := TrunkConfig{Name: "asked", Peers: []string{"192.0.2.9"}, OptionsInterval: 30 * time.Second}
	unasked := TrunkConfig{Name: "unasked", Peers: []string{"192.0.2.9", "198.51.100.0/24"}}
	network := TrunkConfig{Name: "network", Peers: []string{"192.0.2.0/28"}}
	lines, _ := tried(t, []TrunkConfig{asked, unasked, network}, nil, func(*siptest.Message) reply { return reply{code: 404} })
	mustSay(t, lines, "asked DNS", "asked OPTIONS: udp://192.0.2.9:5060 (404 Not Found): answered", "unasked DNS", "unasked OPTIONS: udp", "network OPTIONS: its peers are networks")
	lines, _ = tried(t, []TrunkConfig{asked, unasked}, nil, func(*siptest.Message) reply { return reply{} })
	mustSay(t, lines, "asked DNS", "asked OPTIONS: FAIL", "unasked DNS", "unasked OPTIONS: warn")
}

// TestTrialOfUpstreams: the first few extensions' own accounts are tried.
func TestTrialOfUpstreams(t *testing.T) {
	pbx := TrunkConfig{Name: "pbx", Registrar: "sip:192.0.2.9", Transport: "udp"}
	var ups []Upstream
	for i := range 12 {
		name := fmt.Sprint(1001 + i)
		ups = append(ups, Upstream{Extension: name, UpstreamConfig: UpstreamConfig{Trunk: "pbx", Username: name, AuthUsername: "auth" + name, Password: "secret"}})
	}
	lines, _ := tried(t, []TrunkConfig{pbx}, ups, func(m *siptest.Message) reply {
		if m.Method() == "REGISTER" && strings.Contains(m.Get("Authorization"), `username="auth1002"`) {
			return asks("n2", "")
		}
		return asking(reply{code: 200})(m)
	})
	mustSay(t, lines, "pbx DNS", "pbx OPTIONS", "login of 1001: auth1001 is taken", "login of 1002: FAIL", "login of 1003", "login of 1004", "login of 1005")
}
