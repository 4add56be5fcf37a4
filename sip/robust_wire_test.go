package sip

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/siptest"
)

// overEither runs a test over both transports, with a trunk at the far end.
func overEither(t *testing.T, o bedOptions, test func(t *testing.T, b *serverBed, w *wire)) {
	t.Helper()
	for name, dial := range map[string]func(testing.TB, *siptest.Network) *wire{"udp": udpWire, "tcp": tcpWire} {
		t.Run(name, func(t *testing.T) {
			inServer(t, o, func(b *serverBed) { test(t, b, dial(b.t, b.net)) })
		})
	}
}

// A header that cannot be read is answered 400, and the connection lives on.
func TestOneBadHeaderIsAnsweredNotDropped(t *testing.T) {
	overEither(t, bedOptions{}, func(t *testing.T, b *serverBed, w *wire) {
		for i, h := range []string{"From: <<>>;tag=a", "To: \"open", "Max-Forwards: many", "Call-ID:", "CSeq: x OPTIONS", "CSeq: 1",
			"Contact: <sip:a@h", "Via: SIP/2.0", "Route: nonsense", "Record-Route: <sip:", "From: tel", "no name at all"} {
			w.send(request("OPTIONS", h, "X-No: "+fmt.Sprint(i)))
			if m := w.next(time.Second); !strings.HasPrefix(m, "SIP/2.0 400") {
				t.Errorf("%q got %q", h, firstLine(m))
			}
		}
		w.send(request("OPTIONS"))
		w.expect("SIP/2.0 200")
	})
}

// A bare CR or LF would become a header line of its own for whoever reads it
// more leniently: such a message is neither handled nor answered.
func TestBareLineEndsAreNeverTakenNorPassedOn(t *testing.T) {
	for _, value := range []string{"<sip:a@h>;tag=a\nX-Evil: 1", "<sip:a@h>;tag=a\rX-Evil: 1", "\"a\nX-Evil: 1\" <sip:a@h>;tag=a", "\"a\x00\" <sip:a@h>;tag=a"} {
		overEither(t, bedOptions{}, func(t *testing.T, b *serverBed, w *wire) {
			w.send(request("OPTIONS", "From: "+value))
			if m := w.next(time.Second); m != "" && m != "closed" {
				t.Errorf("%q got %q", value, m)
			}
		})
	}
}

// Escapes stay escapes in what goes to the device and back to the trunk.
func TestEscapedLineEndsInAURIStayEscaped(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", `From: "x%0d%0aX-Evil: 1" <sip:a%0d%0aX-Evil:1@example.com>;tag=a`))
		in := b.taken()
		w.expect("SIP/2.0 100")
		o, invite := dialled(b, w, Invitation{Caller: in.Caller(), Headers: []Header{{"X-Test", "a\r\nX-Evil: 1"}}})
		for _, line := range strings.Split(invite, "\r\n") {
			if strings.HasPrefix(line, "X-Evil") {
				t.Errorf("a header was smuggled in: %q", invite)
			}
		}
		o.Abandon()
		in.Refuse(&Refused{Code: 480, Reason: Reason{Protocol: "SIP", Cause: 480, Text: "a\r\nX-Evil: 1"}, Phrase: ""})
		if m := w.expect("SIP/2.0 480"); strings.Contains(m, "\nX-Evil") {
			t.Errorf("a header was smuggled into %q", m)
		}
	})
}

// What cannot be read may hold passwords and push tokens.
func TestMalformedMessagesAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	o := bedOptions{log: slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})}
	overEither(t, o, func(t *testing.T, b *serverBed, w *wire) {
		w.send(request("REGISTER", "Authorization: Digest response=\"geheim\"", "Contact: <sip:a@h;pn-prid=geheim", "From: geheim"))
		w.expect("SIP/2.0 400")
		w.send(message("INVITE sip:geheim@ SIP/2.0", "", "Max-Forwards: geheim"))
		w.expect("SIP/2.0 400")
		b.end()
		if strings.Contains(log.String(), "geheim") {
			t.Errorf("the log has %s", log.String())
		}
	})
}

