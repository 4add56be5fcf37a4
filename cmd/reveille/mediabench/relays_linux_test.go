package mediabench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/rtp"
)

// process is a row that this program plays in a process of its own: "ours" or "plain".
type process struct{ *child }

func (p process) pid() int { return p.cmd.Process.Pid }
func (p process) stop()    { p.end() }

func (p process) open(calls []call) ([]route, error) {
	if err := p.call("open", calls, &calls); err != nil {
		return nil, err
	}
	return throughRelay(calls), nil
}

func startPlain(b *bed, _ row) (system, error) {
	c, err := role("plain", b.relayCPU, nil)
	return process{c}, err
}

// ask is what our relay is made with.
type ask struct{ FastPath, Ports string }

// relayPorts are the relays' ports, and how many calls they hold.
const (
	relayPorts = "20000-59999"
	relayCalls = 40000 / 4
)

func startOurs(b *bed, r row) (system, error) { return startRelay(b, r, relayPorts) }

// startRelay starts our relay with a port range; a row whose name begins with "kernel" with the fast path.
func startRelay(b *bed, r row, ports string) (process, error) {
	c, err := role("ours", b.relayCPU, nil)
	if err != nil {
		return process{}, err
	}
	fast := "off"
	if strings.HasPrefix(r.name, "kernel") {
		fast = "auto"
	}
	if err := c.call("relay", ask{fast, ports}, nil); err != nil {
		c.end()
		return process{}, err
	}
	return process{c}, nil
}

// goMemory is what the Go runtime of a row's process says of its memory.
type goMemory struct {
	Allocated  uint64 // objects since the process began
	Heap       uint64 // live bytes, if collected first
	Goroutines int
	Files      int // open ones; where collected first
	Fast       int // directions of calls that the kernel relays, of our relay
}

// memoryMethods are for rows that are Go; fast tells the directions of calls that the kernel relays.
func memoryMethods(fast func() int) map[string]method {
	return map[string]method{
		"memory": does(func(collect bool) (g goMemory, err error) {
			if collect {
				var files []os.DirEntry
				files, err = os.ReadDir("/proc/self/fd")
				g.Files = len(files) - 1
				debug.FreeOSMemory() // as the product does when a burst is over
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			g.Allocated, g.Heap, g.Goroutines, g.Fast = m.Mallocs, m.HeapAlloc, runtime.NumGoroutine(), fast()
			return g, err
		}),
		"profile": does(func(name string) (none, error) {
			if name == "" {
				pprof.StopCPUProfile()
				return none{}, nil
			}
			f, err := os.Create(name)
			if err != nil {
				return none{}, err
			}
			return none{}, pprof.StartCPUProfile(f)
		}),
	}
}

// ours is the process of our relay.
type ours struct {
	relay    *rtp.Relay
	metrics  *prometheus.Registry
	sessions map[netip.AddrPort]*rtp.Session // by the device's address
}

func oursMethods() map[string]method {
	o := &ours{metrics: prometheus.NewRegistry(), sessions: map[netip.AddrPort]*rtp.Session{}}
	methods := memoryMethods(o.fast)
	methods["relay"] = does(o.make)
	methods["open"] = does(func(calls []call) ([]call, error) {
		for i := range calls {
			if err := o.open(&calls[i]); err != nil {
				return nil, fmt.Errorf("call %d: %w", i, err)
			}
		}
		return calls, nil
	})
	methods["close"] = does(func(calls []call) (none, error) {
		for _, c := range calls {
			if s := o.sessions[c.Device]; s != nil {
				s.Close()
				delete(o.sessions, c.Device)
			}
		}
		return none{}, nil
	})
	methods["fill"] = does(o.fill)
	return methods
}

// fill opens sessions until there are no ports, and closes them all.
func (o *ours) fill(none) (n int, err error) {
	var list []*rtp.Session
	for err == nil {
		var s *rtp.Session
		if s, err = o.relay.Open(rtp.SessionOptions{}); err == nil {
			list = append(list, s)
		}
	}
	for _, s := range list {
		s.Close()
	}
	if errors.Is(err, rtp.ErrNoPorts) {
		err = nil
	}
	return len(list), err
}

func (o *ours) make(a ask) (_ none, err error) {
	cfg := rtp.DefaultConfig()
	cfg.Ports, cfg.FastPath = a.Ports, a.FastPath
	o.relay, err = rtp.NewRelay(cfg, rtp.Options{LocalAddress: netip.MustParseAddr(relayDevice), Registerer: o.metrics})
	return none{}, err
}

// fast reads the relay's own metric.
func (o *ours) fast() int {
	families, err := o.metrics.Gather()
	if err != nil {
		return 0
	}
	for _, f := range families {
		if f.GetName() == "reveille_rtp_fast_path_streams" {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return 0
}

// open sets a call up as the bridge does: the trunk's offer, the offer to the device, the two answers.
func (o *ours) open(c *call) error {
	s, err := o.relay.Open(rtp.SessionOptions{
		TrunkAddress: netip.MustParseAddr(relayTrunk), DeviceAddress: netip.MustParseAddr(relayDevice),
	})
	if err != nil {
		return err
	}
	o.sessions[c.Device] = s
	s.Secret(rtp.Device, c.Suite != "")
	if err := s.SetOffer(rtp.Trunk, describe(c.Trunk, "RTP/AVP", "", "", nil)); err != nil {
		return err
	}
	offer, err := s.Offer(rtp.Device)
	if err != nil {
		return err
	}
	var profile, tag string
	if c.ToDevice, profile, tag, c.RelayKey, err = read(offer, c.Suite); err != nil {
		return err
	}
	if err := s.SetAnswer(rtp.Device, describe(c.Device, profile, tag, c.Suite, c.DeviceKey)); err != nil {
		return err
	}
	answer, err := s.Answer(rtp.Trunk)
	if err != nil {
		return err
	}
	if c.ToTrunk, _, _, _, err = read(answer, ""); err != nil {
		return err
	}
	s.Connect()
	return nil
}

func plainMethods() map[string]method {
	methods := memoryMethods(func() int { return 0 })
	methods["open"] = does(func(calls []call) ([]call, error) {
		for i := range calls {
			if err := plain(&calls[i]); err != nil {
				return nil, err
			}
		}
		return calls, nil
	})
	return methods
}

// plain relays a call with two sockets, and nothing else.
func plain(c *call) error {
	device, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at(relayDevice, 0)))
	if err != nil {
		return err
	}
	trunk, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at(relayTrunk, 0)))
	if err != nil {
		return err
	}
	c.ToDevice = local(device)
	c.ToTrunk = local(trunk)
	go copyPackets(device, trunk, c.Trunk)
	go copyPackets(trunk, device, c.Device)
	return nil
}

func local(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func copyPackets(from, to *net.UDPConn, peer netip.AddrPort) {
	buf := make([]byte, 1536)
	for {
		n, _, err := from.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = to.WriteToUDPAddrPort(buf[:n], peer)
	}
}
