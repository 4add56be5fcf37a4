package bridge_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// A call for which there are no media ports is refused before it wakes anybody, however its trunk rings.
func TestNoPortsNoPush(t *testing.T) {
	offered, offerless := siptest.Invitation{}, siptest.Invitation{NoOffer: true}
	for name, inv := range map[string]siptest.Invitation{"offer": offered, "no offer": offerless} {
		for _, early := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				call(t, func(s *setup) {
					s.trunk.EarlyMedia = &early
					s.media.Ports = "20000-20003"
					s.more = append(s.more, other)
					s.columns = append(s.columns, "desk")
				}, func(w *world) {
					p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
					asleep := w.sleeping(phoneOptions{name: "desk", digit: "2", change: as("1002")})
					first := w.invite(siptest.Invitation{})
					w.await(first, 5*time.Second, "200")
					taken := w.taken(p)
					w.talk(first, taken)
					pushes := len(w.sentPushes())
					inv.To = other.Numbers[0]
					refused, err := w.trunk.Invite(inv)
					w.must(err)
					m := w.await(refused, time.Second, "503")
					equal(t, "Reason", m.Get("Reason"), `Q.850;cause=34;text="No circuit available"`)
					time.Sleep(30 * time.Second)
					equal(t, "pushes", len(w.sentPushes()), pushes)
					w.notTaken(asleep)
					equal(t, "ending", w.records()[0].Ending, "no_ports")
					first.Bye()
					w.must(taken.AwaitOver(time.Second))
				})
			})
		}
	}
}

// A system without a socket for the audio is no fault of the trunk's offer, nor are the ports used up: the caller may come
// by another way, and the next call when there are sockets again.
func TestNoSocketsNoPush(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		w.noSockets = os.NewSyscallError("socket", syscall.EMFILE)
		refused := w.invite(siptest.Invitation{})
		m := w.await(refused, time.Second, "503")
		equal(t, "Reason", m.Get("Reason"), `Q.850;cause=34;text="No circuit available"`)
		w.ended("no_sockets", 503)
		equal(t, "pushes", len(w.sentPushes()), 0)
		w.noSockets = nil
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		c.Bye()
		w.must(taken.AwaitOver(time.Second))
	})
}
