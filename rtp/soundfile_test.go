package rtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestSoundFilesByTheirNames(t *testing.T) {
	octets, pcm := []byte{0x12, 0xd5, 0x80, 0x00}, []byte{1, 0, 255, 127, 0, 128, 232, 3}
	a, u := expand(octets, decodeALaw), expand(octets, decodeULaw)
	wide := []int16{1, 32767, -32768, 1000}
	for name, c := range map[string]struct {
		data []byte
		want []int16
	}{
		"a.al": {octets, a}, "a.ALAW": {octets, a}, "a.ul": {octets, u}, "a.ulaw": {octets, u},
		"a.sln": {pcm, wide}, "a.raw": {pcm, wide}, "a.wav": {wav(1, 1, 8000, 16, pcm), wide},
		"a": {wav(1, 1, 8000, 16, pcm), wide}, // a WAV file tells by itself
	} {
		if got, err := parseSound(filepath.Ext(name), c.data); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestSoundFilesThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"a.mp3", []byte("ID3 and so on"), errKind},
		{"a", []byte("text"), errKind},
		{"a.wav", []byte("this is no sound at all"), errNoWAV},
		{"a.al", nil, errNoSound},
		{"a.sln", nil, errNoSound},
		{"a.sln", []byte{1, 2, 3}, errOdd},
		{"a.raw", wav(1, 1, 8000, 16, []byte{1, 2}), errIsWAV},
		{"a.ul", wav(7, 1, 8000, 8, []byte{1, 2}), errIsWAV},
		{"a.al", make([]byte, maxSound+1), errTooLong},
		{"a.sln", make([]byte, 2*maxSound+2), errTooLong},
		{"a.wav", wav(6, 1, 8000, 8, make([]byte, maxSound+1)), errTooLong},
		{"a.wav", wav(1, 1, 8000, 16, make([]byte, maxSoundFile)), errTooLong},
	} {
		if got, err := parseSound(filepath.Ext(c.name), c.data); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s of %d bytes: %d samples, %v", c.name, len(c.data), len(got), err)
		}
	}
	for _, n := range []int{maxSound, 1} {
		if got, err := parseSound(".al", make([]byte, n)); err != nil || len(got) != n {
			t.Errorf("%d samples: %d, %v", n, len(got), err)
		}
	}
}

// A raw file of G.711 comes to a caller of the same codec octet by octet.
func TestRawFileIsPlayedBitForBit(t *testing.T) {
	name := filepath.Join(t.TempDir(), "music.al")
	data := make([]byte, 320)
	for i := range data {
		data[i] = byte(7 * i)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *Options) { c.Ringback = name })
		w.ring("8 101")
		w.must(w.session.Ringback())
		time.Sleep(30 * time.Millisecond)
		got := w.trunk.heard()
		if len(got) != 2 || !bytes.Equal(got[0][12:], data[:160]) || !bytes.Equal(got[1][12:], data[160:]) {
			t.Errorf("% x", got)
		}
	})
}

// Each trunk has its own sound; what two of them share is in memory once.
func TestSoundsByTrunk(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bonjour.sln")
	var pcm []byte
	for i := range 160 {
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(100*i+1000))
	}
	if err := os.WriteFile(name, pcm, 0o600); err != nil {
		t.Fatal(err)
	}
	file, american, none := Sound{Ringback: name}, Sound{Tone: "us"}, Sound{Ringback: "none", Tone: "uk"}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, o *Options) {
			o.Sounds = []Sound{file, american, none, {}, {Ringback: name, Tone: "fr"}, {Tone: "eu"}, {Ringback: "tone"}}
		})
		if n := len(w.relay.sounds.loaded); n != 4 {
			t.Errorf("%d sounds are kept of 4", n)
		}
		if w.relay.sounds.of(file) != w.relay.sounds.of(Sound{Ringback: name, Tone: "fr"}) {
			t.Error("a file is in memory twice")
		}
		for sound, hertz := range map[Sound]float64{{}: 425, {Tone: "eu"}: 425, american: 480, file: 0, none: 0} {
			heard := w.hear(sound, time.Second)
			var samples []int16
			for _, p := range heard {
				samples = append(samples, expand(p[12:], decodeALaw)...)
			}
			switch {
			case sound == none && len(heard) != 0, sound != none && (len(heard) < 49 || len(heard) > 51): // the clock of all calls ticks for the first
				t.Errorf("%+v: %d packets", sound, len(heard))
			case sound == file && heard[0][12] != encodeALaw(1000):
				t.Errorf("the file begins with % x", heard[0][12:16])
			case hertz > 0 && power(samples, hertz) < 0.4:
				t.Errorf("%+v: %.2f of the power is at %v Hz", sound, power(samples, hertz), hertz)
			}
		}
	})
}

// hear has a call of its own ring the trunk for some time.
func (w *world) hear(sound Sound, d time.Duration) [][]byte {
	s, err := w.relay.Open(SessionOptions{Sound: sound})
	w.must(err)
	defer s.Close()
	w.session = s
	w.ring("8 101")
	time.Sleep(frameTime - w.relay.now()%frameTime) // the first packet is due at once
	w.must(s.Ringback())
	time.Sleep(d)
	return w.trunk.heard()
}

// A trunk's sound is held against the tones and files that there are.
func TestSoundOfATrunkIsChecked(t *testing.T) {
	for sound, want := range map[Sound]string{
		{}: "", {Ringback: "none"}: "", {Ringback: "tone", Tone: "jp"}: "",
		{Tone: "xx"}: "tone", {Ringback: "/there/is/none.wav"}: "ringback",
	} {
		got := ""
		sound.Validate(func(path, _ string) { got += path })
		if got != want {
			t.Errorf("%+v: fault in %q, want %q", sound, got, want)
		}
	}
	if _, err := NewRelay(DefaultConfig(), Options{Sounds: []Sound{{Ringback: "/there/is/none.wav"}}}); err == nil {
		t.Error("a relay begins without a trunk's file")
	}
}

func FuzzSoundFile(f *testing.F) {
	for _, ext := range []string{".wav", ".al", ".ul", ".sln", ".raw", ""} {
		f.Add(ext, wav(1, 1, 8000, 16, []byte{1, 2, 3, 4}))
		f.Add(ext, []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, ext string, b []byte) {
		samples, err := parseSound(ext, b)
		if (err == nil) != (len(samples) > 0) || len(samples) > len(b) {
			t.Fatalf("%d samples of %d bytes, %v", len(samples), len(b), err)
		}
	})
}
