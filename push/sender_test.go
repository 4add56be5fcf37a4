package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"reveille/push/pushtest"
)

// TestOnePushPerCallAndDevice: however many ask, at once or later, the service
// accepts one push for a call and device.
func TestOnePushPerCallAndDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.Answer(testToken, pushtest.Answer{Delay: time.Second})
		outs := make([]Outcome, 50)
		var wg sync.WaitGroup
		for i := range outs {
			wg.Go(func() { outs[i] = w.send(testMessage("u1")) })
		}
		wg.Wait()
		first := 0
		for _, out := range outs {
			if out.Verdict != Sent || out.ID != outs[0].ID || out.Took != time.Second {
				t.Errorf("outcome %+v", out)
			}
			if !out.Duplicate {
				first++
			}
		}
		time.Sleep(dedupeFor - time.Second)
		late := w.send(testMessage("u1"))
		if c := w.service.Counts(); first != 1 || c.Requests != 1 || !late.Duplicate || late.ID != outs[0].ID {
			t.Errorf("%d first ones, %d requests, late %+v", first, c.Requests, late)
		}
		if out := w.send(testMessage("u2")); out.Duplicate {
			t.Error("another call is taken for the same")
		}
		ctx := context.Background()
		if out := w.sender.Send(ctx, "device-2", Target{Provider: "apns", PRID: testToken}, testMessage("u1")); out.Duplicate {
			t.Error("another device is taken for the same")
		}
	})
}

// TestFailureMayBeSentAgain: after a clear failure a later Send tries anew.
func TestFailureMayBeSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.Answer(testToken, pushtest.Reject(503, ""), pushtest.Reject(503, ""))
		if out := w.send(testMessage("u1")); out.Verdict != Failed {
			t.Fatalf("outcome %+v", out)
		}
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Duplicate {
			t.Errorf("outcome %+v", out)
		}
	})
}

// turnstile is a provider whose every push waits to be let through.
type turnstile struct {
	pass  chan Outcome
	calls int
	mu    sync.Mutex
}

func (*turnstile) Name() string       { return "gate" }
func (*turnstile) Serves(string) bool { return true }
func (g *turnstile) Push(ctx context.Context, _ Target, _ Message) (Outcome, bool) {
	g.mu.Lock()
	g.calls++
	g.mu.Unlock()
	select {
	case out := <-g.pass:
		return out, false
	case <-ctx.Done():
		return Outcome{Verdict: Failed, Err: ctx.Err()}, false
	}
}

func newGateSender(t *testing.T) (*Sender, *turnstile) {
	t.Helper()
	s, err := NewSender(DefaultConfig(), Options{LogTo: &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	g := &turnstile{pass: make(chan Outcome)}
	s.now.providers = []Provider{g}
	return s, g
}

// TestSecondTakesOver: when the first gives up before anything was sent, the
// one who waits for it sends instead.
func TestSecondTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := newGateSender(t)
		target := Target{Provider: "gate"}
		ctx, cancel := context.WithCancel(t.Context())
		outs := make(chan Outcome, 2)
		go func() { outs <- s.Send(ctx, "d", target, Message{UUID: "u"}) }()
		synctest.Wait()
		go func() { outs <- s.Send(t.Context(), "d", target, Message{UUID: "u"}) }()
		synctest.Wait()
		cancel()
		if out := <-outs; out.Verdict != Failed {
			t.Errorf("the first: %+v", out)
		}
		g.pass <- Outcome{Verdict: Sent}
		if out := <-outs; out.Verdict != Sent || out.Duplicate || g.calls != 2 {
			t.Errorf("the second: %+v after %d calls", out, g.calls)
		}
	})
}

func TestWaiterHasItsOwnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := newGateSender(t)
		target := Target{Provider: "gate"}
		go s.Send(t.Context(), "d", target, Message{UUID: "u"})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if out := s.Send(ctx, "d", target, Message{UUID: "u"}); out.Verdict != Failed || out.Took != time.Second || g.calls != 1 {
			t.Errorf("outcome %+v", out)
		}
		g.pass <- Outcome{Verdict: Sent}
	})
}

func TestDedupeIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	d := newDedupe(time.Minute, 100)
	for i := range 1000 {
		key := keyOf(fmt.Sprint(i), "d")
		e, mine := d.claim(key, now)
		if !mine {
			t.Fatal("not mine")
		}
		d.settle(key, e, Outcome{Verdict: Sent}, now)
	}
	if len(d.entries) != 100 || len(d.order) != 100 {
		t.Errorf("%d entries, %d in order, want 100", len(d.entries), len(d.order))
	}
	if _, mine := d.claim(keyOf("999", "d"), now.Add(time.Minute-1)); mine {
		t.Error("forgotten before its time")
	}
	e, mine := d.claim(keyOf("999", "d"), now.Add(time.Minute))
	if !mine || len(d.entries) != 1 {
		t.Errorf("mine %v, %d entries", mine, len(d.entries))
	}
	d.settle(keyOf("999", "d"), e, Outcome{Verdict: Gone}, now)
	if len(d.entries) != 0 {
		t.Error("a failure is remembered")
	}
}

