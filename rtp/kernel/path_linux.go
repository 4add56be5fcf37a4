//go:build amd64 || arm64

package kernel

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

//go:embed relay.o
var object []byte

// leaseTime is how long the program works on without a sign of life from this process; leaseEvery is how often it gives
// one. Only a filter of older kernels outlives its process at all.
const (
	leaseTime  = 10 * time.Second
	leaseEvery = time.Second
)

// Path is the fast path of one relay. Its methods may be called from any goroutine, those that name a port by one at a
// time for each port.
type Path struct {
	log     *slog.Logger
	first   uint16 // port of entry 0
	epoch   time.Duration
	program *ebpf.Program
	streams *ebpf.Map
	lease   *ebpf.Variable
	memory  []byte
	entries []entry // in memory, shared with the program
	legacy  bool    // clsact where TCX would do: for tests
	watch   *watcher
	sign    *sign // of who made the filters; nil: there are none. The watcher's
	streamN atomic.Int64
	ending  sync.Once

	mu        sync.Mutex // guards the following
	routes    map[way]*route
	installed map[uint16]*[2]*route
	attached  map[int]detach // by interface; nil: it cannot be
	closed    bool
}

// Open loads the program for the even ports from first to last. epoch is moment 0 of the figures, on the monotonic clock
// of this machine (clock_gettime(2), CLOCK_MONOTONIC). The error says in words for an administrator why it cannot be.
func Open(first, last uint16, epoch time.Duration, log *slog.Logger) (*Path, error) {
	return open(first, last, epoch, log, false)
}

func open(first, last uint16, epoch time.Duration, log *slog.Logger, legacy bool) (*Path, error) {
	p := &Path{
		log: log, first: first, epoch: epoch, legacy: legacy,
		routes: map[way]*route{}, installed: map[uint16]*[2]*route{}, attached: map[int]detach{},
	}
	if err := p.load(uint32(last-first)/2 + 1); err != nil {
		return nil, explain(err)
	}
	var err error
	if p.watch, err = watch(p); err != nil {
		p.unload()
		return nil, explain(err)
	}
	return p, nil
}

// load loads the program, with room for n streams.
func (p *Path) load(n uint32) error {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return err
	}
	spec.Maps["streams"].MaxEntries = n
	if err := spec.Variables["first_port"].Set(p.first); err != nil {
		return err
	}
	_ = rlimit.RemoveMemlock() // kernels before 5.11 count maps as locked memory; the load says if it matters
	set, err := ebpf.NewCollection(spec)
	if err != nil {
		return err
	}
	defer set.Close()
	p.program, p.streams = set.DetachProgram("relay"), set.DetachMap("streams")
	p.lease = set.Variables["lease"]
	delete(set.Variables, "lease")
	size := int(unsafe.Sizeof(entry{})) * int(n)
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	p.memory, err = unix.Mmap(p.streams.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		p.entries = unsafe.Slice((*entry)(unsafe.Pointer(&p.memory[0])), n)
		err = p.renew()
	}
	if err != nil {
		p.unload()
	}
	return err
}

// unload undoes load.
func (p *Path) unload() {
	p.program.Close()
	p.streams.Close()
	if p.memory != nil {
		_ = unix.Munmap(p.memory)
	}
}

// renew is the sign of life.
func (p *Path) renew() error {
	return p.lease.Set(uint64(Clock() + leaseTime))
}

// Clock is the clock that the program uses.
func Clock() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it cannot fail
	return time.Duration(t.Nano())
}

// explain puts an error of the system in words.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		// The library advises on RLIMIT_MEMLOCK, which no kernel that can do this holds BPF to any more.
		plain, _, _ := strings.Cut(err.Error(), " (MEMLOCK")
		return fmt.Errorf("it is not permitted: the process needs CAP_BPF and CAP_NET_ADMIN (%s)", plain)
	case errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("this kernel cannot do it, 5.12 or later is needed (%w)", err)
	}
	return err
}

// entry is that of a port.
func (p *Path) entry(port uint16) *entry {
	if i := int(port) - int(p.first); i >= 0 && i&1 == 0 && i/2 < len(p.entries) {
		return &p.entries[i/2]
	}
	return nil
}

// Install gives a flow to the program, with the figures so far. It reports false where it cannot be: never, for
// addresses that only the sockets can serve, or not yet, while the way to them is not known or f is not Ready. It does
// not wait.
func (p *Path) Install(f *Flow, got *Reception) bool {
	e := p.entry(f.Local.Port())
	if e == nil || !suits(f) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	in, out := p.route(f.Peer.Addr(), f.Local.Addr()), p.route(f.Target.Addr(), f.Source.Addr())
	if p.closed || in == nil || out == nil || !joins(in, out) || p.installed[f.Local.Port()] != nil {
		return false
	}
	e.fill(f, in, out, int64(p.epoch))
	e.got = *got
	if f.Ready != nil && !f.Ready() {
		return false
	}
	in.used++
	out.used++
	p.installed[f.Local.Port()] = &[2]*route{in, out}
	p.streamN.Add(1)
	atomic.StoreUint32(&e.state, stateIdle)
	return true
}

// suits reports whether the program can do at all what is asked.
func suits(f *Flow) bool {
	six := f.Peer.Addr().Is6()
	for _, a := range []netip.AddrPort{f.Peer, f.Local, f.Source, f.Target} {
		if !a.IsValid() || a.Port() == 0 || a.Addr().Is6() != six || a.Addr().Is4In6() || a.Addr().Zone() != "" ||
			a.Addr().IsMulticast() || a.Addr().IsLinkLocalUnicast() {
			return false
		}
	}
	return len(f.Formats) <= MaxFormats && !f.Peer.Addr().IsUnspecified() && !f.Target.Addr().IsUnspecified()
}

// Remove takes a flow back, and gives its figures. Once it returns, the program does nothing with the port's packets.
// It reports false, and leaves got, if there was none.
func (p *Path) Remove(port uint16, got *Reception) bool {
	p.mu.Lock()
	by := p.installed[port]
	if by != nil {
		by[0].used--
		by[1].used--
		delete(p.installed, port)
	}
	p.mu.Unlock()
	if by == nil {
		return false
	}
	p.streamN.Add(-1)
	e := p.entry(port)
	e.seize()
	*got = e.got
	return true
}

// Read gives the figures of an installed flow as they are now.
func (p *Path) Read(port uint16, got *Reception) { p.entry(port).read(got) }

// Streams is how many flows are installed.
func (p *Path) Streams() int { return int(p.streamN.Load()) }

// Close detaches the program. No flow may be installed or asked for any more.
func (p *Path) Close() { p.ending.Do(p.end) }

func (p *Path) end() {
	p.watch.close()
	p.mu.Lock()
	p.closed = true
	for _, d := range p.attached {
		if d != nil {
			d()
		}
	}
	p.mu.Unlock()
	p.sign.close()
	p.unload()
}
