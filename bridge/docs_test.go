package bridge_test

import (
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
