package bridge_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// An app that wakes closes the connection it had before it was suspended, and
// only then registers by a new one.
func TestWakingAppClosesItsOldConnectionFirst(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second)})
		time.Sleep(30 * time.Second)
		p.Deafen(true)
		c := w.invite(siptest.Invitation{})
		time.Sleep(500 * time.Millisecond) // the push is accepted
		p.Drop()
		p.Deafen(false)
		time.Sleep(700 * time.Millisecond)
		w.must(p.Register(context.Background()))
		w.await(c, 5*time.Second, "200")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, w.taken(p))
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// The same where the connection goes before the push is accepted.
func TestConnectionClosesBeforeThePushIsAccepted(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second)})
		time.Sleep(30 * time.Second)
		p.Deafen(true)
		w.service.Answer(p.token, pushtest.Answer{Delay: time.Second})
		c := w.invite(siptest.Invitation{})
		time.Sleep(500 * time.Millisecond)
		p.Drop()
		p.Deafen(false)
		time.Sleep(1500 * time.Millisecond)
		w.must(p.Register(context.Background()))
		w.await(c, 5*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A device that cannot take the call by itself: the next one may; if it was the
// last the caller gets one of two answers.
func TestDeviceThatCannotTakeTheCall(t *testing.T) {
	for code, want := range map[int]int{
		401: 480, 407: 480, 415: 488, 488: 488, 606: 603, 301: 480, 302: 480, 305: 480,
		404: 480, 408: 480, 480: 480, 500: 480, 503: 480, 600: 600, 603: 603, 604: 603,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: func(c *siptest.Call) {
					c.Respond(code, nil, siptest.Field{Name: "Contact", Value: "<sip:0900123456@premium.example>"},
						siptest.Field{Name: "WWW-Authenticate", Value: `Digest realm="x", nonce="y"`})
				}})
				c := w.invite(siptest.Invitation{})
				m := w.await(c, 10*time.Second, "final")
				if m.Code() != want {
					t.Errorf("the caller got %q, want %d", m.Start, want)
				}
				if m.Get("Contact") != "" || m.Get("WWW-Authenticate") != "" {
					t.Errorf("the device's headers reach the caller: %v", m.Header)
				}
				w.await(w.taken(p), time.Second, "ACK")
				if code == 488 { // it may want DTLS
					w.await(w.taken(p), time.Second, "ACK")
				}
				time.Sleep(40 * time.Second)
				w.notTaken(p)
			})
		})
	}
}

func TestNextDeviceTakesWhatOneCannot(t *testing.T) {
	for _, code := range []int{302, 401, 407, 415, 488, 500} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			call(t, twoPhones, func(w *world) {
				w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(0, code)})
				first := w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				w.talk(c, w.taken(first))
				c.Bye()
				w.ended("caller_hung_up", 200)
			})
		})
	}
}

// A device that answers with SDP of no use is hung up; the fault is not the caller's.
func TestDeviceAnswersWithUselessSDP(t *testing.T) {
	for name, sdp := range map[string][]byte{"none": nil, "nonsense": []byte("nonsense")} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: func(c *siptest.Call) { c.Respond(200, sdp) }})
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "488")
				w.await(w.taken(p), time.Second, "BYE")
				w.ended("no_codec", 488)
			})
		})
	}
}

// Another device may still answer with SDP that is of use: it has not been told
// that the call was completed elsewhere.
func TestNextDeviceTakesWhatUselessSDPLeft(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		useless := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 400 * time.Millisecond, script: func(c *siptest.Call) { c.Respond(200, nil) }})
		first := w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		answered := w.taken(first)
		w.talk(c, answered)
		w.await(w.taken(useless), time.Second, "BYE")
		equal(t, "CANCELs", len(answered.Got("CANCEL")), 0)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// The INVITE to a device was given up for want of any answer; when the device
// finds its voice after all it must not ring for ever.
func TestDeviceThatFindsItsVoiceLate(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 3 * time.Second, script: func(c *siptest.Call) {
			if c.Sleep(6 * time.Second) {
				c.Ring()
			}
		}})
		cancelWhileParked(w)
		late := w.taken(p)
		w.await(late, 10*time.Second, "CANCEL")
		w.await(late, 10*time.Second, "ACK")
		w.ended("cancelled", 487)
		equal(t, "CANCELs", len(late.Got("CANCEL")), 1)
		equal(t, "ACKs", len(late.Got("ACK")), 1)
	})
}

