package loadtest

import (
	"fmt"
	"sort"
	"sync"
	"testing"
	"time"
)

// unlimited lets a load be of few callers and callees.
const unlimited = "limits: {push_per_minute: 0, push_per_hour: 0, calls_per_callee: 0, calls_per_caller: 0}"

const peerTrunk = "trunks:\n  - {name: carrier, peers: [127.0.0.1], early_media: %v}\n"

// registerAll provisions every extension's device: REGISTER with its push
// token, then the connection closes. The device stays, asleep.
func (r *rig) registerAll() {
	r.tb.Helper()
	work := make(chan int)
	failed := make(chan error, 32)
	var done sync.WaitGroup
	for range 32 {
		done.Go(func() {
			for i := range work {
				p, err := dialPhone(r.sip, i)
				if err == nil {
					_, err = p.register(3600)
					p.conn.Close()
				}
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for i := 1; i <= r.extensions; i++ {
		work <- i
	}
	close(work)
	done.Wait()
	select {
	case err := <-failed:
		r.tb.Fatal(err)
	default:
	}
}

// pushLog notes when the push of each device's call arrived, and how often.
type pushLog struct {
	mu    sync.Mutex // guards the following
	byTo  map[string]time.Time
	uuids map[string]int
	each  func(to string, at time.Time)
}

func (r *rig) watchPushes(each func(to string, at time.Time)) *pushLog {
	l := &pushLog{byTo: map[string]time.Time{}, uuids: map[string]int{}, each: each}
	go func() {
		for p := range r.apns.Pushes() {
			to, _ := p.Payload["to"].(string)
			id, _ := p.Payload["uuid"].(string)
			l.mu.Lock()
			l.byTo[to] = p.At
			l.uuids[id]++
			l.mu.Unlock()
			if each != nil {
				each(to, p.At)
			}
		}
	}()
	return l
}

func (l *pushLog) totals() (calls, pushes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.uuids {
		pushes += n
	}
	return len(l.uuids), pushes
}

// quantiles reports the median and the 99th percentile in milliseconds.
func quantiles(b *testing.B, name string, d []time.Duration) {
	if len(d) == 0 {
		b.Fatalf("%s: nothing measured", name)
	}
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	ms := func(q float64) float64 { return float64(d[int(q*float64(len(d)-1))].Microseconds()) / 1000 }
	b.ReportMetric(ms(.5), name+"-p50-ms")
	b.ReportMetric(ms(.99), name+"-p99-ms")
}

// BenchmarkWake measures the two waits that are ours: from the INVITE to the
// push request at the push service, and from the REGISTER's 200 to the INVITE
// at the device, at 100 calls/s, with early media, carrier, phones and push
// service on the same two cores. A phone registers 200 ms after its push.
func BenchmarkWake(b *testing.B) {
	const calls, rate = 1000, 100
	r := startRig(b, calls, fmt.Sprintf(peerTrunk, true))
	r.registerAll()
	var mu sync.Mutex
	var toInvite []time.Duration
	var phones sync.WaitGroup
	errs := make(chan error, calls)
	pushes := r.watchPushes(func(to string, _ time.Time) {
		phones.Go(func() {
			var number int
			fmt.Sscan(to, &number)
			p, err := dialPhone(r.sip, number-100000)
			if err != nil {
				errs <- err
				return
			}
			defer p.conn.Close()
			time.Sleep(200 * time.Millisecond)
			registered, err := p.register(3600)
			if err != nil {
				errs <- err
				return
			}
			_, invited, err := p.awaitInvite()
			if err != nil {
				errs <- err
				return
			}
			mu.Lock()
			toInvite = append(toInvite, invited.Sub(registered))
			mu.Unlock()
			time.Sleep(100 * time.Millisecond) // the ACK of the 486
		})
	})
	c := newCarrier(b, r.sip, true)
	before := r.cpu()
	attempts := make([]*attempt, 0, calls)
	tick := time.NewTicker(time.Second / rate)
	for i := 1; i <= calls; i++ {
		<-tick.C
		attempts = append(attempts, c.invite(i, fmt.Sprintf("wake-%d", i)))
	}
	tick.Stop()
	await(b, 15*time.Second, func() bool { _, f := c.count(); return f[486] == calls })
	phones.Wait()
	used := r.cpu() - before
	select {
	case err := <-errs:
		b.Fatal(err)
	default:
	}
	var toPush []time.Duration
	pushes.mu.Lock()
	for _, a := range attempts {
		if at, ok := pushes.byTo[fmt.Sprint(100000+a.number)]; ok {
			toPush = append(toPush, at.Sub(a.sent))
		}
	}
	pushes.mu.Unlock()
	if n, sent := pushes.totals(); n != calls || sent != calls {
		b.Fatalf("%d calls made %d pushes", n, sent)
	}
	quantiles(b, "INVITE-to-push", toPush)
	quantiles(b, "200-to-INVITE", toInvite)
	b.ReportMetric(float64(used.Microseconds())/calls, "cpu-µs/call")
	b.ReportMetric(0, "ns/op")
}

// trimmed is when the bridge has given back what a burst has left: it does so
// every 10 s.
const trimmed = 12 * time.Second

// BenchmarkParked measures what a parked call costs: 10,000 of them, without
// early media, a device pushed for each. Their INVITEs come at 1,000/s.
func BenchmarkParked(b *testing.B) {
	const calls = 10000
	r := startRig(b, calls, fmt.Sprintf(peerTrunk, false)+"calls: {wake_timeout: 50s}\n")
	r.registerAll()
	r.restart() // the memory of 10,000 REGISTERs is not the calls'
	pushes := r.watchPushes(nil)
	time.Sleep(trimmed)
	memory, goroutines := r.resident(), r.metric("go_goroutines", "")
	c := newCarrier(b, r.sip, true)
	pace(1, calls, 1000, func(i int) { c.invite(i, fmt.Sprintf("parked-%d", i)) })
	await(b, 20*time.Second, func() bool { n, _ := pushes.totals(); return n == calls })
	time.Sleep(trimmed)
	if ringing, finals := c.count(); ringing != calls {
		b.Fatalf("%d of %d ring; finals %v", ringing, calls, finals)
	}
	b.ReportMetric(float64(r.resident()-memory)/calls, "resident-B/call")
	b.ReportMetric((r.metric("go_goroutines", "")-goroutines)/calls, "goroutines/call")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAttempts offers 1,000 calls/s for a minute and counts the pushes:
// each call must have exactly one. Devices do not wake; each call ends with
// 480 after wake_timeout (5 s here, so that the memory of the load generator
// does not become the test).
func BenchmarkAttempts(b *testing.B) {
	const extensions, rate, total = 5000, 1000, 60000
	r := startRig(b, extensions, fmt.Sprintf(peerTrunk, false)+"calls: {wake_timeout: 5s, "+unlimited+"}\n")
	r.registerAll()
	pushes := r.watchPushes(nil)
	c := newCarrier(b, r.sip, true)
	before := r.cpu()
	start := time.Now()
	pace(0, total-1, rate, func(i int) { c.invite(i%extensions+1, fmt.Sprintf("attempt-%d", i)) })
	took := time.Since(start)
	repeated := 0
	await(b, 60*time.Second, func() bool {
		repeated += c.again()
		_, f := c.count()
		return f[480] == total
	})
	used := r.cpu() - before
	if n, sent := pushes.totals(); n != total || sent != total {
		b.Fatalf("%d attempts: %d calls were pushed, %d pushes in all", total, n, sent)
	}
	b.ReportMetric(total/took.Seconds(), "calls/s")
	b.ReportMetric(float64(repeated), "INVITEs-repeated")
	b.ReportMetric(float64(used.Microseconds())/total, "cpu-µs/call")
	b.ReportMetric(float64(r.resident())/(1<<20), "resident-MB")
	b.ReportMetric(0, "ns/op")
}

// pace calls do for from..to at a rate per second, in small bursts where the
// clock is coarser.
func pace(from, to, rate int, do func(int)) {
	start := time.Now()
	for i := from; i <= to; i++ {
		due := start.Add(time.Duration(i-from) * time.Second / time.Duration(rate))
		if wait := time.Until(due); wait > time.Millisecond {
			time.Sleep(wait)
		}
		do(i)
	}
}

func await(b *testing.B, limit time.Duration, ok func() bool) {
	b.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Log("gave up waiting")
			return
		}
	}
}
