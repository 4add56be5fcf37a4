package rtp

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the relay's. Packets count as they come, from the sessions themselves when asked; loss and jitter are
// known when a session ends.
type metrics struct {
	relay      *Relay
	registerer prometheus.Registerer
	collectors []prometheus.Collector
	lost       *prometheus.CounterVec
	jitter     *prometheus.HistogramVec
	finished   [2]uint64 // packets of ended sessions; guarded by the relay's mu
}

// direction is the label of packets that came from a side.
func direction(from Side) string { return from.String() + "_to_" + from.Other().String() }

// newMetrics registers with reg, if there is one.
func newMetrics(r *Relay, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		relay: r, registerer: reg,
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reveille_rtp_lost_packets_total",
			Help: "RTP packets missing by their sequence numbers, counted when the call ends.",
		}, []string{"direction"}),
		jitter: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "reveille_rtp_jitter_seconds",
			Help:    "Interarrival jitter (RFC 3550) at the end of a call.",
			Buckets: []float64{.001, .002, .005, .01, .02, .03, .05, .1, .2, .5},
		}, []string{"direction"}),
	}
	m.collectors = []prometheus.Collector{m.lost, m.jitter}
	for _, side := range []Side{Trunk, Device} {
		m.lost.WithLabelValues(direction(side))
		m.jitter.WithLabelValues(direction(side))
		m.collectors = append(m.collectors, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name:        "reveille_rtp_packets_total",
			Help:        "RTP packets accepted.",
			ConstLabels: prometheus.Labels{"direction": direction(side)},
		}, func() float64 { return float64(m.packets(side)) }))
	}
	m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "reveille_rtp_fast_path_streams",
		Help: "Directions of calls that the kernel relays now; a call has two.",
	}, func() float64 { return float64(r.fastStreams()) }), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "reveille_rtp_fast_path_packets_total",
		Help: "RTP packets that the kernel has relayed, of those in reveille_rtp_packets_total.",
	}, func() float64 { return float64(m.fastPackets()) }))
	if reg == nil {
		return m, nil
	}
	var faults []error
	for _, c := range m.collectors {
		faults = append(faults, reg.Register(c))
	}
	return m, errors.Join(faults...)
}

// add registers more of them.
func (m *metrics) add(reg prometheus.Registerer, more ...prometheus.Collector) error {
	m.collectors = append(m.collectors, more...)
	if reg == nil {
		return nil
	}
	var faults []error
	for _, c := range more {
		faults = append(faults, reg.Register(c))
	}
	return errors.Join(faults...)
}

// packets counts those that came from a side since the start. It holds the relay's mu throughout, so that a session
// which ends meanwhile counts once.
func (m *metrics) packets(side Side) uint64 {
	m.relay.mu.Lock()
	defer m.relay.mu.Unlock()
	n := m.finished[side]
	for s := range m.relay.live {
		n += s.Stats().Of(side).Packets
	}
	return n
}

// fastPackets brings the figures of the living up to date.
func (m *metrics) fastPackets() uint64 {
	for _, s := range m.relay.sessions() {
		s.Stats()
	}
	return m.relay.fastPackets.Load()
}

// finish counts an ended session. The relay's mu is held.
func (m *metrics) finish(final Stats) {
	for _, side := range []Side{Trunk, Device} {
		s := final.Of(side)
		m.finished[side] += s.Packets
		m.lost.WithLabelValues(direction(side)).Add(float64(s.Lost))
		if s.Packets > 0 {
			m.jitter.WithLabelValues(direction(side)).Observe(s.JitterMS / 1000)
		}
	}
}

// unregister takes the metrics back, so that another relay may have them.
func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}
