package rtp

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// feed counts packets of 20 ms by sequence number.
func feed(r *reception, seqs ...uint16) {
	f := &format{rate: 8000}
	for i, seq := range seqs {
		r.update(header{ssrc: 1, seq: seq, timestamp: uint32(seq) * 160}, f, 172, moment(i)*moment(frameTime))
	}
}

func TestReceptionSequence(t *testing.T) {
	run := func(first uint16, n int) (out []uint16) {
		for i := range n {
			out = append(out, first+uint16(i))
		}
		return out
	}
	for name, test := range map[string]struct {
		seqs                        []uint16
		lost, reordered, duplicates uint64
	}{
		"in order":            {run(5, 100), 0, 0, 0},
		"wrap":                {run(65500, 100), 0, 0, 0},
		"two wraps":           {append(run(0, 65535), run(65535, 65600)...), 0, 0, 0},
		"gap":                 {append(run(1, 10), run(15, 10)...), 4, 0, 0},
		"gap over the wrap":   {[]uint16{65534, 1}, 2, 0, 0},
		"swapped":             {[]uint16{1, 3, 2, 4}, 0, 1, 0},
		"swapped at wrap":     {[]uint16{65534, 0, 65535, 1}, 0, 1, 0},
		"twice":               {[]uint16{1, 2, 2, 3, 1}, 0, 0, 2},
		"late and twice":      {[]uint16{1, 3, 2, 2}, 0, 1, 1},
		"before the first":    {[]uint16{10, 9, 8, 11}, 0, 2, 0},
		"too old to know":     {append(run(100, 100), 110), 0, 1, 0},
		"one wild packet":     {append(run(1, 10), 40000, 11, 12), 0, 0, 0},
		"a new start":         {append(run(1, 10), run(40000, 10)...), 0, 0, 0},
		"loss before restart": {append([]uint16{1, 2, 5}, run(40000, 10)...), 2, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var r reception
			feed(&r, test.seqs...)
			s := r.stats(func(m moment) time.Time { return time.Unix(0, int64(m)) })
			if s.Lost != test.lost || s.Reordered != test.reordered || s.Duplicates != test.duplicates || s.Packets != uint64(len(test.seqs)) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Loss in runs is worse than the same loss alone.
func TestReceptionBursts(t *testing.T) {
	var r reception
	feed(&r, 1, 2, 5, 6, 20, 22, 23)
	s := r.stats(time.Unix(0, 0).Add)
	if s.Lost != 16 || s.Bursts != 3 || s.LongestBurst != 13 {
		t.Errorf("%+v", s)
	}
}

// The longest gap is one of a connected call, and a hold is none.
func TestReceptionGap(t *testing.T) {
	var r reception
	f := &format{rate: 8000}
	seq := uint16(10)
	at := func(now time.Duration) {
		seq++
		r.update(header{ssrc: 1, seq: seq, timestamp: uint32(seq) * 160}, f, 172, now)
	}
	at(time.Second)
	at(5 * time.Second) // rings: nobody hears it
	r.connect(6 * time.Second)
	if r.passed != uint32(seq)+1 {
		t.Errorf("%d is the first to go on", r.passed)
	}
	at(6500 * time.Millisecond)
	at(8 * time.Second)
	r.resume(60 * time.Second)
	at(61 * time.Second)
	if s := r.stats(time.Unix(0, 0).Add); s.LongestGap != 1500*time.Millisecond {
		t.Errorf("%v", s.LongestGap)
	}
}

func TestReceptionNewSource(t *testing.T) {
	var r reception
	feed(&r, 1, 2, 5)
	f := &format{rate: 8000}
	r.update(header{ssrc: 2, seq: 900}, f, 100, 0)
	r.update(header{ssrc: 2, seq: 902}, f, 100, 0)
	if s := r.stats(time.Unix(0, 0).Add); s.Lost != 3 || s.Packets != 5 {
		t.Errorf("%+v", s)
	}
}

// Jitter against the formula of RFC 3550 §6.4.1 in floating point.
func TestJitter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, rate := range []int{8000, 48000} {
		var r reception
		f := &format{rate: uint32(rate)}
		var want, before, most float64
		for i := range 500 {
			at := moment(i)*moment(frameTime) + moment(random.IntN(30))*moment(time.Millisecond)
			stamp := uint32(i * rate / 50)
			r.update(header{seq: uint16(i), timestamp: stamp + 4294960000}, f, 172, at)
			transit := at.Seconds()*float64(rate) - float64(stamp)
			if i > 0 {
				want += (math.Abs(transit-before) - want) / 16
				most = max(most, want)
			}
			before = transit
		}
		s := r.stats(time.Unix(0, 0).Add)
		got := s.JitterMS
		if want = want / float64(rate) * 1000; math.Abs(got-want) > 0.2 || got < 5 {
			t.Errorf("at %d Hz: %.2f ms, want %.2f", rate, got, want)
		}
		if most = most / float64(rate) * 1000; math.Abs(s.MaxJitterMS-most) > 0.2 || most < want+1 {
			t.Errorf("at %d Hz: %.2f ms at most, want %.2f", rate, s.MaxJitterMS, most)
		}
	}
}

// Events repeat their timestamp while they last: that is no jitter.
func TestEventsAreNoJitter(t *testing.T) {
	var r reception
	feed(&r, 1, 2, 3)
	event := &format{rate: 8000, event: true}
	for i := range 10 {
		r.update(header{ssrc: 1, seq: uint16(4 + i), timestamp: 480}, event, 16, moment(3+i)*moment(frameTime))
	}
	if s := r.stats(time.Unix(0, 0).Add); s.JitterMS != 0 || s.Packets != 13 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMetrics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		w := newWorld(t, func(_ *Config, o *Options) { o.Registerer = reg })
		w.connect()
		w.trunk.talk(5)
		w.trunk.talker.Seq += 2
		w.trunk.talk(5)
		check := func(want string, names ...string) {
			t.Helper()
			if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
				t.Error(err)
			}
		}
		packets := "# HELP reveille_rtp_packets_total RTP packets accepted.\n# TYPE reveille_rtp_packets_total counter\n" +
			"reveille_rtp_packets_total{direction=\"device_to_trunk\"} 0\nreveille_rtp_packets_total{direction=\"trunk_to_device\"} 10\n"
		check(packets, "reveille_rtp_packets_total")
		w.session.Close()
		w.session.Close()
		check(packets, "reveille_rtp_packets_total")
		check("# HELP reveille_rtp_lost_packets_total RTP packets missing by their sequence numbers, counted when the call ends.\n"+
			"# TYPE reveille_rtp_lost_packets_total counter\n"+
			"reveille_rtp_lost_packets_total{direction=\"device_to_trunk\"} 0\nreveille_rtp_lost_packets_total{direction=\"trunk_to_device\"} 2\n",
			"reveille_rtp_lost_packets_total")
		if n := testutil.CollectAndCount(w.relay.metrics.jitter); n != 2 {
			t.Errorf("%d jitter histograms", n)
		}
		w.relay.Close()
		if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
			t.Errorf("%d metrics are left after Close, %v", n, err)
		}
	})
}

