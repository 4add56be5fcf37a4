package rtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"reveille/rtp/kernel"
	"reveille/rtp/rtptest"
)

// twins are forward and the kernel's program, which get the same packets: by loopback, so that the program runs as it
// does in life.
type twins struct {
	t        testing.TB
	kernel   *kernel.Path
	path     path
	port     uint16
	from, to *net.UDPConn
	up       *net.UDPConn // where packets come that the program leaves to the system
	origin   origin
	packets  uint64
}

// newTwins begins with one packet, which is forward's: the kernel never has the first.
func newTwins(t testing.TB) *twins {
	t.Helper()
	w := &twins{t: t, from: rtptest.ListenUDP(t, "127.0.0.1:0"), to: rtptest.ListenUDP(t, "127.0.0.1:0")}
	w.up = rtptest.ListenUDP(t, "127.0.0.1:0")
	for w.port = portOf(w.up); w.port&1 != 0; w.port = portOf(w.up) {
		w.up = rtptest.ListenUDP(t, "127.0.0.1:0")
	}
	var err error
	if w.kernel, err = kernel.Open(w.port, w.port, kernel.Clock(), slog.New(slog.DiscardHandler)); err != nil {
		t.Skipf("no fast path here: %v", err)
	}
	t.Cleanup(w.kernel.Close)
	return w
}

func portOf(c *net.UDPConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// begin gives both the same state.
func (w *twins) begin() {
	w.t.Helper()
	here := netip.MustParseAddr("127.0.0.1")
	peer := addrPort(here, portOf(w.from))
	w.path = path{connected: true}
	w.origin = origin{side: Trunk, addr: peer}
	trunk, device := &w.path.ends[Trunk], &w.path.ends[Device]
	*trunk = end{takes: true, sends: true, described: true, latch: latch{signalled: peer, locked: peer}}
	*device = end{takes: true, sends: true, described: true, latch: latch{locked: addrPort(here, portOf(w.to))}}
	trunk.formats = []format{
		{out: 8, passes: true, rate: 8000}, {out: 96, passes: true, event: true, rate: 8000},
		{rate: 8000}, {out: 107, passes: true, rate: 48000},
	}
	flow := &kernel.Flow{Peer: peer, Local: addrPort(here, w.port), Source: addrPort(here, w.port), Target: device.latch.locked}
	for i, pt := range []uint8{8, 101, 0, 111} {
		trunk.index[pt] = uint8(i + 1)
		f := trunk.formats[i]
		flow.Formats = append(flow.Formats, kernel.Format{In: pt, Out: f.out, Passes: f.passes, Event: f.event, Rate: f.rate})
	}
	w.path.forward(w.origin, voice(8, 1, 100, 0, 160), moment(time.Microsecond))
	trunk.got.connect(moment(time.Microsecond))
	w.packets = 1
	got := trunk.got.toKernel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		if w.kernel.Install(flow, &got) {
			return
		}
		<-tick.C
	}
	w.t.Fatal("the kernel does not take the stream")
}

func (w *twins) end() {
	var got kernel.Reception
	w.kernel.Remove(w.port, &got)
}

// feed gives a packet to both and compares.
func (w *twins) feed(packet []byte) {
	w.t.Helper()
	if _, err := w.from.WriteToUDPAddrPort(packet, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), w.port)); err != nil {
		w.t.Fatal(err)
	}
	got, relayed, up := w.outcome(len(packet))
	e := &w.path.ends[Trunk]
	if up {
		before := e.got.packets
		if len(packet) >= maxPacket {
			return // cut off by the socket
		}
		if w.path.forward(w.origin, bytes.Clone(packet), moment(got.Last)); e.got.packets != before {
			w.t.Fatalf("% x went up, and forward takes it", packet[:min(len(packet), 40)])
		}
		return
	}
	out, _ := w.path.forward(w.origin, bytes.Clone(packet), moment(got.Last))
	ours := e.got.toKernel()
	if e.events {
		ours.Flags |= kernel.Events
	}
	if ours != got {
		w.t.Fatalf("% x: the kernel has\n%+v, forward\n%+v", packet[:min(len(packet), 40)], got, ours)
	}
	if !bytes.Equal(out, relayed) {
		w.t.Fatalf("% x: the kernel sends % x, forward % x", packet[:min(len(packet), 40)], relayed, out)
	}
}

