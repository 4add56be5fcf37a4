package push

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// quietly keeps a benchmark's log out of its figures.
func (w *world) quietly() *world {
	w.sender.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	return w
}

// BenchmarkSend is one push after the other over a loopback socket: TLS,
// HTTP/2 and the service's checks included.
func BenchmarkSend(b *testing.B) {
	w := newSocketWorld(b).quietly()
	w.send(testMessage("first"))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if out := w.send(testMessage(strconv.Itoa(i))); out.Verdict != Sent {
			b.Fatalf("outcome %+v", out)
		}
	}
}

// BenchmarkSendConcurrent is 200 pushes under way at once.
func BenchmarkSendConcurrent(b *testing.B) {
	w := newSocketWorld(b).quietly()
	w.send(testMessage("first"))
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 200 {
		wg.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if out := w.send(testMessage(strconv.FormatInt(i, 10))); out.Verdict != Sent {
					b.Errorf("outcome %+v", out)
				}
			}
		})
	}
	wg.Wait()
	if c := w.service.Counts(); c.Accepted != b.N+1 {
		b.Errorf("%d accepted, want %d", c.Accepted, b.N+1)
	}
}

// BenchmarkSendToWire is the time from Send to the complete request at the
// service, at 100 pushes a second: median and 99th percentile.
func BenchmarkSendToWire(b *testing.B) {
	w := newSocketWorld(b).quietly()
	w.send(testMessage("first"))
	<-w.service.Pushes()
	var took []time.Duration
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; b.Loop(); i++ {
		<-tick.C
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		out := w.sender.Send(ctx, "d", Target{Provider: "apns", Param: testParam, PRID: testToken}, testMessage(strconv.Itoa(i)))
		cancel()
		if out.Verdict != Sent {
			b.Fatalf("outcome %+v", out)
		}
		took = append(took, (<-w.service.Pushes()).At.Sub(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkDedupe is the bookkeeping of one push.
func BenchmarkDedupe(b *testing.B) {
	d := newDedupe(dedupeFor, dedupeMost)
	now := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key := keyOf(strconv.Itoa(i), "device")
		e, _ := d.claim(key, now)
		d.settle(key, e, Outcome{Verdict: Sent}, now)
	}
}
