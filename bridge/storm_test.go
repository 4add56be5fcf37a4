package bridge_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// Three REGISTERs follow one push at once: by one connection, or each by its own.
func TestThreeRegistersForOnePushGiveOneInvite(t *testing.T) {
	for name, fresh := range map[string]bool{"one connection": false, "three connections": true} {
		for _, transport := range []string{"tcp", "udp"} {
			t.Run(name+" "+transport, func(t *testing.T) {
				call(t, nil, func(w *world) {
					p := w.sleeping(phoneOptions{wakes: -1, script: siptest.AnswerAfter(2 * time.Second),
						change: func(o *siptest.PhoneOptions) { o.Transport = transport }})
					p.ReuseNonce()
					c := w.invite(siptest.Invitation{})
					time.Sleep(500 * time.Millisecond)
					w.must(p.Reconnect(context.Background()))
					for range 3 {
						if fresh {
							w.must(p.Reconnect(context.Background()))
						}
						go func() { _ = p.Register(context.Background()) }()
						time.Sleep(time.Millisecond)
					}
					w.await(c, 10*time.Second, "200")
					time.Sleep(100 * time.Millisecond)
					w.talk(c, w.taken(p))
					c.Bye()
					w.ended("caller_hung_up", 200)
					w.notTaken(p)
					equal(t, "pushes", len(w.sentPushes()), 1)
				})
			})
		}
	}
}

func TestAllInstancesOfAnExtensionRing(t *testing.T) {
	call(t, nil, func(w *world) {
		var phones []*phone
		for _, digit := range []string{"1", "2", "3", "4"} {
			phones = append(phones, w.sleeping(phoneOptions{digit: digit, wakes: 400 * time.Millisecond, script: siptest.RingOnly}))
		}
		c := w.invite(siptest.Invitation{})
		uuids, ids := map[string]bool{}, map[string]bool{}
		for _, p := range phones {
			taken := w.taken(p)
			uuids[taken.UUID()], ids[taken.ID] = true, true
		}
		if len(uuids) != 1 || len(ids) != len(phones) {
			t.Errorf("%d UUIDs and %d Call-IDs for %d devices", len(uuids), len(ids), len(phones))
		}
		equal(t, "pushes", len(w.sentPushes()), len(phones))
		w.trunk.Cancel(c)
		w.ended("cancelled", 487)
	})
}

// An app that crashed comes back by a new connection; the old one is open at our
// end. The call goes to the new one alone, without a wait.
func TestStaleBindingIsReplaced(t *testing.T) {
	for _, transport := range []string{"tcp", "udp"} {
		t.Run(transport, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.awake(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second),
					change: func(o *siptest.PhoneOptions) { o.Transport = transport }})
				w.roam(p, otherNetwork)
				c := w.invite(siptest.Invitation{})
				w.await(c, 1200*time.Millisecond, "200")
				equal(t, "bindings", len(w.location.Lookup("1001")), 1)
				c.Bye()
				w.ended("caller_hung_up", 200)
				w.taken(p)
				w.notTaken(p)
			})
		})
	}
}

// RFC 8599: the device is known by its instance, or by its push target where it
// has none; its Contact may be any.
func TestWakeIsMatchedByInstanceOrTokenNotByContact(t *testing.T) {
	for name, instance := range map[string]string{"instance": "urn:uuid:00000000-0000-4000-8000-000000000001", "token": ""} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second), change: func(o *siptest.PhoneOptions) {
					o.Instance = instance
					if instance == "" {
						o.RegID = 0
					}
				}})
				c := w.invite(siptest.Invitation{})
				time.Sleep(500 * time.Millisecond)
				w.roam(p, otherNetwork)
				w.await(c, 5*time.Second, "200")
				c.Bye()
				r := w.ended("caller_hung_up", 200)
				if r.WakeMS == 0 {
					t.Error("the REGISTER is not known as the answer to the push")
				}
				equal(t, "devices", len(w.location.Devices("1001")), 1)
			})
		})
	}
}

// Acrobits waits 3 s for the INVITE, linphone 15 s; we take milliseconds, and
// never overtake the 200 to the REGISTER.
func TestInviteFollowsThe200ToTheRegisterWithinMilliseconds(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		var mu sync.Mutex
		var accepted, invited time.Time
		w.net.Tap(func(p siptest.Packet) {
			mu.Lock()
			defer mu.Unlock()
			text := string(p.Data)
			switch {
			case p.To.Addr().String() != "192.0.2.11":
			case strings.HasPrefix(text, "SIP/2.0 200") && strings.Contains(text, " REGISTER\r\n"):
				accepted = p.At
			case strings.HasPrefix(text, "INVITE ") && invited.IsZero():
				invited = p.At
			}
		})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.taken(p)
		mu.Lock()
		defer mu.Unlock()
		if accepted.IsZero() || invited.Before(accepted) || invited.Sub(accepted) > 5*time.Millisecond {
			t.Errorf("200 at %v, INVITE at %v", accepted, invited)
		}
	})
}

// A VoIP push that announces no call gets an iOS app killed: a registration that
// runs out is the phone's own business.
func TestNoPushForARegistrationThatExpires(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1, change: func(o *siptest.PhoneOptions) { o.Expires = 120 }})
		w.must(p.Register(context.Background()))
		time.Sleep(24 * time.Hour)
		equal(t, "pushes", len(w.sentPushes()), 0)
		equal(t, "bindings", len(w.location.Lookup("1001")), 0)
		if d := w.location.Devices("1001"); len(d) != 1 || d[0].Target.IsZero() {
			t.Errorf("devices %v: the push target must stay", d)
		}
	})
}

// transcript is a log handler that keeps all that is logged.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (h *transcript) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

// The token is between the device, its push service and us.
func TestPushTokenReachesNeitherTrunkNorLogNorRecord(t *testing.T) {
	var log transcript
	handler := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})
	call(t, func(s *setup) { s.log = handler }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		var mu sync.Mutex
		leaks := 0
		w.net.Tap(func(packet siptest.Packet) {
			mu.Lock()
			defer mu.Unlock()
			if packet.To.Addr().String() == trunkIP && strings.Contains(string(packet.Data), p.token) {
				leaks++
			}
		})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		p.Drop()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		time.Sleep(5 * time.Second)
		c.Bye()
		r := w.ended("caller_hung_up", 200)
		mu.Lock()
		defer mu.Unlock()
		equal(t, "messages to the trunk with the token", leaks, 0)
		if strings.Contains(fmt.Sprintf("%+v %#v", r, r), p.token) {
			t.Error("the record holds the token")
		}
		log.mu.Lock()
		defer log.mu.Unlock()
		if text := log.text.String(); strings.Contains(text, p.token) || !strings.Contains(text, "call is answered") {
			t.Error("the log holds the token, or nothing")
		}
	})
}
