package mediabench

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	frameTime = 20 * time.Millisecond
	// pace is how often the generator wakes: what is due by then leaves.
	pace = 100 * time.Microsecond
	// burst is how many packets may leave at a time before what has come back is taken.
	burst = 64
	// stall is how late the generator may be and still catch up.
	stall = 10 * time.Millisecond
)

// load is what the generator is told to play.
type load struct {
	Routes []route
	First  int               // place of the first route, of a change
	Peers  [linkCount][]byte // Ethernet address at the other end of each link
}

// tally is what the generator counted in a window.
type tally struct {
	Sent, Arrived, Twice uint64
	Bad                  map[fault]uint64 // since the load began
	Example              string           // of what is bad
	P50, P99, Max        time.Duration
	Late                 time.Duration // p99 of how late packets were sent
	Overruns             int           // packets that the generator itself lost
	Stalls               int           // how often it was held up by more than it could make up for
}

// generator plays streams and checks what comes back, in one goroutine that owns all of it.
type generator struct {
	links   [linkCount]*link
	orders  chan func()
	streams []*stream
	place   []int // of each route among the streams
	base    uint32
	pattern []byte
	began   int64 // when packet 0 of the first stream was due
	played  int64 // packets due since then that have been sent

	from, until        int64 // window: packets sent then count
	arrivals           uint64
	sent, first, twice uint64
	stalls             int
	bad                map[fault]uint64
	example            string
	delay, late        histogram
}

func generatorMethods() map[string]method {
	debug.SetGCPercent(400)
	runtime.GOMAXPROCS(2) // one plays, the other answers
	g := &generator{orders: make(chan func()), pattern: pattern(), bad: map[fault]uint64{}}
	go g.run()
	return map[string]method{
		"links": does(func(names []string) (macs [linkCount][]byte, err error) {
			err = g.order(func() error { return g.attach(names) })
			for i, l := range g.links {
				if l != nil {
					macs[i] = l.mac
				}
			}
			return macs, err
		}),
		"play":   does(func(l load) (none, error) { return none{}, g.order(func() error { return g.play(l) }) }),
		"change": does(func(l load) (none, error) { return none{}, g.order(func() error { return g.change(l.First, l) }) }),
		"stop":   does(func(none) (none, error) { return none{}, g.order(func() error { g.streams = nil; return nil }) }),
		"open": does(func(none) (n uint64, err error) {
			return n, g.order(func() error { g.open(); n = g.arrivals; return nil })
		}),
		"shut": does(func(none) (n uint64, err error) {
			return n, g.order(func() error { g.until = now(); n = g.arrivals; return nil })
		}),
		"tally": does(func(none) (t tally, err error) {
			return t, g.order(func() error { t = g.tally(); return nil })
		}),
	}
}

// attach opens the links, which the benchmark has made.
func (g *generator) attach(names []string) error {
	for i, name := range names {
		if err := up(name); err != nil {
			return err
		}
		l, err := openLink(name)
		if err == nil {
			l.drop, err = drop(name)
		}
		if err != nil {
			return fmt.Errorf("the generator cannot use %s: %w", name, err)
		}
		g.links[i] = l
	}
	return nil
}

// order has something done by the goroutine that owns the generator.
func (g *generator) order(f func() error) error {
	result := make(chan error)
	g.orders <- func() { result <- f() }
	return <-result
}

func now() int64 { return time.Now().UnixNano() }

// play begins with a load. Streams have random places in the 20 ms, so that neighbours in time are no neighbours in
// the relay.
func (g *generator) play(l load) error {
	g.base += 1 << 20 // nothing of an earlier load is taken for one of this
	g.streams, g.place = make([]*stream, len(l.Routes)), rand.Perm(len(l.Routes))
	if err := g.change(0, l); err != nil {
		return err
	}
	g.bad, g.example = map[fault]uint64{}, ""
	runtime.GC()
	g.began, g.played = now(), 0
	return nil
}

