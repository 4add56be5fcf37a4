package push

import (
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
