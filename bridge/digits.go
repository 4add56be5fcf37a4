package bridge

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"reveille/rtp"
	"reveille/sip"
)

// This file brings digits across a call whose sides send them in different
// ways: by SIP INFO (RFC 2976, RFC 6086) and by telephone-event (RFC 4733). What
// both know is passed as it is, by pass.go and by the relay. People type PINs:
// no digit gets into a log, a timeline or a CDR, only how many there were.

// sameDigit: a phone that sends each digit by both ways does so within this
// time; the second one is not converted too.
const sameDigit = 2 * time.Second

// digitRoom bounds the digits that wait for a side to answer the INFO before.
const digitRoom = 32

// digits is what a call remembers of them, by the side that they came from. It
// is made with the first.
type digits struct {
	byInfo  [2]time.Time // when the last INFO came that got across, in whichever way
	byEvent [2]time.Time // when the last event came that became an INFO
	told    [2]bool      // the timeline says that they are converted
}

func (c *Call) dtmf() *digits {
	if c.typed == nil {
		c.typed = &digits{}
	}
	return c.typed
}

// dialled plays the digit of an INFO to the other side, where that takes it
// better by telephone-event; false: the INFO is to be passed on. It is answered
// as soon as the digit is in the queue: RFC 2976 §2.2 has the answer say that the
// INFO was received, not what became of it. Too many get a 500 with Retry-After,
// as elsewhere within a dialog: a 503 would keep the sender from us altogether
// (RFC 3261 §21.5.4), and a 486 speaks of calls.
func (c *Call) dialled(side rtp.Side, kind string, r *sip.Request) bool {
	digit, ok := parseDigit(kind, r.Body)
	if !ok {
		return false
	}
	t := c.dtmf()
	if time.Since(t.byEvent[side]) < sameDigit {
		r.Answer(200, "")
		return true
	}
	t.byInfo[side] = time.Now()
	if !c.converts(side) {
		return false
	}
	switch err := c.session.Dial(side, digit); {
	case err == nil:
		c.tellConverted(side, "SIP INFO of the %v goes on as telephone-event")
		r.Answer(200, "")
	case errors.Is(err, rtp.ErrDoubled):
		r.Answer(200, "")
	case errors.Is(err, rtp.ErrDigits):
		r.Answer(500, "", sip.Header{Name: "Retry-After", Value: "2"})
	default:
		return false
	}
	return true
}

// converts: the side across knows events, and the one that sends INFO does not,
// or INFO is not for the one across.
func (c *Call) converts(side rtp.Side) bool {
	across := side.Other()
	return c.session.HearsEvents(across) && (!c.session.HearsEvents(side) || c.leg(across).RefusesInfo())
}

// heardDigit sends a digit that came by telephone-event on by INFO.
func (c *Call) heardDigit(ctx context.Context, h rtp.HeardDigit) {
	t := c.dtmf()
	if time.Since(t.byInfo[h.From]) < sameDigit {
		return
	}
	t.byEvent[h.From] = time.Now()
	c.tellConverted(h.From, "telephone-event of the %v goes on as SIP INFO")
	to, o := c.other(h.From), sip.Outgoing{Method: "INFO", ContentType: "application/dtmf-relay", Body: writeDigit(h.Digit)}
	c.courier(h.From).take(ctx, parcel{from: h.From, digit: true, notify: func(ctx context.Context) {
		wait, cancel := context.WithTimeout(ctx, passTimeout)
		defer cancel()
		if reply := to.Send(wait, o); reply.Code/100 != 2 {
			c.log().Info("a digit by SIP INFO was not taken", "leg", h.From.Other().String(), "code", reply.Code)
		}
	}})
}

// tellConverted says so once for each side; how many there were the CDR tells.
func (c *Call) tellConverted(side rtp.Side, how string) {
	if t := c.dtmf(); !t.told[side] {
		t.told[side] = true
		c.rec.step("DTMF", "", fmt.Sprintf(how, side))
	}
}

// signals are the digits by their event (RFC 4733 §3.2); the last is the flash.
const signals = "0123456789*#ABCD!"

// parseDigit reads the body of an INFO: application/dtmf-relay has lines such as
// "Signal=5" and "Duration=160", in ms; application/dtmf has the digit alone, or
// the same lines. Some write * as 10, and so on.
func parseDigit(kind string, body []byte) (d rtp.Digit, ok bool) {
	if kind != "application/dtmf-relay" && kind != "application/dtmf" {
		return d, false
	}
	text := strings.TrimSpace(string(body))
	if kind == "application/dtmf" && !strings.Contains(text, "=") {
		d.Event, ok = parseSignal(text)
		return d, ok
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "signal":
			if ok { // two digits: not ours to choose
				return rtp.Digit{}, false
			}
			if d.Event, ok = parseSignal(value); !ok {
				return rtp.Digit{}, false
			}
		case "duration":
			if ms, err := strconv.ParseUint(value, 10, 64); err == nil {
				d.Duration = time.Duration(min(ms, uint64(rtp.MaxDigit/time.Millisecond))) * time.Millisecond
			}
		}
	}
	if !ok {
		return rtp.Digit{}, false
	}
	return d, true
}

// parseSignal gives the event of a digit as people write it, or of its number.
func parseSignal(text string) (event uint8, ok bool) {
	if len(text) == 1 {
		i := strings.Index(signals, strings.ToUpper(text))
		return uint8(max(i, 0)), i >= 0
	}
	if strings.EqualFold(text, "flash") || strings.EqualFold(text, "hf") {
		return 16, true
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || len(text) != 2 || n < 10 || int(n) >= len(signals) {
		return 0, false
	}
	return uint8(n), true
}

// writeDigit is the body of an INFO of ours.
func writeDigit(d rtp.Digit) []byte {
	event := min(int(d.Event), len(signals)-1)
	return fmt.Appendf(nil, "Signal=%c\r\nDuration=%d\r\n", signals[event], d.Duration.Milliseconds())
}
