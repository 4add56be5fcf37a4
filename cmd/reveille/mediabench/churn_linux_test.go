package mediabench

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// How BenchmarkChurn works: churnLive calls talk, and every churnEvery the oldest churnBatch of them end and as many
// new ones begin, 5,000 a minute. Before a call is closed, what its ends have sent has arrived.
const (
	churnLive  = 500
	churnBatch = 20
	churnEvery = 240 * time.Millisecond
	churnTime  = time.Minute
	inFlight   = 60 * time.Millisecond
	// churnPorts are those of the calls that live and of those whose ports rest (5 s, 417 calls), and a few: a leak of
	// one call in fifty exhausts them. fillCalls is how many calls fit.
	churnPorts = "20000-24099"
	fillCalls  = 4100 / 4
	resting    = 5200 * time.Millisecond
)

// churned is what one run of the churn has shown.
type churned struct {
	name          string
	calls         int
	setUp         []time.Duration // a batch at a time
	process       time.Duration   // processor time of the relay, packets and calls
	tally         tally
	before, after goMemory
	talking       goMemory
	fit           int // calls that fitted into the port range afterwards
}

var lastChurn atomic.Pointer[[]churned]

// BenchmarkChurn sets calls up and tears them down while others talk, and looks for what is left behind.
func BenchmarkChurn(b *testing.B) {
	s, err := readSettings()
	if err != nil {
		b.Fatal(err)
	}
	if len(s.only) > 0 && !slices.Contains(s.only, "churn") {
		b.Skip("ONLY is without churn")
	}
	bed, err := newBed()
	if err != nil {
		b.Fatal(err)
	}
	defer bed.close()
	var list []churned
	for b.Loop() {
		for _, name := range []string{"sockets", "kernel"} {
			length := churnTime
			if s.short {
				length = s.window
			}
			c, err := bed.churn(row{name: name}, length)
			if err != nil {
				fmt.Fprintf(os.Stderr, "churn, %s: left out: %v\n", name, err)
				continue
			}
			fmt.Fprintf(os.Stderr, "churn, %s: %d calls\n", name, c.calls)
			list = append(list, c)
		}
	}
	b.ReportMetric(0, "ns/op")
	lastChurn.Store(&list)
	if len(list) == 0 {
		b.Fatal("nothing could be measured")
	}
}

// churner is a run of it.
type churner struct {
	*bed
	relay process
	live  []call // by slot
	next  int    // number of the next call
	done  churned
}

func (b *bed) churn(r row, length time.Duration) (churned, error) {
	relay, err := startRelay(b, r, churnPorts)
	if err != nil {
		return churned{}, err
	}
	defer relay.stop()
	c := &churner{bed: b, relay: relay, done: churned{name: r.name}}
	defer func() { _ = b.generator.call("stop", none{}, nil) }()
	return c.done, c.run(length)
}

func (c *churner) run(length time.Duration) error {
	if err := c.begin(); err != nil {
		return err
	}
	pid := c.relay.pid()
	start := used(pid, 0, nil)
	tick := time.NewTicker(churnEvery)
	defer tick.Stop()
	for slot, left := 0, int(length/churnEvery); left > 0; left-- {
		<-tick.C
		if err := c.replace(slot); err != nil {
			return fmt.Errorf("after %d calls: %w", c.done.calls, err)
		}
		slot = (slot + churnBatch) % churnLive
	}
	c.done.process = used(pid, 0, nil).since(start).row
	return c.finish()
}

// begin has all of the first calls talk. What is left behind is compared with memory as it was after a few calls: they
// make what stays.
func (c *churner) begin() error {
	few := newCalls(churnBatch, "")
	if err := c.talk(few); err != nil {
		return err
	}
	if err := c.generator.call("stop", none{}, nil); err != nil {
		return err
	}
	time.Sleep(inFlight)
	if err := c.relay.call("close", few, nil); err != nil {
		return err
	}
	if err := c.relay.call("memory", true, &c.done.before); err != nil {
		return err
	}
	c.live, c.next = newCalls(churnLive, ""), churnLive
	if err := c.talk(c.live); err != nil {
		return err
	}
	return c.generator.call("open", none{}, nil)
}

