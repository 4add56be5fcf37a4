package rtp

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// cadence is a country's ringback tone: frequencies sounded together, and on/off times in milliseconds, repeated.
type cadence struct {
	hertz []float64
	times []int
}

// tones are the ringback tones by country, after ITU-T E.180 supplement 2 (various tones used in national networks).
func tones() map[string]cadence {
	europe := cadence{[]float64{425}, []int{1000, 4000}} // ETSI TR 101 041-2, and most of the continent
	america := cadence{[]float64{440, 480}, []int{2000, 4000}}
	britain := cadence{[]float64{400, 450}, []int{400, 200, 400, 2000}}
	return map[string]cadence{
		"eu": europe,
		"de": europe,
		"it": europe,
		"nl": europe,
		"ch": europe,
		"pl": europe,
		"be": {[]float64{425}, []int{1000, 3000}},
		"es": {[]float64{425}, []int{1500, 3000}},
		"se": {[]float64{425}, []int{1000, 5000}},
		"at": {[]float64{420}, []int{1000, 5000}},
		"fr": {[]float64{440}, []int{1500, 3500}},
		"us": america,
		"ca": america,
		"uk": britain,
		"ie": britain,
		"nz": britain,
		"au": {[]float64{400, 425}, []int{400, 200, 400, 2000}},
		"jp": {[]float64{384, 416}, []int{1000, 2000}}, // 400 Hz modulated with 16 Hz
		"cn": {[]float64{450}, []int{1000, 4000}},
	}
}

// ToneNames lists the countries of Config.Tone.
func ToneNames() []string { return slices.Sorted(maps.Keys(tones())) }

const (
	sampleRate   = 8000                  // Hz, of G.711
	frameTime    = 20 * time.Millisecond // of one packet
	frameSamples = 160
)

// synthesize gives one period of a ringback tone.
func (c cadence) synthesize() []int16 {
	var samples []int16
	for i, ms := range c.times {
		n := ms * sampleRate / 1000
		if i%2 == 1 {
			samples = append(samples, make([]int16, n)...)
			continue
		}
		for k := range n {
			samples = append(samples, c.sample(k, n))
		}
	}
	return samples
}

// sample is the k-th of a burst of n.
func (c cadence) sample(k, n int) int16 {
	// -13 dBm0 in all, a usual level for ringback; a full-scale sine is +3.14 dBm0 in G.711. The power is shared among
	// the frequencies.
	const ramp = sampleRate / 200 // 5 ms up and down, so that it does not click
	level := 32767 * math.Pow(10, (-13-3.14)/20) / math.Sqrt(float64(len(c.hertz)))
	level *= min(1, float64(k)/ramp, float64(n-1-k)/ramp)
	sum := 0.0
	for _, f := range c.hertz {
		sum += math.Sin(2 * math.Pi * f * float64(k) / sampleRate)
	}
	return int16(level * sum)
}

// Sound is what the callers of one trunk hear while they wait, where that is not what all others hear.
type Sound struct {
	Ringback string // as Config.Ringback; "": the configuration's
	Tone     string // as Config.Tone; "": the configuration's. Without Ringback it says that there is to be a tone.
}

// Validate reports what is wrong with the sound itself, as Config.Validate does. A file is read.
func (s Sound) Validate(report func(path, problem string)) {
	if _, ok := tones()[s.Tone]; !ok && s.Tone != "" {
		report("tone", fmt.Sprintf("%q is no known tone; use one of %s", s.Tone, strings.Join(ToneNames(), ", ")))
	}
	if name, ok := s.file(); ok {
		if _, err := loadSound(name); err != nil {
			report("ringback", err.Error())
		}
	}
}

// over gives the sound in full.
func (s Sound) over(c Config) Sound {
	switch {
	case s.Ringback == "" && s.Tone != "":
		s.Ringback = "tone"
	case s.Ringback == "":
		s.Ringback = c.Ringback
	}
	if s.Tone == "" {
		s.Tone = c.Tone
	}
	if s.Ringback != "tone" {
		s.Tone = "" // so that equal sounds are equal
	}
	return s
}

// file is the one to play, if it is a file.
func (s Sound) file() (name string, ok bool) {
	return s.Ringback, s.Ringback != "" && s.Ringback != "tone" && s.Ringback != "none"
}

// sound is a Sound ready to be played: encoded once for each codec and shared by all calls.
type sound struct {
	clips map[string]*clip // by codec, PCMU and PCMA
}

// clip is a sound in one codec, cut into packets' worth. It never changes.
type clip struct {
	data   []byte // a multiple of frameSamples
	silent []bool // by frame: nothing to hear, and not sent
}

// frames is the number of packets in one round.
func (c *clip) frames() int { return len(c.silent) }

// frame is the payload of the i-th packet of a round.
func (c *clip) frame(i int) []byte { return c.data[i*frameSamples : (i+1)*frameSamples] }

// sounds are all that callers may hear, each loaded once. They never change.
type sounds struct {
	cfg    Config
	loaded map[Sound]*sound
}

// newSounds loads the sound of the configuration, and the others that are asked for.
func newSounds(cfg Config, others []Sound) (*sounds, error) {
	l := &sounds{cfg: cfg, loaded: map[Sound]*sound{}}
	for _, s := range append([]Sound{{}}, others...) {
		full := s.over(cfg)
		if _, known := l.loaded[full]; known {
			continue
		}
		loaded, err := full.load()
		if err != nil {
			return nil, err
		}
		l.loaded[full] = loaded
	}
	return l, nil
}

// of gives a sound; that of the configuration in place of one that was not loaded. nil is silence.
func (l *sounds) of(s Sound) *sound {
	if found, ok := l.loaded[s.over(l.cfg)]; ok {
		return found
	}
	return l.loaded[Sound{}.over(l.cfg)]
}

// load prepares a sound given in full; nil for "none".
func (s Sound) load() (*sound, error) {
	if s.Ringback == "none" {
		return nil, nil
	}
	var samples []int16
	if name, ok := s.file(); ok {
		var err error
		if samples, err = loadSound(name); err != nil {
			return nil, err
		}
	} else {
		samples = tones()[s.Tone].synthesize()
	}
	return &sound{clips: map[string]*clip{
		"PCMU": newClip(samples, encodeULaw),
		"PCMA": newClip(samples, encodeALaw),
	}}, nil
}

// inaudible is the largest sample that counts as silence: A-law has nothing nearer to zero.
const inaudible = 8

// newClip encodes samples. The last frame is filled up with silence.
func newClip(samples []int16, encode func(int16) byte) *clip {
	c := &clip{}
	for len(samples) > 0 {
		frame := make([]int16, frameSamples)
		n := copy(frame, samples)
		samples = samples[n:]
		quiet := true
		for _, s := range frame {
			quiet = quiet && -inaudible <= s && s <= inaudible
			c.data = append(c.data, encode(s))
		}
		c.silent = append(c.silent, quiet)
	}
	return c
}
