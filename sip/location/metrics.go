package location

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	bindingsDesc = prometheus.NewDesc("reveille_bindings",
		"Bindings by transport of their flow.", []string{"transport"}, nil)
	devicesDesc = prometheus.NewDesc("reveille_devices",
		"Devices by push provider; none: known by their binding alone.", []string{"provider"}, nil)
)

// collector counts when it is asked, so that the figures can't drift from the tables.
type collector struct{ l *Service }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- bindingsDesc
	ch <- devicesDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for transport, n := range c.l.BindingCounts() {
		ch <- prometheus.MustNewConstMetric(bindingsDesc, prometheus.GaugeValue, float64(n), transport)
	}
	for provider, n := range c.l.DeviceCounts() {
		ch <- prometheus.MustNewConstMetric(devicesDesc, prometheus.GaugeValue, float64(n), provider)
	}
}

// BindingCounts returns the number of visible bindings by transport ("UDP").
func (l *Service) BindingCounts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for _, a := range l.accounts {
		for _, r := range a.bindings {
			if r.visible {
				counts[r.Transport]++
			}
		}
	}
	return counts
}

// DeviceCounts returns the number of devices by push provider. Names that no
// provider has count as "other": a client must not be able to invent labels.
func (l *Service) DeviceCounts() map[string]int {
	services := l.services()
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for _, a := range l.accounts {
		for _, r := range a.devices {
			counts[providerLabel(r.Target, services)]++
		}
	}
	return counts
}

func providerLabel(t Target, services []string) string {
	if t.IsZero() {
		return "none"
	}
	switch t.Provider {
	case "apns", "apns.dev", "fcm":
		return t.Provider
	}
	for _, name := range services {
		if strings.EqualFold(name, t.Provider) {
			return name
		}
	}
	return "other"
}
