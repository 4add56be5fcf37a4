package bridge_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// TestDocsInvite holds the INVITE that docs/ios.md shows against one that a
// device gets: the same headers in the same order, and the UUID where it says.
func TestDocsInvite(t *testing.T) {
	text, err := os.ReadFile("../docs/ios.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(text), "\n```sip\nINVITE ")
	shown, _, ok := strings.Cut(shown, "\n```\n")
	if !ok {
		t.Fatal("docs/ios.md shows no INVITE")
	}
	doc, err := siptest.ParseMessage([]byte("INVITE " + strings.ReplaceAll(shown, "\n", "\r\n") + "\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{FromName: "Ada Lovelace"})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		got, i := taken.Invite.Header, 0
		for _, h := range doc.Header {
			for i < len(got) && got[i].Name != h.Name {
				i++
			}
			if i == len(got) {
				t.Fatalf("docs/ios.md has %s, which is not in the INVITE there:\n%s", h.Name, taken.Invite.Bytes())
			}
		}
		equal(t, "Call-ID", taken.Invite.Get("Call-ID"), strings.Replace(doc.Get("Call-ID"), doc.Get("X-Call-UUID"), taken.UUID(), 1))
		equal(t, "X-Call-UUID", taken.Invite.Get("X-Call-UUID"), w.sentPushes()[0].Payload["uuid"].(string))
		equal(t, "caller", taken.Invite.Get("From")[:len(`"Ada Lovelace" <sip:`)], doc.Get("From")[:len(`"Ada Lovelace" <sip:`)])
		c.Bye()
		w.await(taken, time.Second, "BYE")
	})
}

// TestNetworkExtensionWakesItsApp is what docs/ios.md tells of networks without
// internet: the extension, a device without a push token whose connection is
// open, gets the INVITE and wakes the app, which registers and gets its own.
func TestNetworkExtensionWakesItsApp(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		app := w.sleeping(phoneOptions{name: "first", wakes: -1, script: siptest.AnswerAfter(2 * time.Second)})
		extension := w.awake(phoneOptions{name: "second", digit: "2",
			change: func(o *siptest.PhoneOptions) { o.Provider, o.Param = "", "" },
			script: func(c *siptest.Call) {
				c.Ring()
				if err := app.Register(context.Background()); err != nil {
					t.Error(err)
				}
			}})
		time.Sleep(time.Minute)
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		woke, taken := w.taken(extension), w.taken(app)
		equal(t, "UUIDs", taken.UUID(), woke.UUID())
		equal(t, "Reason", w.await(woke, time.Second, "CANCEL").Get("Reason"), elsewhere)
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}
