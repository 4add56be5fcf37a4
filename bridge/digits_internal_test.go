package bridge

import (
	"testing"
	"time"

	"reveille/rtp"
)

func TestParseDigit(t *testing.T) {
	const relay, plain = "application/dtmf-relay", "application/dtmf"
	ms := time.Millisecond
	for _, c := range []struct {
		kind, body string
		event      uint8
		duration   time.Duration
		ok         bool
	}{
		{relay, "Signal=5\r\nDuration=160\r\n", 5, 160 * ms, true},
		{relay, "Signal= 5\r\nDuration= 250 ", 5, 250 * ms, true},
		{relay, "signal=*\nduration=40\n", 10, 40 * ms, true},
		{relay, "Duration=90\r\nSignal=#", 11, 90 * ms, true},
		{relay, "Signal=d", 15, 0, true},
		{relay, "Signal=!\r\n", 16, 0, true},
		{relay, "Signal=hf\r\n", 16, 0, true},
		{relay, "Signal=11\r\nDuration=x", 11, 0, true},
		{relay, "Signal=1\r\nDuration=-5", 1, 0, true},
		{relay, "Signal=1\r\nDuration=999999999999", 1, 2 * time.Second, true},
		{plain, "9", 9, 0, true},
		{plain, " # \r\n", 11, 0, true},
		{plain, "Signal=9\r\nDuration=100", 9, 100 * ms, true},
		{plain, "10", 10, 0, true},
		{relay, "Signal=", 0, 0, false},
		{relay, "Signal=12345", 0, 0, false},
		{relay, "Signal=17", 0, 0, false},
		{relay, "Signal=01", 0, 0, false},
		{relay, "Signal=E", 0, 0, false},
		{relay, "Signal=1\r\nSignal=2", 0, 0, false},
		{relay, "5", 0, 0, false},
		{plain, "", 0, 0, false},
		{plain, "x", 0, 0, false},
		{"text/plain", "5", 0, 0, false},
	} {
		d, ok := parseDigit(c.kind, []byte(c.body))
		if ok != c.ok || d != (rtp.Digit{Event: c.event, Duration: c.duration}) {
			t.Errorf("%s %q: event %d of %v, %v", c.kind, c.body, d.Event, d.Duration, ok)
		}
	}
}

// What is written is read as the same.
func TestWriteDigit(t *testing.T) {
	for event := range uint8(17) {
		d := rtp.Digit{Event: event, Duration: 120 * time.Millisecond}
		if got, ok := parseDigit("application/dtmf-relay", writeDigit(d)); !ok || got != d {
			t.Errorf("%d becomes %d: %q", event, got.Event, writeDigit(d))
		}
	}
}

func FuzzDigit(f *testing.F) {
	f.Add(true, []byte("Signal=5\r\nDuration=160\r\n"))
	f.Add(false, []byte("#"))
	f.Add(false, []byte("Signal=10\nDuration=99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, relay bool, body []byte) {
		kind := "application/dtmf"
		if relay {
			kind = "application/dtmf-relay"
		}
		d, ok := parseDigit(kind, body)
		if d.Event > 16 || d.Duration < 0 || d.Duration > rtp.MaxDigit || !ok && d != (rtp.Digit{}) {
			t.Fatalf("event %d of %v, %v", d.Event, d.Duration, ok)
		}
	})
}
