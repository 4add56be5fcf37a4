package sip

import (
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

func inviteWith(t testing.TB, headers ...string) []uint64 {
	t.Helper()
	return proofsOf(parsed(t, message("INVITE sip:b@example.com SIP/2.0", "", headers...)).(*sipgo.Request))
}

func TestProofsThatTwoInvitesAreOneCall(t *testing.T) {
	for name, c := range map[string]struct {
		a, b string
		same bool
	}{
		"Session-ID":          {"Session-ID: AB30317f1a784dc48ff824d0d3715d86;remote=0", "Session-ID: ab30317f1a784dc48ff824d0d3715d86", true},
		"another Session-ID":  {"Session-ID: ab30317f1a784dc48ff824d0d3715d86", "Session-ID: bb30317f1a784dc48ff824d0d3715d86", false},
		"nil Session-ID":      {"Session-ID: 00000000000000000000000000000000", "Session-ID: 00000000000000000000000000000000", false},
		"icid":                {"P-Charging-Vector: icid-value=1234bc9876e;icid-generated-at=h", "P-Charging-Vector: orig-ioi=a;icid-value=\"1234bc9876e\"", true},
		"no icid":             {"P-Charging-Vector: orig-ioi=a", "P-Charging-Vector: orig-ioi=a", false},
		"one kind for others": {"Session-ID: 1234", "P-Charging-Vector: icid-value=1234", false},
		"Call-ID":             {"Call-ID: two", "Call-ID: two", true},
	} {
		a, b := []string{c.a}, []string{c.b}
		if name != "Call-ID" {
			a, b = append(a, "Call-ID: a"), append(b, "Call-ID: b")
		}
		same := false
		for _, p := range inviteWith(t, a...) {
			for _, q := range inviteWith(t, b...) {
				same = same || p == q
			}
		}
		if same != c.same {
			t.Errorf("%s: %v", name, same)
		}
	}
}

func FuzzProofs(f *testing.F) {
	f.Add("a.eyJvcmlnaWQiOiIxIn0.b;info=<x>", "icid-value=1;x", "ab;remote=0", "x, y")
	f.Add("..", ";;", "", ",,,")
	f.Fuzz(func(t *testing.T, identity, charging, session, marks string) {
		for _, s := range []string{identity, charging, session, marks} {
			if strings.ContainsAny(s, "\r\n\x00") {
				return
			}
		}
		m, _, err := parseDatagram([]byte(message("INVITE sip:b@example.com SIP/2.0", "",
			"Identity: "+identity, "P-Charging-Vector: "+charging, "Session-ID: "+session, LoopHeader+": "+marks)), 1<<16)
		if err != nil {
			return
		}
		req := m.(*sipgo.Request)
		if n := len(proofsOf(req)); n < 1 || n > 3+strings.Count(identity, ",")+1 {
			t.Errorf("%d proofs", n)
		}
		if got := loopMarks(req); len(got) > maxLoopMarks || strings.ContainsAny(strings.Join(got, ""), ", \t\"") {
			t.Errorf("marks %q", got)
		}
	})
}
