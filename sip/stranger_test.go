package sip

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func strange(o bedOptions) bedOptions {
	o.trunks = []TrunkConfig{{Name: "peer", Peers: []string{"198.51.100.1"}}}
	return o
}

// What nobody we know sends leaves nothing behind, and gets at most one packet
// for each of its own.
func TestStrangersLeaveNothing(t *testing.T) {
	tagged := "To: <sip:b@example.com>;tag=ours"
	for name, c := range map[string]struct{ text, answer string }{
		"INVITE":           {message("INVITE sip:1001@192.0.2.1 SIP/2.0", trunksSDP, "Content-Type: application/sdp"), ""},
		"OPTIONS":          {request("OPTIONS"), ""},
		"MESSAGE":          {request("MESSAGE"), ""},
		"BYE":              {request("BYE"), ""},
		"re-INVITE":        {request("INVITE", tagged), "SIP/2.0 481"},
		"BYE in a dialog":  {request("BYE", tagged), "SIP/2.0 481"},
		"INFO in a dialog": {request("INFO", tagged), "SIP/2.0 481"},
		"CANCEL":           {request("CANCEL"), "SIP/2.0 481"},
		"ACK":              {request("ACK"), ""},
		"REGISTER":         {request("REGISTER"), "SIP/2.0 401"},
		"REGISTER with bad credentials": {request("REGISTER", `Authorization: Digest username="1001", realm="reveille", nonce="x", uri="sip:example.com", `+
			`response="00", qop=auth, nc=00000001, cnonce="c", algorithm=MD5`), "SIP/2.0 40"},
		"REGISTER that requires": {request("REGISTER", "Require: whatever"), "SIP/2.0 420"},
		"malformed":              {request("OPTIONS", "CSeq: 1 INVITE"), "SIP/2.0 400"},
	} {
		t.Run(name, func(t *testing.T) {
			inServer(t, strange(bedOptions{}), func(b *serverBed) {
				w := udpWire(b.t, b.net)
				w.send(c.text)
				got := w.drain(time.Second)
				b.nothingLeft()
				got = append(got, w.drain(40*time.Second)...)
				switch {
				case c.answer == "" && len(got) > 0:
					t.Errorf("got %q, want silence", got)
				case c.answer != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.answer)):
					t.Errorf("got %q, want one %s", got, c.answer)
				}
			})
		})
	}
}

// Every final answer is counted once, with or without a transaction.
func TestAnswersAreCounted(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		_, tag := established(b, w)
		w.send(within("BYE", tag, 2))
		w.send(within("BYE", tag, 2)) // again: the same answer
		w.send(request("OPTIONS", "Call-ID: two", "CSeq: 1 INVITE"))
		w.send(request("CANCEL", "Call-ID: three", "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKthree"))
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", "Call-ID: four", "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKfour"))
		in := b.taken()
		in.Refuse(&Refused{Code: 404})
		w.drain(time.Minute)
		for _, want := range []struct {
			method string
			code   int
		}{{"INVITE", 200}, {"INVITE", 404}, {"BYE", 200}, {"OPTIONS", 400}, {"CANCEL", 481}} {
			if n := b.count(want.method, want.code); n != 1 {
				t.Errorf("%s %d was counted %v times", want.method, want.code, n)
			}
		}
	})
}

// panicky is a log that panics on one message: a defect anywhere in a handler.
type panicky struct {
	slog.Handler
	at string
}

func (p panicky) Enabled(context.Context, slog.Level) bool { return true }
func (p panicky) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p panicky) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, p.at) {
		panic("a defect")
	}
	return nil
}

// broken is a Handler that fails after what it does to a leg.
type broken struct{ first func(in *Inbound) }

func (h broken) Incoming(in *Inbound) {
	h.first(in)
	panic("a defect")
}

// A defect in the handling of one call ends that call, and nothing else.
func TestPanicInACall(t *testing.T) {
	for name, c := range map[string]struct {
		first func(in *Inbound)
		want  string
	}{
		"unanswered": {func(in *Inbound) { _ = in.Progress(180, nil) }, "100 180 500"},
		"answered": {func(in *Inbound) {
			_ = in.Answer([]byte(ourSDP))
			<-in.Acked()
		}, "100 200 BYE"},
		"answered, not acknowledged": {func(in *Inbound) { _ = in.Answer([]byte(ourSDP)) }, "100 200 BYE"},
	} {
		t.Run(name, func(t *testing.T) {
			inServer(t, bedOptions{handler: broken{c.first}}, func(b *serverBed) {
				w := udpWire(b.t, b.net)
				for i := range 2 {
					id := fmt.Sprintf("Call-ID: %d", i)
					w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", id, fmt.Sprintf("Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK%d", i)))
					var got []string
					for {
						m := w.next(100 * time.Millisecond)
						if m == "" {
							break
						}
						kind, rest, _ := strings.Cut(firstLine(m), " ")
						if kind == "SIP/2.0" {
							kind = rest[:3]
						}
						got = append(got, kind)
						if kind == "200" {
							w.send(within("ACK", toTag(m), 1, id))
						}
					}
					if s := strings.Join(got, " "); s != c.want {
						t.Errorf("call %d got %s, want %s", i, s, c.want)
					}
				}
				w.drain(3 * time.Minute)
				b.nothingLeft()
			})
		})
	}
}

// A defect while a message is read from a flow costs that message.
func TestPanicOnTheReader(t *testing.T) {
	inServer(t, strange(bedOptions{log: panicky{slog.DiscardHandler, "was dropped"}}), func(b *serverBed) {
		w := udpWire(b.t, b.net)
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", ""))
		w.expect("SIP/2.0 500")
		w.send(request("REGISTER", "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKtwo", "Call-ID: two"))
		for range 12 { // the 500 again, until Timer H
			if m := w.next(5 * time.Second); strings.HasPrefix(m, "SIP/2.0 401") {
				w.drain(time.Minute)
				b.nothingLeft()
				return
			}
		}
		t.Error("the next request got no answer")
	})
}

// A flow is kept for a registration, not for the end of one.
func TestUnregisteringKeepsNoFlow(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("udp", "10.0.0.7")
		u.want(200, "Contact: <sip:1001@10.0.0.7:4000>;expires=0")
		v := b.phoneAt("udp", "10.0.0.8")
		v.want(200, "Contact: <sip:1001@10.0.0.8:4000>;expires=600")
		v.want(200, "Contact: <sip:1001@10.0.0.8:4000>;expires=0")
		l := b.srv.transport.udp[0]
		l.mu.RLock()
		defer l.mu.RUnlock()
		for peer := range l.kept {
			t.Errorf("the flow of %s is kept", peer)
		}
	})
}
