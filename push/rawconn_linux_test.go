package push

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"reveille/push/pushtest"
)

// tarpit stands between a client and the push service. Once shut, it reads
// nothing more from the connections that it has, while their sockets stay
// open: soon their buffers are full and nothing is acknowledged any more.
type tarpit struct {
	t    *testing.T
	mu   sync.Mutex
	shut chan struct{} // of the connections made from now on
	wg   sync.WaitGroup
}

func (p *tarpit) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	server, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	client, err := d.DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	middle, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	client.(*net.TCPConn).SetWriteBuffer(1 << 20)
	p.mu.Lock()
	shut := p.shut
	p.mu.Unlock()
	p.wg.Go(func() { p.forward(server, middle, shut) })
	p.wg.Go(func() { io.Copy(middle, server); middle.Close() })
	return client, nil
}

func (p *tarpit) forward(to, from net.Conn, shut chan struct{}) {
	defer to.Close()
	buf := make([]byte, 1024)
	for {
		n, err := from.Read(buf)
		select {
		case <-shut:
			<-p.t.Context().Done()
			return
		default:
		}
		if err != nil {
			return
		}
		to.Write(buf[:n])
	}
}

// close makes all connections so far stuck; new ones are well.
func (p *tarpit) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.shut)
	p.shut = make(chan struct{})
}

// TestUnacknowledgedIsSentElsewhere: pushes that the peer's kernel never
// acknowledged are sent on another connection within the call's deadline, and
// no push is accepted twice.
func TestUnacknowledgedIsSentElsewhere(t *testing.T) {
	pit := &tarpit{t: t, shut: make(chan struct{})}
	large, headers := bulky(8)
	w := newWorld(t, pushtest.Options{}, Options{Dial: pit.dial}, func(c *APNsConfig) { c.PayloadConfig = headers })
	if out := w.send(testMessage("first")); out.Verdict != Sent {
		t.Fatalf("outcome %+v", out)
	}
	pit.close()
	const calls = 200 // with 5 kB each, far more than the stuck sockets take
	outs := make([]Outcome, calls)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			m := large
			m.UUID = fmt.Sprint("u", i)
			m.ExpiresAt = time.Now().Add(realPatience)
			outs[i] = w.send(m)
		})
	}
	wg.Wait()
	count := map[Verdict]int{}
	for _, out := range outs {
		count[out.Verdict]++
		if out.Verdict != Sent && !out.Uncertain {
			t.Errorf("outcome %+v", out)
		}
	}
	if count[Sent] < calls*6/10 {
		t.Errorf("%v: want most pushes sent on other connections", count)
	}
	seen := map[any]bool{}
	for range w.service.Counts().Accepted {
		got := <-w.service.Pushes()
		if seen[got.Payload["uuid"]] {
			t.Errorf("%v was accepted twice", got.Payload["uuid"])
		}
		seen[got.Payload["uuid"]] = true
	}
	for i, out := range outs {
		if out.Verdict == Sent && !seen[fmt.Sprint("u", i)] {
			t.Errorf("u%d was not accepted", i)
		}
	}
	t.Logf("%v, %d connections", count, w.service.Counts().Connections)
	w.sender.Close()
}
