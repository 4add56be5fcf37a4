package push

import (
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"reveille/push/pushtest"
)

// BenchmarkSendAtRate offers 2,000 pushes a second for 5 s, evenly, whatever
// becomes of those before, to the service on a loopback socket in this process:
// time from Send to the complete request there, and CPU of both together.
func BenchmarkSendAtRate(b *testing.B) {
	b.Run("APNs", func(b *testing.B) {
		w := newSocketWorld(b).quietly()
		sendAtRate(b, w.service.Pushes(), func(m Message) Outcome { return w.send(m) })
	})
	b.Run("FCM", func(b *testing.B) {
		w := newFCMSocketWorld(b)
		w.sender.log = slog.New(slog.DiscardHandler)
		sendAtRate(b, w.service.Pushes(), func(m Message) Outcome { return w.send(m) })
	})
}

func sendAtRate(b *testing.B, pushes <-chan pushtest.Push, send func(Message) Outcome) {
	const rate, seconds = 2000, 5
	send(testMessage("first"))
	<-pushes
	for b.Loop() {
		sent := make([]time.Time, rate*seconds)
		took := make([]time.Duration, 0, len(sent))
		failed := make(chan struct{}, len(sent))
		var arrivals, sends sync.WaitGroup
		arrivals.Go(func() {
			for range sent {
				select {
				case p := <-pushes:
					i, _ := strconv.Atoi(p.Payload["handle"].(string))
					took = append(took, p.At.Sub(sent[i]))
				case <-failed:
				}
			}
		})
		var before, after syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &before)
		start := time.Now()
		for i := range sent {
			time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / rate)))
			m := testMessage(start.String() + strconv.Itoa(i))
			m.Handle = strconv.Itoa(i)
			sent[i] = time.Now()
			sends.Go(func() {
				if out := send(m); out.Verdict != Sent {
					b.Errorf("outcome %+v", out)
					failed <- struct{}{}
				}
			})
		}
		sends.Wait()
		elapsed := time.Since(start)
		syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		arrivals.Wait()
		slices.Sort(took)
		b.ReportMetric(float64(len(sent))/elapsed.Seconds(), "pushes/s")
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		b.ReportMetric(float64(cpuOf(after)-cpuOf(before))/float64(time.Microsecond)/float64(len(sent)), "cpu-µs/push")
	}
}

func cpuOf(r syscall.Rusage) time.Duration {
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
