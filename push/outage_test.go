package push

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// trouble is what a network does to the connections that are there and to new
// ones.
type trouble int32

const (
	noTrouble  trouble = iota
	netRefuses         // connections are reset, and new ones refused
	netSilent          // what is sent disappears, and new connections too
	netDeaf            // new connections are made, and all that is sent disappears
	netResets          // connections are made, and reset at the first byte
)

// troubledNet is a network that fails at will, whatever service is behind it.
type troubledNet struct {
	dial  DialFunc
	now   atomic.Int32
	dials atomic.Int32
	open  atomic.Int32 // connections of ours

	mu    sync.Mutex // guards the following
	conns map[*troubledConn]bool
}

func newTroubledNet(dial DialFunc) *troubledNet {
	return &troubledNet{dial: dial, conns: map[*troubledConn]bool{}}
}

func (n *troubledNet) trouble() trouble { return trouble(n.now.Load()) }

// set begins a trouble, which those connections that go through it do not
// survive.
func (n *troubledNet) set(t trouble) {
	n.now.Store(int32(t))
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		switch t {
		case netRefuses, netResets:
			c.Conn.Close()
		case netSilent, netDeaf:
			c.lost.Store(true)
		}
	}
}

// Dial is the DialFunc.
func (n *troubledNet) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.dials.Add(1)
	switch n.trouble() {
	case netRefuses:
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	case netSilent:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	nc, err := n.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &troubledConn{Conn: nc, net: n}
	c.lost.Store(n.trouble() == netDeaf)
	n.mu.Lock()
	n.conns[c] = true
	n.mu.Unlock()
	n.open.Add(1)
	return c, nil
}

type troubledConn struct {
	net.Conn
	net  *troubledNet
	lost atomic.Bool
	once sync.Once
}

func (c *troubledConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, syscall.ECONNRESET
		}
		if err != nil || !c.lost.Load() {
			return n, err
		}
	}
}

func (c *troubledConn) Write(b []byte) (int, error) {
	if c.net.trouble() == netResets {
		c.Conn.Close()
		return 0, syscall.ECONNRESET
	}
	if c.lost.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *troubledConn) Close() error {
	c.once.Do(func() {
		c.net.mu.Lock()
		delete(c.net.conns, c)
		c.net.mu.Unlock()
		c.net.open.Add(-1)
	})
	return c.Conn.Close()
}

// outageTest is what any provider must bear: five minutes of a trouble at 50
// calls a second, after which nothing is left of it.
type outageTest struct {
	net    *troubledNet
	sender *Sender
	logs   *logBuffer
	send   func(m Message) Outcome
	// warm is how many connections are there while all is well.
	warm int32
	// dials are the connections that may be tried in those five minutes.
	dials int32
}

// sharedDials: requests share dials, and the failure of one for dialPause.
const sharedDials = int32(5*time.Minute/dialPause) + 50

func (o outageTest) run(t *testing.T, what trouble) {
	t.Helper()
	each := 20 * time.Millisecond
	if underRace {
		each = 200 * time.Millisecond
	}
	o.mustSend(t, "before")
	time.Sleep(time.Minute)
	synctest.Wait()
	goroutines, dials := runtime.NumGoroutine(), o.net.dials.Load()
	o.net.set(what)
	var tasks sync.WaitGroup
	var uncertain, firstSent atomic.Int64
	begin := time.Now()
	mended := begin.Add(5 * time.Minute)
	for i := 0; time.Since(begin) < 5*time.Minute+10*time.Second; i++ {
		if time.Now().Equal(mended) {
			o.net.set(noTrouble)
		}
		tasks.Go(func() {
			out := o.send(testMessage(fmt.Sprint("call-", i)))
			switch {
			case out.Uncertain:
				uncertain.Add(1)
			case out.Verdict == Sent:
				firstSent.CompareAndSwap(0, int64(time.Since(mended)))
			}
		})
		time.Sleep(each)
	}
	tasks.Wait()
	if d := time.Duration(firstSent.Load()); d < 0 || d > 2*time.Second {
		t.Errorf("the first push goes out %v after the end of the outage", d)
	}
	if n := o.net.dials.Load() - dials; n > o.dials {
		t.Errorf("%d connections were tried in five minutes", n)
	}
	quiet := 0
	for line := range strings.Lines(o.logs.String()) {
		if !strings.Contains(line, "call=") {
			quiet++
		}
	}
	if quiet > 20 {
		t.Errorf("%d log lines beside those of the calls", quiet)
	}
	time.Sleep(dedupeFor + time.Minute)
	o.mustSend(t, "after")
	synctest.Wait()
	if n := len(o.sender.accepted.entries); n != 1 {
		t.Errorf("%d pushes are remembered", n)
	}
	if n := runtime.NumGoroutine(); n > goroutines+4 || o.net.open.Load() != o.warm {
		t.Errorf("%d goroutines, %d before; %d connections", n, goroutines, o.net.open.Load())
	}
	t.Logf("%d uncertain, %d dials, first push after %v", uncertain.Load(), o.net.dials.Load()-dials, time.Duration(firstSent.Load()))
}

func (o outageTest) mustSend(t *testing.T, uuid string) {
	t.Helper()
	if out := o.send(testMessage(uuid)); out.Verdict != Sent {
		t.Fatalf("%s the outage: %+v", uuid, out)
	}
}

// TestOutage: APNs through each trouble.
func TestOutage(t *testing.T) {
	for name, what := range map[string]trouble{"refuses": netRefuses, "silent": netSilent, "deaf": netDeaf, "resets": netResets} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				production, sandbox := pushtest.NewPipeListener("api.push.test:443"), pushtest.NewPipeListener("api.sandbox.push.test:443")
				network := newTroubledNet(pushtest.DialAny(production, sandbox))
				w := newWorld(t, pushtest.Options{Production: production, Sandbox: sandbox}, Options{Dial: network.Dial}, nil)
				defer w.close()
				outageTest{network, w.sender, w.logs, func(m Message) Outcome { return w.send(m) }, warmConns, sharedDials}.run(t, what)
			})
		})
	}
}

// TestOutageOfFCM: its two hosts through the same.
func TestOutageOfFCM(t *testing.T) {
	for name, what := range map[string]trouble{"refuses": netRefuses, "silent": netSilent, "deaf": netDeaf, "resets": netResets} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				send, token := pushtest.NewPipeListener("fcm.googleapis.test:443"), pushtest.NewPipeListener("oauth2.googleapis.test:443")
				network := newTroubledNet(pushtest.DialAny(send, token))
				w := newFCMWorld(t, pushtest.FCMOptions{Send: send, Token: token}, network.Dial, nil)
				defer w.close()
				outageTest{network, w.sender, w.logs, func(m Message) Outcome { return w.send(m) }, warmConns, sharedDials}.run(t, what)
			})
		})
	}
}

// TestOutageOfAWebhook: a plain HTTP client is under it, so that each attempt
// of a push, of which there are three, tries a connection.
func TestOutageOfAWebhook(t *testing.T) {
	for name, what := range map[string]trouble{"refuses": netRefuses, "silent": netSilent, "deaf": netDeaf, "resets": netResets} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newHookWorld(t, nil)
				defer w.close()
				network := newTroubledNet(w.sender.options.Dial)
				w.sender.Close()
				w.sender = newHookSender(t, w.cfg, w.logs, network.Dial)
				outageTest{network, w.sender, w.logs, w.send, 1, 3*50*5*60 + 1000}.run(t, what)
			})
		})
	}
}
