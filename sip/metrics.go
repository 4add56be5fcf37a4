package sip

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the server's own counters; labels hold only closed vocabularies.
type metrics struct {
	requests *prometheus.CounterVec
	rejected *prometheus.CounterVec
	trunkUp  *prometheus.GaugeVec

	provisioned *prometheus.CounterVec

	upstreams *upstreamCollector
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		upstreams: newUpstreamCollector(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reveille_sip_requests_total", Help: "SIP requests received, by method and the final status we gave."}, []string{"method", "code"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reveille_rejected_total", Help: "Messages and calls turned away, by reason."}, []string{"reason"}),
		trunkUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "reveille_trunk_up", Help: "1 while a trunk is registered or answers OPTIONS."}, []string{"trunk"}),
		provisioned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reveille_provisioned_total", Help: "Push targets set and removed by the HTTP API, by outcome: made, changed, removed, refused or failed."}, []string{"outcome"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.rejected, m.trunkUp, m.upstreams, m.provisioned)
	}
	return m
}

func (m *metrics) reject(reason string) { m.rejected.WithLabelValues(reason).Inc() }

// answered counts a final answer. Methods that we do not know share one label,
// so that a scanner cannot make labels.
func (m *metrics) answered(method string, code int) {
	if code < 200 {
		return
	}
	switch method {
	case "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "UPDATE", "PRACK", "REFER", "NOTIFY", "SUBSCRIBE", "MESSAGE", "PUBLISH":
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, strconv.Itoa(code)).Inc()
}

func (m *metrics) up(trunk string, up bool) {
	v := 0.0
	if up {
		v = 1
	}
	m.trunkUp.WithLabelValues(trunk).Set(v)
}
