package rtp

import (
	"slices"
	"sync"
	"time"
)

// job is what sends packets by the clock: a ringback, or digits.
type job interface {
	// tick sends what is due. buf is for building a packet, and is the scheduler's again when tick returns.
	tick(now moment, buf []byte)
	// halt waits for a running tick. Nothing is sent once it returns.
	halt()
}

// scheduler has one goroutine for the jobs of all calls, which runs only while there are any. They have their turns in
// a constant order, so that the packets of each are equally far from each other however many there are.
type scheduler struct {
	now func() moment

	mu      sync.Mutex // guards the following
	jobs    []job
	running bool
	done    sync.WaitGroup
}

func newScheduler(now func() moment) *scheduler { return &scheduler{now: now} }

// start adds a job. Its first turn is at once if it is the only one, else with those of the others.
func (c *scheduler) start(j job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs = append(c.jobs, j)
	if !c.running {
		c.running = true
		c.done.Go(c.run)
	}
}

// stop takes a job out. It sends nothing once this returns.
func (c *scheduler) stop(j job) {
	c.remove(j)
	j.halt()
}

// remove takes a job out, whose tick may be running.
func (c *scheduler) remove(j job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.jobs, j); i >= 0 {
		c.jobs = slices.Delete(c.jobs, i, i+1)
	}
}

// wait returns when there is no job.
func (c *scheduler) wait() { c.done.Wait() }

// run gives the jobs their turns until none is left.
func (c *scheduler) run() {
	ticker := time.NewTicker(frameTime)
	defer ticker.Stop()
	buf := make([]byte, 12+frameSamples, maxPacket) // SRTP lets a packet grow
	var round []job
	for {
		round = c.list(round[:0])
		if len(round) == 0 {
			return
		}
		now := c.now()
		for _, j := range round {
			j.tick(now, buf)
		}
		clear(round)
		<-ticker.C
	}
}

// list copies the jobs; with none it marks the scheduler as stopped.
func (c *scheduler) list(into []job) []job {
	c.mu.Lock()
	defer c.mu.Unlock()
	into = append(into, c.jobs...)
	c.running = len(into) > 0
	return into
}
