package push

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts outcomes; nil counts nothing.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	faulty   prometheus.Gauge
	expiry   *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	if r == nil {
		return nil, nil
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reveille_push_requests_total",
			Help: "Pushes by provider and outcome: sent, gone, refused, failed, duplicate.",
		}, []string{"provider", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "reveille_push_seconds",
			Help:    "Time from the decision to push until the provider accepted or finally refused.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"provider"}),
		faulty: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reveille_push_credentials_stale",
			Help: "1 while changed credential files of the push providers cannot be used and the old ones stay in force.",
		}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "reveille_push_certificate_expiry_timestamp_seconds",
			Help: "When a certificate of a push provider ends, in seconds since 1970.",
		}, []string{"provider", "name"}),
	}
	var err error
	if m.requests, err = register(r, m.requests); err != nil {
		return nil, err
	}
	if m.seconds, err = register(r, m.seconds); err != nil {
		return nil, err
	}
	if m.faulty, err = register(r, m.faulty); err != nil {
		return nil, err
	}
	if m.expiry, err = register(r, m.expiry); err != nil {
		return nil, err
	}
	return m, nil
}

// stale says whether changed credentials are waiting to be mended.
func (m *metrics) stale(is bool) {
	switch {
	case m == nil:
	case is:
		m.faulty.Set(1)
	default:
		m.faulty.Set(0)
	}
}

// ends tells the ends of all certificates, in place of those before.
func (m *metrics) ends(all []Expiry) {
	if m == nil {
		return
	}
	m.expiry.Reset()
	for _, e := range all {
		m.expiry.WithLabelValues(e.Provider, e.Name).Set(float64(e.NotAfter.Unix()))
	}
}

// register adds c, or gives the one that is there already: a reload makes a
// new Sender beside the old one.
func register[C prometheus.Collector](r prometheus.Registerer, c C) (C, error) {
	err := r.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if have, ok := already.ExistingCollector.(C); ok {
			return have, nil
		}
	}
	return c, err
}

func (m *metrics) observe(provider string, out Outcome) {
	if m == nil {
		return
	}
	if out.Duplicate {
		m.requests.WithLabelValues(provider, "duplicate").Inc()
		return
	}
	m.requests.WithLabelValues(provider, out.Verdict.String()).Inc()
	m.seconds.WithLabelValues(provider).Observe(out.Took.Seconds())
}