// Told by its own leg, a device is not told again when it registers anew.
func TestDeviceIsToldOnce(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: func(c *siptest.Call) {
			if c.Sleep(300 * time.Millisecond) {
				c.Ring()
			}
		}})
		c := w.invite(siptest.Invitation{})
		taken := w.taken(p)
		w.trunk.Cancel(c) // before the device has said anything
		w.await(c, time.Second, "487")
		w.await(taken, time.Second, "CANCEL")
		w.await(taken, time.Second, "ACK")
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		w.must(p.Reconnect(context.Background()))
		w.must(p.Register(context.Background()))
		time.Sleep(5 * time.Second)
		w.notTaken(p)
		w.ended("cancelled", 487)
	})
}

// A late device whose connection dies under the INVITE is told by its next one.
func TestLateDeviceLosesItsConnection(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{wakes: -1, script: siptest.RingOnly})
		p.ReuseNonce()
		time.Sleep(30 * time.Second)
		p.Drop()
		cancelWhileParked(w)
		time.Sleep(time.Second)
		w.must(p.Reconnect(context.Background()))
		go func() { _ = p.Register(context.Background()) }()
		time.Sleep(5 * time.Millisecond) // the REGISTER is on its way, the connection ends behind it
		p.Drop()
		time.Sleep(time.Second)
		w.notTaken(p)
		w.must(p.Register(context.Background()))
		w.await(w.taken(p), 2*time.Second, "CANCEL")
		w.ended("cancelled", 487)
	})
}

// A ringing phone loses its connection, and the caller hangs up before it is
// back: it rings until it is told.
func TestRingingPhoneIsAwayWhenTheCallerHangsUp(t *testing.T) {
	for name, leave := range map[string]func(w *world, p *phone){
		"connection closed": func(w *world, p *phone) { p.Drop() },
		"network gone":      func(w *world, p *phone) { w.net.Partition("192.0.2.11", true) },
	} {
		for _, provider := range []string{"apns", ""} {
			t.Run(name+" "+provider, func(t *testing.T) {
				call(t, nil, func(w *world) {
					p := w.awake(phoneOptions{wakes: -1, script: siptest.RingOnly, change: func(o *siptest.PhoneOptions) { o.Provider = provider }})
					c := w.invite(siptest.Invitation{})
					w.taken(p)
					time.Sleep(2 * time.Second)
					leave(w, p)
					time.Sleep(500 * time.Millisecond)
					w.trunk.Cancel(c)
					w.await(c, time.Second, "487")
					time.Sleep(8 * time.Second)
					p.Drop()
					w.net.Partition("192.0.2.11", false)
					time.Sleep(time.Second)
					w.must(p.Register(context.Background()))
					w.await(w.taken(p), 2*time.Second, "CANCEL")
					w.ended("cancelled", 487)
					w.notTaken(p)
				})
			})
		}
	}
}

// A phone that changes networks does not close its old connection: the BYE
// goes to where it registered last.
func TestByeFollowsAPhoneToItsNextNetwork(t *testing.T) {
	for _, transport := range []string{"tcp", "udp"} {
		t.Run(transport, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second),
					change: func(o *siptest.PhoneOptions) { o.Transport = transport }})
				var mu sync.Mutex
				last := map[string]string{} // method -> the phone's side of the last one
				w.net.Tap(func(p siptest.Packet) {
					method, _, _ := strings.Cut(string(p.Data), " ")
					mu.Lock()
					defer mu.Unlock()
					if p.From.Addr().String() == "192.0.2.11" {
						last[method] = p.From.String()
					} else if p.To.Addr().String() == "192.0.2.11" {
						last[method] = p.To.String()
					}
				})
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				taken := w.taken(p)
				time.Sleep(time.Second)
				w.must(p.Reconnect(context.Background()))
				w.must(p.Register(context.Background()))
				time.Sleep(time.Second)
				c.Bye()
				w.await(taken, 2*time.Second, "BYE")
				mu.Lock()
				equal(t, "address of the BYE", last["BYE"], last["REGISTER"])
				mu.Unlock()
				w.ended("caller_hung_up", 200)
			})
		})
	}
}

