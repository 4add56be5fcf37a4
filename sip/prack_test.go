package sip

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPRACKThatMatchesNothingGets481(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := reliably(b, w, "Require: 100rel")
		mustNot(t, in.Progress(180, nil))
		m := w.expect("SIP/2.0 180")
		good := prack(m, 2, "")
		rseq := headerOf(m, "RSeq")
		next := fmt.Sprint(rseqOf(t, m) + 1)
		for i, c := range []struct{ rack, want string }{
			{next + " 1 INVITE", "481"},
			{rseq + " 2 INVITE", "481"},
			{rseq + " 1 BYE", "481"},
			{"0 1 INVITE", "481"},
			{"-1 1 INVITE", "400"},
			{"99999999999 1 INVITE", "400"},
			{rseq + " INVITE", "400"},
			{"", "400"},
			{rseq + " \t 1  INVITE", "200"}, // white space between is free
			{rseq + " 1 INVITE", "481"},     // acknowledged already
		} {
			text := strings.ReplaceAll(good, "RAck: "+rseq+" 1 INVITE", "RAck: "+c.rack)
			w.send(strings.NewReplacer("CSeq: 2", fmt.Sprint("CSeq: ", 2+i), "prack2", fmt.Sprint("prack", 2+i)).Replace(text))
			if m := w.next(time.Millisecond); !strings.HasPrefix(m, "SIP/2.0 "+c.want) {
				t.Errorf("RAck %q got %q", c.rack, firstLine(m))
			}
		}
		w.send(request("PRACK", "RAck: 1 1 INVITE", "Call-ID: other"))
		w.expect("SIP/2.0 481")
		in.Refuse(&Refused{Code: 480})
		w.expect("SIP/2.0 480")
	})
}

// RFC 3262 §5: a PRACK may bring an offer. The same one is answered as before,
// another leaves the session as it is; both acknowledge.
func TestOfferInPRACK(t *testing.T) {
	for offer, want := range map[string]string{trunksSDP: "200", strings.Replace(trunksSDP, "4000", "4002", 1): "488"} {
		inServer(t, bedOptions{}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			in := reliably(b, w, "Supported: 100rel")
			mustNot(t, in.Progress(183, []byte(ourSDP)))
			m := w.expect("SIP/2.0 183")
			w.send(prack(m, 2, offer))
			got := w.expect("SIP/2.0 " + want)
			if answer := strings.HasSuffix(got, "\r\n\r\n"+ourSDP); answer != (want == "200") {
				t.Errorf("the answer to PRACK is %q", got)
			}
			w.silence(10 * time.Second)
			in.Refuse(&Refused{Code: 480})
			w.expect("SIP/2.0 480")
		})
	}
}

// Supported alone: plain, unless SDP is in it (it is the answer).
func TestSupported100relIsUsedForSDPOnly(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := reliably(b, w, "k: 100rel")
		mustNot(t, in.Progress(180, nil))
		if m := w.expect("SIP/2.0 180"); headerOf(m, "RSeq") != "" || headerOf(m, "Require") != "" {
			t.Errorf("a plain 180 went reliably: %q", m)
		}
		w.silence(5 * time.Second)
		mustNot(t, in.Progress(183, []byte(ourSDP)))
		rseqOf(t, w.expect("SIP/2.0 183"))
		in.Refuse(&Refused{Code: 480})
		w.expect("SIP/2.0 480")
	})
}

// The first reliable answer to an offerless INVITE would need our offer; the
// 200 brings it.
func TestReliableProvisionalsOfAnOfferlessInviteWaitForThe200(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", "Contact: <sip:trunk@192.0.2.2:5060>", "Require: 100rel"))
		in := b.taken()
		w.expect("SIP/2.0 100")
		mustNot(t, in.Progress(180, nil))
		w.silence(time.Second)
		mustNot(t, in.Answer([]byte(ourSDP)))
		m := w.expect("SIP/2.0 200")
		w.send(within("ACK", toTag(m), 1))
		w.send(within("BYE", toTag(m), 2))
		w.expect("SIP/2.0 200")
	})
}

func TestSupportedIsSaidWhereTheRFCWantsIt(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		w.send(request("OPTIONS", "Call-ID: o"))
		if m := w.expect("SIP/2.0 200"); !strings.Contains(headerOf(m, "Supported"), "100rel") || !strings.Contains(headerOf(m, "Allow"), "PRACK") {
			t.Errorf("OPTIONS got %q", m)
		}
		w.send(request("INVITE", "Require: 100rel, foo", "Call-ID: i", "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKi"))
		if m := w.expect("SIP/2.0 420"); headerOf(m, "Unsupported") != "foo" || !strings.Contains(headerOf(m, "Supported"), "100rel") {
			t.Errorf("INVITE got %q", m)
		}
	})
}

func FuzzRAck(f *testing.F) {
	for _, s := range []string{"776656 1 INVITE", "", "1 1", "4294967296 1 INVITE", "1 2147483648 INVITE", "\t1  1\tINVITE ", "1 1 IN\x00VITE"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := parseRAck(s)
		if ok && (!isToken(a.method) || a.cseq >= 1<<31) {
			t.Errorf("%q gave %+v", s, a)
		}
	})
}
