package bridge_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/sip/siptest"
)

// live is the only call, as the API shows it.
func (w *world) live() bridge.Record {
	w.t.Helper()
	time.Sleep(2 * time.Second) // the watch looks every second
	all := w.bridge.Calls()
	if len(all) != 1 || all[0].Ending != "" {
		w.t.Fatalf("%+v", all)
	}
	r, _ := w.bridge.Call(all[0].Call)
	return r
}

// The record of a call has the figures of its audio: of now while it is up, of all of it when it is over.
func TestTheRecordHasTheQualityOfTheCall(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		live := w.live()
		for _, side := range []string{"trunk", "device"} {
			if m := live.Media[side]; m.Packets != 100 || m.Codec != "PCMA" || m.MOS < 4.3 || m.Hears != nil {
				t.Errorf("live, from the %s: %+v", side, m)
			}
		}
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		r := w.ended("caller_hung_up", 200)
		for _, side := range []string{"trunk", "device"} {
			if m := r.Media[side]; m.Packets != 200 || m.Bytes != 200*172 || m.MOS < 4.3 || m.FirstMS <= 0 || m.LastMS < 4000 || m.LongestGapMS < 200 {
				t.Errorf("over, from the %s: %+v", side, m)
			}
		}
	})
}

// A phone that falls silent is in the timeline, with the cause, and so is its return.
func TestSilenceIsInTheTimeline(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		w.must(c.Talk(context.Background(), 50*25))
		if s := steps(w.live(), "silence"); len(s) != 1 || !strings.HasPrefix(s[0], "device: nothing at all comes from ") {
			t.Errorf("%q", s)
		}
		w.talk(c, taken)
		if s := steps(w.live(), "silence over"); len(s) != 1 || !strings.HasPrefix(s[0], "device: after 2") {
			t.Errorf("%q", s)
		}
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A trunk that wants it hears how the sound was, in our BYE or in our 200 to its own; what it tells itself is on record.
func TestSoundInTheBye(t *testing.T) {
	want := regexp.MustCompile(`^CS=\d{4};PS=100;OS=16000;PR=100;OR=16000;PL=0;JI=\d;LA=0;DU=[23];EN=PCMA;DE=PCMA;MOS=4\.\d$`)
	for _, wanted := range []bool{true, false} {
		call(t, func(s *setup) { s.trunk.RTPStat = wanted }, func(w *world) {
			p := w.awake(phoneOptions{script: siptest.AnswerAfter(time.Second)})
			for _, hangsUp := range []string{"trunk", "device"} {
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				taken := w.taken(p)
				w.talk(c, taken)
				var told *siptest.Message
				if hangsUp == "trunk" {
					told, _ = c.Bye(siptest.Field{Name: "P-RTP-Stat", Value: "PS=1,OS=2,PR=3,LA=\t4é"}).Await(time.Second, "200")
				} else {
					taken.Bye(siptest.Field{Name: "X-RTP-Stat", Value: "PS=7"})
					told = w.await(c, time.Second, "BYE")
				}
				if got := told.Get("X-RTP-Stat"); want.MatchString(got) != wanted || got != "" && !wanted {
					t.Errorf("%s hangs up, wanted %v: %q", hangsUp, wanted, got)
				}
				if other := taken.Got("BYE"); len(other) > 0 && other[0].Get("X-RTP-Stat") != "" {
					t.Error("the device is told too")
				}
				time.Sleep(40 * time.Second)
			}
			r := w.records()
			equal(t, "of the trunk", r[0].Media["trunk"].Told, "PS=1,OS=2,PR=3,LA=4")
			equal(t, "of the device", r[1].Media["device"].Told, "PS=7")
		})
	}
}
