package loadtest

import (
	"fmt"
	"testing"
	"time"

	"reveille/push/pushtest"
)

// BenchmarkWakeReset measures from the INVITE to the complete push request at
// the push service at 200 calls/s for 20 s, while the service resets (TCP RST)
// the connection of one push in a hundred, chosen at random: about two
// connections a second, of the two that are kept. Each call must have exactly
// one push; one that was lost with a connection, unacknowledged, is made again.
// Devices do not wake; each call ends with 480 after 5 s.
func BenchmarkWakeReset(b *testing.B) {
	const calls, rate = 4000, 200
	r := startRig(b, calls, fmt.Sprintf(peerTrunk, true)+"calls: {wake_timeout: 5s}\n",
		func(o *pushtest.Options) { o.ResetEvery = 100 })
	r.registerAll()
	pushes := r.watchPushes(nil)
	c := newCarrier(b, r.sip, true)
	before := r.cpu()
	attempts := make([]*attempt, 0, calls)
	tick := time.NewTicker(time.Second / rate)
	for i := 1; i <= calls; i++ {
		<-tick.C
		attempts = append(attempts, c.invite(i, fmt.Sprintf("reset-%d", i)))
	}
	tick.Stop()
	await(b, 20*time.Second, func() bool { _, f := c.count(); return f[480] == calls })
	used := r.cpu() - before
	var toPush []time.Duration
	pushes.mu.Lock()
	for _, a := range attempts {
		if at, ok := pushes.byTo[fmt.Sprint(100000+a.number)]; ok {
			toPush = append(toPush, at.Sub(a.sent))
		}
	}
	pushes.mu.Unlock()
	n, sent := pushes.totals()
	if sent != n {
		b.Errorf("%d pushes for %d calls: some have two", sent, n)
	}
	quantiles(b, "INVITE-to-push", toPush)
	b.ReportMetric(float64(calls-n), "calls-without-push")
	b.ReportMetric(float64(r.apns.Counts().Resets), "resets")
	b.ReportMetric(float64(used.Microseconds())/calls, "cpu-µs/call")
	b.ReportMetric(0, "ns/op")
}
