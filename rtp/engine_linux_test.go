package rtp

import (
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reveille/rtp/rtptest"
)

// hears is a receiver that is a function.
type hears func(packet []byte, from netip.AddrPort)

func (h hears) receive(packet []byte, from netip.AddrPort) { h(packet, from) }

// testEngine is the system's engine for one test.
func testEngine(t *testing.T) *workers {
	t.Helper()
	e := systemEngine(slog.New(slog.DiscardHandler)).(*workers)
	t.Cleanup(e.close)
	return e
}

// openOn opens a socket of the engine on any port of an address.
func openOn(t *testing.T, e engine, host string, to receiver) outlet {
	t.Helper()
	o, err := e.open(netip.AddrPortFrom(netip.MustParseAddr(host), 0), to)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A fault of ours costs the packet that it happens on, not the worker.
func TestWorkerSurvivesPanic(t *testing.T) {
	e := testEngine(t)
	came := make(chan string, 10)
	o := openOn(t, e, "127.0.0.1", hears(func(packet []byte, _ netip.AddrPort) {
		if string(packet) == "bad" {
			panic("a fault of ours")
		}
		came <- string(packet)
	}))
	defer o.close()
	conn := udp(t, netip.MustParseAddr("127.0.0.1"))
	for _, text := range []string{"bad", "bad", "good"} {
		if _, err := conn.WriteToUDPAddrPort([]byte(text), o.local()); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-came; got != "good" {
		t.Errorf("%q", got)
	}
}

// stillWorker is a worker that does nothing by itself.
func stillWorker(t *testing.T) *worker {
	t.Helper()
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(poll) })
	return &worker{log: slog.New(slog.DiscardHandler), poll: poll}
}

