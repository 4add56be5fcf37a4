package push

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts outcomes; nil counts nothing.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
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
	}
	var err error
	if m.requests, err = register(r, m.requests); err != nil {
		return nil, err
	}
	if m.seconds, err = register(r, m.seconds); err != nil {
		return nil, err
	}
	return m, nil
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
