package bridge_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// ways is how a side of a call takes digits.
type ways struct {
	events bool   // it knows telephone-event
	allow  string // its Allow; "": none
}

const (
	withInfo    = "INVITE, ACK, CANCEL, BYE, INFO"
	withoutInfo = "INVITE, ACK, CANCEL, BYE"
)

// typing is an answered call between sides that take digits in these ways.
func typing(w *world, trunk, device ways) (c, taken *siptest.Call) {
	w.t.Helper()
	inv := siptest.Invitation{}
	if trunk.allow != "" {
		inv.Header = []siptest.Field{{Name: "Allow", Value: trunk.allow}}
	}
	if !trunk.events {
		inv.Audio = (*siptest.Audio).Deaf
	}
	p := w.awake(phoneOptions{script: func(c *siptest.Call) {
		if !device.events {
			c.Audio.Deaf()
		}
		var allow []siptest.Field
		if device.allow != "" {
			allow = []siptest.Field{{Name: "Allow", Value: device.allow}}
		}
		sdp, err := c.Audio.Answer(c.Invite.Body)
		w.must(err)
		c.Respond(200, sdp, allow...)
	}})
	c = w.invite(inv)
	w.await(c, 10*time.Second, "200")
	time.Sleep(100 * time.Millisecond)
	return c, w.taken(p)
}

// relayInfo is the body that most phones send.
func relayInfo(signal string) string { return "Signal=" + signal + "\r\nDuration=160\r\n" }

// infos are the digits that came by INFO.
func infos(c *siptest.Call) (list []string) {
	for _, m := range c.Got("INFO") {
		signal, _, _ := strings.Cut(strings.TrimPrefix(string(m.Body), "Signal="), "\r\n")
		list = append(list, signal)
	}
	return list
}

// eventsOf are those that came by telephone-event, each held against what RFC 4733 wants of it.
func eventsOf(t *testing.T, a *siptest.Audio) (list []byte) {
	t.Helper()
	for _, d := range a.Digits() {
		if d.Ends != 3 || d.Packets != 10 || d.Duration != 1280 {
			t.Errorf("a digit of %+v", d)
		}
		list = append(list, d.Event)
	}
	return list
}

// Each digit gets across once, in the way that the other side takes, whichever the sender's is.
func TestDigitsInTheOtherSidesWay(t *testing.T) {
	for name, c := range map[string]struct {
		trunk, device      ways
		byInfo, byEvent    int // of two digits of the device's by INFO: how many reach the trunk in which way
		backInfo, backPass int // of two of the trunk's by event
	}{
		"a phone with INFO alone":                      {ways{true, withInfo}, ways{false, withInfo}, 0, 2, 2, 0},
		"one that does not say so":                     {ways{true, ""}, ways{false, ""}, 0, 2, 0, 0},
		"a carrier with INFO alone":                    {ways{false, withInfo}, ways{true, withInfo}, 2, 0, 0, 0},
		"both know both":                               {ways{true, withInfo}, ways{true, withInfo}, 2, 0, 0, 2},
		"a phone set to INFO, a carrier that has none": {ways{true, withoutInfo}, ways{true, withInfo}, 0, 2, 0, 2},
		"nobody knows events":                          {ways{false, ""}, ways{false, ""}, 2, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				trunk, phone := typing(w, c.trunk, c.device)
				w.talk(trunk, phone)
				for _, digit := range []string{"5", "#"} {
					w.await(phone.Ask("INFO", "application/dtmf-relay", relayInfo(digit)), time.Second, "200")
				}
				w.must(phone.Talk(context.Background(), 50))
				if got := infos(trunk); len(got) != c.byInfo || len(got) == 2 && !slices.Equal(got, []string{"5", "#"}) {
					t.Errorf("the trunk got %q by INFO", got)
				}
				if got := eventsOf(t, trunk.Audio); len(got) != c.byEvent || len(got) == 2 && !slices.Equal(got, []byte{5, 11}) {
					t.Errorf("the trunk got %v by event", got)
				}
				time.Sleep(3 * time.Second)
				if c.trunk.events {
					w.must(trunk.Audio.Press(context.Background(), 10, 8))
					w.must(trunk.Audio.Press(context.Background(), 4, 8))
				}
				time.Sleep(time.Second)
				if got := infos(phone); len(got) != c.backInfo || len(got) == 2 && !slices.Equal(got, []string{"*", "4"}) {
					t.Errorf("the phone got %q by INFO", got)
				}
				if got := eventsOf(t, phone.Audio); len(got) != c.backPass {
					t.Errorf("the phone got %v by event", got)
				}
				trunk.Bye()
				w.ended("caller_hung_up", 200)
			})
		})
	}
}

