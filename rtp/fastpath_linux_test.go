package rtp

import (
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/rtptest"
)

// highway is a relay over real sockets with the fast path, and a call between two peers with G.711 under one number
// and telephone-event under two.
type highway struct {
	t             testing.TB
	relay         *Relay
	session       *Session
	trunk, device *driver
}

// driver is a peer that sends numbered packets.
type driver struct {
	t    testing.TB
	conn *net.UDPConn
	ours netip.AddrPort // where we receive, for this side
	ssrc uint32
	seq  uint16
}

func newHighway(t testing.TB, trunk, device *net.UDPConn, ours ...string) *highway {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Ports = "21000-21099"
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	relay, err := NewRelay(cfg, Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(relay.Close)
	if relay.fast == nil {
		t.Skip("the system permits no fast path, see the line above")
	}
	h := &highway{t: t, relay: relay}
	h.session, err = relay.Open(SessionOptions{
		ID: "call-1", TrunkAddress: netip.MustParseAddr(ours[0]), DeviceAddress: netip.MustParseAddr(ours[1]),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.trunk, h.device = &driver{t: t, conn: trunk, ssrc: 1}, &driver{t: t, conn: device, ssrc: 2}
	h.must(h.session.SetOffer(Trunk, body(h.trunk.addr(), "8 101")))
	_, err = h.session.Offer(Device)
	h.must(err)
	h.must(h.session.SetAnswer(Device, body(h.device.addr(), "8 96", "rtpmap:96 telephone-event/8000")))
	_, err = h.session.Answer(Trunk)
	h.must(err)
	h.session.Connect()
	for side, d := range []*driver{h.trunk, h.device} {
		s := &h.session.audio.sockets[side]
		d.ours = addrPort(s.address, s.port)
	}
	return h
}

func (h *highway) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (d *driver) addr() netip.AddrPort {
	a := d.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return addrPort(a.Addr().Unmap(), a.Port())
}

// send sends the next packet.
func (d *driver) send() {
	d.t.Helper()
	b := make([]byte, 172)
	b[0], b[1] = 0x80, 8
	d.seq++
	binary.BigEndian.PutUint16(b[2:], d.seq)
	binary.BigEndian.PutUint32(b[4:], uint32(d.seq)*160)
	binary.BigEndian.PutUint32(b[8:], d.ssrc)
	if _, err := d.conn.WriteToUDPAddrPort(b, d.ours); err != nil {
		d.t.Error(err)
	}
}

// hears waits for the next packet, and gives its number.
func (d *driver) hears() uint16 {
	d.t.Helper()
	b := make([]byte, 2048)
	_ = d.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err := d.conn.ReadFromUDPAddrPort(b)
	if err != nil {
		d.t.Fatal(err)
	}
	if n != 172 || addrPort(from.Addr().Unmap(), from.Port()) != d.ours {
		d.t.Fatalf("%d bytes came from %v, want a packet from %v", n, from, d.ours)
	}
	return binary.BigEndian.Uint16(b[2:])
}

// talk has both sides send until the kernel has n directions; it gives the packets that each has sent.
func (h *highway) talk(n int) {
	h.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		h.latched()
		h.trunk.send()
		h.device.send()
		if a, b := h.device.hears(), h.trunk.hears(); a != h.trunk.seq || b != h.device.seq {
			h.t.Fatalf("packets %d and %d came, want %d and %d", a, b, h.trunk.seq, h.device.seq)
		}
		if h.relay.fastStreams() == n {
			return
		}
		<-tick.C
	}
	h.t.Fatalf("the kernel has %d directions, want %d", h.relay.fastStreams(), n)
}

// latched ends the five seconds for which a re-INVITE opens the latch of a peer that is known: they are the latch's to
// test.
func (h *highway) latched() {
	h.session.mu.Lock()
	defer h.session.mu.Unlock()
	for i := range h.session.audio.path.ends {
		if l := &h.session.audio.path.ends[i].latch; l.open && l.locked.IsValid() {
			l.closes = 1
		}
	}
}

// figures compares the statistics with what the two have sent.
func (h *highway) figures(stats Stats) {
	h.t.Helper()
	for side, d := range []*driver{h.trunk, h.device} {
		s := stats.Of(Side(side))
		if s.Packets != uint64(d.seq) || s.Bytes != 172*s.Packets || s.Lost+s.Duplicates+s.Reordered+s.Dropped+s.Invalid+s.Held+s.Bursts != 0 {
			h.t.Errorf("%v sent %d packets, and the figures are %+v", Side(side), d.seq, s)
		}
		if age := time.Since(s.LastPacket); age < 0 || age > time.Minute || s.FirstPacket.IsZero() || s.MaxJitterMS > 1000 {
			h.t.Errorf("%v: %+v", Side(side), s)
		}
	}
}

// onLoopback is a highway between two programs of this machine.
func onLoopback(t testing.TB) *highway {
	t.Helper()
	rtptest.IP(t, "link", "set", "lo", "up")
	return newHighway(t, rtptest.ListenUDP(t, "127.0.0.1:4000"), rtptest.ListenUDP(t, "127.0.0.1:5000"), "127.0.0.1", "127.0.0.1")
}

// A call between two machines comes to be relayed by the kernel, and nobody can tell from the figures.
func TestFastPathTakesOver(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	rtptest.IP(t, "link", "set", "lo", "up")
	left := rtptest.NewHost(t, "left", []string{"10.0.1.1/24", "fd01::1/64"}, []string{"10.0.1.2/24", "fd01::2/64"})
	right := rtptest.NewHost(t, "right", []string{"10.0.2.1/24", "fd02::1/64"}, []string{"10.0.2.2/24", "fd02::2/64"})
	for name, a := range map[string][]string{
		"IPv4": {"10.0.1.2:4000", "10.0.2.2:5000", "10.0.1.1", "10.0.2.1"},
		"IPv6": {"[fd01::2]:4000", "[fd02::2]:5000", "fd01::1", "fd02::1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHighway(t, left.Listen(a[0]), right.Listen(a[1]), a[2:]...)
			h.talk(2)
			h.figures(h.session.Stats())
			before := h.relay.fastPackets.Load()
			for range 20 {
				h.talk(2)
			}
			h.figures(h.session.Stats())
			if n := h.relay.fastPackets.Load() - before; n != 40 {
				t.Errorf("the kernel relayed %d packets of 40", n)
			}
			h.figures(h.session.Close())
			if n := h.relay.fastStreams(); n != 0 {
				t.Errorf("the kernel has %d directions of a call that is over", n)
			}
		})
	}
}

// spacious is an ear whose socket has room for more.
type spacious struct{ *ear }

func (spacious) room() int { return roomOfVideo }

// A stream that moves between sockets and kernel all the time, at ten times the rate of speech, arrives whole, in order
// and once, in both directions; its figures add up.
func TestFastPathLosesNothing(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	h := onLoopback(t)
	for side := range h.session.audio.sockets { // at this rate a pause of 60 ms would be too much for a socket of speech
		s := h.session.audio.sockets[side].rtp.(*udpSocket)
		s.worker.mu.Lock()
		s.to = spacious{s.to.(*ear)} // for its twin
		s.worker.mu.Unlock()
		h.must(makeRoom(s.fd, s.to))
	}
	const wanted = 30 // moves; a busy machine needs more packets for them than a quiet one
	var moves atomic.Int32
	var totals [2]atomic.Int32 // packets of each, from before its last one
	var sides sync.WaitGroup
	early := [2]int{}
	for i, d := range []*driver{h.trunk, h.device} {
		sides.Go(func() {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for n := int32(1); totals[i].Load() == 0; n++ {
				if n >= 1000 && moves.Load() >= wanted || n == 60000 {
					totals[i].Store(n)
				}
				d.send()
				<-tick.C
			}
		})
		sides.Go(func() {
			seen := map[uint16]bool{}
			for last := uint16(0); len(seen) == 0 || len(seen) != int(totals[1-i].Load()); {
				seq := d.hears()
				if seen[seq] {
					t.Errorf("packet %d came twice", seq)
				}
				if seq < last {
					early[i]++ // it was in the socket when the kernel took over
				}
				seen[seq], last = true, max(last, seq)
			}
		})
	}
	over := make(chan struct{})
	go func() { sides.Wait(); close(over) }()
	for tick := time.NewTicker(3 * time.Millisecond); ; {
		select {
		case <-over:
			tick.Stop()
			t.Logf("%d times to the sockets and back; %d and %d packets out of order", moves.Load(), early[0], early[1])
			if moves.Load() < wanted {
				t.Errorf("the stream has moved %d times only", moves.Load())
			}
			final := h.session.Close()
			for i, s := range []*SideStats{&final.Device, &final.Trunk} { // whom each of early has heard
				if s.Reordered != uint64(early[i]) || early[i] > wanted {
					t.Errorf("%d packets were late, the figures say %d", early[i], s.Reordered)
				}
				s.Reordered, s.Bursts = 0, 0
			}
			h.figures(final)
			return
		case <-tick.C:
			if h.relay.fastStreams() == 2 {
				moves.Add(1)
				h.session.mu.Lock()
				h.session.audio.raiseLocked()
				h.session.mu.Unlock()
			}
		}
	}
}

// However many streams wait for the kernel, each has its turn, and then nothing runs any more.
func TestManyWaitForTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{epoch: time.Now()}
		const n = 3*fastAtOnce + 1
		list := make([]*stream, n)
		for i := range list {
			list[i] = &stream{session: &Session{relay: r, closed: true}}
			list[i].fast[Trunk].wanted = true
			r.lower(list[i])
		}
		begin := time.Now()
		r.lowering.done.Wait()
		for i, st := range list {
			if st.fast[Trunk].wanted {
				t.Fatalf("stream %d of %d waits on", i, n)
			}
		}
		if took := time.Since(begin); took != 5*fastTick {
			t.Errorf("%d streams took %v, want a tick for every %d, and a last one", n, took, fastAtOnce)
		}
	})
}