// The flow that a ringing device comes back by is dead too, and the third is used.
func TestSecondFlowIsDeadToo(t *testing.T) {
	call(t, nil, func(w *world) {
		var invites atomic.Int32
		p := w.sleeping(phoneOptions{wakes: -1, script: func(c *siptest.Call) {
			switch invites.Add(1) {
			case 1:
				c.Ring()
			case 3:
				siptest.AnswerAfter(time.Second)(c)
			}
		}})
		c := w.invite(siptest.Invitation{})
		time.Sleep(500 * time.Millisecond)
		w.must(p.Register(context.Background())) // rings
		time.Sleep(time.Second)
		p.Drop() // and goes
		time.Sleep(500 * time.Millisecond)
		w.must(p.Register(context.Background())) // the second INVITE gets no answer
		time.Sleep(time.Second)
		w.must(p.Reconnect(context.Background()))
		w.must(p.Register(context.Background()))
		w.await(c, 10*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A defect in a call ends it on both sides, and leaves nothing.
func TestDefectInACall(t *testing.T) {
	call(t, func(s *setup) { s.log = panicky{at: "call is answered"} }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		w.await(c, time.Second, "BYE")
		w.await(w.taken(p), time.Second, "BYE")
		w.ended("internal", 200)
		equal(t, "live calls", w.bridge.Active(), 0)
	})
}

// panicky is a log handler with a defect.
type panicky struct{ at string }

func (p panicky) Enabled(context.Context, slog.Level) bool { return true }
func (p panicky) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p panicky) WithGroup(string) slog.Handler            { return p }
func (p panicky) Handle(_ context.Context, r slog.Record) error {
	if r.Message == p.at {
		panic("a defect")
	}
	return nil
}

// A bridge that stops does not wait for a late device that says nothing more.
func TestStopDoesNotWaitForALateDevice(t *testing.T) {
	call(t, func(s *setup) { s.state = t.TempDir() }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 3 * time.Second, script: siptest.SayNothing})
		cancelWhileParked(w)
		w.taken(p)
		start := time.Now()
		w.stopBridge()
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("the bridge took %v to stop", took)
		}
		w.start()
		w.must(p.Reconnect(context.Background()))
		w.must(p.Register(context.Background()))
		w.taken(p) // it had not been told
		time.Sleep(5 * time.Second)
	})
}

// A ringing phone that cannot be pushed has some seconds to come back.
func TestRingingPhoneComesBackWithoutAPush(t *testing.T) {
	noPush := func(o *siptest.PhoneOptions) { o.Provider = "" }
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: siptest.AnswerAfter(4 * time.Second), change: noPush})
		c := w.invite(siptest.Invitation{})
		time.Sleep(2 * time.Second)
		p.Drop()
		time.Sleep(5 * time.Second)
		w.must(p.Register(context.Background()))
		w.await(c, 5*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: siptest.RingOnly, change: noPush})
		c := w.invite(siptest.Invitation{})
		time.Sleep(2 * time.Second)
		p.Drop()
		start := time.Now()
		w.await(c, 10*time.Second, "480")
		if took := time.Since(start); took < 7*time.Second {
			t.Errorf("480 came %v after the connection went", took)
		}
		w.ended("no_answer", 480)
	})
}

// A flow on which nothing answers is no live one: when the push has failed too
// the caller need not wait.
func TestSuspendedAppWithADeadToken(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{wakes: -1, script: siptest.RingOnly})
		w.service.Unregister(pushtest.Production, p.token, time.Now())
		time.Sleep(30 * time.Second)
		p.Deafen(true)
		c := w.invite(siptest.Invitation{})
		w.await(c, 2500*time.Millisecond, "480") // probe_timeout is 2 s
		w.ended("push_gone", 480)
	})
}

// The same phone, slow: it answers after the probe, and before the push has failed.
func TestSlowPhoneWithAPushThatFails(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{wakes: -1, script: func(c *siptest.Call) {
			if c.Sleep(2500 * time.Millisecond) {
				siptest.AnswerAfter(4 * time.Second)(c)
			}
		}})
		w.service.Unregister(pushtest.Production, p.token, time.Now())
		w.service.Answer(p.token, pushtest.Answer{Status: 410, Reason: "Unregistered", Delay: 4 * time.Second})
		time.Sleep(30 * time.Second)
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}
