package push

import (
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

func TestGate(t *testing.T) {
	whole, err := io.ReadAll(iotest.OneByteReader(&gate{payload: []byte("payload")}))
	if err != nil || string(whole) != "payload" {
		t.Errorf("%q, %v", whole, err)
	}
	g := &gate{payload: []byte("payload")}
	b := make([]byte, 100)
	if n, err := g.Read(b); n != 6 || err != nil || g.needs() != notWritten {
		t.Errorf("all but the last: %d, %v", n, err)
	}
	if !g.shut() {
		t.Error("cannot be shut in time")
	}
	if n, err := g.Read(b); n != 0 || !errors.Is(err, errNoStream) {
		t.Errorf("shut: %d, %v", n, err)
	}
	g = &gate{payload: []byte("x")}
	if n, err := g.Read(b); n != 1 || err != io.EOF || g.shut() || g.needs() == notWritten {
		t.Errorf("one byte: %d, %v", n, err)
	}
	if n, err := g.Read(b); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
}

// TestOtherConnectionWhenNoStream: a connection that gives no stream, because
// its peer hangs, keeps no push from going out on the other.
func TestOtherConnectionWhenNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWithStreams(t, 1)
		defer w.close()
		w.send(testMessage("first"))
		w.service.Answer(testToken, pushtest.Answer{Do: pushtest.Stall}, pushtest.Answer{Delay: streamWait / 2})
		done := make(chan Outcome)
		for _, uuid := range []string{"stalled", "slow", "waits"} {
			go func() { done <- w.send(testMessage(uuid)) }()
			synctest.Wait()
		}
		if out := <-done; out.Verdict != Sent || out.Took != streamWait/2 {
			t.Errorf("slow: %+v", out)
		}
		if out := <-done; out.Verdict != Sent || out.Took > streamWait {
			t.Errorf("the one that had to wait: %+v", out)
		}
		if out := <-done; !out.Uncertain {
			t.Errorf("stalled: %+v", out)
		}
		time.Sleep(time.Second)
		if c := w.service.Counts(); c.Accepted != 3 {
			t.Errorf("%+v", c)
		}
	})
}

// TestConnectionsWithoutAWindowAreReplaced: a peer that takes requests' heads
// and no bodies costs a push the time to notice, and the next nothing.
func TestConnectionsWithoutAWindowAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.Starve(true)
		w.service.Drop()
		synctest.Wait()
		w.service.Starve(false)
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Took > 2*streamWait+retryAfterFailure {
			t.Errorf("outcome %+v", out)
		}
		if out := w.send(testMessage("u2")); out.Verdict != Sent || out.Took != 0 {
			t.Errorf("the next: %+v", out)
		}
		if c := w.service.Counts(); c.Accepted != 2 {
			t.Errorf("%+v", c)
		}
	})
}

func newWorldWithStreams(t *testing.T, streams uint32) *world {
	production, sandbox := pushtest.NewPipeListener("api.push.test:443"), pushtest.NewPipeListener("api.sandbox.push.test:443")
	return newWorld(t, pushtest.Options{Production: production, Sandbox: sandbox, MaxStreams: streams},
		Options{Dial: pushtest.DialAny(production, sandbox)}, nil)
}

func TestBucket(t *testing.T) {
	b := bucket{every: replaceEvery, burst: replaceBurst}
	now := time.Unix(0, 0)
	took := 0
	for range 600 { // a minute, ten times a second
		now = now.Add(100 * time.Millisecond)
		if b.take(now) {
			took++
		}
	}
	if want := replaceBurst + int(time.Minute/replaceEvery); took < want-2 || took > want {
		t.Errorf("%d in a minute, want %d", took, want)
	}
}

func TestBackOffsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackOffs()
		for i := range backOffTokens + 100 {
			b.add(string(rune('a'+i)), time.Minute)
		}
		if len(b.until) != backOffTokens {
			t.Errorf("%d tokens", len(b.until))
		}
		if got := b.left("a"); got != time.Minute {
			t.Errorf("left %v", got)
		}
		time.Sleep(time.Minute)
		b.add("new", time.Hour)
		if len(b.until) != 1 || b.left("a") != 0 || b.left("new") != backOffMost {
			t.Errorf("%d tokens, left %v and %v", len(b.until), b.left("a"), b.left("new"))
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-1": 0, "x": 0, "999999999": time.Hour, "9999999999": time.Hour,
		"Sun, 01 Mar 2026 12:00:09 GMT": 9 * time.Second, "Sun, 01 Mar 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}