// Packets of speech are taken in turn with those of other sockets, unless the worker is behind and they go on; a burst of
// video at once; and all that up to a limit.
func TestBursts(t *testing.T) {
	w := stillWorker(t)
	conn := udp(t, netip.MustParseAddr("127.0.0.1"))
	for _, c := range []struct {
		size, packets, burst int
		goesOn               bool
		heard                int
	}{
		{172, 3, 1, true, 1}, {172, 3, maxBurst, true, 3}, {172, maxBurst + 4, maxBurst, true, maxBurst},
		{172, 3, maxBurst, false, 1}, {172, 0, maxBurst, true, 0},
		{1200, 3, 1, true, 3}, {1200, maxBurst + 4, 1, true, maxBurst}, {1200, 0, 1, true, 0},
	} {
		fd, err := bindUDP(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		heard := 0
		s, err := w.add(fd, hears(func(packet []byte, from netip.AddrPort) {
			if heard++; c.goesOn {
				w.slots[0].socket.relay(packet, from)
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		for range c.packets {
			if _, err := conn.WriteToUDPAddrPort(make([]byte, c.size), s.local()); err != nil {
				t.Fatal(err)
			}
		}
		w.serve(s, c.burst)
		if heard != c.heard {
			t.Errorf("%+v: %d taken at once", c, heard)
		}
		s.close()
	}
}

// What a worker still holds of a socket that has been closed is of nobody, nor is it of the socket that has its place
// and its descriptor now.
func TestEventOfClosedSocket(t *testing.T) {
	w := stillWorker(t)
	open := func(name string, heard *[]string) *udpSocket {
		fd, err := bindUDP(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.add(fd, hears(func([]byte, netip.AddrPort) { *heard = append(*heard, name) }))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var heard []string
	conn := udp(t, netip.MustParseAddr("127.0.0.1"))
	first := open("first", &heard)
	if _, err := conn.WriteToUDPAddrPort([]byte("x"), first.local()); err != nil {
		t.Fatal(err)
	}
	n, errno := epollWait(w.poll, w.events[:], 5000)
	if n != 1 || errno != 0 {
		t.Fatal(n, errno)
	}
	fd, place := first.fd, first.place
	first.close()
	second := open("second", &heard)
	if second.fd != fd || second.place != place {
		t.Fatalf("descriptor %d, place %d; the first had %d and %d", second.fd, second.place, fd, place)
	}
	if _, err := conn.WriteToUDPAddrPort([]byte("x"), second.local()); err != nil {
		t.Fatal(err)
	}
	w.look(w.events[:n])
	if len(w.ready) != 0 {
		t.Error("the event of the first socket is believed to be the second's")
	}
	w.serve(first, 1)
	if len(heard) != 0 {
		t.Errorf("%v: read from a descriptor that another has", heard)
	}
	first.send([]byte("x"), second.local())
	first.close()
	w.serve(second, 1)
	if len(heard) != 1 || heard[0] != "second" {
		t.Errorf("%v", heard)
	}
	second.close()
}

// A socket that is given up after errors, in the moment that its call ends, does not keep its worker from the others.
func TestGivenUpWhileClosed(t *testing.T) {
	w := stillWorker(t)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC) // recvfrom fails on it, each time
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.add(fd, hears(func([]byte, netip.AddrPort) {}))
	if err != nil {
		t.Fatal(err)
	}
	s.use.RLock() // as in serve
	closed := make(chan struct{})
	go func() { s.close(); close(closed) }()
	for s.use.TryRLock() { // until close waits
		s.use.RUnlock()
		runtime.Gosched()
	}
	given := make(chan struct{})
	go func() {
		for range maxReadErrors {
			w.take(s)
		}
		s.use.RUnlock()
		close(given)
	}()
	select {
	case <-given:
		<-closed
	case <-time.After(10 * time.Second):
		t.Fatal("the worker waits for the close, and the close for the worker")
	}
}

// Sockets come and go under traffic, and what each hears was sent to it.
func TestDescriptorsReused(t *testing.T) {
	e := testEngine(t)
	ip := netip.MustParseAddr("127.0.0.1")
	var wg sync.WaitGroup
	for n := range 4 {
		conn := udp(t, ip)
		var target atomic.Uint32 // port
		stop := make(chan struct{})
		var sender sync.WaitGroup
		sender.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if p := target.Load(); p != 0 {
						_, _ = conn.WriteToUDPAddrPort([]byte{byte(n)}, netip.AddrPortFrom(ip, uint16(p)))
					}
					runtime.Gosched()
				}
			}
		})
		wg.Go(func() {
			defer sender.Wait()
			defer close(stop)
			for range 200 {
				heard := make(chan struct{}, 1000)
				var over atomic.Bool
				o, err := e.open(netip.AddrPortFrom(ip, 0), hears(func(packet []byte, from netip.AddrPort) {
					if over.Load() {
						t.Error("a packet after close")
					}
					if from.Port() == uint16(conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port()) {
						select {
						case heard <- struct{}{}:
						default:
						}
					}
				}))
				if err != nil {
					t.Error(err)
					return
				}
				target.Store(uint32(o.local().Port()))
				for range 3 {
					<-heard
				}
				o.close()
				over.Store(true)
			}
		})
	}
	wg.Wait()
}

// From socket to socket, nothing is allocated for a packet.
func TestRelayingDoesNotAllocate(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	r, err := NewRelay(DefaultConfig(), Options{LocalAddress: ip})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	trunk, device := udp(t, ip), udp(t, ip)
	s, err := r.Open(SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := callOver(t, s, trunk, device)
	talker := rtptest.Talker{SSRC: 1, Payload: 8}
	packet, got := talker.Next(make([]byte, 160)), make([]byte, maxPacket)
	_ = device.SetReadDeadline(time.Now().Add(30 * time.Second))
	through := func() {
		next(packet)
		if _, err := trunk.WriteToUDPAddrPort(packet, at[Trunk]); err != nil {
			t.Fatal(err)
		}
		if _, _, err := device.ReadFromUDPAddrPort(got); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		through()
	}
	if n := testing.AllocsPerRun(2000, through); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// The pace follows the load, without going to and fro at its edge.
func TestPace(t *testing.T) {
	now := time.Now()
	p := pace{since: now}
	load := func(rate int, want bool) {
		t.Helper()
		for range 10 {
			now = now.Add(pacePause)
			p.note(int(time.Duration(rate)*pacePause/time.Second), now)
		}
		if p.ticks != want {
			t.Errorf("%d packets a second: ticks %v", rate, p.ticks)
		}
	}
	load(100, false)
	load(paceFast-100, false)
	load(paceFast+100, true)
	load(paceFast-100, true)
	load(paceSlow-100, false)
	now = now.Add(time.Hour)
	p.note(1, now)
	load(10, false)
}

// A worker is behind while it has as much to look at as it can, for a while; one look that finds less ends that.
func TestBehind(t *testing.T) {
	now := time.Now()
	p := pace{since: now}
	look := func(n int, after time.Duration, want int) {
		t.Helper()
		now = now.Add(after)
		if p.look(n, now); p.burst() != want {
			t.Errorf("%d ready: bursts of %d, want %d", n, p.burst(), want)
		}
	}
	look(batchSize-1, time.Second, 1)
	look(batchSize, time.Second, 1)
	look(batchSize, behindAfter-1, 1)
	look(batchSize, 1, maxBurst)
	look(batchSize, time.Second, maxBurst)
	look(batchSize-1, 1, 1)
	look(batchSize, time.Second, 1)
}
