package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/location"
	"reveille/sip/siptest"
)

// flowBy finds the server's side of a connection.
func (b *serverBed) flowBy(conn net.Conn) *flow {
	b.t.Helper()
	synctest.Wait()
	b.srv.transport.mu.Lock()
	defer b.srv.transport.mu.Unlock()
	for _, f := range b.srv.transport.streams {
		if f.peer == addrPort(conn.LocalAddr()) {
			return f
		}
	}
	b.t.Fatal("no such connection")
	return nil
}

// Many phones behind one listener: each request goes to its own.
func TestRequestsGoByTheConnectionOfTheirDevice(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		var wires []*wire
		for range 10 {
			wires = append(wires, tcpWire(b.t, b.net))
		}
		for i, w := range wires {
			f := b.flowBy(w.conn)
			o, err := b.srv.Dial(location.Binding{AOR: "1001", DeviceID: "d", Contact: fmt.Sprintf("sip:%d@192.0.2.1:5060", i), FlowID: f.id()},
				Invitation{CallID: fmt.Sprint(i)})
			mustNot(t, err)
			w.expect(fmt.Sprintf("INVITE sip:%d@", i))
			o.Abandon()
		}
		for i, w := range wires {
			if m := w.next(time.Millisecond); m != "" {
				t.Errorf("connection %d also got %q", i, firstLine(m))
			}
		}
	})
}

// A device's address behind NAT may be someone else's a minute later.
func TestDeadFlowIsNeverDialled(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := tcpWire(b.t, b.net)
		local := w.conn.LocalAddr().String()
		binding := location.Binding{AOR: "1001", DeviceID: "d", Contact: "sip:1001@" + local + ";transport=tcp", FlowID: b.flowBy(w.conn).id()}
		o, err := b.srv.Dial(binding, Invitation{CallID: "out"})
		mustNot(t, err)
		w.send(answered(w.expect("INVITE "), 200, "one"))
		w.expect("ACK ")
		w.conn.Close()
		synctest.Wait()
		l, err := b.net.Host("192.0.2.2").Listen(b.t.Context(), "tcp", local)
		mustNot(t, err)
		var came atomic.Bool
		go func() {
			if _, err := l.Accept(); err == nil {
				came.Store(true)
			}
		}()
		if _, err := b.srv.Dial(binding, Invitation{CallID: "again"}); !errors.Is(err, errFlowClosed) {
			t.Errorf("an INVITE by the dead flow: %v", err)
		}
		o.Hangup(Reason{})
		time.Sleep(time.Minute)
		if came.Load() {
			t.Error("the address of the dead flow was dialled")
		}
		l.Close()
	})
}

// failing is a network whose sockets fail a few times before they work.
type failing struct {
	Network
	left atomic.Int32
}

type failingPacketConn struct {
	net.PacketConn
	n *failing
}

type failingListener struct {
	net.Listener
	n *failing
}

var errTransient = errors.New("transient")

func (n *failing) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	c, err := n.Network.ListenPacket(ctx, network, addr)
	return &failingPacketConn{c, n}, err
}

func (n *failing) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.Network.Listen(ctx, network, addr)
	return &failingListener{l, n}, err
}

func (c *failingPacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	if c.n.left.Add(-1) >= 0 {
		return 0, nil, errTransient
	}
	return c.PacketConn.ReadFrom(b)
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.n.left.Add(-1) >= 0 {
		return nil, errTransient
	}
	return l.Listener.Accept()
}

// An ICMP report, or too many open files, is not the end of a listener.
func TestListenErrorsDoNotStopTheListener(t *testing.T) {
	for scheme, dial := range map[string]func(testing.TB, *siptest.Network) *wire{"udp": udpWire, "tcp": tcpWire} {
		synctest.Test(t, func(t *testing.T) {
			n := siptest.NewNetwork()
			bad := &failing{Network: n.Host("192.0.2.1")}
			bad.left.Store(10)
			b := newBed(t, bad, nil, scheme+"://192.0.2.1:5060")
			w := dial(t, n)
			w.send(request("OPTIONS"))
			time.Sleep(10 * time.Second)
			if got := b.seen(); got != "OPTIONS one" {
				t.Errorf("%s: handled %q after ten errors", scheme, got)
			}
			if bad.left.Load() >= 0 {
				t.Errorf("%s: no error occurred", scheme)
			}
		})
	}
}

