package location

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func receive(t *testing.T, ch <-chan Binding) string {
	t.Helper()
	synctest.Wait()
	select {
	case b, ok := <-ch:
		if !ok {
			return "closed"
		}
		return b.FlowID
	default:
		return ""
	}
}

func TestWatchPresentThenNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		p := ada()
		p.register(t, l, time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		ch := feed(ctx, l.Watch("1001"))
		if got := receive(t, ch); got != "tcp/1" {
			t.Fatalf("present: %q", got)
		}
		if got := receive(t, ch); got != "" {
			t.Fatalf("nothing new, yet %q", got)
		}
		p.register(t, l, time.Hour)
		if got := receive(t, ch); got != "tcp/1" {
			t.Fatalf("refreshed: %q", got)
		}
		p.flow = "tcp/2"
		p.register(t, l, time.Hour)
		if got := receive(t, ch); got != "tcp/2" {
			t.Fatalf("moved: %q", got)
		}
		cancel()
		if got := receive(t, ch); got != "closed" {
			t.Fatalf("after cancel: %q", got)
		}
		p.register(t, l, time.Hour) // no one listens; no one minds
	})
}

func TestPublishAfterResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		ch := feed(t.Context(), l.Watch("1001"))
		p := ada()
		c := p.put(t, l, time.Hour)
		if got := flows(c.Bindings); got != "tcp/1 " {
			t.Errorf("the 200 would list %q", got)
		}
		if got := receive(t, ch); got != "" {
			t.Errorf("watcher got %q before the 200", got)
		}
		late := feed(t.Context(), l.Watch("1001")) // a call that comes in just now
		wantFlows(t, l, "1001", "")
		if got := flows(l.Authenticated("1001")); got != "tcp/1 " {
			t.Errorf("between the 200 and its publication, authenticated on %q", got)
		}
		c.Publish()
		if got := receive(t, ch); got != "tcp/1" {
			t.Errorf("watcher got %q after the 200", got)
		}
		if got := receive(t, late); got != "tcp/1" {
			t.Errorf("late watcher got %q after the 200", got)
		}
		wantFlows(t, l, "1001", "tcp/1")

		// A refresh on the same flow never leaves a gap.
		c = p.put(t, l, time.Hour)
		wantFlows(t, l, "1001", "tcp/1")
		c.Publish()
		receive(t, ch)

		// The flow dies between the update and the 200.
		p.flow = "tcp/2"
		c = p.put(t, l, time.Hour)
		l.FlowClosed("tcp/2")
		c.Publish()
		if got := receive(t, ch); got != "" {
			t.Errorf("watcher got %q on a dead flow", got)
		}
		wantFlows(t, l, "1001", "")
		if len(l.flows) != 0 {
			t.Errorf("%d dead flows remembered", len(l.flows))
		}

		// The 200 could not be sent.
		p.flow = "tcp/3"
		c = p.put(t, l, time.Hour)
		c.Drop()
		c.Publish()
		wantFlows(t, l, "1001", "")
	})
}

func TestPublishOfAnOvertakenChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		p := ada()
		first := p.put(t, l, time.Hour)
		p.flow = "tcp/2"
		second := p.put(t, l, time.Hour)
		first.Publish() // nothing of it is left
		wantFlows(t, l, "1001", "")
		first.Drop()
		second.Publish()
		wantFlows(t, l, "1001", "tcp/2")
	})
}

func TestWatchCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		watch := l.Watch("1001")
		next := func() string { b, _ := watch.Next(); return b.FlowID }
		p, q := ada(), ada()
		q.instance, q.prid, q.callID, q.flow = "urn:uuid:Q", "tokenQ", "q", "tcp/q"
		for i := range 1000 { // nobody reads, nobody waits
			p.flow = fmt.Sprint("tcp/", i)
			p.register(t, l, time.Hour)
			q.register(t, l, time.Hour)
		}
		got := map[string]bool{next(): true, next(): true}
		if !got["tcp/999"] || !got["tcp/q"] {
			t.Errorf("got %v: want the newest of each", got)
		}
		if got := next(); got != "" {
			t.Errorf("third %q", got)
		}
		for i := range 100 { // what comes and goes unread takes no room
			p.flow = fmt.Sprint("tcp/", i)
			p.register(t, l, time.Hour)
			l.FlowClosed(p.flow)
		}
		l.mu.Lock()
		for w := range l.accounts["1001"].watchers {
			if len(w.order) > 2 {
				t.Errorf("%d entries queued", len(w.order))
			}
		}
		l.mu.Unlock()
		if got := next(); got != "" {
			t.Errorf("a dead binding %q was kept for the reader", got)
		}
	})
}

func TestCloseEndsWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		ada().register(t, l, time.Hour)
		ch := feed(t.Context(), l.Watch("1001")) // blocked on a reader that never comes
		l.Close()
		if _, ok := <-ch; ok {
			<-ch
		}
	})
}

// TestWatchRace has phones that register while calls watch: each call must see
// each phone, whichever comes first.
func TestWatchRace(t *testing.T) {
	l := open(t, NewMemory())
	var group sync.WaitGroup
	const phones = 8
	for i := range 20 {
		aor := fmt.Sprint("aor", i)
		for n := range phones {
			group.Go(func() {
				p := ada()
				p.aor, p.instance, p.prid = aor, fmt.Sprint(n), fmt.Sprint(aor, n)
				u := p.update(time.Hour)
				u.MaxContacts = 0
				c, err := l.Put(context.Background(), u)
				if err != nil {
					t.Error(err)
					return
				}
				c.Publish()
			})
		}
		group.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			seen := map[string]bool{}
			for b := range feed(ctx, l.Watch(aor)) {
				seen[b.Instance] = true
				if len(seen) == phones {
					return
				}
			}
			t.Errorf("watch of %s ended after %d phones", aor, len(seen))
		})
	}
	group.Wait()
}

func TestWatchAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		ada().register(t, l, time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		all := feed(ctx, l.WatchAll())
		if got := receive(t, all); got != "tcp/1" {
			t.Fatalf("present: %q", got)
		}
		// Other AORs with the same binding key are other bindings.
		for i := range 3 {
			p := ada()
			p.aor, p.flow, p.prid = fmt.Sprint(i), fmt.Sprint("tcp/", i+10), fmt.Sprint(i)
			p.register(t, l, time.Hour)
		}
		for _, want := range []string{"tcp/10", "tcp/11", "tcp/12", ""} {
			if got := receive(t, all); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		cancel()
		if got := receive(t, all); got != "closed" {
			t.Errorf("after cancel: %q", got)
		}
		if len(l.everyone) != 0 {
			t.Error("the watcher is still known")
		}
	})
}

// feed reads a watch into a channel, which closes with it.
func feed(ctx context.Context, w *Watcher) <-chan Binding {
	ch := make(chan Binding)
	go func() {
		defer close(ch)
		for b := range w.All(ctx) {
			select {
			case ch <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch
}