func TestKeyOfKeepsPartsApart(t *testing.T) {
	if keyOf("ab", "c") == keyOf("a", "bc") {
		t.Error("call and device run into each other")
	}
}

func TestLogProvider(t *testing.T) {
	var b bytes.Buffer
	s, err := NewSender(DefaultConfig(), Options{LogTo: &b})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.Supports("apns", "x") || !s.Supports("fcm", "") {
		t.Error("the log provider must serve every device")
	}
	target := Target{Provider: "apns", Param: testParam + "\n\x1b", PRID: testToken}
	out := s.Send(t.Context(), "d", target, testMessage("u1"))
	line := b.String()
	if out.Verdict != Sent || strings.Count(line, "\n") != 1 || !strings.Contains(line, `"uuid":"u1"`) || !strings.Contains(line, testParam) {
		t.Errorf("outcome %+v, printed %q", out, line)
	}
	if strings.Contains(line, testToken) || strings.Contains(line, "\x1b") {
		t.Errorf("printed %q", line)
	}
	s.Send(t.Context(), "d", target, testMessage("u1"))
	if strings.Count(b.String(), "\n") != 1 {
		t.Error("printed twice")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestLogProviderCannotPrint(t *testing.T) {
	s, err := NewSender(DefaultConfig(), Options{LogTo: brokenWriter{}})
	if err != nil {
		t.Fatal(err)
	}
	if out := s.Send(t.Context(), "d", Target{}, testMessage("u1")); out.Verdict != Failed || out.Err == nil {
		t.Errorf("outcome %+v", out)
	}
}

func TestRefusedWithoutTheNetwork(t *testing.T) {
	w := newSocketWorld(t)
	for name, tt := range map[string]struct {
		change  func(*Target)
		verdict Verdict
	}{
		"unknown provider": {func(t *Target) { t.Provider = "fcm" }, Refused},
		"unknown topic":    {func(t *Target) { t.Param = "com.example.other" }, Refused},
		"no token":         {func(t *Target) { t.PRID = "" }, Gone},
		"path in token":    {func(t *Target) { t.PRID = testToken + "/../../x" }, Gone},
		"newline in token": {func(t *Target) { t.PRID = testToken + "\r\n" }, Gone},
		"no known token":   {func(t *Target) { t.PRID = testToken + ":fax" }, Gone},
	} {
		out := w.send(testMessage(name), tt.change)
		if out.Verdict != tt.verdict || out.Attempts != 0 || out.Err == nil {
			t.Errorf("%s: %+v", name, out)
		}
		w.noSecrets(out)
	}
	if c := w.service.Counts(); c.Requests != 0 {
		t.Errorf("%d requests", c.Requests)
	}
}

func TestMetrics(t *testing.T) {
	w := newSocketWorld(t)
	w.send(testMessage("u1"))
	w.send(testMessage("u1"))
	w.send(testMessage("u2"), func(t *Target) { t.PRID = "cc" + testToken })
	w.send(testMessage("u3"), func(t *Target) { t.Provider = "evil\nlabel" })
	const want = `
# HELP reveille_push_requests_total Pushes by provider and outcome: sent, gone, refused, failed, duplicate.
# TYPE reveille_push_requests_total counter
reveille_push_requests_total{outcome="duplicate",provider="apns"} 1
reveille_push_requests_total{outcome="gone",provider="apns"} 1
reveille_push_requests_total{outcome="refused",provider="none"} 1
reveille_push_requests_total{outcome="sent",provider="apns"} 1
`
	if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(want), "reveille_push_requests_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(w.sender.metrics.seconds); n != 2 {
		t.Errorf("%d series of reveille_push_seconds", n)
	}
	if _, err := NewSender(DefaultConfig(), Options{Registerer: w.metrics}); err != nil {
		t.Errorf("a second Sender on the same registry, as on reload: %v", err)
	}
	broken := prometheus.NewRegistry()
	broken.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "reveille_push_requests_total"}))
	if _, err := NewSender(DefaultConfig(), Options{Registerer: broken}); err == nil {
		t.Error("a name taken by something else: no error")
	}
}

// TestClosedSender: a Send after Close fails at once and starts nothing.
func TestClosedSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.sender.Close()
		if out := w.send(testMessage("u1")); out.Verdict != Failed || out.Uncertain {
			t.Errorf("outcome %+v", out)
		}
	})
}
