package rtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxSound is the longest sound that is played, in samples: five minutes. All of it is kept in memory, once in each
// of the two codecs: 4.8 MB.
const maxSound = 5 * 60 * sampleRate

// maxSoundFile is the largest file that can hold one, in bytes; 4 kB are room for the chunks of a WAV file.
const maxSoundFile = 2*maxSound + 4096

// Faults of a sound file, with the way to mend them.
var (
	errTooLong = errors.New("longer than five minutes; cut it, as it is played in a loop: sox IN OUT trim 0 300")
	errOdd     = errors.New("an odd number of bytes, so this is not 16-bit sound; convert it with: sox IN -r 8000 -c 1 -b 16 OUT.wav")
	errNoSound = errors.New("the file is empty")
	errIsWAV   = errors.New("a WAV file by its content; rename it to .wav")
	errKind    = errors.New("not a kind of sound that is known by its name; needed is .wav, .al or .alaw (G.711 A-law), .ul or .ulaw (G.711 µ-law), .sln or .raw (16-bit little-endian), all 8000 Hz mono: sox IN -r 8000 -c 1 -b 16 OUT.wav")
)

// loadSound reads a ringback file; what is in it, the end of its name says.
func loadSound(name string) ([]int16, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("ringback file: %w; name a readable file, or write tone or none", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSoundFile+1))
	if err != nil {
		return nil, fmt.Errorf("ringback file %s: %w", name, err)
	}
	samples, err := parseSound(filepath.Ext(name), data)
	if err != nil {
		return nil, fmt.Errorf("ringback file %s: %w", name, err)
	}
	return samples, nil
}

// parseSound gives the samples of a file by the end of its name, such as ".wav".
func parseSound(ext string, data []byte) (samples []int16, err error) {
	isWAV := bytes.HasPrefix(data, []byte("RIFF"))
	ext = strings.ToLower(ext)
	switch raw := map[string]func([]byte) ([]int16, error){
		".al": aLaw, ".alaw": aLaw, ".ul": uLaw, ".ulaw": uLaw, ".sln": linear, ".raw": linear,
	}[ext]; {
	case len(data) > maxSoundFile:
		return nil, errTooLong
	case raw != nil && isWAV: // it would be played as noise
		return nil, errIsWAV
	case raw != nil:
		samples, err = raw(data)
	case isWAV || ext == ".wav":
		samples, err = parseWAV(data)
	default:
		err = errKind
	}
	switch {
	case err != nil:
		return nil, err
	case len(samples) == 0:
		return nil, errNoSound
	case len(samples) > maxSound:
		return nil, errTooLong
	}
	return samples, nil
}

// aLaw decodes G.711 A-law.
func aLaw(data []byte) ([]int16, error) { return expand(data, decodeALaw), nil }

// uLaw decodes G.711 µ-law.
func uLaw(data []byte) ([]int16, error) { return expand(data, decodeULaw), nil }

// expand decodes octet by octet.
func expand(data []byte, decode func(byte) int16) []int16 {
	samples := make([]int16, len(data))
	for i, c := range data {
		samples[i] = decode(c)
	}
	return samples
}

// linear reads 16-bit little-endian samples.
func linear(data []byte) ([]int16, error) {
	if len(data)%2 != 0 {
		return nil, errOdd
	}
	samples := make([]int16, len(data)/2)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return samples, nil
}
