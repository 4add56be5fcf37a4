package bridge

import (
	"errors"
	"strings"
	"testing"
	"time"

	"reveille/push"
	"reveille/sip/location"
)

func TestTokensAreRedacted(t *testing.T) {
	target := location.Target{PRID: "AB12AB12AB12:voip&CD34CD34CD34:remote"}
	for text, want := range map[string]string{
		"no ab12AB12ab12 here": "no [redacted] here", "cd34cd34cd34": "[redacted]", "voip": "voip", "remote voip": "remote voip",
		"AB12AB12AB12:voip&CD34CD34CD34:remote": "[redacted]:voip&[redacted]:remote", "": "",
		"\xffab12ab12ab12\xff": "\xff[redacted]\xff", "İab12ab12ab12": "İ[redacted]",
	} {
		if got := redact(text, target); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if got := redact("redacted, Redacted", location.Target{PRID: "redacted"}); got != "[redacted], [redacted]" {
		t.Errorf("a token that is the word itself: %q", got)
	}
	if got := redact("a fcm token abc:def", location.Target{PRID: "abc:def"}); got != "a fcm token abc:def" {
		t.Errorf("words were taken for tokens: %q", got)
	}
}

func TestPushRecordIsOneLine(t *testing.T) {
	r := pushRecord(location.Device{ID: "d", Target: location.Target{Provider: "apns", PRID: strings.Repeat("ab", 32)}}, push.Outcome{
		Verdict: push.Failed, Status: 503, Reason: "Shutdown", Environment: "sandbox", Attempts: 2, Uncertain: true, Shortened: []string{"headers", "to"},
		Took: time.Second, Err: errors.New("two\r\nlines of " + strings.Repeat("AB", 32) + strings.Repeat("ä", 1000))})
	if strings.ContainsAny(r.Error, "\r\n") || len([]rune(r.Error)) > maxErrorLine+1 || !strings.HasPrefix(r.Error, "two lines of [redacted]ä") {
		t.Errorf("error: %q", r.Error)
	}
	r.Error = "because"
	if got, want := r.line(), "apns 503 Shutdown (sandbox), 2 requests, shortened: headers to: because"; got != want {
		t.Errorf("timeline: %s, want %s", got, want)
	}
}
