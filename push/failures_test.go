package push

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestMisbehaviour holds what a Send does with a service that fails one
// request in one way and is well otherwise.
func TestMisbehaviour(t *testing.T) {
	tests := []struct {
		name     string
		answers  []pushtest.Answer
		verdict  Verdict
		accepted int // pushes that the service took: never more than one
		took     time.Duration
		check    func(t *testing.T, out Outcome, conns int)
	}{
		{"GOAWAY: moved to another connection at once", []pushtest.Answer{{Do: pushtest.GoAway}}, Sent, 1, 0, nil},
		{"REFUSED_STREAM: the same", []pushtest.Answer{{Do: pushtest.Refuse}}, Sent, 1, 0, nil},
		{"GOAWAY on every warm connection", []pushtest.Answer{{Do: pushtest.GoAway}, {Do: pushtest.GoAway}}, Sent, 1, 0, nil},
		{"GOAWAY until the retry", []pushtest.Answer{{Do: pushtest.GoAway}, {Do: pushtest.GoAway}, {Do: pushtest.GoAway}}, Sent, 1, retryAfterFailure, nil},
		{"503 once: retried on a fresh connection", []pushtest.Answer{pushtest.Reject(503, "ServiceUnavailable")}, Sent, 1, retryAfterFailure,
			func(t *testing.T, out Outcome, conns int) {
				if conns < 3 || out.Attempts != 2 {
					t.Errorf("%d connections, %d attempts", conns, out.Attempts)
				}
			}},
		{"503 twice: given up", []pushtest.Answer{pushtest.Reject(503, "Shutdown"), pushtest.Reject(503, "Shutdown")}, Failed, 0, retryAfterFailure, nil},
		{"cut off: not sent again, it may have arrived", []pushtest.Answer{{Do: pushtest.CutOff}}, Failed, 0, 0, wantUncertain},
		{"accepted, then cut off", []pushtest.Answer{{Do: pushtest.CutOffAfter}}, Failed, 1, 0, wantUncertain},
		{"accepted, cut off in the answer's body", []pushtest.Answer{{Do: pushtest.HalfAnswer}}, Sent, 1, 0, nil},
		{"no answer", []pushtest.Answer{{Do: pushtest.Stall}}, Failed, 0, 5 * time.Second, wantUncertain},
		{"slow", []pushtest.Answer{{Delay: 4 * time.Second}}, Sent, 1, 4 * time.Second, nil},
		{"slower than the call", []pushtest.Answer{{Delay: 6 * time.Second}}, Failed, 1, 5 * time.Second, wantUncertain},
		{"a proxy's HTML", []pushtest.Answer{{Status: 502, Body: "<html>Bad Gateway"}}, Sent, 1, retryAfterFailure, nil},
		{"a proxy's HTML for 403", []pushtest.Answer{{Status: 403, Body: "<html>no"}}, Refused, 0, 0,
			func(t *testing.T, out Outcome, _ int) {
				if out.Status != 403 || out.Reason != "" || !out.Alarm {
					t.Errorf("outcome %+v", out)
				}
			}},
		{"a reason that is no word", []pushtest.Answer{{Status: 400, Body: `{"reason":"a\nb\u0000` + strings.Repeat("x", 999) + `"}`}, {Status: 400, Body: `{"reason":7}`}}, Refused, 0, 0, nil},
		{"a timestamp that is none", []pushtest.Answer{{Status: 410, Body: `{"reason":"Unregistered","timestamp":"soon"}`}}, Gone, 0, 0, nil},
		{"a huge body", []pushtest.Answer{{Status: 500, Body: strings.Repeat("x", 60000)}}, Sent, 1, retryAfterFailure, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPipeWorld(t, nil)
				defer w.close()
				w.send(testMessage("first")) // lifts the limit of one stream
				time.Sleep(time.Minute)
				w.service.Answer(testToken, tt.answers...)
				start := time.Now()
				out := w.send(testMessage("u1"))
				if out.Verdict != tt.verdict || out.Took != tt.took || time.Since(start) != tt.took {
					t.Errorf("%v after %v, want %v after %v: %+v", out.Verdict, out.Took, tt.verdict, tt.took, out)
				}
				time.Sleep(10 * time.Second)
				c := w.service.Counts()
				if got := c.Accepted - 1; got != tt.accepted {
					t.Errorf("%d pushes accepted, want %d", got, tt.accepted)
				}
				if tt.check != nil {
					tt.check(t, out, c.Connections)
				}
				w.noSecrets(out)
				if again := w.send(testMessage("u2")); again.Verdict != Sent {
					t.Errorf("the next call: %+v", again)
				}
			})
		})
	}
}

func wantUncertain(t *testing.T, out Outcome, _ int) {
	if !out.Uncertain {
		t.Errorf("not uncertain: %+v", out)
	}
}

// TestUncertainIsNotSentAgain: what may have been accepted is never sent again.
func TestUncertainIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.Answer(testToken, pushtest.Answer{Do: pushtest.CutOffAfter})
		w.send(testMessage("u1"))
		out := w.send(testMessage("u1"))
		if c := w.service.Counts(); out.Verdict != Failed || !out.Uncertain || c.Accepted != 1 || c.Requests != 1 {
			t.Errorf("outcome %+v, %+v", out, c)
		}
	})
}

func TestExpiredCallIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		m := testMessage("u1")
		m.ExpiresAt = time.Now()
		if out := w.send(m); out.Verdict != Failed || out.Attempts != 0 || w.service.Counts().Requests != 0 {
			t.Errorf("outcome %+v", out)
		}
	})
}

