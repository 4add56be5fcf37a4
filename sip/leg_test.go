package sip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

const (
	ourSDP    = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 8\r\n"
	trunksSDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
)

// invited sends the trunk's INVITE and takes it.
func invited(b *serverBed, w *wire) *Inbound {
	b.t.Helper()
	w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", trunksSDP, "Content-Type: application/sdp", "Contact: <sip:trunk@192.0.2.2:5060>"))
	in := b.taken()
	w.expect("SIP/2.0 100")
	return in
}

// within is a request of the trunk's in the dialog that `tag` names.
func within(method, tag string, seq int, headers ...string) string {
	return message(method+" sip:192.0.2.1 SIP/2.0", "", append([]string{
		fmt.Sprintf("Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK%s%d", method, seq),
		"To: <sip:b@example.com>;tag=" + tag, fmt.Sprintf("CSeq: %d %s", seq, method)}, headers...)...)
}

func toTag(m string) string {
	_, tag, _ := strings.Cut(headerOf(m, "To"), ";tag=")
	return tag
}

// established answers the INVITE; the test has the ACK and the tag.
func established(b *serverBed, w *wire) (in *Inbound, tag string) {
	b.t.Helper()
	in = invited(b, w)
	if err := in.Answer([]byte(ourSDP)); err != nil {
		b.t.Fatal(err)
	}
	tag = toTag(w.expect("SIP/2.0 200"))
	w.send(within("ACK", tag, 1))
	synctest.Wait()
	return in, tag
}

// The caller may end an early dialog with BYE instead of CANCEL (RFC 3261
// §15); the INVITE then gets 487 (§15.1.2).
func TestByeInAnEarlyDialog(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := invited(b, w)
		if err := in.Progress(180, nil); err != nil {
			t.Fatal(err)
		}
		tag := toTag(w.expect("SIP/2.0 180"))
		w.send(within("BYE", tag, 2))
		w.expect("SIP/2.0 200")
		refusal := w.expect("SIP/2.0 487")
		if headerOf(refusal, "CSeq") != "1 INVITE" {
			t.Errorf("487 to %s", headerOf(refusal, "CSeq"))
		}
		w.send(within("ACK", tag, 1, "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKone"))
		if end := in.End(); end.Kind != EndCancelled {
			t.Errorf("the leg ended as %s", end.Kind)
		}
		time.Sleep(time.Minute)
		b.nothingLeft()
	})
}

// A re-INVITE that waits for its answer when we hang up gets one (RFC 3261
// §15.1.2), else its transaction would stay for ever.
func TestHangupAnswersAPendingReinvite(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, tag := established(b, w)
		w.send(within("INVITE", tag, 2, "Contact: <sip:trunk@192.0.2.2:5060>"))
		w.expect("SIP/2.0 100")
		in.Hangup(Reason{})
		got := strings.Join(w.drain(100*time.Millisecond), "|")
		if !strings.Contains(got, "SIP/2.0 487") || !strings.Contains(got, "BYE ") {
			t.Errorf("there came %s", got)
		}
		time.Sleep(2 * time.Minute)
		b.nothingLeft()
	})
}

// The callee must not send BYE before the ACK to its 2xx (RFC 3261 §15).
func TestHangupWaitsForTheAck(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := invited(b, w)
		if err := in.Answer([]byte(ourSDP)); err != nil {
			t.Fatal(err)
		}
		tag := toTag(w.expect("SIP/2.0 200"))
		in.Hangup(Reason{Protocol: "Q.850", Cause: 16, Text: ""})
		select {
		case <-in.Ended():
		default:
			t.Error("the leg lives on after Hangup")
		}
		got := w.drain(1600 * time.Millisecond) // the 200 again at 0.5 and 1.5 s
		if len(got) != 2 || !strings.HasPrefix(got[0], "SIP/2.0 200") {
			t.Fatalf("before the ACK there came %q", got)
		}
		w.send(within("ACK", tag, 1))
		bye := w.expect("BYE sip:trunk@192.0.2.2:5060")
		if headerOf(bye, "Reason") != "Q.850;cause=16" {
			t.Errorf("Reason %q", headerOf(bye, "Reason"))
		}
		w.send(strings.Replace(within("BYE", tag, 1), "BYE sip:192.0.2.1 SIP/2.0", "SIP/2.0 200 OK", 1)) // some answer
		w.drain(time.Minute)
		b.nothingLeft()
	})
}