// outcome waits for what the program does: it counts a packet and relays it or not, or lets it go up.
func (w *twins) outcome(size int) (got kernel.Reception, relayed []byte, up bool) {
	w.t.Helper()
	buf := make([]byte, 65536)
	var held uint64
	for began := time.Now(); time.Since(began) < 5*time.Second; {
		before := w.path.ends[Trunk].got.held
		w.kernel.Read(w.port, &got)
		if held = got.Held - before; got.Packets != w.packets {
			w.packets = got.Packets
			if held > 0 {
				return got, nil, false
			}
			_ = w.to.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, err := w.to.Read(buf)
			if err != nil {
				w.t.Fatal("counted and not sent:", err)
			}
			return got, buf[:n], false
		}
		_ = w.up.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
		if n, err := w.up.Read(buf); err == nil {
			if n != size {
				w.t.Fatalf("%d bytes went up, want %d", n, size)
			}
			return got, nil, true
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			w.t.Fatal(err)
		}
	}
	w.t.Fatal("a packet was neither relayed nor went up")
	return got, nil, false
}

// voice is an RTP packet.
func voice(second byte, ssrc uint32, seq uint16, timestamp uint32, payload int) []byte {
	b := make([]byte, 12+payload)
	b[0], b[1] = 0x80, second
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], timestamp)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return b
}

// play makes packets from pairs of bytes, what happens to the stream and how much, and feeds them.
func (w *twins) play(script []byte) {
	w.t.Helper()
	ssrc, seq, timestamp := uint32(1), uint16(100), uint32(0)
	for ; len(script) >= 2; script = script[2:] {
		n := uint16(script[1])
		second, first, size := byte(8), byte(0x80), 160
		seq++
		timestamp += 160
		send := seq
		switch script[0] % 24 {
		case 0:
			seq += n // loss
			send = seq
		case 1:
			seq += n << 8 // a jump
			send = seq
		case 2, 3:
			send = seq - n%130 // late, or twice
			seq--
		case 4:
			send += n << 8 // one wild packet
			seq--
		case 5:
			ssrc++
		case 6:
			second = 101
		case 7:
			second = 111
		case 8:
			second = 0
		case 9:
			second = script[1]
		case 10:
			timestamp += uint32(n) << 12
		case 11:
			timestamp -= uint32(n)
		case 12:
			size = int(n) * 7
		case 13:
			first = script[1]
		case 14: // what follows, as it is
			raw := script[2:min(2+int(n), len(script))]
			script = script[len(raw):]
			w.feed(raw)
			continue
		}
		packet := voice(second|byte(n&1)<<7, ssrc, send, timestamp, size)
		if packet[0] = first; first != 0x80 && len(packet) > 80 {
			packet[14+4*int(first&15)%64], packet[15+4*int(first&15)%64], packet[len(packet)-1] = 0, byte(n>>3), byte(n>>2)
		}
		w.feed(packet)
	}
}

// Random streams, with loss, doubles, delays, jumps, other sources and codecs, and broken packets, give the same figures
// and the same packets in the kernel as in forward.
func TestKernelCountsAsForward(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	rtptest.IP(t, "link", "set", "lo", "up")
	w := newTwins(t)
	for seed := range uint64(40) {
		w.begin()
		r := rand.New(rand.NewPCG(seed, 0))
		script := make([]byte, 600)
		for i := range script {
			script[i] = byte(r.Uint32())
			if i&1 == 0 && seed%2 == 0 && r.IntN(3) > 0 {
				script[i] = 20 // nothing happens: long runs
			}
		}
		w.play(script)
		w.end()
	}
	t.Logf("%+v", w.path.ends[Trunk].got)
}

// FuzzKernelAsForward is the same with what a fuzzer finds. It works on this machine's loopback interface.
func FuzzKernelAsForward(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs eBPF: run it as root")
	}
	w := newTwins(f)
	f.Add([]byte{20, 0, 0, 3, 2, 5, 2, 5, 4, 200, 1, 40, 20, 0, 5, 1, 6, 0, 6, 1, 7, 0, 8, 0})
	f.Add([]byte{13, 0x90, 13, 0xb1, 13, 0xaf, 13, 0x00, 12, 255, 14, 13, 0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 14, 3, 1, 2, 3, 9, 200})
	f.Fuzz(func(t *testing.T, script []byte) {
		w.t = t
		w.begin()
		defer w.end()
		w.play(script[:min(len(script), 400)])
	})
}
