package push

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

func TestSendOverSockets(t *testing.T) {
	w := newSocketWorld(t)
	out := w.send(testMessage("u1"))
	if out.Verdict != Sent || out.Environment != Production || out.ID == "" || out.Attempts != 1 || out.Err != nil {
		t.Fatalf("outcome %+v", out)
	}
	got := <-w.service.Pushes()
	if got.ID != out.ID || got.Topic != testBundle+".voip" || got.Payload["uuid"] != "u1" || got.Environment != pushtest.Production {
		t.Errorf("push %+v", got)
	}
	w.noSecrets(out)
}

func TestSendInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		start := time.Now()
		out := w.send(testMessage("u1"))
		if out.Verdict != Sent || time.Since(start) != 0 {
			t.Fatalf("outcome %+v after %v", out, time.Since(start))
		}
		got := <-w.service.Pushes()
		if want := start.Add(20 * time.Second); !got.Expiration.Equal(want) {
			t.Errorf("expiration %v, want %v", got.Expiration, want)
		}
	})
}

// FuzzAPNsAnswer: whatever a service answers, there is a reaction to it, and
// nothing that cannot be printed gets into a log.
func FuzzAPNsAnswer(f *testing.F) {
	f.Add(410, `{"reason":"Unregistered","timestamp":1700000000000}`, "5", "ID")
	f.Add(429, `{"reason":7}`, "Sun, 01 Mar 2026 12:00:09 GMT", "a\nb")
	f.Add(503, "<html>", "-1", "")
	f.Fuzz(func(t *testing.T, status int, body, retry, id string) {
		header := http.Header{"Retry-After": {retry}, "Apns-Id": {id}}
		x := &apnsExchange{answer: &answer{status: status, header: header}}
		x.answer.read(io.NopCloser(strings.NewReader(body)))
		x.read()
		r := reactionTo(x.status, x.reason)
		if r.verdict == Sent && status != 200 {
			t.Errorf("%d %q counts as sent", status, x.reason)
		}
		text := answerError(x, r.advice).Error() + x.apnsID
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) || len(text) > 800 {
			t.Errorf("%q", text)
		}
		if d := x.retryAfter(); d < 0 || d > time.Hour {
			t.Errorf("Retry-After %q is %v", retry, d)
		}
	})
}
