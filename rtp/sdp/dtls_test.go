package sdp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Fingerprints of tests.
var (
	sum32 = strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	sum48 = strings.TrimSuffix(strings.Repeat("0c:", 48), ":")
	sum20 = strings.TrimSuffix(strings.Repeat("AB:", 20), ":")

	print256 = "a=fingerprint:sha-256 " + sum32
	credits  = []string{"a=ice-ufrag:abcd", "a=ice-pwd:0123456789abcdefghijkl"}
)

// browser is an offer as Chromium makes it.
func browser(more ...string) []byte {
	return text(append([]string{
		"v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0", "a=extmap-allow-mixed",
		"a=msid-semantic: WMS 5f0b", "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0",
		"a=candidate:1 1 udp 2113937151 4c1d.local 54400 typ host generation 0 network-cost 999",
		"a=candidate:2 1 tcp 1518280447 10.0.0.1 9 typ host tcptype active",
		"a=candidate:3 2 udp 1 relay.example typ", "a=candidate:", "a=ice-ufrag:EsAw", "a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y",
		"a=ice-options:trickle", print256, "a=setup:actpass", "a=mid:0", "a=sendrecv", "a=msid:5f0b track", "a=rtcp-mux",
		"a=rtcp-rsize", "a=rtpmap:111 opus/48000/2", "a=rtcp-fb:111 transport-cc", "a=rtpmap:126 telephone-event/8000",
		"a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6",
	}, more...)...)
}

func TestTheOfferOfABrowserIsRead(t *testing.T) {
	d, err := ParseSecure(browser(), Optional)
	if err != nil {
		t.Fatal(err)
	}
	if d.ICE == nil || d.ICE.Ufrag != "EsAw" || d.ICE.Pwd != "bP+XJMM09aR8AiX1jdukzR6Y" || d.ICE.Lite || !d.Checked() {
		t.Errorf("ICE %+v", d.ICE)
	}
	if d.DTLS == nil || d.DTLS.Setup != ActPass || len(d.DTLS.Fingerprints) != 1 || len(d.DTLS.Fingerprints[0].Sum) != 32 {
		t.Errorf("DTLS %+v", d.DTLS)
	}
	if d.Mid != "0" || !d.Bundle || !d.Mux || d.Direction != SendRecv || d.Crypto != nil || len(d.Codecs) != 6 { // 63, 110 have no rtpmap
		t.Errorf("%+v", d)
	}
}