// What is sent again is what was sent, whatever has been answered since.
func TestAnswersSentAgainAreTheSameBytes(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		invite := message("INVITE sip:1001@192.0.2.1 SIP/2.0", trunksSDP, "Content-Type: application/sdp", "Contact: <sip:trunk@192.0.2.2:5060>")
		w.send(invite)
		in := b.taken()
		w.expect("SIP/2.0 100")
		for _, code := range []int{183, 180} {
			mustNot(t, in.Progress(code, []byte(ourSDP), Header{"X-Code", fmt.Sprint(code)}))
			first := w.expect(fmt.Sprint("SIP/2.0 ", code))
			w.send(invite)
			if again := w.next(time.Second); again != first {
				t.Errorf("%q became %q", first, again)
			}
		}
		mustNot(t, in.Answer([]byte(ourSDP)))
		ok := w.expect("SIP/2.0 200")
		for range 3 {
			if again := w.next(10 * time.Second); again != ok {
				t.Errorf("%q became %q", ok, again)
			}
		}
		w.send(within("ACK", toTag(ok), 1))
		w.send(within("BYE", toTag(ok), 2))
		w.expect("SIP/2.0 200")
	})
}

// RFC 3261 §13.3.1.4: T1, doubling up to T2, for 64*T1; on streams too.
func TestThe200IsRepeatedAtTheRFCsPace(t *testing.T) {
	overEither(t, bedOptions{}, func(t *testing.T, b *serverBed, w *wire) {
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", "Contact: <sip:trunk@192.0.2.2:5060>"))
		in := b.taken()
		w.expect("SIP/2.0 100")
		mustNot(t, in.Answer(nil))
		start := time.Now()
		w.expect("SIP/2.0 200")
		var at []string
		for m := w.next(time.Minute); strings.HasPrefix(m, "SIP/2.0 200"); m = w.next(time.Minute) {
			at = append(at, time.Since(start).String())
		}
		if got := strings.Join(at, " "); got != "500ms 1.5s 3.5s 7.5s 11.5s 15.5s 19.5s 23.5s 27.5s 31.5s" {
			t.Errorf("the 200 came again after %s", got)
		}
		if end := in.End(); time.Since(start) != timer64T1 || end.Kind != EndNoAck {
			t.Errorf("the leg ended after %v as %s", time.Since(start), end.Kind)
		}
		w.drain(time.Minute)
	})
}

// An ACK belongs to its INVITE by the CSeq number of that, however far other
// requests have counted since.
func TestACKIsFoundBehindLaterRequests(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := invited(b, w)
		mustNot(t, in.Answer([]byte(ourSDP)))
		tag := toTag(w.expect("SIP/2.0 200"))
		w.send(within("OPTIONS", tag, 7))
		w.expect("SIP/2.0 200")
		w.send(within("ACK", tag, 1))
		w.silence(20 * time.Second)
		w.send(within("BYE", tag, 8))
		w.expect("SIP/2.0 200")
	})
}

// Connections that say nothing do not hold up the one behind them.
func TestSilentConnectionsHoldNobodyUp(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		for range 10 {
			tcpWire(b.t, b.net)
		}
		start := time.Now()
		w := tcpWire(b.t, b.net)
		w.send(request("OPTIONS"))
		w.expect("SIP/2.0 200")
		if d := time.Since(start); d > 10*time.Millisecond {
			t.Errorf("the answer took %v", d)
		}
	})
}

// RFC 4320 §4.1, §4.2: a request other than INVITE gets no 408, and a late
// answer to ours is dropped without a word.
func TestNo408ToNonINVITE(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), nil, "udp://192.0.2.1:5060") // whose handler never answers
		w := udpWire(t, n)
		w.send(request("OPTIONS"))
		w.silence(2 * time.Minute)
		b.close()
	})
}

// RFC 3261 §12.2.2: a request that is older than the last one is refused.
func TestOlderCSeqWithinADialogIs500(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		_, tag := established(b, w)
		w.send(within("OPTIONS", tag, 7))
		w.expect("SIP/2.0 200")
		for _, seq := range []int{6, 1} {
			w.send(within("BYE", tag, seq))
			w.expect("SIP/2.0 500")
		}
		w.send(within("BYE", tag, 8))
		w.expect("SIP/2.0 200")
	})
}
