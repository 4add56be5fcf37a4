package sip

import (
	"strings"
	"testing"
)

// BenchmarkParse reads an INVITE with SDP as a carrier sends it, about 1 kB.
func BenchmarkParse(b *testing.B) {
	sdp := "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 20000 RTP/AVP 8 0 101\r\n" +
		strings.Repeat("a=rtpmap:101 telephone-event/8000\r\n", 6)
	m := []byte(message("INVITE sip:+4930123456@192.0.2.1:5060;user=phone SIP/2.0", sdp,
		"Contact: <sip:192.0.2.2:5060;transport=udp>", "Content-Type: application/sdp", "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS",
		"Supported: 100rel, timer, replaces", "User-Agent: Carrier SBC 1.0", "P-Asserted-Identity: <sip:+49301111@carrier.example>",
		"Record-Route: <sip:192.0.2.3;lr>", "Session-Expires: 1800", "Min-SE: 90"))
	b.SetBytes(int64(len(m)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := parseDatagram(m, 16<<10); err != nil {
			b.Fatal(err)
		}
	}
}
