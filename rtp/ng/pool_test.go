package ng_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/ng"
	"reveille/rtp/ng/ngtest"
)

// twoEngines is a pool over two daemons.
func twoEngines(t *testing.T) (*ng.Pool, *ngtest.Daemon, *ngtest.Daemon) {
	t.Helper()
	a, b := &ngtest.Daemon{}, &ngtest.Daemon{}
	p, err := ng.NewPool([]ng.Target{{URL: "udp://a:2223"}, {URL: "udp://b:2223"}},
		ng.Options{Dial: ngtest.Dialer(map[string]*ngtest.Daemon{"a:2223": a, "b:2223": b})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, a, b
}

// taken is where the next calls go.
func taken(t *testing.T, p *ng.Pool, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		e, err := p.Take()
		if err != nil {
			t.Fatal(err)
		}
		got[e.URL()]++
	}
	return got
}

func TestPoolShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := twoEngines(t)
		if got := taken(t, p, 10); got["udp://a:2223"] != 5 || got["udp://b:2223"] != 5 {
			t.Errorf("calls went to %v, want 5 each", got)
		}
	})
}

// A host that is gone is out after three pings without answer, and back with the first that has one.
func TestPoolFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, a, b := twoEngines(t)
		time.Sleep(1500 * time.Millisecond)
		a.Stop(false)
		time.Sleep(2 * time.Second)
		if !p.Statuses()[0].Up {
			t.Error("out after two missed pings")
		}
		time.Sleep(2 * time.Second)
		if s := p.Statuses()[0]; s.Up || !strings.Contains(s.Cause, "does not answer") {
			t.Errorf("%+v after three missed pings", s)
		}
		if got := taken(t, p, 4); got["udp://b:2223"] != 4 {
			t.Errorf("calls went to %v, want all to b", got)
		}
		b.Stop(true)
		time.Sleep(4 * time.Second)
		if _, err := p.Take(); !errors.Is(err, ng.ErrNoEngine) || !strings.Contains(err.Error(), "udp://b:2223 does not answer") {
			t.Errorf("err %v, want ErrNoEngine and why", err)
		}
		a.Start()
		time.Sleep(2 * time.Second)
		if got := taken(t, p, 2); got["udp://a:2223"] != 2 {
			t.Errorf("calls went to %v, want all to a", got)
		}
	})
}

// One request without answer puts a daemon out at once.
func TestPoolRequestFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, a, _ := twoEngines(t)
		synctest.Wait()
		var e *ng.Engine
		for e == nil || e.URL() != "udp://a:2223" {
			e, _ = p.Take()
		}
		a.Stop(true)
		if _, err := e.Do(t.Context(), "offer", offer("1")); !errors.Is(err, ng.ErrNoAnswer) {
			t.Errorf("err %v", err)
		}
		if up, _ := e.Up(); up {
			t.Error("still counts as well")
		}
		began := time.Now()
		if _, err := e.Do(t.Context(), "delete", offer("1")); !errors.Is(err, ng.ErrNoAnswer) || time.Since(began) > 0 {
			t.Errorf("err %v after %v: it must not be waited for again", err, time.Since(began))
		}
	})
}

// A drained engine keeps its calls and gets no new ones; one that is no longer configured goes with its last call.
func TestPoolDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := twoEngines(t)
		var on *ng.Engine
		for on == nil || on.URL() != "udp://a:2223" {
			on, _ = p.Take()
		}
		if err := p.Set([]ng.Target{{URL: "udp://a:2223", Drain: true}, {URL: "udp://b:2223"}}); err != nil {
			t.Fatal(err)
		}
		if got := taken(t, p, 4); got["udp://b:2223"] != 4 {
			t.Errorf("calls went to %v, want all to b", got)
		}
		if _, err := on.Do(t.Context(), "offer", offer("1")); err != nil {
			t.Errorf("a drained engine's call: %v", err)
		}
		if err := p.Set([]ng.Target{{URL: "udp://b:2223"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := on.Do(t.Context(), "delete", offer("1")); err != nil {
			t.Errorf("a call on an engine that is gone from the configuration: %v", err)
		}
		on.Release()
		if s := p.Statuses(); len(s) != 1 || s[0].URL != "udp://b:2223" {
			t.Errorf("%+v", s)
		}
		if err := p.Set([]ng.Target{{URL: "tcp://b:2223"}}); err == nil {
			t.Error("tcp:// was taken")
		}
	})
}

func TestHostPort(t *testing.T) {
	if got, err := ng.HostPort("udp://[::1]:2223"); err != nil || got != "[::1]:2223" {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"", "127.0.0.1:2223", "udp://127.0.0.1", "udp://:2223", "udp://h:99999", "ng://h:1", "udp://h:1/x", "udp://u@h:1", "udp://h:1?weight=0"} {
		if got, err := ng.HostPort(text); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
}
