package rtp

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// steadied is a socket of a worker that stands still, and its peer, to whom it has sent all but the last packet for a twin.
type steadied struct {
	t     *testing.T
	w     *worker
	s     *udpSocket
	peer  *net.UDPConn
	heard []string // "PORT TEXT"
}

func steady(t *testing.T, host string) *steadied {
	t.Helper()
	ip := netip.MustParseAddr(host)
	fd, err := bindUDP(netip.AddrPortFrom(ip, 0))
	if err != nil {
		t.Fatal(err)
	}
	d := &steadied{t: t, w: stillWorker(t), peer: udp(t, ip)}
	d.w.spare = 1 << 20
	d.s, err = d.w.add(fd, hears(func(packet []byte, from netip.AddrPort) {
		d.heard = append(d.heard, from.String()+" "+string(packet))
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.s.close)
	d.relays(d.peer, steadyAfter-1)
	return d
}

// relays has the socket relay n packets to conn, and conn hear them from its port.
func (d *steadied) relays(conn *net.UDPConn, n int) {
	d.t.Helper()
	got := make([]byte, 100)
	for i := range n {
		d.s.relay([]byte{byte(i)}, own(conn))
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		m, from, err := conn.ReadFromUDPAddrPort(got)
		if err != nil || m != 1 || got[0] != byte(i) || from.Port() != d.s.local().Port() {
			d.t.Fatalf("packet %d of %d: %v %v from %v", i, n, got[:m], err, from)
		}
	}
}

// own is the address of a socket of the test's.
func own(conn *net.UDPConn) netip.AddrPort {
	a := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// says sends a text to the socket, and has the worker look.
func (d *steadied) says(conn *net.UDPConn, text string) {
	d.t.Helper()
	d.heard = nil
	if _, err := conn.WriteToUDPAddrPort([]byte(text), d.s.local()); err != nil {
		d.t.Fatal(err)
	}
	for range 10 { // errors of packets sent come by the same way
		n, errno := epollWait(d.w.poll, d.w.events[:], 5000)
		if errno != 0 || n == 0 {
			d.t.Fatal(n, errno)
		}
		d.w.look(d.w.events[:n])
		for _, s := range d.w.ready {
			d.w.serve(s, 1)
		}
		if len(d.heard) > 0 {
			break
		}
	}
	if want := own(conn).String() + " " + text; len(d.heard) != 1 || d.heard[0] != want {
		d.t.Errorf("heard %q, want %q", d.heard, want)
	}
}

// A socket with a steady peer has a second one for it, and nobody can tell: the peer and strangers are heard, and nobody
// gets the port.
func TestTwin(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			d := steady(t, host)
			stranger := udp(t, netip.MustParseAddr(host))
			if d.s.pairing.twin.Load() != nil {
				t.Fatal("a twin before the peer is steady")
			}
			d.relays(d.peer, 1)
			twin := d.s.pairing.twin.Load()
			if twin == nil {
				t.Fatal("no twin")
			}
			d.says(d.peer, "hello")
			d.says(stranger, "hello")
			d.relays(d.peer, 3)
			if _, err := d.peer.WriteToUDPAddrPort([]byte("x"), d.s.local()); err != nil {
				t.Fatal(err)
			}
			if !twin.waiting() || !d.s.waiting() {
				t.Error("what the peer has sent does not come to the twin, or is not seen to wait")
			}
			d.says(d.peer, "x")
			if fd, err := bindUDP(d.s.local()); err == nil {
				_ = unix.Close(fd)
				t.Error("another one has got the port")
			}
			for _, s := range []*udpSocket{d.s, twin} {
				if on, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR); on != 0 || err != nil {
					t.Errorf("the port is open to others: %d %v", on, err)
				}
			}
			d.relays(stranger, 3) // the peer has moved
			if d.s.pairing.twin.Load() != nil || twin.fd >= 0 {
				t.Error("a twin of a former peer")
			}
			d.says(d.peer, "here")
			d.relays(stranger, steadyAfter)
			d.says(stranger, "here")
			at := d.s.local()
			twin = d.s.pairing.twin.Load()
			d.s.close()
			if twin == nil || twin.fd >= 0 {
				t.Error("no twin, or one that is left over")
			}
			fd, err := bindUDP(at)
			if err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(fd)
		})
	}
}

// A peer that is gone for a while is sent every packet, and heard when it is back.
func TestTwinOfAPeerThatIsGone(t *testing.T) {
	d := steady(t, "127.0.0.1")
	d.relays(d.peer, 1)
	at := own(d.peer)
	_ = d.peer.Close()
	for range 3 * maxReadErrors {
		d.s.relay([]byte("x"), at)
		d.w.serve(d.s.pairing.twin.Load(), 1)
	}
	d.s.relay([]byte("x"), at) // its error is that of the next one
	back, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	d.relays(back, 3)
	d.says(back, "back")
	if d.s.pairing.twin.Load() == nil {
		t.Error("the twin is given up")
	}
}

// Where descriptors are few, calls get them.
func TestNoTwinOfTheLastDescriptors(t *testing.T) {
	d := steady(t, "127.0.0.1")
	d.w.spare = 0
	d.relays(d.peer, 2*steadyAfter)
	if d.s.pairing.twin.Load() != nil {
		t.Error("a twin")
	}
	if n := len(d.w.slots); n != 1 {
		t.Errorf("%d sockets", n)
	}
}
