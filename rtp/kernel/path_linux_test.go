//go:build amd64 || arm64

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"reveille/rtp/rtptest"
)

const (
	firstPort = 20000
	lastPort  = 20098
)

// opened is a Path of the test's own.
func opened(t testing.TB, legacy bool) *Path {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := open(firstPort, lastPort, Clock(), log, legacy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// machine is this one between two others, all in namespaces of their own.
type machine struct {
	t           testing.TB
	path        *Path
	left, right *rtptest.Host
}

func newMachine(t testing.TB, legacy bool) *machine {
	t.Helper()
	rtptest.IP(t, "link", "set", "lo", "up")
	return &machine{
		t:     t,
		path:  opened(t, legacy),
		left:  rtptest.NewHost(t, "left", []string{"10.0.1.1/24", "fd01::1/64"}, []string{"10.0.1.2/24", "fd01::2/64"}),
		right: rtptest.NewHost(t, "right", []string{"10.0.2.1/24", "fd02::1/64"}, []string{"10.0.2.2/24", "fd02::2/64"}),
	}
}

// PCMA under different numbers, an event, and a codec that the other side has not.
func someFormats() []Format {
	return []Format{
		{In: 8, Out: 8, Passes: true, Rate: 8000},
		{In: 101, Out: 96, Passes: true, Event: true, Rate: 8000},
		{In: 0, Passes: false, Rate: 8000},
	}
}

func flow(peer, local, source, target string) *Flow {
	return &Flow{
		Peer: netip.MustParseAddrPort(peer), Local: netip.MustParseAddrPort(local),
		Source: netip.MustParseAddrPort(source), Target: netip.MustParseAddrPort(target),
		Formats: someFormats(),
	}
}

// begun are figures as they are once some packets have come.
func begun() *Reception {
	return &Reception{Packets: 4, Bytes: 4 * 172, SSRC: 7, Highest: 99, Base: 96, Unique: 4, Seen: 15, Bad: 1 << 16, Flags: Started, Rate: 8000}
}

// install waits until the way is known.
func (m *machine) install(f *Flow) {
	m.t.Helper()
	if !installs(m.path, f) {
		m.t.Fatalf("%v is not taken by the kernel", f)
	}
}

func installs(p *Path, f *Flow) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if p.Install(f, begun()) {
			return true
		}
		p.mu.Lock()
		in, out := p.routes[way{f.Peer.Addr(), f.Local.Addr()}], p.routes[way{f.Target.Addr(), f.Source.Addr()}]
		p.mu.Unlock()
		if in != nil && out != nil {
			return p.Install(f, begun())
		}
		<-tick.C
	}
	return false
}

// packet is RTP of PCMA; second is the octet with the payload type.
func packet(seq uint16, second byte, payload int) []byte {
	b := make([]byte, 12+payload)
	b[0], b[1] = 0x80, second
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], uint32(seq)*160)
	binary.BigEndian.PutUint32(b[8:], 7)
	for i := range payload {
		b[12+i] = byte(i*7) + byte(seq)
	}
	return b
}

func send(t testing.TB, from *net.UDPConn, b []byte, to string) {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort(b, netip.MustParseAddrPort(to)); err != nil {
		t.Fatal(err)
	}
}

// receive waits for a datagram.
func receive(t testing.TB, at *net.UDPConn) ([]byte, netip.AddrPort) {
	t.Helper()
	_ = at.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 2048)
	n, from, err := at.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// wants receives exactly b from an address.
func wants(t testing.TB, at *net.UDPConn, b []byte, from string) {
	t.Helper()
	got, src := receive(t, at)
	if !bytes.Equal(got, b) || src.String() != from {
		t.Errorf("got % x from %v, want % x from %v", got[:min(len(got), 16)], src, b[:min(len(b), 16)], from)
	}
}

