package push

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestWebhookForgottenConnection: a firewall has forgotten the connection that
// is kept, and drops what comes by it. The repetition takes another.
func TestWebhookForgottenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		network := newTroubledNet(w.sender.options.Dial)
		w.sender.Close()
		w.sender = newHookSender(t, w.cfg, w.logs, network.Dial)
		if out := w.send(testMessage("before")); out.Verdict != Sent {
			t.Fatalf("outcome %+v", out)
		}
		time.Sleep(10 * time.Second)
		network.set(netDeaf)
		network.set(noTrouble)
		for i := range 10 {
			out := w.send(testMessage(fmt.Sprint("u", i)))
			if out.Verdict != Sent || out.Attempts != 1 && i > 0 {
				t.Errorf("call %d: %+v", i, out)
			}
		}
	})
}
