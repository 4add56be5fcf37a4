package bridge_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// What the trunk's PBX reads, on the 180s in their order and on the final answer.
func TestCallerIsToldHowFarTheWakeIs(t *testing.T) {
	dead := func(w *world, p *phone) { w.service.Unregister(pushtest.Production, p.token, time.Now()) }
	answers := func(a ...pushtest.Answer) func(*world, *phone) {
		return func(w *world, p *phone) { w.service.Answer(p.token, a...) }
	}
	for name, c := range map[string]struct {
		prepare      func(*world, *phone)
		wakes        time.Duration
		told         string
		code, reason string
		final        string // X-Reveille-Push of the final answer
	}{
		"it wakes": {nil, 400 * time.Millisecond, "sent;provider=apns | accepted;provider=apns;status=200 | awake;provider=apns;wake-ms=521", "200", "", ""},
		"it does not wake": {nil, -1, "sent;provider=apns | accepted;provider=apns;status=200", "480", absent,
			"accepted;provider=apns;status=200"},
		"dead token": {dead, -1, "sent;provider=apns | failed;provider=apns;status=410;reason=Unregistered", "480", absent,
			"failed;provider=apns;status=410;reason=Unregistered"},
		"our fault": {answers(pushtest.Reject(403, "InvalidProviderToken")), -1, "sent;provider=apns | failed;provider=apns;status=403;reason=InvalidProviderToken", "480", pushRefused,
			"failed;provider=apns;status=403;reason=InvalidProviderToken"},
		"the service's": {answers(pushtest.Reject(503, "Shutdown"), pushtest.Reject(503, "Shutdown")), -1, "sent;provider=apns | failed;provider=apns;status=503;reason=Shutdown", "480", pushFailed,
			"failed;provider=apns;status=503;reason=Shutdown"},
		"an answer that is no word": {answers(pushtest.Reject(403, "no;such=word,\"x\" <y>")), -1, "sent;provider=apns | failed;provider=apns;status=403;reason=nosuchwordxy", "480", pushRefused,
			"failed;provider=apns;status=403;reason=nosuchwordxy"},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: c.wakes, script: siptest.AnswerAfter(time.Second)})
				if c.prepare != nil {
					c.prepare(w, p)
				}
				leg := w.invite(siptest.Invitation{})
				m := w.await(leg, time.Minute, c.code)
				equal(t, "180s", strings.Join(pushHeaders(leg), " | "), c.told)
				equal(t, "X-Reveille-Push of the final answer", m.Get("X-Reveille-Push"), c.final)
				equal(t, "Reason", m.Get("Reason"), c.reason)
				if c.code == "200" {
					leg.Bye()
				}
				time.Sleep(40 * time.Second)
			})
		})
	}
}

func TestCallerIsToldThatThereIsNoDevice(t *testing.T) {
	call(t, nil, func(w *world) {
		m := w.await(w.invite(siptest.Invitation{}), time.Second, "480")
		equal(t, "X-Reveille-Push", m.Get("X-Reveille-Push"), "failed;reason=NoDevice")
		equal(t, "Reason", m.Get("Reason"), absent)
		w.ended("no_device", 480)
	})
}

// With several devices there is one value for each, the most hopeful first;
// equal ones are counted.
func TestCallerIsToldOfEachDevice(t *testing.T) {
	call(t, nil, func(w *world) {
		for digit := range 8 {
			w.sleeping(phoneOptions{digit: fmt.Sprint(digit + 1), wakes: -1})
		}
		token := func(digit int) string { return strings.Repeat(fmt.Sprint(digit), 64) }
		for digit, reason := range map[int]string{1: "Unregistered", 2: "Unregistered", 3: "A", 4: "B", 5: "C"} {
			w.service.Answer(token(digit), pushtest.Answer{Status: 410, Reason: reason, Delay: time.Duration(digit) * 100 * time.Millisecond})
		}
		w.service.Answer(token(8), pushtest.Answer{Delay: 4 * time.Second})
		c := w.invite(siptest.Invitation{})
		time.Sleep(3300 * time.Millisecond) // a push that comes behind that one on a new connection waits for a second, or two
		told := pushHeaders(c)
		equal(t, "the first 180", told[0], "sent;provider=apns;devices=8")
		equal(t, "the last 180", told[len(told)-1], "accepted;provider=apns;status=200;devices=2, sent;provider=apns, "+
			"failed;provider=apns;status=410;reason=C, failed;provider=apns;status=410;reason=B") // A and the rest find no room
		for _, h := range told {
			if n := strings.Count(h, ",") + 1; n > 4 || len(h) > 300 {
				t.Errorf("%d values: %s", n, h)
			}
		}
		w.must(w.phones[token(6)].Register(context.Background()))
		time.Sleep(500 * time.Millisecond)
		told = pushHeaders(c)
		if last := told[len(told)-1]; !strings.HasPrefix(last, "awake;provider=apns;wake-ms=") {
			t.Errorf("the most hopeful device is not the first: %s", last)
		}
		w.trunk.Cancel(c)
		w.await(c, time.Second, "487")
		time.Sleep(40 * time.Second)
	})
}

