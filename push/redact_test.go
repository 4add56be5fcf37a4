package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"reveille/push/pushtest"
)

func TestTokensAreRedacted(t *testing.T) {
	const two = "AB12AB12AB12CD34CD34:voip&1234567890abcdef1234:remote"
	for text, want := range map[string]string{
		"no ab12AB12ab12cd34cd34 here": "no [redacted] here", "x1234567890ABCDEF1234": "x[redacted]", "cut: 34567890abcdef1234": "cut: [redacted]",
		"voip remote": "voip remote", two: "[redacted]:voip&[redacted]:remote", "": "", "\xffab12ab12ab12cd34cd34\xff": "\xff[redacted]\xff",
		"İab12ab12ab12cd34cd34": "İ[redacted]", "34567890abc": "34567890abc",
	} {
		if got := redact(text, two); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	for prid, want := range map[string]string{"redacted": "a [[redacted]] token", "a:token": "a [redacted] token", "": "a [redacted] token"} {
		if got := redact("a [redacted] token", prid); got != want {
			t.Errorf("with the token %q: %q, want %q", prid, got, want)
		}
	}
}

func TestOutcomeKeepsItsErrorWhereNothingIsRedacted(t *testing.T) {
	err := errors.New("no answer")
	if out := (Target{PRID: testToken}).redacted(Outcome{Err: err}); !errors.Is(out.Err, err) {
		t.Error("another error")
	}
}

// A service that sends the token back in what it calls its reason.
func TestEchoedTokenIsShownNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		var outs []Outcome
		for i, status := range []int{400, 403, 410, 429, 500} {
			reason := strings.Repeat("x", i) + testToken[i:]
			w.service.Answer(testToken, pushtest.Reject(status, reason), pushtest.Reject(status, reason))
			outs = append(outs, w.send(testMessage(fmt.Sprint("call-", i))))
		}
		for _, out := range outs {
			if !strings.Contains(out.Reason, "redacted") {
				t.Errorf("reason %q", out.Reason)
			}
		}
		if logs := w.logs.String(); strings.Contains(logs, testToken[20:36]) || strings.Count(logs, "redacted") < 2*len(outs) {
			t.Errorf("logged: %s", logs)
		}
	})
}

// echo is a push service of which nothing is known but its outcome.
type echo struct{}

func (echo) Name() string       { return "echo" }
func (echo) Serves(string) bool { return true }
func (echo) Push(_ context.Context, t Target, m Message) (Outcome, bool) {
	return Outcome{Verdict: Sent, Reason: t.PRID, ID: "id-" + t.PRID, Err: errors.New("https://push.example/" + t.PRID)}, false
}

func TestOutcomesOfAnyProviderAreRedacted(t *testing.T) {
	logs := &logBuffer{}
	s, err := NewSender(DefaultConfig(), Options{Log: slog.New(slog.NewTextHandler(logs, nil)), LogTo: logs})
	if err != nil {
		t.Fatal(err)
	}
	s.now.providers = []Provider{echo{}}
	for range 2 { // the second is told what became of the first
		out := s.Send(t.Context(), "d", Target{Provider: "echo", PRID: testToken}, testMessage("u"))
		if text := fmt.Sprint(out, logs); strings.Contains(text, testToken[20:36]) {
			t.Errorf("the token is in %s", text)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("APNs answered 400 "+testToken, testToken)
	f.Add("[redacted]", "redacted")
	f.Fuzz(func(t *testing.T, text, prid string) {
		got := redact(text, prid)
		for _, token := range strings.FieldsFunc(lowerASCII(prid), func(r rune) bool { return strings.ContainsRune(":&;,", r) }) {
			if len(token) >= shortToken && !strings.Contains("[redacted]", token) && strings.Contains(lowerASCII(strings.ReplaceAll(got, "[redacted]", "\n")), token) {
				t.Errorf("%q is left of %q in %q", token, text, got)
			}
		}
	})
}