// change puts other streams in the places of some. An empty route ends what is there, but for what is on its way.
func (g *generator) change(first int, l load) error {
	for i, r := range l.Routes {
		place := g.place[first+i]
		if !r.Dst.IsValid() {
			g.streams[place].over = true
			continue
		}
		s, err := newStream(r, g.base+uint32(place), g.links[r.Out].mac, l.Peers[r.Out])
		if err != nil {
			return err
		}
		g.streams[place] = s
	}
	return nil
}

func (g *generator) open() {
	g.from, g.until = now(), 1<<62
	g.sent, g.first, g.twice, g.stalls = 0, 0, 0, 0
	g.delay, g.late = histogram{}, histogram{}
	for _, l := range g.links {
		if l != nil {
			l.overruns()
		}
	}
}

func (g *generator) tally() tally {
	t := tally{Sent: g.sent, Arrived: g.first, Twice: g.twice, Bad: maps.Clone(g.bad), Example: g.example,
		P50: g.delay.quantile(.5), P99: g.delay.quantile(.99), Max: time.Duration(g.delay.max), Late: g.late.quantile(.99), Stalls: g.stalls}
	for _, l := range g.links {
		if l != nil {
			t.Overruns += l.overruns()
		}
	}
	return t
}

func (g *generator) run() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for {
		select {
		case f := <-g.orders:
			f()
		default:
		}
		g.send()
		for i, l := range g.links {
			if l != nil {
				g.receive(i, l)
			}
		}
		if g.streams == nil {
			time.Sleep(time.Millisecond)
		} else if behind := g.due(now()) - g.played; behind < burst {
			nap(pace - time.Duration(now()-g.began)%pace)
		}
	}
}

// nap sleeps without the scheduler's knowledge: nothing else has to run meanwhile but what answers the benchmark, for
// which there is another thread.
func nap(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// due is how many packets should have left at a time.
func (g *generator) due(at int64) int64 {
	return (at - g.began) * int64(len(g.streams)) / int64(frameTime)
}

// send sends what is due.
func (g *generator) send() {
	n := int64(len(g.streams))
	if n == 0 {
		return
	}
	start := now()
	due := g.due(start)
	if late := time.Duration(due-g.played) * frameTime / time.Duration(n); late > stall {
		// The machine had no time for us. Phones elsewhere would have gone on: what they would have sent is left out.
		g.began += int64(late)
		g.stalls++
		return
	}
	for due = min(due, g.played+burst); g.played < due; g.played++ {
		s := g.streams[g.played%n]
		if s.over {
			continue
		}
		frame, err := s.build(g.pattern)
		if err != nil {
			g.fault("seal", nil)
			continue
		}
		at := now()
		s.note(at)
		if err := g.links[s.Out].send(frame); err != nil {
			g.fault(fault(err.Error()), nil)
		}
		if at >= g.from && at < g.until {
			g.sent++
			g.late.add(at - g.began - g.played*int64(frameTime)/n)
		}
	}
}

// receive takes what has arrived on a link.
func (g *generator) receive(number int, l *link) {
	for {
		frame, at := l.take()
		if frame == nil {
			return
		}
		g.take(number, frame, at)
		l.done()
	}
}

func (g *generator) take(link int, frame []byte, at int64) {
	s, rtp, why := identify(frame, link, g.base, g.streams)
	if s == nil && why == "" {
		return
	}
	g.arrivals++
	if why == "" {
		var p *sent
		if p, why = s.accept(g.pattern, rtp); why == "" {
			g.count(p, at)
			return
		}
	}
	g.fault(why, frame)
}

func (g *generator) count(p *sent, at int64) {
	if p == nil {
		return
	}
	counts := p.at >= g.from && p.at < g.until
	if p.arrived {
		if counts {
			g.twice++
		}
		return
	}
	p.arrived = true
	if counts {
		g.first++
		g.delay.add(at - p.at)
	}
}

func (g *generator) fault(why fault, frame []byte) {
	if g.bad[why]++; g.example == "" {
		g.example = fmt.Sprintf("%s: %x", why, frame[:min(len(frame), 80)])
	}
}

// startGenerator starts it in a network of its own.
func startGenerator(cpu int) (*child, error) {
	return role("generator", cpu, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	})
}
