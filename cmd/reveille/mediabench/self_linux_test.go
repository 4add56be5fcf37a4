package mediabench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// loop is a generator whose frames come back as they left, or changed.
func loop(t *testing.T, suite string) *generator {
	t.Helper()
	c := newCalls(1, suite)[0]
	r := straight([]call{c}, [2]int{wireOut, wireOut}, [2]int{wireIn, wireIn})
	if suite != "" {
		r[0].Suite, r[0].Seal, r[0].Open = suite, c.DeviceKey, c.DeviceKey
	}
	g := &generator{pattern: pattern(), bad: map[fault]uint64{}}
	for i := range g.links {
		g.links[i] = &link{mac: net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}}
	}
	l := load{Routes: r[:1]}
	for i := range l.Peers {
		l.Peers[i] = g.links[i^1].mac
	}
	if err := g.play(l); err != nil {
		t.Fatal(err)
	}
	g.from, g.until = 0, 1<<62
	return g
}

// leave has the next packet leave at a time.
func (g *generator) leave(t *testing.T, at int64) []byte {
	t.Helper()
	s := g.streams[0]
	frame, err := s.build(g.pattern)
	if err != nil {
		t.Fatal(err)
	}
	s.note(at)
	g.sent++
	return bytes.Clone(frame)
}

func TestWhatComesBackWholeCounts(t *testing.T) {
	for _, suite := range []string{"", suiteCM, suiteGCM} {
		g := loop(t, suite)
		for i := range int64(1000) {
			frame := g.leave(t, i*1000)
			if i%10 == 3 {
				continue // lost
			}
			g.take(wireIn, frame, i*1000+50+i%2*1000)
			if i%10 == 5 {
				g.take(wireIn, frame, i*1000+70)
			}
		}
		if len(g.bad) > 0 || g.sent != 1000 || g.first != 900 || g.twice != 100 {
			t.Errorf("%q: %d sent, %d arrived, %d twice, bad %v %s; want 1000, 900, 100 and none bad",
				suite, g.sent, g.first, g.twice, g.bad, g.example)
		}
		if p := g.tally().P50; p < 50 || p > 52 {
			t.Errorf("%q: p50 is %d ns, want 50", suite, p)
		}
		if g.tally().Max != 1050 {
			t.Errorf("%q: the longest took %d ns, want 1050", suite, g.tally().Max)
		}
	}
}

// TestEveryChangeIsFound changes each bit of a frame above Ethernet, but for those that routers may change.
func TestEveryChangeIsFound(t *testing.T) {
	for _, suite := range []string{"", suiteGCM} {
		g := loop(t, suite)
		frame := g.leave(t, 0)
		for bit := 14 * 8; bit < len(frame)*8; bit++ {
			changed := bytes.Clone(frame)
			changed[bit/8] ^= 0x80 >> (bit % 8)
			g.take(wireIn, changed, 1)
			mend(changed)
			g.take(wireIn, changed, 1)
			if g.first != 0 && !mayChange(bit/8) {
				t.Fatalf("%q: byte %d with bit %d changed counts as whole", suite, bit/8, bit%8)
			}
			g.first, g.streams[0].sent[0].arrived = 0, false
		}
	}
}

// mayChange is of bytes that carry nothing: type of service, identification and fragments, time to live.
func mayChange(at int) bool {
	return at == 15 || at >= 18 && at <= 22 || isChecksum(at)
}

// isChecksum is of bytes that mend puts right.
func isChecksum(at int) bool { return at == 24 || at == 25 || at == 40 || at == 41 }

// mend makes the checksums of a changed frame right, as a relay would that changes what it should not.
func mend(f []byte) {
	ip := f[14:]
	if ip[0] != 0x45 || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
		return
	}
	ip[10], ip[11], ip[26], ip[27] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^checksum(0, ip[:20]))
	binary.BigEndian.PutUint16(ip[26:], ^udpSum(ip))
}

func TestStrangersDoNotCount(t *testing.T) {
	g := loop(t, "")
	frame := g.leave(t, 0)
	g.take(deviceLink, frame, 1) // another link
	g.take(wireIn, frame[:60], 1)
	g.take(wireIn, []byte{1, 2, 3}, 1)
	for range remembered + 1 {
		g.leave(t, 2)
	}
	g.take(wireIn, frame, 3) // too late
	for range ancient {
		g.leave(t, 2)
	}
	g.take(wireIn, frame, 3) // much too late
	if g.first != 0 || g.bad["address"] != 1 || g.bad["length"] != 1 || g.bad["sequence"] != 1 || len(g.bad) != 3 {
		t.Errorf("%d counted, bad %v; want none, and one each of address, length, sequence", g.first, g.bad)
	}
}

