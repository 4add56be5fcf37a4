package rtp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"reveille/rtp/rtptest"
)

// latched is a path between two latched sides, and a packet for it.
func latched() (*path, origin, []byte) {
	p := fuzzPath()
	talker := rtptest.Talker{SSRC: 1, Payload: 8}
	from := origin{addr: p.ends[Trunk].latch.signalled}
	for i := range 10 {
		p.forward(from, talker.Next(make([]byte, 160)), moment(i)*moment(frameTime))
	}
	return p, from, talker.Next(make([]byte, 160))
}

// next makes the packet the following one of its stream, as from a fresh read.
func next(packet []byte) {
	packet[1] = 8
	binary.BigEndian.PutUint16(packet[2:], binary.BigEndian.Uint16(packet[2:])+1)
	binary.BigEndian.PutUint32(packet[4:], binary.BigEndian.Uint32(packet[4:])+160)
}

func TestForwardDoesNotAllocate(t *testing.T) {
	p, from, packet := latched()
	now := moment(time.Second)
	good := func() {
		next(packet)
		now += moment(frameTime)
		if out, _ := p.forward(from, packet, now); out == nil {
			t.Fatal("not forwarded")
		}
	}
	report, garbage := sr(1, 5), []byte("STUN or some such thing")
	extended := append([]byte{0x92, 8, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0xbe, 0xde, 0, 1, 0x10, 1, 0, 0}, make([]byte, 160)...)
	for name, f := range map[string]func(){
		"good":     good,
		"garbage":  func() { p.forward(from, garbage, now) },
		"stranger": func() { p.forward(origin{addr: netip.AddrPortFrom(deviceIP, 1)}, packet, now) },
		"rtcp":     func() { p.forward(from, report, now) },
		"extended": func() { extended[1] = 8; p.forward(from, extended, now) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations per packet", name, n)
		}
	}
}

func BenchmarkForward(b *testing.B) {
	p, from, packet := latched()
	b.ReportAllocs()
	now := moment(time.Second)
	for b.Loop() {
		next(packet)
		now += moment(frameTime)
		if out, _ := p.forward(from, packet, now); out == nil {
			b.Fatal("not forwarded")
		}
	}
}

// How BenchmarkRelayVsPlain measures: a process of its own sends benchCalls×2 streams of G.711 at their natural rate
// and takes them back; this process relays them, once with a loop that does nothing but read and write, once with
// sessions, in turns, and counts its own processor time.
const (
	benchCalls  = 100
	benchWarm   = 300 * time.Millisecond
	benchTime   = time.Second
	benchRounds = 11
	benchEnv    = "REVEILLE_RTP_GENERATOR"
)

