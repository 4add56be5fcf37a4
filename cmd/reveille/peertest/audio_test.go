package peertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// rate is the sampling rate of G.711 (RFC 3551 §4.5.14), in samples a second.
const rate = 8000

// source makes A-law test audio: a sweep like a voice's range, 200 to 3000 Hz each second, under noise. The noise
// makes every stretch of it unique, so that audio found elsewhere tells from where in the source it came. Different
// seeds share nothing.
func source(seed uint64, length time.Duration) []byte {
	noise := rand.New(rand.NewPCG(seed, seed))
	out := make([]byte, int(length.Seconds()*rate))
	phase := 0.0
	for i := range out {
		sweep := float64(i%rate) / rate
		phase += 2 * math.Pi * (200 + 2800*sweep) / rate
		out[i] = encodeALaw(int16(8000*math.Sin(phase) + 2000*noise.NormFloat64()))
	}
	return out
}

// encodeALaw and decodeALaw are ITU-T G.711 table 1a/1b: 13 bits sign and magnitude, left-aligned in 16 bits.
func encodeALaw(s int16) byte {
	sign, v := byte(0xd5), int(s)
	if v < 0 {
		sign, v = 0x55, -v-1
	}
	v >>= 4
	segment := 0
	for limit := 16; v >= limit && segment < 7; limit <<= 1 {
		segment++
	}
	code := v
	if segment > 0 {
		code = code>>(segment-1)&0x0f | segment<<4
	}
	return byte(code) ^ sign
}

func decodeALaw(code byte) int16 {
	code ^= 0x55
	v, segment := int(code&0x0f)<<4+8, int(code&0x70)>>4
	if segment > 0 {
		v = (v + 0x100) << (segment - 1)
	}
	if code&0x80 == 0 {
		v = -v
	}
	return int16(v)
}

// samples decodes A-law.
func samples(alaw []byte) []int16 {
	out := make([]int16, len(alaw))
	for i, code := range alaw {
		out[i] = decodeALaw(code)
	}
	return out
}

// window is a packet of 20 ms, in samples. Shorter stretches of the source are not looked for: they say nothing.
const window = 160

// anchor is how many samples in a row tell where in the source they are: noise does not repeat itself for as long.
const anchor = 16

// longestRun returns the longest stretch of the source that stands in the recording sample for sample: nothing is
// transcoded between the peers, so one wrong bit ends it, as does a packet lost, repeated or out of order.
func longestRun(recorded, source []int16) time.Duration {
	at := make(map[[anchor]int16]int) // the beginning of each packet → where it is in the source
	for i := 0; i+anchor <= len(source); i += window {
		at[[anchor]int16(source[i:])] = i
	}
	best := 0
	for i := 0; i+anchor <= len(recorded); {
		j, ok := at[[anchor]int16(recorded[i:])]
		if !ok {
			i++
			continue
		}
		before, after := common(recorded, source, i, j)
		best = max(best, before+after)
		i += after
	}
	if best < window {
		return 0
	}
	return time.Duration(best) * time.Second / rate
}

// common returns for how many samples before a[i], b[j] and from there on the two are the same.
func common(a, b []int16, i, j int) (before, after int) {
	for before < min(i, j) && a[i-before-1] == b[j-before-1] {
		before++
	}
	for i+after < len(a) && j+after < len(b) && a[i+after] == b[j+after] {
		after++
	}
	return before, after
}

// writeWAV writes mono 16-bit PCM at 8 kHz.
func writeWAV(path string, pcm []int16) error {
	b := []byte("RIFF\x00\x00\x00\x00WAVEfmt ")
	b = binary.LittleEndian.AppendUint32(b, 16)     // size of the format chunk
	b = binary.LittleEndian.AppendUint16(b, 1)      // PCM
	b = binary.LittleEndian.AppendUint16(b, 1)      // mono
	b = binary.LittleEndian.AppendUint32(b, rate)   // samples a second
	b = binary.LittleEndian.AppendUint32(b, 2*rate) // bytes a second
	b = binary.LittleEndian.AppendUint16(b, 2)      // bytes a sample
	b = binary.LittleEndian.AppendUint16(b, 16)     // bits a sample
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(2*len(pcm)))
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return os.WriteFile(path, b, 0o600)
}

// readWAV reads mono 16-bit PCM at 8 kHz, also from a file whose writer has not set the sizes, because it is still at
// work or was killed: data of size 0 goes on to the end of the file.
func readWAV(path string) ([]int16, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, fmt.Errorf("%s: not a WAV file", path)
	}
	for b = b[12:]; len(b) >= 8; {
		name, size := string(b[:4]), int(binary.LittleEndian.Uint32(b[4:]))
		if size = min(size, len(b)-8); name == "data" && size == 0 {
			size = len(b) - 8
		}
		body := b[8 : 8+size]
		switch {
		case name == "fmt " && !isMono8k(body):
			return nil, fmt.Errorf("%s: not mono 16-bit PCM at 8 kHz", path)
		case name == "data":
			return pcm(body), nil
		}
		b = b[min(8+size+size&1, len(b)):]
	}
	return nil, errors.Join(errors.New("no data chunk in "+path), err)
}

