package bridge

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics hang on a call's transitions: only Call.run, Call.first… and
// Call.over touch them.
type metrics struct {
	calls  *prometheus.CounterVec
	active *prometheus.GaugeVec
	ring   prometheus.Histogram
	wake   *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reveille_calls_total", Help: "Calls that are over, by trunk and ending."}, []string{"trunk", "ending"}),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "reveille_calls_active", Help: "Live calls, by state."}, []string{"state"}),
		ring: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "reveille_ring_delay_seconds", Help: "INVITE to the first device's 180.",
			Buckets: []float64{.05, .1, .25, .5, .75, 1, 1.5, 2, 3, 5, 8, 12, 20}}),
		wake: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reveille_wake_seconds", Help: "Push sent to device registered, by provider.",
			Buckets: []float64{.1, .25, .5, .75, 1, 1.5, 2, 3, 5, 8, 12, 20}}, []string{"provider"}),
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.active, m.ring, m.wake)
	}
	return m
}

// moved counts live calls; one that is over is none.
func (m *metrics) moved(from, to string) {
	if from != "" && from != "over" {
		m.active.WithLabelValues(from).Dec()
	}
	if to != "" && to != "over" {
		m.active.WithLabelValues(to).Inc()
	}
}

func (m *metrics) woke(provider string, after time.Duration) {
	m.wake.WithLabelValues(provider).Observe(after.Seconds())
}

// providerLabel keeps the label closed, as a device chooses its pn-provider:
// Apple's, Google's, and those that are configured.
func providerLabel(p string, configured []string) string {
	switch p {
	case "apns", "apns.dev":
		return "apns"
	case "fcm":
		return "fcm"
	}
	for _, name := range configured {
		if strings.EqualFold(name, p) {
			return name
		}
	}
	return "other"
}