// TestChecksum has the example of RFC 1071 §3.
func TestChecksum(t *testing.T) {
	if sum := checksum(0, []byte{0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7}); sum != 0xddf2 {
		t.Errorf("%#x, want 0xddf2", sum)
	}
}

func TestQuantiles(t *testing.T) {
	var h histogram
	for i := range int64(100_000) {
		h.add(i * 10)
	}
	for q, want := range map[float64]float64{.5: 500_000, .99: 990_000, .001: 1000} {
		if got := float64(h.quantile(q)); got < want*.98 || got > want*1.02 {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
}

func TestJudgement(t *testing.T) {
	tab := &table{settings: settings{calls: []int{1000}, window: time.Second}, cells: map[cell][]figures{}}
	of := func(row string, perPacket ...time.Duration) {
		for _, d := range perPacket {
			tab.add(cell{row, 1000}, figures{packets: 1000, usage: usage{row: 1000 * d, system: 1000 * d, tasks: 1000 * d},
				tally: tally{Sent: 1000, Arrived: 1000}, resident: 1})
		}
	}
	of("wire", 2000, 2000, 2000)
	of("rtpengine", 12000, 90000, 10000)
	of("sockets", 6000, 6100, 1)
	of("kernel", 3600)
	of("redirect", 2700)
	var out bytes.Buffer
	tab.print(&out)
	tab.compare(&out)
	tab.judge(&out)
	for _, want := range []string{
		`met .* sockets: process of rtpengine's, 1,000 calls +0.500 ×`,
		`MISSED +kernel: system of rtpengine's, 1,000 calls +0.160 × \(at most 0.15\)`,
		`MISSED +kernel: system of a bare redirect's, 1,000 calls +2.286 ×`,
		`(?m)^process of rtpengine's,  1000 calls   sockets 0.50$`,
		`(?m)^sockets +1000 +6.00 +4.00 +4.00`,
	} {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("there is no %q in\n%s", want, out.Bytes())
		}
	}
}

// Small differences are those of the same minute; where there is none to speak of, that is no verdict.
func TestSmallDifferences(t *testing.T) {
	for _, c := range []struct {
		redirect []time.Duration
		want     string
	}{
		{[]time.Duration{2700, 5100, 9700}, `MISSED +kernel: system of a bare redirect's, 1,000 calls +2.286 ×`},
		{[]time.Duration{2100, 5700, 9100}, `unclear kernel: system of a bare redirect's, 1,000 calls: .* 0.2 µs`},
		{[]time.Duration{2800, 5800, 9800}, `met +kernel: system of a bare redirect's, 1,000 calls +2.000 ×`},
	} {
		tab := &table{settings: settings{calls: []int{1000}, window: time.Second}, cells: map[cell][]figures{}}
		for row, list := range map[string][]time.Duration{
			"wire": {2000, 5000, 9000}, "kernel": {3600, 6600, 10600}, "redirect": c.redirect,
		} {
			for _, d := range list {
				tab.add(cell{row, 1000}, figures{packets: 1000, usage: usage{system: 1000 * d, tasks: 1000 * d}})
			}
		}
		var out bytes.Buffer
		tab.judge(&out)
		if !regexp.MustCompile(c.want).Match(out.Bytes()) {
			t.Errorf("there is no %q in\n%s", c.want, out.Bytes())
		}
	}
}

func TestBencode(t *testing.T) {
	got := bencode(nil, map[string]any{"list": []any{"a", []byte("bc")}})
	if string(got) != "d4:listl1:a2:bcee" {
		t.Errorf("%s", got)
	}
	answer := bencode(nil, map[string]any{"sdp": "v=0", "result": "ok"})
	if string(entry(answer, "sdp")) != "v=0" || string(entry(answer, "result")) != "ok" || entry(answer, "warning") != nil {
		t.Errorf("read of %s: %q %q", answer, entry(answer, "sdp"), entry(answer, "result"))
	}
}

// TestBedWorks runs two rows and the table, with a few calls for a second.
func TestBedWorks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs to be root: it makes network namespaces and attaches TC programs")
	}
	lock, free, err := tryAlone()
	if err == nil {
		lock.Close()
	}
	if !free {
		t.Skip("a run of the benchmark measures on this machine; it must not be spoilt")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$", "-test.bench=Media", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), "ONLY=sockets,redirect", "CALLS=4", "SECONDS=1", "ROUNDS=1", "PROFILE=")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && regexp.MustCompile(`(?m)(no network namespace|one processor|cannot use|not permitted)`).Match(out) {
		t.Skipf("not possible here:\n%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`(?m)^sockets +4 +\d+\.\d\d .* 0 +0 +\d+\.\d MB`, `(?m)^redirect +4 +- `} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("there is no line %q in\n%s", want, out)
		}
	}
}
