package sip

import (
	"fmt"
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

// The tables are those of RFC 3398 §7.2.4.1 and §8.2.6.1.
func TestQ850CausesBecomeStatuses(t *testing.T) {
	for status, causes := range map[int][]int{
		0: {0, -1, 16, 128, 1000}, 404: {1, 2, 3, 26}, 486: {17}, 408: {18}, 480: {19, 20, 31}, 603: {21}, 410: {22, 23}, 502: {27}, 484: {28},
		501: {29, 79, 69}, 503: {34, 38, 41, 42, 47, 58, 88}, 403: {55, 57, 87}, 488: {65, 70}, 504: {102}, 500: {111, 127, 112},
	} {
		for _, cause := range causes {
			if got := StatusOf(cause); got != status {
				t.Errorf("cause %d becomes %d, want %d", cause, got, status)
			}
		}
	}
}

func TestStatusesBecomeQ850Causes(t *testing.T) {
	for cause, statuses := range map[int][]int{
		0: {0, 180, 200, 487, 700}, 41: {400, 481, 500, 503}, 21: {401, 402, 403, 407, 603}, 1: {404, 485, 604}, 63: {405}, 79: {406, 415, 501},
		102: {408, 504}, 22: {410}, 127: {413, 414, 416, 420, 421, 423, 505, 513, 499}, 18: {480}, 25: {482, 483}, 28: {484}, 17: {486, 600},
		88: {488, 606}, 38: {502}, 23: {301, 302},
	} {
		for _, status := range statuses {
			if got := CauseOf(status); got != cause {
				t.Errorf("%d becomes cause %d, want %d", status, got, cause)
			}
		}
	}
}

func TestEveryCauseHasANameAndAStatusThatWeCanSay(t *testing.T) {
	last := 0
	for _, c := range q850Causes {
		if c.cause <= last || c.name == "" || c.status != 0 && Phrase(c.status) == "Refused" {
			t.Errorf("%+v", c)
		}
		last = c.cause
	}
	for status := 300; status < 700; status++ {
		if cause := CauseOf(status); cause != 0 && (CauseText(cause) == "" || cause > 127) {
			t.Errorf("%d becomes cause %d, which has no name", status, cause)
		}
	}
}

// RFC 3326 §2: a request may carry a Reason of each protocol.
func TestReasonHeadersOfBothProtocols(t *testing.T) {
	for _, c := range []struct {
		name, given, both, response string
	}{
		{"SIP alone", `SIP;cause=486;text="Busy"`, `SIP;cause=486;text="Busy"|Q.850;cause=17;text="User busy"`, `Q.850;cause=17;text="User busy"`},
		{"Q.850 alone", `Q.850;cause=17;text="USER_BUSY"`, `SIP;cause=486;text="Busy Here"|Q.850;cause=17;text="USER_BUSY"`, `Q.850;cause=17;text="USER_BUSY"`},
		{"both, as given", `Q.850;cause=31, SIP;cause=487`, `SIP;cause=487|Q.850;cause=31;text="Normal, unspecified"`, `Q.850;cause=31;text="Normal, unspecified"`},
		{"both on two lines", "SIP;cause=603\r\nReason: Q.850;cause=21", `SIP;cause=603|Q.850;cause=21;text="Call rejected"`, `Q.850;cause=21;text="Call rejected"`},
		{"the first of each counts", `X.25;cause=1, Q.850;cause=16, Q.850;cause=17`, `Q.850;cause=16`, `Q.850;cause=16`},
		{"normal clearing has no status", `Q.850;cause=16;text="x"`, `Q.850;cause=16;text="x"`, `Q.850;cause=16;text="x"`},
		{"completed elsewhere", `SIP;cause=200;text="Call completed elsewhere"`, `SIP;cause=200;text="Call completed elsewhere"`, ``},
		{"declined for all", `SIP;cause=600;text="Busy Everywhere"`, `SIP;cause=600;text="Busy Everywhere"`, `Q.850;cause=17;text="User busy"`},
		{"no cause at all", `X.25;cause=1`, ``, ``},
		{"no cause of Q.850", `Q.850;cause=500`, ``, ``},
	} {
		r := reasonOf(calledWith(t, "Reason: "+c.given))
		req := sipgo.NewRequest(sipgo.BYE, sipgo.Uri{Scheme: "sip", Host: "a.b"})
		addReason(req, r.Both())
		var lines []string
		for _, h := range req.GetHeaders("Reason") {
			lines = append(lines, h.Value())
		}
		if got := strings.Join(lines, "|"); got != c.both {
			t.Errorf("%s is passed on as %s, want %s", c.name, got, c.both)
		}
		if got := r.ForResponse().String(); got != c.response {
			t.Errorf("%s is answered as %s, want %s", c.name, got, c.response)
		}
	}
}

func TestQ850OfAReason(t *testing.T) {
	for given, want := range map[string]int{
		`SIP;cause=486`: 17, `Q.850;cause=34`: 34, `SIP;cause=200`: 0, `SIP;cause=480, Q.850;cause=19`: 19, ``: 0,
	} {
		if got := reasonOf(calledWith(t, "Reason: "+given)).Q850(); got != want {
			t.Errorf("%s has cause %d, want %d", given, got, want)
		}
	}
}

func FuzzReason(f *testing.F) {
	f.Add(`SIP;cause=200;text="Call completed elsewhere"`)
	f.Add(`Q.850;cause=16;text="a, b", SIP ;cause = 486`)
	f.Fuzz(func(t *testing.T, value string) {
		for _, part := range strings.Split(value, ",") {
			r := ParseReason(part).Both()
			for _, s := range []string{r.String(), r.other().String(), fmt.Sprint(r.ForResponse())} {
				if strings.ContainsAny(s, "\r\n") {
					t.Errorf("%q", s)
				}
			}
		}
	})
}
