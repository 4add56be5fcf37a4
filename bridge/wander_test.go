package bridge_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/sip/siptest"
)

// A call wanders between phones of all kinds, by transfers that work and that fail, while the trunk holds and resumes. In
// the end, when all have resumed, both sides hear each other.
func TestCallWandersBetweenPhonesOfAllKinds(t *testing.T) {
	for seed := range uint64(12) {
		change, theirs := overTLS(t, "", func(s *setup) {
			s.columns = []string{"trunk", siptest.Bridge, "push", "phone1", "phone2", "phone3", "phone4"}
			for i := 2; i <= 4; i++ {
				s.more = append(s.more, bridge.Extension{Name: fmt.Sprint("100", i), Password: "secret", Numbers: []string{fmt.Sprint("+493012345", i)}})
			}
		})
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			call(t, change, func(w *world) {
				r := rand.New(rand.NewPCG(seed, 7))
				var phones [4]*phone
				for i, kind := range kinds {
					rolls := rand.New(rand.NewPCG(seed, uint64(i))) // its own: a phone rings on a goroutine of its own
					script := func(c *siptest.Call) {
						if rolls.IntN(3) == 0 {
							siptest.RefuseAfter(time.Second, 486)(c)
							return
						}
						takes(kind, 2*time.Second)(c)
					}
					if i == 0 {
						script = takes(kind, 0)
					}
					phones[i] = w.mixed(theirs, kind, fmt.Sprint(i+1), script, as(fmt.Sprint("100", i+1)))
				}
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				at, taken := 0, w.last(phones[0])
				for range 8 {
					time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
					hold := r.IntN(2) == 0
					if hold {
						c.Reinvite(c.Audio.SDP("sendonly"))
						time.Sleep(time.Second)
					}
					to := (at + 1 + r.IntN(3)) % 4
					code := w.await(taken.Refer(fmt.Sprintf("sip:100%d@192.0.2.1", to+1)), 5*time.Second, "final").Code()
					time.Sleep(time.Duration(r.IntN(2500)) * time.Millisecond)
					if hold {
						c.Reinvite(c.Audio.SDP("sendrecv"))
					}
					time.Sleep(8 * time.Second)
					if code == 202 && len(taken.Got("BYE")) > 0 {
						at, taken = to, w.last(phones[to])
					}
					for _, p := range phones {
						for len(p.Calls()) > 0 {
							w.taken(p)
						}
					}
				}
				w.await(c.Reinvite(c.Audio.SDP("sendrecv")), 10*time.Second, "200")
				time.Sleep(5 * time.Second)
				last := taken.Invite
				if again := taken.Got("INVITE"); len(again) > 0 {
					last = again[len(again)-1]
				}
				w.says(last, "sendrecv")
				w.talk(c, taken)
				c.Bye()
				w.await(taken, time.Second, "BYE")
				w.ended("caller_hung_up", 200)
			})
		})
	}
}
