package ng_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/ng"
	"reveille/rtp/ng/ngtest"
)

func offer(id string) ng.Dict {
	return ng.Dict{"call-id": id, "from-tag": "a", "to-tag": "b", "sdp": "m=audio 1 RTP/AVP 0\r\n"}
}

// A request or answer that is lost is sent again with the same cookie, and done once.
func TestLostAndDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		d := &ngtest.Daemon{Mangle: func(b []byte) [][]byte {
			if n++; n < 3 {
				return nil
			}
			return [][]byte{b, b}
		}}
		c := ng.NewClient("x", d.Dial)
		defer c.Close()
		began := time.Now()
		if _, err := c.Do(t.Context(), "offer", offer("1")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("the third try was after %v, want 300ms", took)
		}
		if n := len(d.Asked("offer")); n != 1 {
			t.Errorf("done %d times, want once", n)
		}
		synctest.Wait()
		if c.Dropped() != 1 { // the copy
			t.Errorf("%d answers dropped, want 1", c.Dropped())
		}
	})
}

// An answer that comes after its request was given up is nobody's.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &ngtest.Daemon{Delay: 2 * time.Second}
		c := ng.NewClient("x", d.Dial)
		defer c.Close()
		if _, err := c.Do(t.Context(), "ping", nil); !errors.Is(err, ng.ErrNoAnswer) {
			t.Fatalf("err %v, want ErrNoAnswer", err)
		}
		time.Sleep(3 * time.Second)
		if c.Dropped() != 4 {
			t.Errorf("%d dropped, want 4: one for each try", c.Dropped())
		}
	})
}

// What is no answer is dropped, and the answer that comes after it is taken.
func TestMalformedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &ngtest.Daemon{Mangle: func(b []byte) [][]byte {
			cookie, _, _ := bytes.Cut(b, []byte{' '})
			with := func(body string) []byte { return append(bytes.Clone(cookie), " "+body...) }
			return [][]byte{
				nil, []byte("x"), cookie, with(""), with("d"), with("l4:ponge"), with("de"), with("d6:resulti1ee"),
				[]byte("stranger d6:result4:ponge"), with("d6:result4:pong" + strings.Repeat("x", 70000) + "e"), b,
			}
		}}
		c := ng.NewClient("x", d.Dial)
		defer c.Close()
		got, err := c.Do(t.Context(), "ping", nil)
		if err != nil || got.Text("result") != "pong" {
			t.Fatalf("%v, %v", got, err)
		}
		if c.Dropped() != 10 {
			t.Errorf("%d dropped, want 10", c.Dropped())
		}
	})
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &ngtest.Daemon{}
		c := ng.NewClient("x", d.Dial)
		defer c.Close()
		_, err := c.Do(t.Context(), "query", ng.Dict{"call-id": "none"})
		if !ng.UnknownCall(err) || errors.Is(err, ng.ErrNoAnswer) {
			t.Errorf("err %v, want the daemon's refusal", err)
		}
		if _, err := c.Do(t.Context(), "offer", ng.Dict{"sdp": strings.Repeat("x", 65500)}); !errors.Is(err, ng.ErrTooLong) {
			t.Errorf("err %v, want ErrTooLong", err)
		}
	})
}

// A daemon's process that is gone shows at once, to all that wait.
func TestRefusedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &ngtest.Daemon{}
		d.Stop(true)
		c := ng.NewClient("x", d.Dial)
		defer c.Close()
		began := time.Now()
		if _, err := c.Do(t.Context(), "ping", nil); !errors.Is(err, ng.ErrNoAnswer) || time.Since(began) > 0 {
			t.Errorf("err %v after %v, want ErrNoAnswer at once", err, time.Since(began))
		}
	})
}

// No more than 256 requests are out at once; the rest have their turn, or give up with their context.
func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &ngtest.Daemon{}
		d.Stop(false)
		c := ng.NewClient("x", d.Dial)
		defer c.Close()
		var all sync.WaitGroup
		for range 256 {
			all.Go(func() { _, _ = c.Do(t.Context(), "ping", nil) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Do(ctx, "ping", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err %v, want the context's: its turn had not come", err)
		}
		all.Wait()
		d.Start()
		if _, err := c.Do(t.Context(), "ping", nil); err != nil {
			t.Error(err)
		}
	})
}

// Close ends what waits.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &ngtest.Daemon{}
		d.Stop(false)
		c := ng.NewClient("x", d.Dial)
		go func() {
			time.Sleep(10 * time.Millisecond)
			c.Close()
		}()
		if _, err := c.Do(t.Context(), "ping", nil); !errors.Is(err, ng.ErrClosed) {
			t.Errorf("err %v, want ErrClosed", err)
		}
		if _, err := c.Do(t.Context(), "ping", nil); !errors.Is(err, ng.ErrClosed) {
			t.Errorf("err %v, want ErrClosed", err)
		}
	})
}
