package bridge

import (
	"errors"
	"strings"
	"testing"
	"time"

	"reveille/push"
	"reveille/sip/location"
)

func TestPushRecordIsOneLine(t *testing.T) {
	r := pushRecord(location.Device{ID: "d", Target: location.Target{Provider: "apns"}}, push.Outcome{
		Verdict: push.Failed, Status: 503, Reason: "Shutdown", Environment: "sandbox", Attempts: 2, Uncertain: true, Shortened: []string{"headers", "to"},
		Took: time.Second, Err: errors.New("two\r\nlines" + strings.Repeat("ä", 1000))})
	if strings.ContainsAny(r.Error, "\r\n") || len([]rune(r.Error)) > maxErrorLine+1 || !strings.HasPrefix(r.Error, "two linesä") {
		t.Errorf("error: %q", r.Error)
	}
	r.Error = "because"
	if got, want := r.line(), "apns 503 Shutdown (sandbox), 2 requests, shortened: headers to: because"; got != want {
		t.Errorf("timeline: %s, want %s", got, want)
	}
}

// A push service's word goes into a header of the trunk's: it stays one value.
func FuzzHeaderToken(f *testing.F) {
	f.Add("Unregistered")
	f.Add("a;b=\"c\", d\r\nX-Evil: 1")
	f.Fuzz(func(t *testing.T, s string) {
		if got := headerToken(s); len(got) > 48 || strings.ContainsAny(got, " \t\r\n,;=\"<>()@:\\/[]?{}") || strings.Trim(got, "\x00\x7f") != got {
			t.Errorf("%q became %q", s, got)
		}
	})
}