func TestValidate(t *testing.T) {
	DefaultConfig().Validate(func(path, problem string) { t.Errorf("default: %s: %s", path, problem) })
	bad := Config{Engine: "asterisk", Ports: "30000-20000", ExternalAddress: "pbx.example.com", Ringback: "/nowhere.wav", Tone: "mars"}
	found := map[string]string{}
	bad.Validate(func(path, problem string) { found[path] = problem })
	for path, hint := range map[string]string{"engine": "builtin", "ports": "20000-29999", "external_address": "203.0.113.5",
		"ringback": "none", "tone": "uk", "timeout": "60s"} {
		if !strings.Contains(found[path], hint) {
			t.Errorf("%s: %q does not say %s", path, found[path], hint)
		}
	}
	if _, err := NewRelay(bad, Options{}); err == nil {
		t.Error("a relay of it is made")
	}
	for text, want := range map[string][2]uint16{"20000-29999": {20000, 29998}, "20001-20007": {20002, 20006}, " 1024 - 1027 ": {1024, 1026},
		"2000": {}, "80-90": {}, "2000-2002": {}, "x-y": {}, "2000-70000": {}, "65532-65535": {65532, 65534}} {
		first, last, err := parsePorts(text)
		if (err == nil) != (want != [2]uint16{}) || err == nil && want != [2]uint16{first, last} {
			t.Errorf("%q: %d-%d %v", text, first, last, err)
		}
	}
}

// fuzzPath is a connected path with mux on one side.
func fuzzPath() *path {
	p := &path{connected: true}
	for side := range p.ends {
		e := &p.ends[side]
		e.latch.signal(netip.AddrPortFrom(trunkIP, uint16(4000+side)))
		e.control.signalled = netip.AddrPortFrom(trunkIP, uint16(5000+side))
		e.takes, e.sends, e.described, e.mux = true, true, true, side == 0
		e.formats = []format{{out: uint8(100 + side), passes: true, rate: 8000}, {out: 101, passes: true, event: true, rate: 8000}}
		e.index[8], e.index[101] = 1, 2
	}
	return p
}

// FuzzForward throws packets of every kind at the path: RTP, RTCP, STUN, garbage.
func FuzzForward(f *testing.F) {
	f.Add([]byte{0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xd5, 0xd5}, false, uint16(4000))
	f.Add([]byte{0x90, 101, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0x10, 1, 0, 0, 5}, false, uint16(9999))
	f.Add(sr(1, 0x123456789), true, uint16(5000))
	f.Add(append(sr(1, 5), rr(1, 2, 3, 4)...), false, uint16(4000))
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, false, uint16(4000))
	f.Fuzz(func(t *testing.T, packet []byte, control bool, port uint16) {
		p := fuzzPath()
		for i := range 8 {
			side := Side(i % 2)
			from := origin{side: side, control: control, addr: netip.AddrPortFrom(trunkIP, port)}
			before := len(packet)
			out, to := p.forward(from, packet, moment(i)*moment(frameTime))
			if out == nil {
				continue
			}
			if len(out) != before || !to.addr.IsValid() {
				t.Fatalf("%x went to %v as %x", packet, to, out)
			}
			p.readReports(side, parseReports(out), moment(i))
		}
		for side := range p.ends {
			s := p.ends[side].got.stats(time.Unix(0, 0).Add)
			if s.Packets+s.Dropped+s.Invalid > 4 {
				t.Fatalf("%+v", s)
			}
		}
	})
}
