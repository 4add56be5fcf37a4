package sip

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/siptest"
)

// pingOf pings the flow of the last request for 2 s and says how long it took.
func pingOf(t *testing.T, f *flow) (time.Duration, error) {
	t.Helper()
	return pingFor(t, f, 2*time.Second)
}

func pingFor(t *testing.T, f *flow, patience time.Duration) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	err := f.ping(ctx)
	return time.Since(start), err
}

func TestPingTellsAHalfOpenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), nil, "tcp://192.0.2.1:5060")
		w := tcpWire(t, n)
		w.send(request("OPTIONS"))
		synctest.Wait()
		f := b.last(t).flow()
		if took, err := pingOf(t, f); err != nil || took > 100*time.Millisecond {
			t.Errorf("a peer that does not know pings: %v after %v", err, took)
		}
		w.expect("\r\n\r\n")
		n.Partition("192.0.2.2", true)
		if took, err := pingOf(t, f); !errors.Is(err, errNoPong) || took != 2*time.Second {
			t.Errorf("a peer that is gone: %v after %v", err, took)
		}
		go func() {
			time.Sleep(time.Second)
			f.close()
		}()
		if took, err := pingOf(t, f); !errors.Is(err, errFlowClosed) || took != time.Second {
			t.Errorf("a flow that closes meanwhile: %v after %v", err, took)
		}
	})
}

func TestPingWantsThePongOfAPeerThatKnowsPings(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("OPTIONS"))
		synctest.Wait()
		f := b.last(t).flow()
		for range 3 { // three pongs in a row are no ping of the peer's
			done := make(chan error, 1)
			go func() {
				_, err := pingOf(t, f)
				done <- err
			}()
			w.expect("\r\n\r\n")
			w.send("\r\n")
			if err := <-done; err != nil {
				t.Errorf("a pong came, but: %v", err)
			}
			time.Sleep(100 * time.Second)
		}
		w.silence(time.Second)
		if took, err := pingOf(t, f); !errors.Is(err, errNoPong) || took != 2*time.Second {
			t.Errorf("no pong came, but: %v after %v", err, took)
		}
		w.expect("\r\n\r\n")
		time.Sleep(20 * time.Second)
		w.send("\r\n") // too late to be the pong: the first half of a ping
		synctest.Wait()
		w.send("\r\n")
		w.expect("\r\n")
	})
}

func TestPingOverRealTCP(t *testing.T) {
	b := newBed(t, SystemNetwork(), nil, "tcp://127.0.0.1:0")
	came := make(chan *flow, 1)
	b.takes = func(f *flow, _ *sipgo.Request, _ *serverTx) { came <- f }
	c, err := net.Dial("tcp", strings.TrimPrefix(b.transport.addresses()[0], "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	(&wire{t: t, conn: c}).send(request("OPTIONS"))
	f := <-came
	if _, err := pingFor(t, f, 30*time.Second); err != nil {
		t.Errorf("a live peer that does not know pings: %v", err)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "\r\n\r\n" {
		t.Errorf("on the wire: %q, %v", buf, err)
	}
	if n, known := unacknowledged(f.conn); !known || n != 0 {
		t.Errorf("send queue of %d bytes, known: %v", n, known)
	}
}

// pinged is a connection that we opened: our flow and the far end.
func pinged(t *testing.T, test func(n *siptest.Network, b *bed, f *flow, w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		l, err := n.Host("192.0.2.2").Listen(context.Background(), "tcp", "192.0.2.2:5060")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		b := newBed(t, n.Host("192.0.2.1"), nil, "udp://192.0.2.1:5060")
		f, err := b.transport.dial(context.Background(), "tcp", "192.0.2.2:5060", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		test(n, b, f, &wire{t: t, conn: c})
	})
}

func TestConnectionThatWeOpenedIsPinged(t *testing.T) {
	pinged(t, func(n *siptest.Network, b *bed, f *flow, w *wire) {
		for range 20 {
			start := time.Now()
			if m := w.next(time.Hour); m != "\r\n\r\n" {
				t.Fatalf("got %q", m)
			}
			if d := time.Since(start); d < 95*time.Second || d > 131*time.Second {
				t.Errorf("a ping after %v (RFC 5626 §4.4.1: 95 to 120 s)", d)
			}
			w.send("\r\n")
		}
		start := time.Now()
		expectPing(w)
		asked := time.Now()
		if m := w.next(time.Hour); m != "closed" || time.Since(asked) != 10*time.Second {
			t.Errorf("without a pong: %q after %v, want closed after 10s (RFC 5626 §4.4.1)", m, time.Since(start))
		}
		synctest.Wait()
		if !f.isDead() || b.gone != 1 {
			t.Error("the flow has not failed")
		}
	})
}

func TestConnectionToAServerThatKnowsNoPingsStays(t *testing.T) {
	pinged(t, func(n *siptest.Network, b *bed, f *flow, w *wire) {
		for range 5 {
			expectPing(w)
		}
		if f.isDead() {
			t.Fatal("the flow has failed")
		}
		n.Partition("192.0.2.2", true)
		time.Sleep(131 * time.Second)
		synctest.Wait()
		if !f.isDead() || b.gone != 1 {
			t.Error("its host is gone, and the flow has not failed")
		}
	})
}

func expectPing(w *wire) {
	w.t.Helper()
	if m := w.next(time.Hour); m != "\r\n\r\n" {
		w.t.Fatalf("got %q, want a ping", m)
	}
}
