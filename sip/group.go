package sip

import "sync"

// group counts goroutines like sync.WaitGroup, but one may be added while
// another goroutine waits: a BYE may begin while the server is closing.
type group struct {
	mu   sync.Mutex // guards the following
	n    int
	none *sync.Cond
}

func newGroup() *group {
	g := &group{}
	g.none = sync.NewCond(&g.mu)
	return g
}

// Go runs f on a goroutine of the group's.
func (g *group) Go(f func()) {
	g.mu.Lock()
	g.n++
	g.mu.Unlock()
	go func() {
		defer func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.n--; g.n == 0 {
				g.none.Broadcast()
			}
		}()
		f()
	}()
}

// Wait returns when no goroutine of the group's is left.
func (g *group) Wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.n > 0 {
		g.none.Wait()
	}
}