// A trunk without telephone-event that takes INFO: the phone is offered it, and its keys go on by INFO. The call's
// timeline says so once, its record how many there were, and neither which.
func TestEventsOfAPhoneGoOnByInfo(t *testing.T) {
	call(t, nil, func(w *world) {
		trunk, phone := typing(w, ways{false, withInfo}, ways{true, ""})
		for _, event := range []byte{7, 7, 15} {
			w.must(phone.Audio.Press(context.Background(), event, 8))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if got := infos(trunk); !slices.Equal(got, []string{"7", "7", "D"}) {
			t.Errorf("the trunk got %q", got)
		}
		for _, m := range trunk.Got("INFO") {
			equal(t, "Content-Type", m.Get("Content-Type"), "application/dtmf-relay")
			equal(t, "body", strings.HasSuffix(string(m.Body), "\r\nDuration=160\r\n"), true)
		}
		equal(t, "events at the trunk", len(trunk.Audio.Digits()), 0)
		trunk.Bye()
		r := w.ended("caller_hung_up", 200)
		if got := steps(r, "DTMF"); len(got) != 1 || r.Media["device"].Digits != 3 {
			t.Errorf("timeline %q, %d digits on record", got, r.Media["device"].Digits)
		}
	})
}

// A phone that sends each digit by INFO and by event has each of them once at the other end.
func TestDigitsSentInBothWaysAreHeardOnce(t *testing.T) {
	call(t, nil, func(w *world) {
		trunk, phone := typing(w, ways{false, withInfo}, ways{true, withInfo})
		for i, digit := range []string{"1", "2"} { // INFO first
			w.await(phone.Ask("INFO", "application/dtmf-relay", relayInfo(digit)), time.Second, "200")
			w.must(phone.Audio.Press(context.Background(), byte(i+1), 8))
		}
		time.Sleep(5 * time.Second)
		for i, digit := range []string{"3", "4"} { // the event first
			w.must(phone.Audio.Press(context.Background(), byte(i+3), 8))
			w.await(phone.Ask("INFO", "application/dtmf-relay", relayInfo(digit)), time.Second, "200")
		}
		time.Sleep(time.Second)
		if got := infos(trunk); !slices.Equal(got, []string{"1", "2", "3", "4"}) {
			t.Errorf("the trunk got %q", got)
		}
		trunk.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// An INFO is answered before its digit is played; a flood gets 500 with Retry-After, and the rest is played in order.
func TestManyDigitsByInfo(t *testing.T) {
	call(t, nil, func(w *world) {
		trunk, phone := typing(w, ways{true, ""}, ways{false, ""})
		var want []byte
		late := 0
		for i := range 40 {
			m := w.await(phone.Ask("INFO", "application/dtmf", fmt.Sprintf("%X", i%10)), time.Second, "final")
			switch {
			case m.Code() == 200:
				want = append(want, byte(i%10))
			case m.Code() == 500 && m.Get("Retry-After") != "":
				late++
			default:
				t.Errorf("digit %d: %d", i, m.Code())
			}
		}
		time.Sleep(20 * time.Second)
		if got := eventsOf(t, trunk.Audio); !slices.Equal(got, want) || len(got) < 32 || late == 0 {
			t.Errorf("the trunk got %v, %d were refused", got, late)
		}
		trunk.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// PINs are typed by DTMF: no digit is in the log, in all its detail, nor in the CDR.
func TestDigitsAreNotOnRecord(t *testing.T) {
	kept := &quoted{}
	call(t, func(s *setup) { s.log = slog.NewTextHandler(kept, &slog.HandlerOptions{Level: slog.LevelDebug - 8}) }, func(w *world) {
		trunk, phone := typing(w, ways{true, withInfo}, ways{false, withInfo})
		w.await(phone.Ask("INFO", "application/dtmf-relay", "Signal=8\r\nDuration=1777\r\n"), time.Second, "200")
		w.must(trunk.Audio.Press(context.Background(), 13, 89)) // B
		time.Sleep(3 * time.Second)
		equal(t, "by INFO", len(phone.Got("INFO")), 1)
		trunk.Bye()
		w.ended("caller_hung_up", 200)
		cdr, err := os.ReadFile(w.cdr)
		w.must(err)
		kept.mu.Lock()
		defer kept.mu.Unlock()
		for _, text := range []string{kept.text.String(), string(cdr)} {
			// Identifiers and ports hold the figures of a duration by chance: the former go, and they are looked for as words.
			text = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).ReplaceAllString(text, "UUID")
			if regexp.MustCompile(`Signal|\b1\.?7(77|80)0*(\b|m?s)`).MatchString(text) || len(text) < 100 {
				t.Errorf("a digit is on record in %s", text)
			}
		}
	})
}