// The record of a call has for each device what became of its push.
func TestPushesOnRecord(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: -1})
		w.service.Answer(second.token, pushtest.Reject(503, "Shutdown"), pushtest.Reject(403, "Forbidden"))
		w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		c.Bye()
		r := w.ended("caller_hung_up", 200)
		if len(r.Pushes) != 2 {
			t.Fatalf("pushes: %+v", r.Pushes)
		}
		a, b := r.Pushes[0], r.Pushes[1]
		equal(t, "first", fmt.Sprintf("%s %d %d %s", a.Outcome, a.Status, a.Attempts, a.Environment), "sent 200 1 production")
		equal(t, "its wake", fmt.Sprint(a.WakeMS, r.WakeMS), "521 521")
		equal(t, "second", fmt.Sprintf("%s %d %d %s", b.Outcome, b.Status, b.Attempts, b.Reason), "refused 403 2 Forbidden")
		equal(t, "its wake", b.WakeMS, 0)
		if !strings.HasPrefix(b.Error, "APNs answered 403 Forbidden, to key ") {
			t.Errorf("its cause: %s", b.Error)
		}
		for _, s := range r.Timeline {
			if s.Event == "push refused" && s.Detail != "apns 403 Forbidden, 2 requests: "+b.Error {
				t.Errorf("timeline: %s", s.Detail)
			}
		}
	})
}

// Every token is dead: the caller hears so within a second of the push service's
// last word.
func TestAllTokensAreDead(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: -1})
		first := w.sleeping(phoneOptions{name: "first", wakes: -1})
		w.service.Unregister(pushtest.Production, first.token, time.Now())
		w.service.Answer(second.token, pushtest.Answer{Status: 410, Reason: "ExpiredToken", Delay: 1500 * time.Millisecond})
		start := time.Now()
		c := w.invite(siptest.Invitation{})
		m := w.await(c, time.Minute, "480")
		if took := time.Since(start); took > 1600*time.Millisecond {
			t.Errorf("480 came %v after the INVITE, the last 410 after 1.5 s", took)
		}
		equal(t, "Reason", m.Get("Reason"), absent)
		equal(t, "cause on record", w.ended("push_gone", 480).Q850, 20)
		equal(t, "devices", len(w.location.Devices("1001")), 0)
		w.golden("all_tokens_dead")
	})
}

// A device whose token is dead registers anew while the call waits for another
// one: it rings, once, and is not pushed again.
func TestDeviceWithADeadTokenComesAndRings(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: -1})
		first := w.sleeping(phoneOptions{name: "first", wakes: -1, script: siptest.AnswerAfter(time.Second)})
		w.service.Answer(first.token, pushtest.Answer{Status: 410, Reason: "Unregistered", Delay: 500 * time.Millisecond})
		c := w.invite(siptest.Invitation{})
		time.Sleep(3 * time.Second)
		for range 2 {
			w.must(first.Register(context.Background()))
			time.Sleep(100 * time.Millisecond)
		}
		w.await(c, 5*time.Second, "200")
		taken := w.taken(first)
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		r := w.ended("caller_hung_up", 200)
		w.notTaken(first)
		w.notTaken(second)
		equal(t, "pushes on record", len(r.Pushes), 2)
		equal(t, "requests", w.service.Counts().Requests, 2)
		equal(t, "wake on record", r.WakeMS, 0) // it came by itself
		w.golden("dead_token_comes")
	})
}

// One of two pushes is refused, or fails: the ending is that of the device which
// might be reached next time.
func TestEndingOfPushesThatFailInDifferentWays(t *testing.T) {
	for name, c := range map[string]struct {
		one, two pushtest.Answer
		ending   string
		reason   string
	}{
		"gone and refused":   {pushtest.Reject(410, "Unregistered"), pushtest.Reject(403, "Forbidden"), "push_refused", pushRefused},
		"failed and refused": {pushtest.Reject(429, "TooManyRequests"), pushtest.Reject(403, "Forbidden"), "push_failed", pushFailed},
		"gone and failed":    {pushtest.Reject(410, "Unregistered"), pushtest.Reject(429, "TooManyRequests"), "push_failed", pushFailed},
	} {
		t.Run(name, func(t *testing.T) {
			for _, swap := range []bool{false, true} {
				call(t, twoPhones, func(w *world) {
					second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: -1})
					first := w.sleeping(phoneOptions{name: "first", wakes: -1})
					if swap {
						first, second = second, first
					}
					w.service.Answer(first.token, c.one)
					w.service.Answer(second.token, c.two)
					failsFast(w, c.reason)
					w.ended(c.ending, 480)
				})
			}
		})
	}
}
