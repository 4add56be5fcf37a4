package sdp

import (
	"bytes"
	"os"
	"testing"
)

// The bodies of RFC 5118 §4.6, §4.8 and §4.9: addresses of both families, for
// the session and for one of its media.
func TestBodiesOfTheIPv6TortureMessages(t *testing.T) {
	for name, want := range map[string]string{
		"ipv6-in-sdp":      "[2001:db8::20]:6000",
		"mult-ip-in-sdp":   "192.0.2.1:22334",
		"ipv4-mapped-ipv6": "192.0.2.2:6000",
	} {
		data, err := os.ReadFile("../../sip/testdata/rfc5118/" + name + ".dat")
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := bytes.Cut(data, []byte("\r\n\r\n"))
		d, err := Parse(body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d.Addr.String() != want {
			t.Errorf("%s: audio at %s, want %s", name, d.Addr, want)
		}
	}
}