// A stream is relayed in both directions between two machines, by IPv4 and IPv6, by TCX and clsact; what arrives has
// good checksums, or the system there would drop it, and comes from our port.
func TestRelay(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	for name, legacy := range map[string]bool{"tcx": false, "clsact": true} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, legacy)
			for _, a := range []struct{ left, right, us, usToo string }{
				{"10.0.1.2", "10.0.2.2", "10.0.1.1", "10.0.2.1"},
				{"[fd01::2]", "[fd02::2]", "[fd01::1]", "[fd02::1]"},
			} {
				left, right := m.left.Listen(a.left+":4000"), m.right.Listen(a.right+":5000")
				up, upToo := rtptest.ListenUDP(t, a.us+":20000"), rtptest.ListenUDP(t, a.usToo+":20002")
				m.install(flow(a.left+":4000", a.us+":20000", a.usToo+":20002", a.right+":5000"))
				m.install(flow(a.right+":5000", a.usToo+":20002", a.us+":20000", a.left+":4000"))
				for seq := uint16(100); seq < 120; seq++ {
					p := packet(seq, 8|0x80*byte(seq&1), 160)
					send(t, left, p, a.us+":20000")
					wants(t, right, p, a.usToo+":20002")
					send(t, right, p, a.usToo+":20002")
					wants(t, left, p, a.us+":20000")
				}
				send(t, left, packet(120, 101, 4), a.us+":20000")
				wants(t, right, packet(120, 96, 4), a.usToo+":20002")
				send(t, left, packet(121, 0, 160), a.us+":20000") // agreed, but not by the other side
				send(t, left, packet(122, 8, 159), a.us+":20000") // an odd length
				wants(t, right, packet(122, 8, 159), a.usToo+":20002")
				m.figures(20000, 4+23, 1)
				m.figures(20002, 4+20, 0)
				silent(t, up)
				silent(t, upToo)
			}
		})
	}
}

// figures removes a flow and compares.
func (m *machine) figures(port uint16, packets, held uint64) {
	m.t.Helper()
	var now, got Reception
	m.path.Read(port, &now)
	if !m.path.Remove(port, &got) || now != got {
		m.t.Errorf("removed %+v, read before %+v", got, now)
	}
	if got.Packets != packets || got.Held != held || got.LostBefore != 0 || got.Highest-got.Base+1 != got.Unique || got.Duplicates+got.Reordered != 0 {
		m.t.Errorf("%+v, want %d packets", got, packets)
	}
	if age := Clock() - m.path.epoch - time.Duration(got.Last); age < 0 || age > time.Minute {
		m.t.Errorf("the last packet came %v ago", age)
	}
	if m.path.Remove(port, &got) {
		m.t.Error("removed twice")
	}
}

// silent reads nothing: what was sent to the socket would be there by now.
func silent(t testing.TB, at *net.UDPConn) {
	t.Helper()
	_ = at.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	b := make([]byte, 2048)
	if n, from, err := at.ReadFromUDPAddrPort(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes came from %v (%v), want silence", n, from, err)
	}
}

// Between programs of one machine a packet goes on from where it is; from such a program to another machine, too.
func TestRelayLocal(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	m := newMachine(t, false)
	for _, us := range []string{"127.0.0.1", "[::1]"} {
		a, b := rtptest.ListenUDP(t, us+":4000"), rtptest.ListenUDP(t, us+":5000")
		up := rtptest.ListenUDP(t, us+":20000")
		m.install(flow(us+":4000", us+":20000", us+":20002", us+":5000"))
		send(t, a, packet(100, 8, 160), us+":20000")
		wants(t, b, packet(100, 8, 160), us+":20002")
		m.figures(20000, 5, 0)
		silent(t, up)
	}
	a, b := rtptest.ListenUDP(t, "10.0.2.1:4000"), m.right.Listen("10.0.2.2:5000")
	m.install(flow("10.0.2.1:4000", "10.0.2.1:20000", "10.0.2.1:20002", "10.0.2.2:5000"))
	send(t, a, packet(100, 8, 160), "10.0.2.1:20000")
	wants(t, b, packet(100, 8, 160), "10.0.2.1:20002")
	m.figures(20000, 5, 0)
	if installs(m.path, flow("10.0.2.2:5000", "10.0.2.1:20002", "10.0.2.1:20000", "10.0.2.1:4000")) {
		t.Error("a stream from outside to a program here was installed: the system would refuse its packets")
	}
}

// Sockets that are bound to all addresses, as behind a NAT of another machine, stand for the one that the peer is
// reached by.
func TestRelayUnspecified(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	m := newMachine(t, false)
	left, right, up := m.left.Listen("10.0.1.2:4000"), m.right.Listen("10.0.2.2:5000"), rtptest.ListenUDP(t, "0.0.0.0:20000")
	m.left.IP("route", "add", "default", "via", "10.0.1.1")
	m.install(flow("10.0.1.2:4000", "0.0.0.0:20000", "0.0.0.0:20002", "10.0.2.2:5000"))
	send(t, left, packet(100, 8, 160), "10.0.1.1:20000")
	wants(t, right, packet(100, 8, 160), "10.0.2.1:20002")
	send(t, left, packet(101, 8, 160), "10.0.2.1:20000") // of ours, but not that one
	wants(t, up, packet(101, 8, 160), "10.0.1.2:4000")
	m.figures(20000, 5, 0)
}
