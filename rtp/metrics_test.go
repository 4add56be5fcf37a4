package rtp

import (
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"reveille/rtp/rtptest"
)

// The quality of a call is in the histograms when it ends: of the way to us, or of the whole way where the receiver
// reports on it.
func TestQualityMetrics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		w := newWorld(t, func(_ *Config, o *Options) { o.Registerer = reg })
		w.connect()
		w.converse(10*time.Second, w.trunk) // the device sends nothing
		w.trunk.talker.Seq += 500
		w.converse(30*time.Second, w.trunk, w.device)
		_, device := w.control()
		device.tell(&rtcp.SenderReport{SSRC: 0x2222, NTPTime: 7 << 16, Reports: []rtcp.ReceptionReport{{SSRC: 0x1111, TotalLost: 1000,
			LastSequenceNumber: uint32(w.trunk.talker.Seq - 1)}}}, rtcp.NewCNAMESourceDescription(0x2222, "phone"))
		w.converse(25*time.Second, w.trunk) // nor any more
		s := w.session.Close()
		near(t, "loss from the trunk", s.Trunk.LossRatio, 500./(65*50+500), 1e-9)
		want := `
# HELP reveille_rtp_faults_total Sides of calls that sent nothing from the answer on, fell silent, or reported that they hear nothing.
# TYPE reveille_rtp_faults_total counter
reveille_rtp_faults_total{fault="no_media",side="device"} 1
reveille_rtp_faults_total{fault="no_media",side="trunk"} 0
reveille_rtp_faults_total{fault="not_heard",side="device"} 0
reveille_rtp_faults_total{fault="not_heard",side="trunk"} 0
reveille_rtp_faults_total{fault="silence",side="device"} 1
reveille_rtp_faults_total{fault="silence",side="trunk"} 0
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "reveille_rtp_faults_total"); err != nil {
			t.Error(err)
		}
		got, err := reg.Gather()
		w.must(err)
		sums := map[string]float64{}
		for _, family := range got {
			for _, m := range family.Metric {
				if h := m.Histogram; h != nil {
					sums[family.GetName()+" "+m.Label[0].GetValue()] = h.GetSampleSum()
				}
			}
		}
		near(t, "score to the device", sums["reveille_rtp_mos trunk_to_device"], s.Device.FarMOS, 1e-9)
		near(t, "score to the trunk", sums["reveille_rtp_mos device_to_trunk"], s.Device.MOS, 1e-9)
		near(t, "loss to the device", sums["reveille_rtp_loss_ratio trunk_to_device"], s.Trunk.LossRatio, 1e-9)
		if s.Device.FarMOS > 2 || s.Device.MOS < 4.3 {
			t.Errorf("%+v", s)
		}
	})
}

// BenchmarkScrape asks for the metrics while 2,000 calls are up.
func BenchmarkScrape(b *testing.B) {
	reg := prometheus.NewRegistry()
	net := &rtptest.Network{}
	r, err := NewRelay(DefaultConfig(), Options{LocalAddress: relayIP, Listen: listenOn(net), Registerer: reg})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for range 2000 {
		if _, err := r.Open(SessionOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