// RFC 3261 §18.1.1 has 1300 bytes for requests; an answer goes the way its
// request came, whatever its size.
func TestLargeUDPResponsesLeave(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		route := "Record-Route: <sip:192.0.2.2;lr;x=" + strings.Repeat("x", 300) + ">"
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", route, route, route, route, route))
		in := b.taken()
		w.expect("SIP/2.0 100")
		mustNot(t, in.Progress(183, []byte(ourSDP)))
		if m := w.expect("SIP/2.0 183"); len(m) < 1500 || strings.Count(m, "Record-Route") != 5 {
			t.Errorf("%d bytes came: %q", len(m), m)
		}
		in.Refuse(&Refused{Code: 480})
	})
}

// RFC 3261 §12.1.1: the answer returns every parameter of the URI and of the
// header, known or not, in order.
func TestRecordRouteIsReturnedAsItCame(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		first, second := `"P 1" <sip:p1.example;lr;ftag=a%40b>;foo=bar;baz="q r"`, "<sip:192.0.2.2:5060;lr>"
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", "Record-Route: "+first+", "+second, "Contact: <sip:trunk@192.0.2.2>"))
		in := b.taken()
		w.expect("SIP/2.0 100")
		mustNot(t, in.Answer([]byte(ourSDP)))
		m := w.expect("SIP/2.0 200")
		if !strings.Contains(m, "Record-Route: "+first+"\r\nRecord-Route: "+second+"\r\n") {
			t.Errorf("there came %q", m)
		}
		w.send(within("ACK", toTag(m), 1))
		in.Hangup(Reason{})
		bye := w.expect("BYE sip:trunk@192.0.2.2 SIP/2.0")
		if headerOf(bye, "Route") != "<sip:p1.example;lr;ftag=a%40b>" {
			t.Errorf("the BYE goes by %q", headerOf(bye, "Route"))
		}
	})
}

// White space, case and lists wherever RFC 3261 §7.3.1 allows them.
func TestLenientSpellingsMeanTheSame(t *testing.T) {
	overEither(t, bedOptions{}, func(t *testing.T, b *serverBed, w *wire) {
		w.send(strings.Join([]string{"OPTIONS sip:192.0.2.1 SIP/2.0", "v:SIP / 2.0 / UDP 192.0.2.2 : 5060 ; Branch = z9hG4bKodd ;RPORT",
			"VIA: SIP/2.0/UDP 192.0.2.8,", " SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK9", "f : sip:a@h ; TAG = x", "CSEQ: 1 \t  OPTIONS", "i: odd",
			"t: b <sip:b@h> ", "l:  0", "", ""}, "\r\n"))
		m := w.expect("SIP/2.0 200")
		via := headerOf(m, "Via")
		if !strings.Contains(via, "z9hG4bKodd") || !strings.Contains(via, "rport=") || strings.Count(m, "Via:") != 3 {
			t.Errorf("Vias of %q", m)
		}
		if !strings.Contains(headerOf(m, "From"), "=x") || headerOf(m, "CSeq") != "1 OPTIONS" || headerOf(m, "Call-ID") != "odd" {
			t.Errorf("From, CSeq or Call-ID of %q", m)
		}
	})
}

// The Digest uri is the Request-URI with its parameters (RFC 7616 §3.4.6).
func TestDigestURIIsTheWholeRequestURI(t *testing.T) {
	c := newDigestClient("u", "p")
	if _, err := c.challenged(challengeOf(401, `WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"`)); err != nil {
		t.Fatal(err)
	}
	uri, err := parseURI("sip:carrier.example:5070;transport=tcp;x=1")
	mustNot(t, err)
	req := sipgo.NewRequest(sipgo.REGISTER, uri)
	mustNot(t, c.authorize(req))
	if h := headerValue(req, "Authorization"); !strings.Contains(h, `uri="sip:carrier.example:5070;transport=tcp;x=1"`) {
		t.Errorf("Authorization: %s", h)
	}
}