// A direction whose socket is never empty, as the worker is behind, stays with the sockets; it is tried again after a pause
// that grows to a second, and the kernel takes over when the socket has been read.
func TestFastPathLeavesBusySocketsAlone(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	h := onLoopback(t)
	h.talk(2)
	st := h.session.audio
	w := st.sockets[Trunk].rtp.(*udpSocket).worker
	h.session.mu.Lock()
	st.raiseLocked()
	h.session.mu.Unlock()
	w.mu.Lock() // it reads nothing any more
	h.trunk.send()
	h.session.mu.Lock()
	f := &st.fast[Trunk]
	now := h.relay.now() + calm
	for _, want := range []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 8 * firstPause, busyPause, busyPause} {
		for f.tries = 0; st.waitsOn(Trunk, now); {
			if f.tries > 2*fastTries {
				t.Fatalf("tried %d times", f.tries)
			}
		}
		if f.installed || f.tries != 2*fastTries || f.pause != want || f.retry != now+want {
			t.Errorf("installed %v after %d tries, pause %v, retry in %v; want %d and %v", f.installed, f.tries, f.pause, f.retry-now, 2*fastTries, want)
		}
	}
	h.session.mu.Unlock()
	w.mu.Unlock()
	if n := h.device.hears(); n != h.trunk.seq {
		t.Errorf("packet %d came, want %d", n, h.trunk.seq)
	}
	h.talk(2)
	h.figures(h.session.Stats())
}