func TestDTLSIsTakenOnlyWhereItMay(t *testing.T) {
	key := "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key30
	web := append([]string{"m=audio 4000 UDP/TLS/RTP/SAVPF 0", print256, "a=setup:actpass"}, credits...)
	for name, test := range map[string]struct {
		lines []string
		want  [3]string // with off, optional and required: what was taken, or what is wrong
	}{
		"DTLS":                 {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", print256, "a=setup:active"}, [3]string{"488", "0 dtls", "0 dtls"}},
		"as before RFC 5764":   {[]string{"m=audio 4000 RTP/SAVPF 0", print256, "a=setup:active"}, [3]string{"488", "0 dtls", "0 dtls"}},
		"SAVP with both":       {[]string{"m=audio 4000 RTP/SAVP 0", print256, "a=setup:active", key}, [3]string{"488", "0 keys", "0 keys"}},
		"AVP with fingerprint": {[]string{"m=audio 4000 RTP/AVP 0", print256, "a=setup:active"}, [3]string{"0 plain", "0 plain", "488"}},
		"for the session":      {[]string{print256, "a=setup:active", "m=audio 4000 UDP/TLS/RTP/SAVP 0"}, [3]string{"488", "0 dtls", "0 dtls"}},
		"AVP and DTLS":         {[]string{"m=audio 4000 RTP/AVP 0", "m=audio 4000 UDP/TLS/RTP/SAVP 0", print256, "a=setup:active"}, [3]string{"0 plain", "1 dtls", "1 dtls"}},
		"SAVP and DTLS":        {[]string{"m=audio 4000 RTP/SAVP 0", key, "m=audio 4000 UDP/TLS/RTP/SAVP 0", print256, "a=setup:active"}, [3]string{"488", "1 dtls", "1 dtls"}},
		"no fingerprint":       {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", "a=setup:active"}, [3]string{"488", "488", "488"}},
		"by SHA-1 only":        {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", "a=fingerprint:sha-1 " + sum20, "a=setup:active"}, [3]string{"488", "488", "488"}},
		"by SHA-1 too":         {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", "a=fingerprint:SHA-1 " + sum20, print256, "a=setup:active"}, [3]string{"488", "0 dtls", "0 dtls"}},
		"a fingerprint cut":    {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", "a=fingerprint:sha-256 " + sum20, "a=setup:active"}, [3]string{"488", "400", "400"}},
		"no fingerprint at all": {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", "a=fingerprint:sha-256 " + strings.ReplaceAll(sum32, ":", "-"), "a=setup:active"},
			[3]string{"488", "400", "400"}},
		"no setup":      {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", print256}, [3]string{"488", "488", "488"}},
		"holdconn":      {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", print256, "a=setup:holdconn"}, [3]string{"488", "488", "488"}},
		"a bad tls-id":  {[]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", print256, "a=setup:active", "a=tls-id:short"}, [3]string{"488", "400", "400"}},
		"ICE":           {append(web, "a=rtcp-mux"), [3]string{"488", "0 dtls ice", "0 dtls ice"}},
		"mux only":      {append(web, "a=rtcp-mux-only"), [3]string{"488", "0 dtls ice", "0 dtls ice"}},
		"no mux":        {web, [3]string{"488", "488", "488"}},
		"no mux, SAVP":  {append([]string{"m=audio 4000 UDP/TLS/RTP/SAVP 0"}, web[1:]...), [3]string{"488", "0 dtls", "0 dtls"}},
		"a short ufrag": {append(web[:3:3], "a=rtcp-mux", "a=ice-ufrag:abc", credits[1]), [3]string{"488", "400", "400"}},
		"a short pwd":   {append(web[:3:3], "a=rtcp-mux", credits[0], credits[1][:31]), [3]string{"488", "400", "400"}},
		"a bad pwd":     {append(web[:3:3], "a=rtcp-mux", credits[0], "a=ice-pwd:0123456789 abcdefghijkl"), [3]string{"488", "400", "400"}},
		"no pwd":        {append(web[:3:3], "a=rtcp-mux", credits[0]), [3]string{"488", "400", "400"}},
		"plain ICE":     {append([]string{"m=audio 4000 RTP/AVP 0"}, credits...), [3]string{"0 plain", "0 plain", "488"}},
	} {
		for security, want := range test.want {
			if got := taken(ParseSecure(stream(test.lines...), Security(security))); got != want {
				t.Errorf("%s with %d: %s, want %s", name, security, got, want)
			}
		}
	}
}

// taken names what was read.
func taken(d *Description, err error) string {
	switch {
	case errors.Is(err, ErrBad):
		return "400"
	case errors.Is(err, ErrNotAcceptable):
		return "488"
	case err != nil:
		return err.Error()
	}
	text := fmt.Sprint(d.Index, " ", map[Kinds]string{Plain: "plain", Keyed: "keys", Shaken: "dtls"}[d.kind()])
	if d.ICE != nil {
		text += " ice"
	}
	return text
}

func TestFingerprintsOfTheBestHashFunctionAreKept(t *testing.T) {
	line := []string{"m=audio 4000 UDP/TLS/RTP/SAVP 0", "a=setup:actpass", "a=fingerprint:sha-384 " + sum48}
	d, err := ParseSecure(stream(line...), Optional)
	if err != nil || len(d.DTLS.Fingerprints) != 1 || d.DTLS.Fingerprints[0].Hash != SHA384 {
		t.Fatalf("%+v, %v", d, err)
	}
	other := strings.Replace(print256, "AB", "01", 1)
	d, err = ParseSecure(stream(append(line, print256, other)...), Optional)
	if err != nil || len(d.DTLS.Fingerprints) != 2 || d.DTLS.Fingerprints[1].Hash != SHA256 || d.DTLS.Fingerprints[1].Sum[0] != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
}

func TestDTLSIsWrittenAndReadBack(t *testing.T) {
	sum := strings.Repeat("\x0a\xbc", 16)
	d := ours()
	d.Lines[1].Proto, d.RTCP, d.Mux, d.Mid, d.Bundle = "UDP/TLS/RTP/SAVPF", d.Addr, true, "a1", true
	d.DTLS = &DTLS{Setup: Passive, Fingerprints: []Fingerprint{{SHA256, sum}}, ID: "0123456789abcdefghij"}
	d.ICE = &ICE{Ufrag: "ours", Pwd: "0123456789abcdefghijkl", Lite: true}
	w := Writer{ID: 5}
	body, err := w.Write(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"a=ice-lite", "a=group:BUNDLE a1", "m=audio 20000 UDP/TLS/RTP/SAVPF 8 101 96", "a=mid:a1", "a=rtcp-mux", "a=rtcp:20000", "a=ice-ufrag:ours",
		"a=ice-pwd:0123456789abcdefghijkl", "a=candidate:1 1 UDP 2130706431 203.0.113.5 20000 typ host", "a=end-of-candidates", "a=setup:passive",
		"a=fingerprint:sha-256 0A:BC:" + strings.TrimSuffix(strings.Repeat("0A:BC:", 15), ":"), "a=tls-id:0123456789abcdefghij",
	} {
		if strings.Count(string(body), "\r\n"+line+"\r\n") != 1 {
			t.Errorf("no %s in\n%s", line, body)
		}
	}
	back, err := ParseSecure(body, Optional)
	if err != nil || !back.DTLS.Same(d.DTLS) || back.DTLS.Setup != Passive || *back.ICE != *d.ICE || back.Mid != d.Mid || !back.Bundle || back.Checked() {
		t.Fatalf("%+v, %v", back, err)
	}
	again, err := Resume(body)
	if err != nil {
		t.Fatal(err)
	}
	if same, _ := again.Write(back); string(same) != string(body) {
		t.Errorf("written again as\n%s\nbefore\n%s", same, body)
	}
	d.Addr, d.DTLS.Fingerprints = netip.MustParseAddrPort("[2001:db8::5]:20000"), slices.Clone(d.DTLS.Fingerprints)
	body, _ = (&Writer{ID: 5}).Write(d)
	if !strings.Contains(string(body), " 2001:db8::5 20000 typ host\r\n") {
		t.Errorf("%s", body)
	}
}

func TestPasswordsDoNotShow(t *testing.T) {
	d := &Description{Stream: Stream{ICE: &ICE{Ufrag: "u", Pwd: "geheimgeheim"}}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X"} {
		for _, v := range []any{d.ICE.Pwd, *d.ICE, d.ICE} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "geheim") || strings.Contains(text, "6768") || !strings.Contains(text, "[password]") {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
	if out, err := json.Marshal(d); err != nil || strings.Contains(string(out), "geheim") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestSetupsAreAnswered(t *testing.T) {
	if ActPass.Reply() != Passive || Active.Reply() != Passive || Passive.Reply() != Active {
		t.Error("another role")
	}
}

func FuzzSecure(f *testing.F) {
	f.Add([]byte(browser()))
	f.Add([]byte(browser("m=video 9 UDP/TLS/RTP/SAVPF 96", "a=rtpmap:96 VP8/90000", "a=mid:1")))
	f.Add(stream(print256, "a=ice-lite", "m=audio 4000 UDP/TLS/RTP/SAVP 0 8", "a=setup:passive", "a=tls-id:0123456789abcdefghij", credits[0], credits[1], "a=rtcp-mux-only"))
	f.Add(stream("m=audio 4000 RTP/SAVP 0", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+key30, "m=audio 4000 RTP/AVP 0", "a=fingerprint:sha-1 "+sum20))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, security := range []Security{Off, Optional, Required} {
			d, err := ParseSecure(body, security)
			if err != nil {
				if !errors.Is(err, ErrBad) && !errors.Is(err, ErrNotAcceptable) {
					t.Fatalf("an error of neither kind: %v", err)
				}
				continue
			}
			if security.Kinds()&d.kind() == 0 {
				t.Fatalf("%v was taken with %v", d.kind(), security)
			}
			if !d.Addr.IsValid() { // a host name, and ICE: ours has an address always
				d.Addr = netip.MustParseAddrPort("192.0.2.1:9")
			}
			out, err := (&Writer{ID: 1}).Write(d)
			if err != nil {
				t.Fatal(err)
			}
			back, err := ParseSecure(out, security)
			if err != nil {
				t.Fatalf("%v\n%q\nfrom\n%q", err, out, body)
			}
			if back.kind() != d.kind() || d.DTLS != nil && !back.DTLS.Same(d.DTLS) || (back.ICE == nil) != (d.ICE == nil) || back.Mid != d.Mid {
				t.Fatalf("%+v became %+v", d, back)
			}
		}
	})
}