func isMono8k(format []byte) bool {
	le := binary.LittleEndian
	return len(format) >= 16 && le.Uint16(format) == 1 && le.Uint16(format[2:]) == 1 &&
		le.Uint32(format[4:]) == rate && le.Uint16(format[14:]) == 16
}

func pcm(b []byte) []int16 {
	out := make([]int16, len(b)/2)
	for i := range out {
		out[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return out
}

// whole is how much of a source must arrive in one piece, bit for bit; long is how much there is to send, so that a
// machine that is too busy to send a piece on time can send the next.
const (
	whole = 2 * time.Second
	long  = 25 * time.Second
)

// checkAudio fails the test unless the recording holds a stretch of the source of at least whole's length.
func checkAudio(t testing.TB, what string, recorded []int16, alaw []byte) {
	t.Helper()
	run := longestRun(recorded, samples(alaw))
	t.Logf("%s: %v of the source arrived bit for bit, in a recording of %v", what, run, time.Duration(len(recorded))*time.Second/rate)
	if run < whole {
		t.Errorf("%s: want at least %v of the source bit for bit, got %v", what, whole, run)
	}
}

// hears waits until whole's length of the source has arrived in a recording that grows.
func hears(t testing.TB, what string, alaw []byte, recording func() []int16) {
	t.Helper()
	want, best := samples(alaw), time.Duration(0)
	defer func() {
		if best < whole {
			t.Logf("%s: at most %v of the source arrived in one piece", what, best)
		}
	}()
	waitUntil(t, what, func() bool {
		best = longestRun(recording(), want)
		return best >= whole
	})
}

func TestPeersALaw(t *testing.T) {
	for c := range 256 {
		if got := encodeALaw(decodeALaw(byte(c))); got != byte(c) {
			t.Errorf("code %#02x decodes to %d, which encodes to %#02x", c, decodeALaw(byte(c)), got)
		}
	}
	if decodeALaw(0xd5) != 8 || decodeALaw(0xaa) != 32256 || decodeALaw(0x2a) != -32256 {
		t.Error("the decoder disagrees with G.711: smallest 8, largest ±32256")
	}
}

// TestPeersAudioComparison shows that the comparison finds audio that is right and refuses audio that is not.
func TestPeersAudioComparison(t *testing.T) {
	src := samples(source(1, 4*time.Second))
	silence := make([]int16, 4*rate)
	part := append(append(append([]int16{}, silence[:777]...), src[5000:25000]...), silence[:500]...)
	late := append(append([]int16{}, part[:777+8000]...), part[777+8160:]...) // one packet lost after a second
	swapped := append([]int16{}, src...)
	for i := 0; i+2*window <= len(src); i += 2 * window { // every pair of packets in the wrong order
		copy(swapped[i:], src[i+window:i+2*window])
		copy(swapped[i+window:], src[i:i+window])
	}
	louder := make([]int16, len(src))
	for i, s := range src {
		louder[i] = s + 1
	}
	for _, c := range []struct {
		name     string
		recorded []int16
		low, up  time.Duration
	}{
		{"all", src, 4 * time.Second, 4 * time.Second},
		{"a part between silences", part, 2500 * time.Millisecond, 2500 * time.Millisecond},
		{"a packet lost", late, 1400 * time.Millisecond, 1500 * time.Millisecond},
		{"packets swapped", swapped, 0, 41 * time.Millisecond},
		{"another source", samples(source(2, 4*time.Second)), 0, 0},
		{"silence", silence, 0, 0},
		{"transcoded or changed in volume", louder, 0, 0},
		{"nothing", nil, 0, 0},
	} {
		if got := longestRun(c.recorded, src); got < c.low || got > c.up {
			t.Errorf("%s: found %v, want %v to %v", c.name, got, c.low, c.up)
		}
	}
}

func TestPeersWAV(t *testing.T) {
	path := t.TempDir() + "/a.wav"
	want := samples(source(3, time.Second))
	if err := writeWAV(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := readWAV(path)
	if err != nil || longestRun(got, want) != time.Second {
		t.Errorf("read back %d samples of %d, err %v", len(got), len(want), err)
	}
	file, err := os.ReadFile(path)
	must(t, err)
	copy(file[40:], make([]byte, 4)) // the size of the data
	must(t, os.WriteFile(path, file, 0o600))
	if got, err := readWAV(path); err != nil || longestRun(got, want) != time.Second {
		t.Errorf("unfinished: read back %d samples of %d, err %v", len(got), len(want), err)
	}
	if _, err := readWAV("audio_test.go"); err == nil {
		t.Error("a file that is no WAV was read")
	}
}
