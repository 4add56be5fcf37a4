package rtp

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/rtp/ng"
)

// The values of Config.Engine.
const (
	builtin   = "builtin"
	rtpengine = "rtpengine"
)

// EngineConfig is where the rtpengine daemons are.
type EngineConfig struct {
	Address         Addresses `yaml:"address"`          // udp://HOST:PORT of each daemon's listen-ng
	Drain           []string  `yaml:"drain"`            // those of them that get no new calls
	TrunkInterface  string    `yaml:"trunk_interface"`  // name of the daemons' interface towards trunks; "" leaves it to them
	DeviceInterface string    `yaml:"device_interface"` // and towards devices
}

// Addresses are one or several: where there is one, it needs no list.
type Addresses []string

// OneOrMore tells the reader of the configuration that a value may stand for a list of one.
func (Addresses) OneOrMore() {}

// validate reports every fault with its key.
func (c EngineConfig) validate(report func(path, problem string)) {
	if len(c.Address) == 0 {
		report("address", "is empty; write where rtpengine has its listen-ng, such as udp://127.0.0.1:2223")
	}
	for i, address := range c.Address {
		if _, err := ng.HostPort(address); err != nil {
			report("address", err.Error())
		} else if slices.Contains(c.Address[:i], address) {
			report("address", fmt.Sprintf("%s stands twice; remove one", address))
		}
	}
	for _, address := range c.Drain {
		if !slices.Contains(c.Address, address) {
			report("drain", fmt.Sprintf("%q is none of media.rtpengine.address; write it as it stands there", address))
		}
	}
	if (c.TrunkInterface == "") != (c.DeviceInterface == "") {
		report("trunk_interface", "needs device_interface beside it, and the other way round; write both, or neither")
	}
}

// targets are the daemons as the pool wants them.
func (c EngineConfig) targets() []ng.Target {
	var out []ng.Target
	for _, address := range c.Address {
		out = append(out, ng.Target{URL: address, Drain: slices.Contains(c.Drain, address)})
	}
	return out
}

// EngineStatus is how a daemon is.
type EngineStatus = ng.Status

// join makes the pool of daemons.
func (r *Relay) join(cfg EngineConfig, o Options) error {
	asked := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reveille_rtpengine_requests_total",
		Help: "Requests to rtpengine daemons by result: ok, refused, failed (no answer).",
	}, []string{"engine", "result"})
	var err error
	r.interfaces = [2]string{cfg.TrunkInterface, cfg.DeviceInterface}
	if r.cluster, err = ng.NewPool(cfg.targets(), ng.Options{
		Log: r.log, Dial: o.EngineDial,
		Result: func(engine, _, result string) { asked.WithLabelValues(engine, result).Inc() },
	}); err != nil {
		return err
	}
	return r.metrics.add(o.Registerer, asked, &engineMetrics{r.cluster, prometheus.NewDesc(
		"reveille_rtpengine_up", "Whether an rtpengine daemon answers: 1 or 0.", []string{"engine"}, nil)})
}

// SetEngines replaces the daemons, as far as the engine is rtpengine; live calls stay where they are.
func (r *Relay) SetEngines(cfg EngineConfig) error {
	if r.cluster == nil {
		return nil
	}
	return r.cluster.Set(cfg.targets())
}

// Engines tells how the daemons are; none with the engine builtin.
func (r *Relay) Engines() []EngineStatus {
	if r.cluster == nil {
		return nil
	}
	return r.cluster.Statuses()
}

// engineMetrics collects the health of daemons, which come and go with the configuration.
type engineMetrics struct {
	pool *ng.Pool
	up   *prometheus.Desc
}

// Describe is prometheus.Collector.
func (m *engineMetrics) Describe(to chan<- *prometheus.Desc) { to <- m.up }

// Collect is prometheus.Collector.
func (m *engineMetrics) Collect(to chan<- prometheus.Metric) {
	for _, s := range m.pool.Statuses() {
		up := 0.0
		if s.Up {
			up = 1
		}
		to <- prometheus.MustNewConstMetric(m.up, prometheus.GaugeValue, up, s.URL)
	}
}
