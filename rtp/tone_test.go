package rtp

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// power is the share of a signal's energy at a frequency (Goertzel).
func power(samples []int16, hertz float64) float64 {
	var re, im, all float64
	for i, s := range samples {
		a := 2 * math.Pi * hertz * float64(i) / sampleRate
		re += float64(s) * math.Cos(a)
		im += float64(s) * math.Sin(a)
		all += float64(s) * float64(s)
	}
	return 2 * (re*re + im*im) / float64(len(samples)) / all
}

// level is the power of a signal in dBm0, as G.711 defines it.
func level(samples []int16) float64 {
	var all float64
	for _, s := range samples {
		all += float64(s) * float64(s)
	}
	return 10*math.Log10(all/float64(len(samples))/(32767*32767/2)) + 3.14
}

func TestRingbackTone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("0 8 101") // PCMU
		w.must(w.session.Ringback())
		w.must(w.session.Ringback()) // a second time changes nothing
		time.Sleep(11 * time.Second)
		got := w.trunk.heard()
		if len(got) != 50+50+50 { // of 0 s, 5 s, 10 s
			t.Fatalf("%d packets in 11 s", len(got))
		}
		var sound []int16
		first := got[0]
		for i, p := range got {
			burst, k := i/50, i%50
			seq := binary.BigEndian.Uint16(p[2:]) - binary.BigEndian.Uint16(first[2:])
			stamp := binary.BigEndian.Uint32(p[4:]) - binary.BigEndian.Uint32(first[4:])
			if len(p) != 172 || p[0] != 0x80 || p[1]&0x7f != 0 || (p[1]&0x80 != 0) != (k == 0) ||
				int(seq) != i || int(stamp) != burst*40000+k*160 || !bytes.Equal(p[8:12], first[8:12]) {
				t.Fatalf("packet %d: % x, seq +%d, timestamp +%d", i, p[:12], seq, stamp)
			}
			for _, c := range p[12:] {
				sound = append(sound, decodeULaw(c))
			}
		}
		if p := power(sound[:8000], 425); p < 0.95 {
			t.Errorf("%.2f of the power is at 425 Hz", p)
		}
		if l := level(sound[:8000]); l < -14 || l > -12 {
			t.Errorf("the tone is at %.1f dBm0", l)
		}
		if d := w.device.heard(); len(d) != 0 {
			t.Errorf("the device hears %d packets of ringback", len(d))
		}
	})
}

// The answer cuts the tone cleanly: after Connect the trunk hears the device, bit for bit, and nothing else.
func TestCleanCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.Ringback())
		time.Sleep(510 * time.Millisecond)
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
		if n := len(w.trunk.heard()); n != 26 {
			t.Errorf("%d packets of tone in 510 ms", n)
		}
		w.session.Connect()
		sent := w.device.talk(100)
		w.same("after the answer", w.trunk.heard(), sent)
		if w.relay.ringers.running {
			t.Error("the scheduler runs for nobody")
		}
		w.must(w.session.Ringback())
		time.Sleep(time.Second)
		w.same("ringback after the answer", w.trunk.heard(), nil)
	})
}

func TestNoRingback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *Options) { c.Ringback = "none" })
		w.ring("8 101")
		w.must(w.session.Ringback())
		time.Sleep(10 * time.Second)
		w.same("ringback", w.trunk.heard(), nil)
	})
}

// A trunk on hold is not rung.
func TestNoRingbackOnHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101", "sendonly")
		w.must(w.session.Ringback())
		time.Sleep(10 * time.Second)
		w.same("ringback", w.trunk.heard(), nil)
	})
}

// A caller behind NAT hears the tone where its packets come from.
func TestRingbackFollowsTheLatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.must(w.session.SetOffer(Trunk, body(netip.MustParseAddrPort("10.0.0.7:4000"), "8 101")))
		w.trunk.learn(w.session.Answer(Trunk))
		w.must(w.session.Ringback())
		time.Sleep(100 * time.Millisecond)
		w.same("not latched", w.trunk.heard(), nil)
		w.trunk.talk(latchPackets)
		time.Sleep(100 * time.Millisecond)
		if n := len(w.trunk.heard()); n < 5 {
			t.Errorf("%d packets after the latch", n)
		}
	})
}

