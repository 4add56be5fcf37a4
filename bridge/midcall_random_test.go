package bridge_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// restless is one end of a call that changes the session as it likes, and that
// refuses what crosses its own changes, as RFC 3261 §14.2 wants.
type restless struct {
	*siptest.Call
	r *rand.Rand

	mu  sync.Mutex // guards the following
	own *siptest.Exchange
}

func newRestless(c *siptest.Call, seed uint64) *restless {
	e := &restless{Call: c, r: rand.New(rand.NewPCG(seed, 1))}
	c.Script(func(m *siptest.Message) *siptest.Reply {
		if (m.Method() == "INVITE" || m.Body != nil) && e.busy() {
			return &siptest.Reply{Code: 491}
		}
		if m.Method() == "INVITE" && seed%3 == 0 {
			return &siptest.Reply{Code: 200, SDP: c.Accept(m), After: time.Duration(seed%7) * 300 * time.Millisecond}
		}
		return nil
	})
	return e
}

func (e *restless) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.own != nil && len(e.own.Got("final")) == 0
}

// change asks for something and waits for the end of it.
func (e *restless) change(method string, sdp []byte) (*siptest.Message, error) {
	x := e.Request(method, sdp)
	e.mu.Lock()
	e.own = x
	e.mu.Unlock()
	m, err := x.Await(70*time.Second, "final")
	if err == nil && m.Code() == 200 && m.Body != nil {
		err = e.Audio.Hear(m.Body)
	}
	return m, err
}

// act is a number of changes at random.
func (e *restless) act(n int) error {
	for range n {
		time.Sleep(time.Duration(e.r.IntN(3000)) * time.Millisecond)
		var err error
		switch direction := []string{"sendonly", "sendrecv", "inactive"}[e.r.IntN(3)]; e.r.IntN(5) {
		case 0:
			_, err = e.change("UPDATE", e.Audio.SDP(direction))
		case 1:
			_, err = e.change("INVITE", nil)
		case 2:
			_, err = e.change("UPDATE", nil)
		default:
			_, err = e.change("INVITE", e.Audio.SDP(direction))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resume ends all holds of this end, as often as it takes.
func (e *restless) resume() error {
	for range 20 {
		m, err := e.change("INVITE", e.Audio.SDP("sendrecv"))
		if err != nil || m.Code() == 200 {
			return err
		}
		time.Sleep(time.Duration(2000+e.r.IntN(2000)) * time.Millisecond)
	}
	return fmt.Errorf("the end of the hold is never accepted")
}

// unsettle has both ends change the session at random, and resume.
func (w *world) unsettle(c, taken *siptest.Call, seed uint64) {
	w.t.Helper()
	ends := []*restless{newRestless(c, seed), newRestless(taken, seed+100)}
	var both sync.WaitGroup
	for _, e := range ends {
		both.Go(func() {
			if err := e.act(12); err != nil {
				w.t.Error(err)
			}
		})
	}
	both.Wait()
	for _, e := range ends {
		if err := e.resume(); err != nil {
			w.t.Error(err)
		}
		time.Sleep(15 * time.Second)
	}
}

// Whatever both sides ask for, and whenever, nobody waits for ever, and when
// both have resumed they hear each other.
func TestRandomChangesOfBothSides(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			call(t, nil, func(w *world) {
				c, taken, _ := established(w, siptest.Invitation{})
				w.unsettle(c, taken, seed)
				w.talk(c, taken)
				c.Bye()
				w.ended("caller_hung_up", 200)
			})
		})
	}
}

// So with phones of all kinds: no change leaves one without keys.
func TestRandomChangesWithPhonesOfAllKinds(t *testing.T) {
	for _, kind := range kinds {
		for seed := range uint64(8) {
			t.Run(fmt.Sprint(kind, seed), func(t *testing.T) {
				change, theirs := overTLS(t, "", nil)
				call(t, change, func(w *world) {
					p := w.mixed(theirs, kind, "1", takes(kind, 0), nil)
					c := w.invite(siptest.Invitation{NoOffer: seed%2 > 0})
					w.await(c, 10*time.Second, "200")
					taken := w.last(p)
					time.Sleep(2 * time.Second)
					w.unsettle(c, taken, seed)
					w.talk(c, taken)
					c.Bye()
					w.await(taken, time.Second, "BYE")
					w.ended("caller_hung_up", 200)
				})
			})
		}
	}
}
