package rtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Formats of a WAV file (RFC 2361).
const (
	wavPCM        = 1
	wavALaw       = 6
	wavULaw       = 7
	wavExtensible = 0xfffe
)

// errNoWAV says that a file is of another kind.
var errNoWAV = errors.New("not a WAV file; convert it with: sox IN -r 8000 -c 1 -b 16 OUT.wav")

// wavFormat is the fmt chunk as far as it matters.
type wavFormat struct {
	tag, channels uint16
	rate          uint32
	bits          uint16
}

// parseWAV gives the samples of a RIFF/WAVE file of 8 kHz mono, 16-bit PCM or G.711.
func parseWAV(data []byte) ([]int16, error) {
	if len(data) < 12 || !bytes.Equal(data[:4], []byte("RIFF")) || !bytes.Equal(data[8:12], []byte("WAVE")) {
		return nil, errNoWAV
	}
	var format *wavFormat
	for rest := data[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), binary.LittleEndian.Uint32(rest[4:])
		body := rest[8:]
		if uint64(size) < uint64(len(body)) {
			body = body[:size]
		}
		switch id {
		case "fmt ":
			f, err := parseFormat(body)
			if err != nil {
				return nil, err
			}
			format = f
		case "data":
			// A size beyond the end is what a recorder leaves that could not go back to its header; what there is, is played.
			if format == nil {
				return nil, errors.New("the WAV file has its sound before its format (no fmt chunk)")
			}
			return format.samples(body)
		}
		rest = rest[8+len(body):]
		if size&1 == 1 && len(rest) > 0 {
			rest = rest[1:] // chunks are padded to even length
		}
	}
	return nil, errors.New("the WAV file has no sound in it (no data chunk)")
}

// parseFormat reads a fmt chunk and refuses what we do not play.
func parseFormat(b []byte) (*wavFormat, error) {
	if len(b) < 16 {
		return nil, errors.New("the WAV file's fmt chunk is too short")
	}
	f := &wavFormat{
		tag:      binary.LittleEndian.Uint16(b),
		channels: binary.LittleEndian.Uint16(b[2:]),
		rate:     binary.LittleEndian.Uint32(b[4:]),
		bits:     binary.LittleEndian.Uint16(b[14:]),
	}
	if f.tag == wavExtensible && len(b) >= 26 {
		f.tag = binary.LittleEndian.Uint16(b[24:]) // the sub-format begins with the tag
	}
	width, known := map[uint16]uint16{wavPCM: 16, wavALaw: 8, wavULaw: 8}[f.tag]
	if !known || f.rate != sampleRate || f.channels != 1 || f.bits != width {
		return nil, fmt.Errorf("WAV of format %d, %d Hz, %d channels, %d bits; needed is 8000 Hz mono in 16-bit PCM or G.711: sox IN -r 8000 -c 1 -b 16 OUT.wav",
			f.tag, f.rate, f.channels, f.bits)
	}
	return f, nil
}

// samples decodes the data chunk.
func (f *wavFormat) samples(b []byte) ([]int16, error) {
	if len(b) == 0 {
		return nil, errors.New("the WAV file's data chunk is empty")
	}
	switch f.tag {
	case wavALaw:
		return aLaw(b)
	case wavULaw:
		return uLaw(b)
	}
	return linear(b[:len(b)&^1]) // an odd byte at the end is of a recording that was cut off
}