// A thousand ringing calls share one goroutine for their tones, besides the one of each socket.
func TestRingbackIsCheap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		before := runtime.NumGoroutine()
		for range 1000 {
			s, err := w.relay.Open(SessionOptions{})
			w.must(err)
			w.must(s.SetOffer(Trunk, w.trunk.sdp("8")))
			_, err = s.Answer(Trunk)
			w.must(err)
			w.must(s.Ringback())
		}
		if n := runtime.NumGoroutine() - before; n > 1001 {
			t.Errorf("%d goroutines for 1000 ringing calls", n)
		}
	})
}

// A scheduler that was held up catches up a little, and skips the rest.
func TestRingbackSkipsWhenLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.Ringback())
		synctest.Wait()
		p := w.session.player
		w.trunk.heard()
		p.tick(p.began+800*moment(time.Millisecond), make([]byte, 172))
		got := w.trunk.heard()
		if len(got) != maxBehind {
			t.Fatalf("%d packets at once", len(got))
		}
		if stamp := binary.BigEndian.Uint32(got[0][4:]) - p.timestamp; stamp != 36*160 {
			t.Errorf("goes on at +%d", stamp)
		}
	})
}

func TestTones(t *testing.T) {
	for name, c := range tones() {
		samples := c.synthesize()
		total := 0
		for _, ms := range c.times {
			total += ms
		}
		if len(samples) != total*8 || total%20 != 0 || len(c.times)%2 != 0 {
			t.Errorf("%s: %d samples for %d ms", name, len(samples), total)
		}
		burst := samples[:c.times[0]*8]
		var sum float64
		for _, f := range c.hertz {
			sum += power(burst, f)
		}
		if l := level(burst); sum < 0.9 || l < -14.5 || l > -11.5 {
			t.Errorf("%s: %.2f of the power at its frequencies, %.1f dBm0", name, sum, l)
		}
	}
	for _, name := range []string{"eu", "us", "uk", "fr", "it", "au", "jp"} {
		if _, ok := tones()[name]; !ok {
			t.Errorf("no tone for %s", name)
		}
	}
}

// G.711 against the values of the ITU's tables, and every code against its own decoding.
func TestG711(t *testing.T) {
	for code := range 256 {
		if got := encodeALaw(decodeALaw(byte(code))); got != byte(code) {
			t.Errorf("A-law %#x is encoded as %#x", code, got)
		}
		if got := encodeULaw(decodeULaw(byte(code))); got != byte(code) && code != 0x7f { // 0x7f is the negative zero
			t.Errorf("µ-law %#x is encoded as %#x", code, got)
		}
	}
	for _, v := range []struct {
		sample int16
		a, u   byte
	}{{0, 0xd5, 0xff}, {-1, 0x55, 0x7f}, {32767, 0xaa, 0x80}, {-32768, 0x2a, 0x00}, {1000, 0xfa, 0xce}, {-1000, 0x7a, 0x4e}} {
		if a, u := encodeALaw(v.sample), encodeULaw(v.sample); a != v.a || u != v.u {
			t.Errorf("%d is %#x in A-law, %#x in µ-law, want %#x, %#x", v.sample, a, u, v.a, v.u)
		}
	}
	for s := -32768; s < 32768; s++ {
		a, u := int(decodeALaw(encodeALaw(int16(s)))), int(decodeULaw(encodeULaw(int16(s))))
		limit := max(s, -s)/16 + 16
		if d := a - s; d > limit || -d > limit {
			t.Fatalf("A-law turns %d into %d", s, a)
		}
		if d := u - s; d > limit || -d > limit {
			if s > -32636 && s < 32636 {
				t.Fatalf("µ-law turns %d into %d", s, u)
			}
		}
	}
}

