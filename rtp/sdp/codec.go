package sdp

import (
	"fmt"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// static are the payload types of RFC 3551 §6 that need no rtpmap.
func static(pt uint8) (Codec, bool) {
	name, rate, channels := "", 8000, 1
	switch pt {
	case 0:
		name = "PCMU"
	case 3:
		name = "GSM"
	case 4:
		name = "G723"
	case 5:
		name = "DVI4"
	case 6:
		name, rate = "DVI4", 16000
	case 7:
		name = "LPC"
	case 8:
		name = "PCMA"
	case 9:
		name = "G722"
	case 10:
		name, rate, channels = "L16", 44100, 2
	case 11:
		name, rate = "L16", 44100
	case 12:
		name = "QCELP"
	case 13:
		name = "CN"
	case 15:
		name = "G728"
	case 18:
		name = "G729"
	}
	return Codec{PT: pt, Name: name, Rate: rate, Channels: channels}, name != ""
}

// codecs lists the payload types of an audio line in its order. A dynamic number without a usable rtpmap is left out,
// and so are 64-95, which cannot be told from RTCP (RFC 5761 §4).
func codecs(m *pion.MediaDescription) ([]Codec, error) {
	maps, params := formatAttributes(m)
	list := make([]Codec, 0, min(len(m.MediaName.Formats), maxCodecs))
	var seen [128]bool
	for _, format := range m.MediaName.Formats {
		n, err := strconv.ParseUint(format, 10, 7)
		if err != nil {
			return nil, fmt.Errorf("%w: payload type %q on the audio line", ErrBad, format)
		}
		pt := uint8(n)
		if seen[pt] || pt >= 64 && pt < 96 || len(list) == maxCodecs {
			continue
		}
		seen[pt] = true
		c, ok := maps[pt]
		if !ok {
			c, ok = static(pt)
		}
		if ok {
			c.Name, c.Fmtp = lasting(c.Name), lasting(params[pt])
			list = append(list, c)
		}
	}
	return list, nil
}

// lasting is a copy of a text that holds nothing of the description it is from; what nearly all have is there once.
func lasting(text string) string {
	switch text {
	case "":
		return ""
	case "PCMA":
		return "PCMA"
	case "PCMU":
		return "PCMU"
	case "G722":
		return "G722"
	case "G729":
		return "G729"
	case "opus":
		return "opus"
	case "telephone-event":
		return "telephone-event"
	case "audio":
		return "audio"
	case "RTP/AVP":
		return "RTP/AVP"
	case "0-15":
		return "0-15"
	case "0-16":
		return "0-16"
	}
	return strings.Clone(text)
}

// formatAttributes collects a=rtpmap and a=fmtp by payload type.
func formatAttributes(m *pion.MediaDescription) (map[uint8]Codec, map[uint8]string) {
	maps, params := map[uint8]Codec{}, map[uint8]string{}
	for _, a := range m.Attributes {
		if a.Key != "rtpmap" && a.Key != "fmtp" {
			continue
		}
		number, value, _ := strings.Cut(a.Value, " ")
		n, err := strconv.ParseUint(number, 10, 7)
		value = strings.TrimSpace(value)
		if err != nil || !printable(value) {
			continue
		}
		if a.Key == "fmtp" {
			params[uint8(n)] = value
		} else if c, ok := parseMap(value); ok {
			c.PT = uint8(n)
			maps[c.PT] = c
		}
	}
	return maps, params
}

// parseMap reads "name/rate[/channels]" of an a=rtpmap.
func parseMap(value string) (Codec, bool) {
	parts := strings.Split(value, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || len(parts[0]) > 64 || strings.Contains(parts[0], " ") {
		return Codec{}, false
	}
	c := Codec{Name: parts[0], Channels: 1}
	var err error
	if c.Rate, err = strconv.Atoi(parts[1]); err != nil || c.Rate < 1000 || c.Rate > 384000 {
		return Codec{}, false
	}
	if len(parts) == 3 {
		if c.Channels, err = strconv.Atoi(parts[2]); err != nil || c.Channels < 1 || c.Channels > 255 {
			return Codec{}, false
		}
	}
	return c, true
}

// printable reports whether a value may be copied into our description.
func printable(value string) bool {
	if len(value) == 0 || len(value) > maxFmtp {
		return false
	}
	for i := range len(value) {
		if value[i] < 0x20 || value[i] > 0x7e {
			return false
		}
	}
	return true
}
