package bridge_test

import (
	"strings"
	"testing"
	"time"

	"reveille/rtp"
	"reveille/rtp/ng/ngtest"
	"reveille/sip/siptest"
)

// engines gives the calls' media to two daemons.
func engines(a, b *ngtest.Daemon) func(*setup) {
	return func(s *setup) {
		s.media.Engine, s.media.RTPEngine.Address = "rtpengine", rtp.Addresses{"udp://a:2223", "udp://b:2223"}
		s.engines = ngtest.Dialer(map[string]*ngtest.Daemon{"a:2223": a, "b:2223": b})
	}
}

// TestEngineHasTheCall: both sides are told addresses of the daemon, which has
// the call until its end, whoever hangs up.
func TestEngineHasTheCall(t *testing.T) {
	for _, byCaller := range []bool{true, false} {
		a, b := &ngtest.Daemon{Port: 30000}, &ngtest.Daemon{Port: 30000}
		call(t, engines(a, b), func(w *world) {
			p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
			c := w.invite(siptest.Invitation{})
			early := w.await(c, time.Second, "180")
			ok := w.await(c, 5*time.Second, "200")
			if !strings.Contains(string(early.Body), "m=audio 3000") || string(early.Body) != string(ok.Body) {
				t.Errorf("180 with\n%s200 with\n%s", early.Body, ok.Body)
			}
			if a.Calls()+b.Calls() != 1 || len(a.Asked("play media"))+len(b.Asked("play media")) != 1 {
				t.Error("no daemon has the call, or none has played the ringback")
			}
			time.Sleep(time.Second)
			if byCaller {
				c.Bye()
				w.await(w.taken(p), time.Second, "BYE")
				w.ended("caller_hung_up", 200)
			} else {
				w.taken(p).Bye()
				w.await(c, time.Second, "BYE")
				w.ended("callee_hung_up", 200)
			}
			if a.Calls()+b.Calls() != 0 {
				t.Error("a daemon keeps the call")
			}
		})
	}
}

// TestEngineLost: the daemon that has the call ends. The call ends by the
// watchdog, with that cause; new ones have gone to the other daemon at once.
func TestEngineLost(t *testing.T) {
	a, b := &ngtest.Daemon{}, &ngtest.Daemon{}
	call(t, engines(a, b), func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		has, other := a, b
		if b.Calls() == 1 {
			has, other = b, a
		}
		has.Stop(true)
		next := w.invite(siptest.Invitation{})
		w.await(next, time.Second, "180")
		if other.Calls() != 1 {
			t.Error("the other daemon has no call")
		}
		w.trunk.Cancel(next)
		bye := w.await(c, 2*time.Minute, "BYE")
		if got := strings.Join(bye.All("Reason"), ", "); !strings.Contains(got, "Q.850;cause=41") {
			t.Errorf("Reason %s", got)
		}
		w.await(w.taken(p), time.Second, "BYE")
		var found bool
		for _, r := range w.bridge.Calls() {
			found = found || r.Ending == "media_engine_lost"
		}
		if !found {
			t.Errorf("no call ended as media_engine_lost: %+v", w.bridge.Calls())
		}
	})
}

// TestNoEngine: no daemon is there. The caller hears so at once, before
// anybody is woken.
func TestNoEngine(t *testing.T) {
	a, b := &ngtest.Daemon{}, &ngtest.Daemon{}
	a.Stop(true)
	b.Stop(true)
	call(t, engines(a, b), func(w *world) {
		w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Second, "503")
		w.ended("no_media_engine", 503)
	})
}