// wav builds a file of chunks.
func wav(tag, channels uint16, rate uint32, bits uint16, data []byte, extra ...byte) []byte {
	f := binary.LittleEndian.AppendUint16(nil, tag)
	f = binary.LittleEndian.AppendUint16(f, channels)
	f = binary.LittleEndian.AppendUint32(f, rate)
	f = binary.LittleEndian.AppendUint32(f, rate*uint32(channels)*uint32(bits)/8)
	f = binary.LittleEndian.AppendUint16(f, channels*bits/8)
	f = append(binary.LittleEndian.AppendUint16(f, bits), extra...)
	chunk := func(id string, b []byte) []byte {
		out := append([]byte(id), binary.LittleEndian.AppendUint32(nil, uint32(len(b)))...)
		return append(append(out, b...), make([]byte, len(b)%2)...)
	}
	inner := append([]byte("WAVE"), chunk("LIST", []byte("odd"))...)
	inner = append(append(inner, chunk("fmt ", f)...), chunk("data", data)...)
	return append(append([]byte("RIFF"), binary.LittleEndian.AppendUint32(nil, uint32(len(inner)))...), inner...)
}

func TestParseWAV(t *testing.T) {
	pcm := []byte{1, 0, 255, 127, 0, 128}
	want := []int16{1, 32767, -32768}
	extensible := append([]byte{22, 0, 16, 0, 4, 0, 0, 0}, append([]byte{1, 0}, make([]byte, 14)...)...)
	for name, file := range map[string][]byte{
		"pcm": wav(1, 1, 8000, 16, pcm), "extensible": wav(0xfffe, 1, 8000, 16, pcm, extensible...),
		"cut off": wav(1, 1, 8000, 16, append(bytes.Clone(pcm), 1, 2, 3, 4))[:12+12+24+8+6],
	} {
		got, err := parseWAV(file)
		if err != nil || len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	for tag, decode := range map[uint16]func(byte) int16{6: decodeALaw, 7: decodeULaw} {
		got, err := parseWAV(wav(tag, 1, 8000, 8, []byte{1, 200, 77}))
		if err != nil || len(got) != 3 || got[1] != decode(200) {
			t.Errorf("format %d: %v %v", tag, got, err)
		}
	}
	for name, file := range map[string][]byte{
		"empty": nil, "text": []byte("hello, this is no sound at all"), "mp3": append([]byte("ID3"), make([]byte, 100)...),
		"stereo": wav(1, 2, 8000, 16, pcm), "44.1 kHz": wav(1, 1, 44100, 16, pcm), "8 bit": wav(1, 1, 8000, 8, pcm),
		"float": wav(3, 1, 8000, 32, pcm), "no sound": wav(1, 1, 8000, 16, nil), "short": wav(1, 1, 8000, 16, pcm)[:30],
	} {
		if got, err := parseWAV(file); err == nil || got != nil {
			t.Errorf("%s is taken: %v", name, got)
		}
	}
}

// A file is played in a loop, its last packet filled up, in the codec of the call.
func TestRingbackFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "music.wav")
	var pcm []byte
	for i := range 400 { // two and a half packets
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(8*i+1000))
	}
	if err := os.WriteFile(name, wav(1, 1, 8000, 16, pcm), 0o600); err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *Options) { c.Ringback = name })
		w.ring("8 101")
		w.must(w.session.Ringback())
		time.Sleep(115 * time.Millisecond)
		got := w.trunk.heard()
		if len(got) != 6 || !bytes.Equal(got[0][12:], got[3][12:]) || !bytes.Equal(got[2][12:], got[5][12:]) {
			t.Fatalf("%d packets", len(got))
		}
		if got[0][12] != encodeALaw(1000) || got[2][12+79] != encodeALaw(8*399+1000) || got[2][12+80] != 0xd5 {
			t.Errorf("% x", got[2])
		}
	})
	cfg := DefaultConfig()
	cfg.Ringback = name + "x"
	if _, err := NewRelay(cfg, Options{}); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func FuzzWAV(f *testing.F) {
	f.Add(wav(1, 1, 8000, 16, []byte{1, 2, 3, 4}))
	f.Add(wav(7, 1, 8000, 8, []byte{1, 2, 3}))
	f.Add(wav(0xfffe, 1, 8000, 16, []byte{1, 2}, make([]byte, 24)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, err := parseWAV(b)
		if (err == nil) != (len(samples) > 0) || len(samples) > len(b) {
			t.Fatalf("%d samples of %d bytes, %v", len(samples), len(b), err)
		}
	})
}
