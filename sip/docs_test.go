package sip

import (
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	sipgo "github.com/emiago/sipgo/sip"
)

// sipBlocks are the SIP messages of a document, without their last empty line.
func sipBlocks(t *testing.T, document string) (messages []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/" + document)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "\n```sip\n")
	for _, part := range parts[1:] {
		message, _, ok := strings.Cut(part, "\n```\n")
		if !ok {
			t.Fatalf("docs/%s: a block that does not end", document)
		}
		messages = append(messages, message)
	}
	return messages
}

// TestDocsRegister sends the REGISTER of the documents for app developers, with
// credentials once it is challenged, and holds the 200 against theirs. The
// network of the test has no TLS.
func TestDocsRegister(t *testing.T) {
	for _, document := range []string{"ios.md", "android.md"} {
		blocks := sipBlocks(t, document)
		plain := strings.NewReplacer("SIP/2.0/TLS", "SIP/2.0/TCP", "transport=tls", "transport=tcp", "pbx.example.com", "example.com")
		register, want := plain.Replace(blocks[0]), plain.Replace(blocks[1])
		inBed(t, nil, func(b *registerBed) {
			u := b.phoneAt("tcp", "192.0.2.20")
			send := func(text string) {
				if _, err := io.WriteString(u.conn, strings.ReplaceAll(text, "\n", "\r\n")+"\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
			}
			send(register)
			challenge := u.receive()
			if challenge.StatusCode != 401 {
				t.Fatalf("docs/%s: the REGISTER is answered %d %s", document, challenge.StatusCode, challenge.Reason)
			}
			if _, err := u.creds.challenged(challenge); err != nil {
				t.Fatal(err)
			}
			probe := sipgo.NewRequest(sipgo.REGISTER, sipgo.Uri{Scheme: "sip", Host: "example.com"})
			if err := u.creds.authorize(probe); err != nil {
				t.Fatal(err)
			}
			send(strings.Replace(register, "CSeq: 1 ", "Authorization: "+headerValue(probe, "Authorization")+"\nCSeq: 2 ", 1))
			res := u.receive()
			synctest.Wait()
			if res.StatusCode != 200 {
				t.Fatalf("docs/%s: with credentials it is answered %d %s", document, res.StatusCode, res.Reason)
			}
			for _, line := range strings.Split(want, "\n")[1:] {
				name, value, _ := strings.Cut(line, ": ")
				if got := headerValue(res, name); got != value {
					t.Errorf("docs/%s: %s is %q, the document says %q", document, name, got, value)
				}
			}
			device := b.loc.Devices("1001")[0]
			if device.Target.PRID == "" || device.Target.Key == "" || !strings.Contains(register, device.Instance) {
				t.Errorf("docs/%s: the device is %+v", document, device)
			}
		})
	}
}
