package rtp

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"reveille/rtp/rtptest"
)

// smallRelay has room for two calls.
func smallRelay(t *testing.T, n *rtptest.Network) *Relay {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Ports = "20001-20010" // 20002 to 20009: four pairs
	r, err := NewRelay(cfg, Options{LocalAddress: relayIP, Listen: listenOn(n)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestPortsExhaustedAndQuarantined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := smallRelay(t, &rtptest.Network{})
		one, err := r.Open(SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		two, err := r.Open(SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[uint16]bool{}
		for _, s := range []*Session{one, two} {
			for _, sock := range s.audio.sockets {
				if sock.port%2 != 0 || sock.port < 20002 || sock.port > 20008 || seen[sock.port] {
					t.Errorf("port %d", sock.port)
				}
				seen[sock.port] = true
			}
		}
		if _, err := r.Open(SessionOptions{}); !errors.Is(err, ErrNoPorts) {
			t.Fatalf("third call: %v", err)
		}
		one.Close()
		time.Sleep(quarantine - time.Millisecond)
		if _, err := r.Open(SessionOptions{}); !errors.Is(err, ErrNoPorts) {
			t.Fatalf("in quarantine: %v", err)
		}
		time.Sleep(time.Millisecond)
		three, err := r.Open(SessionOptions{})
		if err != nil {
			t.Fatalf("after the quarantine: %v", err)
		}
		three.Close()
		two.Close()
		time.Sleep(quarantine)
		if n := r.ports.available(); n != 4 {
			t.Errorf("%d of 4 pairs are free in the end", n)
		}
	})
}

// A half-taken pair (here its RTCP port) is skipped, at Open and at the device's Offer.
func TestPortsTakenByOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := &rtptest.Network{}
		r := smallRelay(t, n)
		s, err := r.Open(SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		taken := s.audio.sockets[Device].port
		squatter, err := n.Listen(netip.AddrPortFrom(relayIP, taken+1))
		if err != nil {
			t.Fatal(err)
		}
		defer squatter.Close()
		if _, err := s.Offer(Device); err != nil {
			t.Fatal(err)
		}
		if got := s.audio.sockets[Device].port; got == taken || r.ports.owns(taken) || !r.ports.owns(got) {
			t.Errorf("port %d, %d was taken", got, taken)
		}
		s.Close()
		time.Sleep(quarantine)
		if free := r.ports.available(); free != 4 {
			t.Errorf("%d of 4 pairs are free in the end", free)
		}
	})
}