func TestExpiration(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct{ ends, want time.Time }{
		{time.Time{}, now.Add(30 * time.Second)},
		{now.Add(20 * time.Second), now.Add(20 * time.Second)},
		{now.Add(time.Hour), now.Add(30 * time.Second)},
		{now.Add(time.Second / 2), time.Time{}},
	} {
		if got := expiration(now, tt.ends); !got.Equal(tt.want) {
			t.Errorf("call ends %v: %v, want %v", tt.ends, got, tt.want)
		}
	}
}

// TestNowOrNever: a push whose call ends within the second says 0, not nothing.
func TestNowOrNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		m := testMessage("u1")
		m.ExpiresAt = time.Now().Add(time.Second / 2)
		w.send(m)
		if got := <-w.service.Pushes(); got.Header.Get("apns-expiration") != "0" {
			t.Errorf("apns-expiration %q", got.Header.Values("apns-expiration"))
		}
	})
}

// TestWarmConnections: two are there before the first push, and again after
// they were lost, without a push.
func TestWarmConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		synctest.Wait()
		if c := w.service.Counts(); c.Connections != 2 {
			t.Fatalf("%d connections at start", c.Connections)
		}
		w.service.Drop()
		synctest.Wait()
		if c := w.service.Counts(); c.Connections != 4 {
			t.Errorf("%d connections after they were lost, want 4", c.Connections)
		}
		w.service.GoAway()
		synctest.Wait()
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Took != 0 {
			t.Errorf("after GOAWAY: %+v", out)
		}
		time.Sleep(time.Hour)
		if c := w.service.Counts(); c.Connections > 10 || c.Pings < 100 { // two each half hour are replaced for their age
			t.Errorf("after an idle hour: %d connections, %d pings", c.Connections, c.Pings)
		}
	})
}

// TestDeadConnectionIsNoticed: a connection that a firewall has forgotten is
// found by the pings and replaced, before a call needs it.
func TestDeadConnectionIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.send(testMessage("u1"))
		w.service.Deafen(true)
		time.Sleep(pingEvery + pingTimeout)
		w.service.Deafen(false)
		synctest.Wait()
		if out := w.send(testMessage("u2")); out.Verdict != Sent || out.Took > 0 {
			t.Errorf("outcome %+v", out)
		}
	})
}

// TestDropStormIsPaced: a host that drops every connection is not hammered.
func TestDropStormIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		for range 1000 {
			w.service.Drop()
			time.Sleep(60 * time.Millisecond)
		}
		if c := w.service.Counts(); c.Connections > 40 { // a minute: 4 at once and one each 2 s
			t.Errorf("%d connections in a minute", c.Connections)
		}
	})
}

// TestServiceDown: a Send fails within its deadline and the next succeeds as
// soon as the service is there.
func TestServiceDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := pushtest.NewPipeListener("down.test:443")
		down.Close()
		w := newPipeWorld(t, nil)
		defer w.close()
		cfg := w.cfg
		cfg.APNs = []APNsConfig{cfg.APNs[0]}
		cfg.APNs[0].Endpoint = "https://down.test"
		s, err := NewSender(cfg, Options{Log: w.sender.log, Dial: pushtest.DialAny(down)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		out := s.Send(t.Context(), "d", Target{Provider: "apns", PRID: testToken}, testMessage("u1"))
		if out.Verdict != Failed || out.Uncertain || out.Attempts != 2 || out.Took != retryAfterFailure || out.Reason != "Unreachable" {
			t.Errorf("outcome %+v", out)
		}
		ctx, cancel := context.WithTimeout(t.Context(), retryAfterFailure)
		defer cancel()
		if out := s.Send(ctx, "d", Target{Provider: "apns", PRID: testToken}, testMessage("u2")); out.Attempts != 1 || out.Took != 0 {
			t.Errorf("without time for a retry: %+v", out)
		}
		time.Sleep(time.Hour) // the pool goes on trying, quietly
	})
}

func TestUntrustedCertificate(t *testing.T) {
	w := newSocketWorld(t)
	cfg := w.cfg
	cfg.APNs = []APNsConfig{cfg.APNs[0]}
	cfg.APNs[0].RootCA = ""
	s, err := NewSender(cfg, Options{Log: w.sender.log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := s.Send(t.Context(), "d", Target{Provider: "apns", PRID: testToken}, testMessage("u1"))
	if out.Verdict != Failed || !out.Alarm || !strings.Contains(out.Err.Error(), "root_ca") {
		t.Errorf("outcome %+v", out)
	}
}

// TestManyStreams: 300 calls at once go over the warm connections, though the
// service lets them have a single stream until the first is answered.
// TestCloseEndsPushesOnRetiredConnections: those too that only wait for their
// connection's last answer.
func TestCloseEndsPushesOnRetiredConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		synctest.Wait()
		w.service.Answer(testToken, pushtest.Answer{Do: pushtest.Stall})
		done := make(chan Outcome)
		go func() { done <- w.send(testMessage("u1")) }()
		synctest.Wait()
		pool := w.sender.current().providers[0].(*apns).acquired[0].pools[Production]
		for _, c := range slices.Clone(pool.conns) {
			pool.retire(c)
		}
		start := time.Now()
		w.sender.Close()
		if out := <-done; out.Verdict != Failed || !out.Uncertain || time.Since(start) > 0 {
			t.Errorf("outcome %+v after %v", out, time.Since(start))
		}
	})
}

func TestManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		synctest.Wait()
		for range 300 {
			w.service.Answer(testToken, pushtest.Answer{Delay: time.Second})
		}
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				if out := w.send(testMessage(fmt.Sprint("u", i))); out.Verdict != Sent || out.Took > 2*time.Second {
					t.Errorf("outcome %+v", out)
				}
			})
		}
		wg.Wait()
		if c := w.service.Counts(); c.Accepted != 300 || c.Connections != 2 {
			t.Errorf("%+v", c)
		}
	})
}
