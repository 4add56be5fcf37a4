package bridge_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// midst is something that takes its time within an answered call.
type midst struct {
	name string
	last time.Duration // when it is over at the latest
	do   func(w *world, c, taken *siptest.Call, p *phone)
}

func midsts() []midst {
	quarter := 250 * time.Millisecond
	return []midst{
		{"hold by the trunk", quarter, func(_ *world, c, _ *siptest.Call, _ *phone) { c.Reinvite(c.Audio.SDP("sendonly")) }},
		{"hold by the device", quarter, func(_ *world, _, taken *siptest.Call, _ *phone) { taken.Reinvite(taken.Audio.SDP("sendonly")) }},
		{"both hold", quarter, func(_ *world, c, taken *siptest.Call, _ *phone) {
			c.Reinvite(c.Audio.SDP("sendonly"))
			taken.Reinvite(taken.Audio.SDP("inactive"))
		}},
		{"re-INVITE without an offer", quarter, func(_ *world, c, _ *siptest.Call, _ *phone) { c.Reinvite(nil) }},
		{"transfer to an extension", 2 * time.Second, func(_ *world, _, taken *siptest.Call, _ *phone) { taken.Refer("sip:1002@192.0.2.1") }},
		{"transfer of a held call", 2 * time.Second, func(_ *world, _, taken *siptest.Call, _ *phone) {
			taken.Reinvite(taken.Audio.SDP("sendonly"))
			taken.Refer("sip:1002@192.0.2.1")
		}},
		{"transfer by the trunk", quarter, func(w *world, c, taken *siptest.Call, _ *phone) {
			pbx(c, 202)
			taken.Refer("sip:+4940555@192.0.2.1")
			w.work.Go(func() {
				time.Sleep(150 * time.Millisecond)
				c.Notify("200 OK", "terminated;reason=noresource")
			})
		}},
		{"Replaces", quarter, func(w *world, _, taken *siptest.Call, p *phone) { w.invites(p, "", replaces(taken, "")) }},
		{"Replaces during a hold", quarter, func(w *world, c, taken *siptest.Call, p *phone) {
			c.Reinvite(c.Audio.SDP("sendonly"))
			w.invites(p, "", replaces(taken, ""))
		}},
		{"another network", 3 * time.Second, func(w *world, _, _ *siptest.Call, p *phone) {
			w.work.Go(func() {
				if p.Reconnect(context.Background()) == nil {
					_ = p.Register(context.Background())
				}
			})
		}},
		{"a lost connection", 3 * time.Second, func(w *world, _, _ *siptest.Call, p *phone) {
			p.Drop()
			w.work.Go(func() {
				time.Sleep(500 * time.Millisecond)
				_ = p.Register(context.Background())
			})
		}},
	}
}

// Whoever hangs up, at whatever moment of whatever goes on: the call ends for
// all, and is on record once.
func TestHangUpInTheMidstOfAnything(t *testing.T) {
	const steps = 4
	for _, m := range midsts() {
		for i, who := range []string{"caller", "callee", "operator", "shutdown"} {
			if who == "shutdown" && m.name == "a lost connection" {
				continue // nobody is left to tell the phone when it comes back
			}
			t.Run(m.name+"/"+who, func(t *testing.T) {
				for step := range steps {
					at := m.last*time.Duration(step)/steps + time.Duration(i)*m.last/steps/4
					call(t, twoExtensions, func(w *world) { hangUpInTheMidst(w, m, who, at) })
				}
			})
		}
	}
}

func hangUpInTheMidst(w *world, m midst, who string, at time.Duration) {
	c, taken, desk := handedOver(w, siptest.AnswerAfter(500*time.Millisecond))
	p := w.phones["1111111111111111111111111111111111111111111111111111111111111111"]
	m.do(w, c, taken, p)
	time.Sleep(at)
	switch who {
	case "caller":
		c.Bye()
	case "callee":
		taken.Bye()
	case "operator":
		w.must(w.bridge.Hangup(taken.UUID()))
	case "shutdown":
		w.stop()
	}
	time.Sleep(40 * time.Second)
	if who == "callee" && w.bridge.Active() == 1 { // its BYE was lost, or the call has gone on to another leg
		c.Bye()
		time.Sleep(40 * time.Second)
	}
	all := append([]*siptest.Call{c, taken}, drained(p)...)
	for i, x := range append(all, drained(desk)...) {
		select {
		case <-x.Over():
		default:
			w.t.Errorf("%s, %s after %v: call %d is not over: %s", m.name, who, at, i, x.Invite.Start)
		}
	}
	endings := []string{"caller_hung_up", "callee_hung_up", "hung_up_by_admin", "shutdown", "transferred"}
	if r := w.record(); r.Code != 200 || !slices.Contains(endings, r.Ending) || r.Seconds <= 0 {
		w.t.Errorf("%s, %s after %v: %s", m.name, who, at, fmt.Sprint(r.Ending, r.Code, r.Seconds))
	}
}

// drained are the calls that have come to a phone.
func drained(p *phone) (all []*siptest.Call) {
	for {
		select {
		case c := <-p.Calls():
			all = append(all, c)
		default:
			return all
		}
	}
}
