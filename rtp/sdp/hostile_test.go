package sdp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// What an error quotes of a stranger's description has a bound: it goes into logs and records.
func TestErrorsAreBrief(t *testing.T) {
	long := strings.Repeat("ä", 4000)
	for what, lines := range map[string][]string{
		"m=":       {"m=audio " + long},
		"profile":  {"m=audio 4000 " + long + " 0"},
		"c=":       {"c=IN IP6 " + long + ":1", "m=audio 4000 RTP/AVP 0"},
		"a=rtcp":   {"c=IN IP4 192.0.2.1", "m=audio 4000 RTP/AVP 0", "a=rtcp:" + long},
		"payload":  {"c=IN IP4 192.0.2.1", "m=audio 4000 RTP/AVP " + long},
		"pion's":   {"c=IN IP4 192.0.2.1", "b=" + long, "m=audio 4000 RTP/AVP 0"},
		"its port": {"c=IN IP4 192.0.2.1", "m=audio " + long + " RTP/AVP 0"},
	} {
		body := strings.Join(append([]string{"v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "t=0 0"}, lines...), "\r\n") + "\r\n"
		_, err := Parse([]byte(body))
		if !errors.Is(err, ErrBad) && !errors.Is(err, ErrNotAcceptable) {
			t.Errorf("%s: %v", what, err)
		} else if n := len(err.Error()); n > maxReason+50 {
			t.Errorf("%s: an error of %d bytes", what, n)
		}
	}
}

// However long it is, an error says what is wrong.
func TestErrorsOfAllLengthsTellWhatIsWrong(t *testing.T) {
	for n := range 2 * maxReason {
		body := "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=" + strings.Repeat("x", n+1) + "\r\n"
		if _, err := Parse([]byte(body)); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), "m=x") {
			t.Fatalf("%d: %v", n, err)
		}
	}
}

// RTCP goes to one host, like RTP.
func TestRTCPGoesToNobodyElse(t *testing.T) {
	for value, want := range map[string]string{
		"4009 IN IP4 192.0.2.9":       "192.0.2.9:4009",
		"4009 IN IP4 224.2.1.1":       "192.0.2.1:4009",
		"4009 IN IP4 255.255.255.255": "192.0.2.1:4009",
	} {
		if got, err := parseRTCP(value, netip.MustParseAddr("192.0.2.1")); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", value, got, err)
		}
	}
	if got, err := parseRTCP("4009 IN IP6 fe80::1%eth0", netip.MustParseAddr("2001:db8::1")); err != nil || got.Addr().Zone() != "" {
		t.Errorf("%v, %v", got, err)
	}
}