func TestHangupWithoutAnyAck(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := invited(b, w)
		if err := in.Answer([]byte(ourSDP)); err != nil {
			t.Fatal(err)
		}
		in.Hangup(Reason{})
		byes := 0
		for _, line := range w.drain(40 * time.Second) {
			if strings.HasPrefix(line, "BYE ") {
				byes++
			}
		}
		if byes == 0 {
			t.Error("no BYE after 64*T1 without an ACK")
		}
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// An INVITE within a dialog whose first INVITE is not answered yet is the
// second one that RFC 3261 §14.2 speaks of.
func TestReinviteBeforeTheAnswer(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := invited(b, w)
		if err := in.Progress(180, nil); err != nil {
			t.Fatal(err)
		}
		tag := toTag(w.expect("SIP/2.0 180"))
		w.send(within("INVITE", tag, 2))
		if headerOf(w.expect("SIP/2.0 500"), "Retry-After") == "" {
			t.Error("no Retry-After")
		}
		in.Refuse(&Refused{Code: 480})
		w.drain(time.Minute)
	})
}

// Require with an option we do not know is refused for every method but ACK
// and CANCEL (RFC 3261 §8.2.2.3).
func TestRequireIsCheckedForEveryMethod(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		_, tag := established(b, w)
		for i, text := range []string{
			request("OPTIONS", "Require: whatever", "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKa", "Call-ID: two"),
			within("OPTIONS", tag, 2, "Require: whatever"),
			within("BYE", tag, 4, "Require: whatever"),
			within("INVITE", tag, 5, "Require: whatever"),
		} {
			w.send(text)
			m := w.next(time.Second)
			if !strings.HasPrefix(m, "SIP/2.0 420") || headerOf(m, "Unsupported") != "whatever" {
				t.Errorf("request %d got %q", i, firstLine(m))
			}
		}
		w.send(within("BYE", tag, 6))
		w.drain(time.Minute)
	})
}

// An answered call outlives its connection: the BYE goes by a new one to the
// trunk's Contact.
func TestByeToATrunkWhoseConnectionIsGone(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		l, err := b.net.Host("192.0.2.2").Listen(b.t.Context(), "tcp", "192.0.2.2:5060")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := tcpWire(b.t, b.net)
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", "Via: SIP/2.0/TCP 192.0.2.2:5060;branch=z9hG4bKone", "Contact: <sip:trunk@192.0.2.2:5060;transport=tcp>"))
		in := b.taken()
		if err := in.Answer([]byte(ourSDP)); err != nil {
			t.Fatal(err)
		}
		w.expect("SIP/2.0 100")
		m := w.expect("SIP/2.0 200")
		w.send(within("ACK", toTag(m), 1))
		synctest.Wait()
		w.conn.Close()
		synctest.Wait()
		in.Hangup(Reason{})
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		(&wire{t: b.t, conn: conn}).expect("BYE sip:trunk@192.0.2.2:5060")
		time.Sleep(2 * time.Minute)
		b.nothingLeft()
		b.srv.transport.mu.Lock()
		defer b.srv.transport.mu.Unlock()
		if n := len(b.srv.transport.streams); n > 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// The answers of a server that ends are sent again when they are lost.
func TestByeAtTheEndOfTheServerIsSentAgain(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, _ := established(b, w)
		b.net.Link("192.0.2.1", "192.0.2.2", siptest.Link{Loss: 1})
		in.Hangup(Reason{})
		synctest.Wait()
		b.net.Link("192.0.2.1", "192.0.2.2", siptest.Link{})
		go b.end()
		if m := w.next(3 * time.Second); !strings.HasPrefix(m, "BYE ") {
			t.Fatalf("got %q, want the BYE", m)
		}
		time.Sleep(10 * time.Second)
	})
}
