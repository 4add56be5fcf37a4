package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// A trunk that sends while the phone rings has its first packet on record for then, before the answer.
func TestFirstPacketBeforeTheAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: siptest.AnswerAfter(5 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Second, "180")
		time.Sleep(time.Second)
		began := time.Now().Add(trunkDelay)
		w.must(c.Talk(context.Background(), 50))
		w.await(c, 10*time.Second, "200")
		w.must(w.taken(p).Talk(context.Background(), 50))
		c.Bye()
		r := w.ended("caller_hung_up", 200)
		place := map[string]int{}
		for i, s := range r.Timeline {
			name := s.Event + " " + s.Detail
			if _, ok := place[name]; !ok {
				place[name] = i
			}
			if name == "first packet trunk" && (s.At.Sub(began).Abs() > time.Millisecond || s.Millis < 1000 || s.Millis > 1100) {
				t.Errorf("the trunk's first packet came at %v, on record is %v", began, s)
			}
			if i > 0 && s.At.Before(r.Timeline[i-1].At) {
				t.Errorf("%v stands before %v", r.Timeline[i-1], s)
			}
		}
		if !(place["first packet trunk"] < place["200 "] && place["200 "] < place["first packet device"]) {
			t.Errorf("timeline %v", r.Timeline)
		}
		if ms := r.Media["trunk"].FirstMS; ms > -3900 || ms < -4100 {
			t.Errorf("first packet %v ms after the answer", ms)
		}
	})
}
