package bridge_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"reveille/rtp/rtptest"
	"reveille/sip/siptest"
)

// rekeys has an end bring another key, with a hold or without; refused, it goes on with the one before.
func (e *restless) rekeys(n int, first *rtptest.SRTP) error {
	now := first
	for i := range n {
		time.Sleep(time.Duration(e.r.IntN(4000)) * time.Millisecond)
		next := &rtptest.SRTP{Seed: first.Seed + byte(i*2) + 1}
		e.Audio.Protect(next, "RTP/SAVP")
		m, err := e.change([]string{"INVITE", "UPDATE"}[e.r.IntN(2)], e.Audio.SDP([]string{"sendrecv", "sendonly"}[e.r.IntN(2)]))
		if err != nil {
			return err
		}
		if m.Code() != 200 {
			e.Audio.Protect(now, "RTP/SAVP")
			continue
		}
		now = next
	}
	return nil
}

// Both sides change their keys and hold each other, at random and across each other: each is heard in the end.
func TestBothSidesChangeTheirKeys(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			change, theirs := overTLS(t, "required", nil)
			call(t, change, func(w *world) {
				keys := [2]*rtptest.SRTP{{Seed: 8}, {Seed: 100}}
				p := w.awake(phoneOptions{script: siptest.AnswerAfter(0), change: func(o *siptest.PhoneOptions) {
					o.Transport, o.Bridge, o.TLS = "tls", bridgeTLS, theirs
					o.Audio = func(a *siptest.Audio) { a.Protect(keys[1], "RTP/SAVP") }
				}})
				c := w.invite(siptest.Invitation{Audio: func(a *siptest.Audio) { a.Protect(keys[0], "RTP/SAVP") }})
				w.await(c, 10*time.Second, "200")
				taken := w.taken(p)
				w.talk(c, taken)
				ends := []*restless{newRestless(c, seed), newRestless(taken, seed+100)}
				var both sync.WaitGroup
				for i, e := range ends {
					e.r = rand.New(rand.NewPCG(seed, uint64(i)))
					both.Go(func() {
						if err := e.rekeys(8, keys[i]); err != nil {
							t.Error(err)
						}
					})
				}
				both.Wait()
				for _, e := range ends {
					if err := e.resume(); err != nil {
						t.Error(err)
					}
					time.Sleep(15 * time.Second)
				}
				w.talk(c, taken)
				c.Bye()
				w.await(taken, time.Second, "BYE")
				w.ended("caller_hung_up", 200)
			})
		})
	}
}
