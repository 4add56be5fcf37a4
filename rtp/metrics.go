package rtp

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the relay's. Packets count as they come, from the sessions themselves when asked; what a whole call has is
// known when a session ends.
type metrics struct {
	relay      *Relay
	registerer prometheus.Registerer
	collectors []prometheus.Collector
	lost       *prometheus.CounterVec
	jitter     *prometheus.HistogramVec
	loss       *prometheus.HistogramVec
	score      *prometheus.HistogramVec
	roundTrip  *prometheus.HistogramVec
	faults     *prometheus.CounterVec
	packets    [2]atomic.Uint64 // by the side they came from: of ended sessions, and of live ones when last asked
}

// direction is the label of packets that came from a side.
func direction(from Side) string { return from.String() + "_to_" + from.Other().String() }

// newMetrics registers with reg, if there is one.
func newMetrics(r *Relay, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{relay: r, registerer: reg}
	m.lost = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reveille_rtp_lost_packets_total",
		Help: "RTP packets missing by their sequence numbers, counted when the call ends.",
	}, []string{"direction"})
	m.faults = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reveille_rtp_faults_total",
		Help: "Sides of calls that sent nothing from the answer on, fell silent, or reported that they hear nothing.",
	}, []string{"fault", "side"})
	m.jitter = m.histogram("reveille_rtp_jitter_seconds", "Interarrival jitter (RFC 3550) at the end of a call.", "direction",
		.001, .002, .005, .01, .02, .03, .05, .1, .2, .5)
	m.loss = m.histogram("reveille_rtp_loss_ratio", "Share of the packets of a call that never came.", "direction",
		0, .001, .002, .005, .01, .02, .03, .05, .1, .2, .5)
	m.score = m.histogram("reveille_rtp_mos", "Estimated score of a call's sound (ITU-T G.107): as the receiver reports by RTCP, else as it came to us.",
		"direction", 1.5, 2, 2.5, 3, 3.3, 3.6, 3.8, 4, 4.1, 4.2, 4.3, 4.4)
	m.roundTrip = m.histogram("reveille_rtp_rtt_seconds", "Round trip to the peer of a side by its last RTCP report.", "side",
		.005, .01, .02, .05, .1, .15, .2, .3, .5, 1, 2)
	m.collectors = append(m.collectors, m.lost, m.faults, &traffic{m,
		prometheus.NewDesc("reveille_rtp_packets_total", "RTP packets accepted.", []string{"direction"}, nil),
		prometheus.NewDesc("reveille_rtp_fast_path_packets_total",
			"RTP packets that the kernel has relayed, of those in reveille_rtp_packets_total.", nil, nil)})
	for _, side := range []Side{Trunk, Device} {
		m.lost.WithLabelValues(direction(side))
		m.roundTrip.WithLabelValues(side.String())
		for _, h := range []*prometheus.HistogramVec{m.jitter, m.loss, m.score} {
			h.WithLabelValues(direction(side))
		}
		for _, kind := range []EventKind{NoMedia, Silence, Unheard} {
			m.faults.WithLabelValues(kind.fault(), side.String())
		}
	}
	m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "reveille_rtp_fast_path_streams",
		Help: "Directions of calls that the kernel relays now; a call has two.",
	}, func() float64 { return float64(r.fastStreams()) }))
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

// histogram makes one with one label.
func (m *metrics) histogram(name, help, label string, buckets ...float64) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{label})
	m.collectors = append(m.collectors, h)
	return h
}

// fault is the label of an event that tells of one; "" for others.
func (k EventKind) fault() string {
	switch k {
	case NoMedia:
		return "no_media"
	case Silence:
		return "silence"
	case Unheard:
		return "not_heard"
	}
	return ""
}

// traffic counts packets when asked.
type traffic struct {
	metrics    *metrics
	desc, fast *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (t *traffic) Describe(out chan<- *prometheus.Desc) {
	out <- t.desc
	out <- t.fast
}

// Collect implements prometheus.Collector. Each session is asked by itself: with thousands of them no lock is held for
// longer than it takes to list them.
func (t *traffic) Collect(out chan<- prometheus.Metric) {
	m := t.metrics
	for _, s := range m.relay.sessions() {
		m.count(s)
	}
	for _, side := range []Side{Trunk, Device} {
		out <- prometheus.MustNewConstMetric(t.desc, prometheus.CounterValue, float64(m.packets[side].Load()), direction(side))
	}
	out <- prometheus.MustNewConstMetric(t.fast, prometheus.CounterValue, float64(m.relay.fastPackets.Load()))
}

// count adds the packets that a session has had since it was last counted: each packet counts once, also when the
// session ends meanwhile.
func (m *metrics) count(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.audio.readFastLocked()
	for side := range s.counted {
		n := s.audio.path.ends[side].got.packets
		m.packets[side].Add(n - s.counted[side])
		s.counted[side] = n
	}
}

// finish counts an ended session.
func (m *metrics) finish(s *Session, final Stats) {
	m.count(s)
	for _, side := range []Side{Trunk, Device} {
		s, other := final.Of(side), final.Of(side.Other())
		m.lost.WithLabelValues(direction(side)).Add(float64(s.Lost))
		if s.RTTMS > 0 {
			m.roundTrip.WithLabelValues(side.String()).Observe(s.RTTMS / 1000)
		}
		if s.Packets == 0 {
			continue
		}
		m.jitter.WithLabelValues(direction(side)).Observe(s.JitterMS / 1000)
		m.loss.WithLabelValues(direction(side)).Observe(s.LossRatio)
		if other.FarMOS > 0 {
			m.score.WithLabelValues(direction(side)).Observe(other.FarMOS)
		} else {
			m.score.WithLabelValues(direction(side)).Observe(s.MOS)
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