// BenchmarkRelayVsPlain reports the processor time per packet of both, and the median ratio of rounds next to each
// other. Their order changes each time, so that what else the machine does, and its clock, strike both alike.
func BenchmarkRelayVsPlain(b *testing.B) {
	for b.Loop() {
		var plain, ours, ratio []float64
		for i := range benchRounds {
			var p, o float64
			if i%2 == 0 {
				p, o = benchRound(b, plainLoops), benchRound(b, sessions)
			} else {
				o, p = benchRound(b, sessions), benchRound(b, plainLoops)
			}
			plain, ours, ratio = append(plain, p), append(ours, o), append(ratio, o/p)
		}
		b.ReportMetric(median(plain), "plain-µs/packet")
		b.ReportMetric(median(ours), "relay-µs/packet")
		b.ReportMetric(median(ratio), "ratio")
	}
	b.ReportMetric(0, "ns/op")
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// carrier relays between pairs of peers, and says where it listens for each.
type carrier func(b *testing.B, peers [][2]netip.AddrPort) (ports [][2]netip.AddrPort, stop func())

// benchRound lets a carrier carry the load and gives its processor time per packet, in microseconds. A round that the
// machine was too busy for is done again.
func benchRound(b *testing.B, relay carrier) float64 {
	for range 10 {
		if cost, ok := tryRound(b, relay); ok {
			return cost
		}
	}
	b.Fatal("the machine is too busy: packets are lost in every round")
	return 0
}

// tryRound is one try at a round; it fails if packets are lost.
func tryRound(b *testing.B, relay carrier) (cost float64, ok bool) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestGenerator$")
	cmd.Env = append(os.Environ(), benchEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	peers := make([][2]netip.AddrPort, benchCalls)
	for i := range peers {
		peers[i] = [2]netip.AddrPort{scanAddr(b, out), scanAddr(b, out)}
	}
	ports, stop := relay(b, peers)
	for _, pair := range ports {
		fmt.Fprintln(in, pair[0], pair[1])
	}
	runtime.GC()
	var sent, received int
	if _, err := fmt.Fscan(out, &sent, &received); err != nil { // warm: all latched, all stacks grown
		b.Fatal("the generator failed: ", err)
	}
	before, warm := cpuTime(), received
	if _, err := fmt.Fscan(out, &sent, &received); err != nil {
		b.Fatal("the generator failed: ", err)
	}
	used := cpuTime() - before
	stop()
	return float64(used.Nanoseconds()) / 1000 / float64(received-warm), received >= sent*99/100
}

func scanAddr(b *testing.B, r io.Reader) netip.AddrPort {
	var text string
	if _, err := fmt.Fscan(r, &text); err != nil {
		b.Fatal(err)
	}
	return netip.MustParseAddrPort(text)
}

// cpuTime is what this process has used, in user and kernel mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// plainLoops relays with two sockets a call and nothing else.
func plainLoops(b *testing.B, peers [][2]netip.AddrPort) (ports [][2]netip.AddrPort, stop func()) {
	var conns []*net.UDPConn
	var wg sync.WaitGroup
	for _, peer := range peers {
		ip := peer[0].Addr()
		pair := [2]*net.UDPConn{udp(b, ip), udp(b, ip)}
		conns = append(conns, pair[0], pair[1])
		for side := range pair {
			wg.Go(func() {
				buf := make([]byte, maxPacket)
				for {
					n, _, err := pair[side].ReadFromUDPAddrPort(buf)
					if errors.Is(err, net.ErrClosed) {
						return
					}
					_, _ = pair[1-side].WriteToUDPAddrPort(buf[:n], peer[1-side])
				}
			})
		}
		local := func(i int) netip.AddrPort { return pair[i].LocalAddr().(*net.UDPAddr).AddrPort() }
		ports = append(ports, [2]netip.AddrPort{local(0), local(1)})
	}
	return ports, func() {
		for _, c := range conns {
			c.Close()
		}
		wg.Wait()
	}
}

// sessions relays with the real thing.
func sessions(b *testing.B, peers [][2]netip.AddrPort) (ports [][2]netip.AddrPort, stop func()) {
	r, err := NewRelay(DefaultConfig(), Options{LocalAddress: peers[0][0].Addr()})
	if err != nil {
		b.Fatal(err)
	}
	for _, peer := range peers {
		s, err := r.Open(SessionOptions{})
		if err == nil {
			err = s.SetOffer(Trunk, body(peer[0], "8"))
		}
		if err == nil {
			_, err = s.Answer(Trunk)
		}
		if err == nil {
			_, err = s.Offer(Device)
		}
		if err == nil {
			err = s.SetAnswer(Device, body(peer[1], "8"))
		}
		if err != nil {
			b.Fatal(err)
		}
		s.Connect()
		var pair [2]netip.AddrPort
		for side := range pair {
			pair[side] = addrPort(s.audio.sockets[side].address, s.audio.sockets[side].port)
		}
		ports = append(ports, pair)
	}
	return ports, r.Close
}

// TestGenerator is the other process of BenchmarkRelayVsPlain: it prints its sockets' addresses, reads where to send,
// sends and counts, and prints the counts.
func TestGenerator(t *testing.T) {
	if os.Getenv(benchEnv) == "" {
		t.Skip("runs under BenchmarkRelayVsPlain only")
	}
	runtime.GOMAXPROCS(1)
	conns := make([]*net.UDPConn, 2*benchCalls)
	for i := range conns {
		conns[i] = udp(t, netip.MustParseAddr("127.0.0.1"))
		fmt.Println(conns[i].LocalAddr())
	}
	to := make([]netip.AddrPort, len(conns))
	for i := range to {
		var text string
		if _, err := fmt.Scan(&text); err != nil {
			t.Fatal(err)
		}
		to[i] = netip.MustParseAddrPort(text)
	}
	var received atomic.Int64
	for _, c := range conns {
		go func() {
			buf := make([]byte, maxPacket)
			for {
				if _, _, err := c.ReadFromUDPAddrPort(buf); err != nil {
					return
				}
				received.Add(1)
			}
		}()
	}
	talkers := make([]rtptest.Talker, len(conns))
	sent := generate(conns, to, talkers, benchWarm)
	fmt.Println(sent, received.Load())
	sent += generate(conns, to, talkers, benchTime)
	fmt.Println(sent, received.Load())
	os.Exit(0)
}

// generate sends every stream's packets at their times, the streams spread over the 20 ms.
func generate(conns []*net.UDPConn, to []netip.AddrPort, talkers []rtptest.Talker, length time.Duration) (sent int) {
	payload := make([]byte, 160)
	const slices = 10
	begin := time.Now()
	for tick := 0; time.Since(begin) < length; tick++ {
		for i := tick % slices; i < len(conns); i += slices {
			talkers[i].SSRC, talkers[i].Payload = uint32(i), 8
			if _, err := conns[i].WriteToUDPAddrPort(talkers[i].Next(payload), to[i]); err == nil {
				sent++
			}
		}
		time.Sleep(time.Until(begin.Add(time.Duration(tick+1) * frameTime / slices)))
	}
	return sent
}

// BenchmarkParked reports what a ringing call costs: its socket, its reader, its descriptions and its tone.
func BenchmarkParked(b *testing.B) {
	const calls = 2000
	for b.Loop() {
		cfg := DefaultConfig()
		r, err := NewRelay(cfg, Options{LocalAddress: netip.MustParseAddr("127.0.0.1")})
		if err != nil {
			b.Fatal(err)
		}
		before, routines := resident(b), runtime.NumGoroutine()
		for range calls {
			s, err := r.Open(SessionOptions{})
			if err == nil {
				err = s.SetOffer(Trunk, body(netip.MustParseAddrPort("127.0.0.1:9"), "8 0 101"))
			}
			if err == nil {
				_, err = s.Answer(Trunk)
			}
			if err == nil {
				err = s.Ringback()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		b.ReportMetric(float64(resident(b)-before)/calls, "B-resident/call")
		b.ReportMetric(float64(runtime.NumGoroutine()-routines)/calls, "goroutines/call")
		used := cpuTime()
		time.Sleep(4 * time.Second)
		b.ReportMetric(float64((cpuTime()-used).Microseconds())/4/calls, "cpu-µs/s/call")
		r.Close()
	}
	b.ReportMetric(0, "ns/op")
}

// resident is this process's memory in RAM.
func resident(b *testing.B) int {
	runtime.GC()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("needs /proc")
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// BenchmarkSetup is the media of a call from its beginning to its end, without a packet.
func BenchmarkSetup(b *testing.B) {
	r, err := NewRelay(DefaultConfig(), Options{LocalAddress: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	r.ports.rest = 0
	b.ReportAllocs()
	for b.Loop() {
		if err := oneCall(r, 2); err != nil {
			b.Fatal(err)
		}
	}
}