// talk sets calls up and plays them.
func (c *churner) talk(calls []call) error {
	routes, err := c.relay.open(calls)
	if err != nil {
		return err
	}
	copyPorts(calls, routes)
	if err := c.play(routes); err != nil {
		return err
	}
	time.Sleep(warm)
	return nil
}

// copyPorts notes where the relay listens, which open has told in the routes.
func copyPorts(calls []call, routes []route) {
	for i := range calls {
		calls[i].ToDevice, calls[i].ToTrunk = routes[2*i].Dst, routes[2*i+1].Dst
	}
}

// replace ends the calls of some slots, and begins others in their place, at other ports of the generator's.
func (c *churner) replace(slot int) error {
	old := c.live[slot : slot+churnBatch]
	if err := c.generator.call("change", load{First: 2 * slot, Routes: make([]route, 2*churnBatch)}, nil); err != nil {
		return err
	}
	time.Sleep(inFlight)
	if err := c.relay.call("close", old, nil); err != nil {
		return err
	}
	fresh := make([]call, churnBatch)
	for i := range fresh {
		port := firstPort + 2*((c.next+i)%(4*churnLive)) // none that was in use a moment ago
		fresh[i] = call{Device: at(peerDevice, port), Trunk: at(peerTrunk, port)}
	}
	c.next += churnBatch
	began := time.Now()
	routes, err := c.relay.open(fresh)
	if err != nil {
		return err
	}
	c.done.setUp = append(c.done.setUp, time.Since(began)/churnBatch)
	copyPorts(fresh, routes)
	copy(old, fresh)
	c.done.calls += churnBatch
	return c.generator.call("change", load{First: 2 * slot, Routes: routes, Peers: c.peers}, nil)
}

// finish ends all calls and counts what is left.
func (c *churner) finish() error {
	time.Sleep(warm) // the last have latched
	if err := c.relay.call("memory", false, &c.done.talking); err != nil {
		return err
	}
	if err := c.generator.call("shut", none{}, nil); err != nil {
		return err
	}
	time.Sleep(drain)
	if err := c.generator.call("tally", none{}, &c.done.tally); err != nil {
		return err
	}
	if err := c.generator.call("stop", none{}, nil); err != nil {
		return err
	}
	if err := c.relay.call("close", c.live, nil); err != nil {
		return err
	}
	time.Sleep(resting)
	if err := c.relay.call("memory", true, &c.done.after); err != nil {
		return err
	}
	return c.relay.call("fill", none{}, &c.done.fit)
}

func (c churned) print(w io.Writer) {
	slices.Sort(c.setUp)
	quantile := func(q float64) time.Duration { return c.setUp[int(q*float64(len(c.setUp)-1))].Round(time.Microsecond) }
	fmt.Fprintf(w, "%-14s  %d calls set up and torn down beside %d that talk; set up in %v (p99 %v) each; %.1f %% of a processor\n",
		"churn, "+c.name, c.calls, churnLive, quantile(.5), quantile(.99),
		100*c.process.Seconds()/(float64(c.calls)/churnBatch*churnEvery.Seconds()))
	fmt.Fprintf(w, "%-14s packets: %d sent, %d lost, %d twice, bad %v, p99 %v; in the kernel: %d directions\n", "",
		c.tally.Sent, c.tally.Sent-c.tally.Arrived, c.tally.Twice, c.tally.Bad, c.tally.P99.Round(time.Microsecond), c.talking.Fast)
	for _, left := range []struct {
		what string
		n    int
	}{
		{"descriptors", c.after.Files - c.before.Files},
		{"goroutines", c.after.Goroutines - c.before.Goroutines},
		{"calls' ports", fillCalls - c.fit},
		{"directions in the kernel", c.after.Fast},
		{"packets", int(c.tally.Sent - c.tally.Arrived)},
	} {
		verdict := "met"
		if left.n > 0 {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%-6s  churn, %s: %s left behind: %d\n", verdict, c.name, left.what, left.n)
	}
}