// A fault that another port would not mend is told at once, and leaves nothing behind.
func TestListenFails(t *testing.T) {
	broken := errors.New("no more files")
	cfg := DefaultConfig()
	r, err := NewRelay(cfg, Options{LocalAddress: relayIP, Listen: func(netip.AddrPort) (PacketConn, error) { return nil, broken }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Open(SessionOptions{}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if len(r.live) != 0 || len(r.ports.free) != 4998 || len(r.ports.resting) != 2 {
		t.Errorf("%d live, %d free, %d resting", len(r.live), len(r.ports.free), len(r.ports.resting))
	}
}

// descriptors counts this process's open files.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("counting files needs /proc")
	}
	return len(list)
}

// Thousands of calls on real sockets, by eight at once: nothing is left of them.
func TestNoLeak(t *testing.T) {
	t.Run("system", func(t *testing.T) { noLeak(t, Options{}, 5000) })
	t.Run("portable", func(t *testing.T) { noLeak(t, Options{Listen: listenUDP}, 800) })
}

func noLeak(t *testing.T, o Options, calls int) {
	o.LocalAddress = netip.MustParseAddr("127.0.0.1")
	r, err := NewRelay(DefaultConfig(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.ports.rest = 0
	files, routines := descriptors(t), runtime.NumGoroutine()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range calls / 8 {
				if err := oneCall(r, i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := r.ports.available(); n != 5000 {
		t.Errorf("%d of 5000 pairs are free", n)
	}
	r.Close()
	if n := descriptors(t); n > files+2 {
		t.Errorf("%d files open, %d before", n, files)
	}
	// A goroutine that has said it is done may still be on its last instructions.
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > routines && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > routines {
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before\n%s", n, routines, stacks[:runtime.Stack(stacks, true)])
	}
	if len(r.live) != 0 {
		t.Errorf("%d sessions left", len(r.live))
	}
}

// oneCall opens a session, brings it to some stage, and closes it.
func oneCall(r *Relay, i int) error {
	s, err := r.Open(SessionOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	far := netip.MustParseAddrPort("127.0.0.1:9")
	if i%3 == 0 {
		return nil
	}
	if err := s.SetOffer(Trunk, body(far, "8 101")); err != nil {
		return err
	}
	if _, err := s.Answer(Trunk); err != nil {
		return err
	}
	if i%3 == 1 {
		return nil
	}
	if _, err := s.Offer(Device); err != nil {
		return err
	}
	if err := s.SetAnswer(Device, body(far, "8")); err != nil {
		return err
	}
	s.Connect()
	return nil
}

// onEngines runs a test over real sockets with the system's engine and with the portable one.
func onEngines(t *testing.T, f func(t *testing.T, o Options)) {
	t.Run("system", func(t *testing.T) { f(t, Options{}) })
	t.Run("portable", func(t *testing.T) { f(t, Options{Listen: listenUDP}) })
}

// The whole way over real sockets, each family to each.
func TestRealSockets(t *testing.T) {
	four, six := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	for _, hosts := range [][2]netip.Addr{{four, four}, {six, six}, {four, six}, {six, four}} {
		t.Run(hosts[0].String()+" to "+hosts[1].String(), func(t *testing.T) {
			onEngines(t, func(t *testing.T, o Options) { realSockets(t, o, hosts) })
		})
	}
}

func realSockets(t *testing.T, o Options, hosts [2]netip.Addr) {
	r, err := NewRelay(DefaultConfig(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	trunk, device := udp(t, hosts[Trunk]), udp(t, hosts[Device])
	s, err := r.Open(SessionOptions{TrunkAddress: hosts[Trunk], DeviceAddress: hosts[Device]})
	if err != nil {
		t.Fatal(err)
	}
	at := callOver(t, s, trunk, device)
	a, b := rtptest.Talker{SSRC: 1, Payload: 8}, rtptest.Talker{SSRC: 2, Payload: 8}
	for range 20 {
		carry(t, &a, trunk, at[Trunk], device, at[Device])
		carry(t, &b, device, at[Device], trunk, at[Trunk])
	}
	if st := s.Close(); st.Trunk.Packets != 20 || st.Trunk.Lost != 0 || st.Device.Packets != 20 {
		t.Errorf("%+v", st)
	}
}

// carry sends a packet from one peer to our port for it, and has it arrive at the other from our port there.
func carry(t *testing.T, talker *rtptest.Talker, from *net.UDPConn, in netip.AddrPort, to *net.UDPConn, out netip.AddrPort) {
	t.Helper()
	want := talker.Next(make([]byte, 160))
	if _, err := from.WriteToUDPAddrPort(want, in); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2000)
	_ = to.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, src, err := to.ReadFromUDPAddrPort(got)
	if err != nil || string(got[:n]) != string(want) || src != out {
		t.Fatalf("%d bytes from %v, %v", n, src, err)
	}
}

// udp opens a peer's real socket.
func udp(t testing.TB, ip netip.Addr) *net.UDPConn {
	t.Helper()
	conn, err := listenUDP(netip.AddrPortFrom(ip, 0))
	if err != nil {
		t.Skipf("no sockets on %v: %v", ip, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

// callOver connects a call between two sockets and gives our address on each side.
func callOver(t testing.TB, s *Session, trunk, device *net.UDPConn) (at [2]netip.AddrPort) {
	t.Helper()
	addr := func(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
	err := s.SetOffer(Trunk, body(addr(trunk), "8 101"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Answer(Trunk); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Offer(Device); err != nil {
		t.Fatal(err)
	}
	if err = s.SetAnswer(Device, body(addr(device), "8 101")); err != nil {
		t.Fatal(err)
	}
	s.Connect()
	for side := range s.audio.sockets {
		at[side] = addrPort(s.audio.sockets[side].address, s.audio.sockets[side].port)
	}
	return at
}

// An address that the machine loses for a while, as by DHCP, is bound again when it is back: from all addresses, packets
// may leave by another one than the peer knows.
func TestAddressComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		lost := false
		w := newWorld(t, func(_ *Config, o *Options) {
			listen := o.Listen
			o.Listen = func(a netip.AddrPort) (PacketConn, error) {
				if lost && !a.Addr().IsUnspecified() {
					return nil, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
				}
				return listen(a)
			}
		})
		for _, gone := range []bool{true, false} {
			lost = gone
			s, err := w.relay.Open(SessionOptions{})
			w.must(err)
			if at := s.audio.sockets[Trunk].rtp.local().Addr(); at.IsUnspecified() != gone {
				t.Errorf("lost %v: bound to %v", gone, at)
			}
			s.Close()
		}
	})
}

// Calls end in the middle of packets: closing must not wait for a reader that waits for it.
func TestCloseUnderTraffic(t *testing.T) { onEngines(t, closeUnderTraffic) }

func closeUnderTraffic(t *testing.T, o Options) {
	ip := netip.MustParseAddr("127.0.0.1")
	o.LocalAddress = ip
	r, err := NewRelay(DefaultConfig(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	trunk, device := udp(t, ip), udp(t, ip)
	for range 100 {
		s, err := r.Open(SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		at := callOver(t, s, trunk, device)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			talker := rtptest.Talker{SSRC: 1, Payload: 8}
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = device.WriteToUDPAddrPort(talker.Next(make([]byte, 160)), at[Device])
					runtime.Gosched()
				}
			}
		})
		for s.Stats().Device.Packets < 20 {
			<-time.After(100 * time.Microsecond) // not in a circle, which would only take the processor from the relay
		}
		closed := make(chan struct{})
		go func() { s.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatal("Close hangs")
		}
		close(stop)
		wg.Wait()
	}
}

func TestTry(t *testing.T) {
	e := systemEngine(slog.New(slog.DiscardHandler))
	defer e.close()
	try := e.try
	for _, ip := range []string{"127.0.0.1", "::1"} {
		conn, err := listenUDP(netip.MustParseAddrPort(net.JoinHostPort(ip, "0")))
		if err != nil {
			t.Skip(err) // a machine without IPv6
		}
		addr := conn.(*net.UDPConn).LocalAddr().(*net.UDPAddr).AddrPort()
		if err := try(addr); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s is taken: %v", addr, err)
		}
		conn.Close()
		if err := try(addr); err != nil {
			t.Errorf("%s is free: %v", addr, err)
		}
	}
	if err := try(netip.MustParseAddrPort("192.0.2.77:4000")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address of nobody's: %v", err)
	}
}
