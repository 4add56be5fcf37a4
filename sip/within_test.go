package sip

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// trunksAnswer is the trunk's answer to a request of ours.
func trunksAnswer(req string, code int, headers ...string) string {
	lines := []string{fmt.Sprintf("SIP/2.0 %d %s", code, Phrase(code))}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		lines = append(lines, name+": "+headerOf(req, name))
	}
	return strings.Join(append(append(lines, headers...), "Content-Length: 0"), "\r\n") + "\r\n\r\n"
}

// RFC 3261 §22.2: a challenge within the dialog is answered with the trunk's
// login, once; a second one is the final answer.
func TestRequestWithinADialogAnswersTheTrunksChallengeOnce(t *testing.T) {
	trunk := TrunkConfig{Name: "pbx", Peers: []string{"192.0.2.2"}, Username: "49301234", Password: "secret"}
	challenge := `WWW-Authenticate: Digest realm="pbx", nonce="n1", algorithm=MD5, qop="auth"`
	for _, accepts := range []bool{true, false} {
		inServer(t, bedOptions{trunks: []TrunkConfig{trunk}}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			in, tag := established(b, w)
			done := make(chan Reply, 1)
			go func() {
				done <- in.Send(context.Background(), Outgoing{Method: "INFO", ContentType: "application/dtmf", Body: []byte("1"),
					Headers: []Header{{"Info-Package", "a\r\nX-Evil: 1"}}})
			}()
			first := w.expect("INFO ")
			if headerOf(first, "X-Evil") != "" || headerOf(first, "Authorization") != "" {
				t.Errorf("first try:\n%s", first)
			}
			w.send(trunksAnswer(first, 401, challenge))
			second := w.expect("INFO ")
			auth := headerOf(second, "Authorization")
			if !strings.Contains(auth, `username="49301234"`) || !strings.Contains(auth, "response=") || strings.Contains(second, "secret") {
				t.Errorf("Authorization: %q", auth)
			}
			if headerOf(first, "CSeq") == headerOf(second, "CSeq") {
				t.Error("the second try has the CSeq of the first (RFC 3261 §22.2)")
			}
			code := 200
			if !accepts {
				code = 401
			}
			w.send(trunksAnswer(second, code, challenge))
			if r := <-done; r.Code != code || r.Local {
				t.Errorf("reply: %+v, want %d", r, code)
			}
			w.send(within("BYE", tag, 2))
			w.expect("SIP/2.0 200")
			synctest.Wait()
		})
	}
}

// RFC 5057 §5.1: silence, and a 408, end no dialog; 481 to an INFO does, and
// one to a NOTIFY ends its subscription alone.
func TestWhatAnAnswerWithinADialogEnds(t *testing.T) {
	for _, c := range []struct {
		method string
		code   int
		ends   bool
	}{{"INFO", 481, true}, {"MESSAGE", 481, true}, {"NOTIFY", 481, false}, {"INFO", 408, false}, {"INFO", 0, false}, {"INFO", 500, false}} {
		inServer(t, bedOptions{}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			in, tag := established(b, w)
			done := make(chan Reply, 1)
			go func() { done <- in.Send(context.Background(), Outgoing{Method: c.method}) }()
			req := w.expect(c.method + " ")
			if c.code > 0 {
				w.send(trunksAnswer(req, c.code))
			}
			r := <-done
			if want := max(c.code, 408); c.code == 0 && (r.Code != want || !r.Local) || c.code > 0 && r.Code != c.code {
				t.Errorf("%s, %d: reply %+v", c.method, c.code, r)
			}
			w.drain(time.Millisecond)
			synctest.Wait()
			if over := in.End().Kind == EndGone; over != c.ends {
				t.Errorf("%s answered %d: the leg is over: %v, want %v", c.method, c.code, over, c.ends)
			}
			if !c.ends {
				w.send(within("BYE", tag, 2))
				w.expect("SIP/2.0 200")
			}
		})
	}
}

// A request that nobody has taken when the leg ends is answered (RFC 3261
// §15.1.2), a flood of them is bounded, and what the far end says later is 481.
func TestRequestsThatNobodyTakes(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		_, tag := established(b, w)
		info := func(seq int) string {
			return strings.Replace(within("INFO", tag, seq, "Content-Type: application/dtmf"), "Content-Length: 0\r\n\r\n", "Content-Length: 1\r\n\r\n1", 1)
		}
		for seq := 2; seq < 2+requestRoom; seq++ {
			w.send(info(seq))
		}
		w.silence(time.Millisecond)
		w.send(info(20))
		if over := w.expect("SIP/2.0 500"); headerOf(over, "Retry-After") == "" {
			t.Errorf("a request too many:\n%s", over)
		}
		w.send(within("BYE", tag, 21))
		got := strings.Join(w.drain(time.Second), "\n")
		if n := strings.Count(got, "SIP/2.0 487"); n != requestRoom {
			t.Errorf("%d of %d requests were answered 487:\n%s", n, requestRoom, got)
		}
		w.send(info(22))
		w.expect("SIP/2.0 481")
	})
}
