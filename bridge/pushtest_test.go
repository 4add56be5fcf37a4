package bridge_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// testPush is a test push of 1001's devices; what came of each, by the digit of
// its token, and how long it all took.
func (w *world) testPush() (map[string]bridge.PushRecord, time.Duration) {
	w.t.Helper()
	ids := map[string]string{}
	for _, d := range w.location.Devices("1001") {
		if !d.Target.IsZero() {
			ids[d.ID] = d.Target.PRID[:1]
		}
	}
	start := time.Now()
	list, err := w.bridge.TestPush(context.Background(), "1001")
	w.must(err)
	out := map[string]bridge.PushRecord{}
	for _, r := range list {
		out[ids[r.Device]] = r
	}
	return out, time.Since(start)
}

func TestTestPushGoesToAllDevicesAtOnce(t *testing.T) {
	call(t, nil, func(w *world) {
		for digit := range 4 {
			w.sleeping(phoneOptions{digit: fmt.Sprint(digit + 1), wakes: -1})
		}
		token := func(digit string) string { return strings.Repeat(digit, 64) }
		w.service.Unregister(pushtest.Production, token("2"), time.Now())
		w.service.Answer(token("3"), pushtest.Reject(403, "InvalidProviderToken"))
		w.service.Answer(token("4"), pushtest.Answer{Delay: 3 * time.Second})
		got, took := w.testPush()
		if took < 3*time.Second || took > 3500*time.Millisecond {
			t.Errorf("it took %v, the slowest answer 3 s", took)
		}
		for digit, want := range map[string]string{"1": "sent 200 ", "2": "gone 410 Unregistered", "3": "refused 403 InvalidProviderToken", "4": "sent 200 "} {
			r := got[digit]
			equal(t, "device "+digit, fmt.Sprintf("%s %d %s", r.Outcome, r.Status, r.Reason), want)
			equal(t, "device "+digit+" has a cause", r.Error != "", r.Outcome != "sent")
			equal(t, "device "+digit+", requests", r.Attempts, 1)
		}
		equal(t, "environment", got["1"].Environment, "production")
		for _, d := range w.location.Devices("1001") {
			if d.Target.PRID == token("2") {
				t.Error("the dead token is still there")
			}
		}
		for _, p := range w.sentPushes() {
			equal(t, "payload says that it is a test", p.Payload["test"], any(true))
		}
	})
}

// The app wakes by the test, registers, and hears nothing.
func TestAppThatRegistersUponATestPushIsNotInvited(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		w.testPush()
		time.Sleep(2 * time.Minute)
		w.notTaken(p)
		equal(t, "registered", len(w.location.Lookup("1001")), 1)
		equal(t, "calls", len(w.bridge.Calls()), 0)
		equal(t, "wakes that were learned", len(w.location.Devices("1001")[0].Wakes.List()), 0)
		w.callAndSleep(p) // and the next call rings
	})
}

// A script that sends test pushes for ever rings a device six times a minute;
// calls are not the worse for it.
func TestTestPushesAreBounded(t *testing.T) {
	for name, change := range map[string]func(*setup){"limits": nil, "no limits": func(s *setup) { s.calls.Limits = bridge.LimitsConfig{} }} {
		t.Run(name, func(t *testing.T) {
			call(t, change, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: -1})
				for i := range 30 {
					got, _ := w.testPush()
					want := "sent"
					if i >= 6 {
						want = "budget"
					}
					equal(t, "outcome", got["1"].Outcome, want)
				}
				equal(t, "requests", w.service.Counts().Requests, 6)
				w.wakes(p, 400*time.Millisecond)
				c := w.invite(siptest.Invitation{})
				time.Sleep(time.Second)
				equal(t, "requests with a call", w.service.Counts().Requests, 7)
				w.taken(p).Respond(486, nil)
				w.await(c, time.Second, "486")
				time.Sleep(time.Minute)
				got, _ := w.testPush()
				equal(t, "outcome a minute later", got["1"].Outcome, "sent")
			})
		})
	}
}

// Its owner gives a device one token after the other, by the API: it remains the
// same device, with the same budget.
func TestProvisionedTokensShareTheBudgetOfTheirDevice(t *testing.T) {
	call(t, nil, func(w *world) {
		_, pr := w.provisioned(phoneOptions{wakes: -1})
		for i := range 12 {
			pr.Target.PRID = fmt.Sprintf("%064x", i+1000)
			w.service.AddToken(pushtest.Production, pr.Target.PRID, bundle)
			_, _, err := w.sip.Provision(w.t.Context(), pr)
			w.must(err)
			_, err = w.bridge.TestPush(context.Background(), "1001")
			w.must(err)
			w.missed(fmt.Sprintf("+49401%d", i))
		}
		// Six at once and one each ten seconds, of calls and of tests each.
		if n := w.service.Counts().Requests; n < 12 || n > 16 {
			t.Errorf("%d pushes in %d calls and as many tests", n, 12)
		}
	})
}

func TestTestPushOfNobody(t *testing.T) {
	call(t, nil, func(w *world) {
		if _, err := w.bridge.TestPush(context.Background(), "9"); err == nil {
			t.Error("an extension that does not exist was pushed")
		}
		w.awake(phoneOptions{change: func(o *siptest.PhoneOptions) { o.Provider = "" }})
		got, _ := w.testPush()
		equal(t, "pushes", len(got), 0)
	})
}

// A push service that sends back what it was sent: the token shows nowhere.
func TestTokenIsNeverShown(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		for i := range 2 {
			w.service.Answer(p.token, pushtest.Reject(400, p.token[i:]))
		}
		c := w.invite(siptest.Invitation{})
		m := w.await(c, time.Second, "480")
		if h := m.Get("X-Reveille-Push"); strings.Contains(h, p.token[:20]) || !strings.HasPrefix(h, "failed;provider=apns;status=400") {
			t.Errorf("X-Reveille-Push: %s", h)
		}
		time.Sleep(time.Minute)
		w.service.Answer(p.token, pushtest.Reject(403, "x"+p.token))
		got, _ := w.testPush()
		for what, r := range map[string]any{"CDR": w.record(), "test push": got["1"], "devices": w.location.Devices("1001")[0].Target} {
			if text := fmt.Sprintf("%+v", r); strings.Contains(text, p.token[:20]) && !strings.Contains(text, "redacted") {
				t.Errorf("the token is in the %s: %s", what, text)
			}
		}
	})
}
