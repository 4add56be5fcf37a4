package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// issued holds that a push was issued when it left, and how long it is valid.
func (w *world) issued(n int, at time.Time, valid time.Duration) {
	w.t.Helper()
	p := w.sentPushes()[n]
	times := map[string]time.Time{}
	for _, key := range []string{"issued_at", "expires_at"} {
		parsed, err := time.Parse(time.RFC3339, p.Payload[key].(string))
		w.must(err)
		times[key] = parsed
	}
	if late := times["issued_at"].Sub(at); late < -time.Second || late > time.Second {
		w.t.Errorf("push %d is issued %v after it left", n, late)
	}
	if left := times["expires_at"].Sub(at.Add(valid)); left < -time.Second || left > time.Second {
		w.t.Errorf("push %d expires %v after its device is given up", n, left)
	}
}

// Nothing was heard of the device for less than ten seconds: the INVITE alone
// will do. For more: the push goes with it.
func TestPushIsSkippedForAFlowThatWasJustHeard(t *testing.T) {
	for silence, pushes := range map[time.Duration]int{time.Second: 0, 9900 * time.Millisecond: 0, 10100 * time.Millisecond: 1, 30 * time.Second: 1} {
		call(t, nil, func(w *world) {
			p := w.awake(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second)})
			time.Sleep(time.Minute)
			w.must(p.Ping()) // a keep-alive is heard as well as a REGISTER
			time.Sleep(silence)
			c := w.invite(siptest.Invitation{})
			w.await(c, 5*time.Second, "200")
			equal(t, "pushes after "+silence.String(), len(w.sentPushes()), pushes)
			c.Bye()
			w.ended("caller_hung_up", 200)
		})
	}
}

// Each push says when it was issued and until when it is of use, also one that
// leaves long after the INVITE.
func TestEachPushHasItsOwnTimes(t *testing.T) {
	t.Run("after probe_timeout", func(t *testing.T) {
		call(t, func(s *setup) { s.calls.ProbeTimeout = 6 * time.Second }, func(w *world) {
			p := w.awake(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second)})
			time.Sleep(5 * time.Second)
			p.Deafen(true)
			start := time.Now()
			w.await(w.invite(siptest.Invitation{}), time.Minute, "480")
			w.issued(0, start.Add(6*time.Second), 20*time.Second)
			w.waited(time.Since(start), 26*time.Second)
			p.Deafen(false)
		})
	})
	t.Run("second push of a call", func(t *testing.T) {
		call(t, nil, func(w *world) {
			p := w.sleeping(phoneOptions{wakes: -1, script: siptest.RingOnly})
			w.recalls = 1
			start := time.Now()
			c := w.invite(siptest.Invitation{})
			time.Sleep(5 * time.Second)
			w.must(p.Register(context.Background()))
			w.taken(p)
			time.Sleep(time.Second)
			p.Drop()
			lost := time.Now()
			w.await(c, time.Minute, "480")
			w.issued(0, start, 20*time.Second)
			w.issued(1, lost.Add(3*time.Second), 20*time.Second)
		})
	})
}
