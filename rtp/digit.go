package rtp

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"reveille/rtp/sdp"
)

// Digit is one telephone event of DTMF (RFC 4733 §3.2). People type PINs with them: none is to be logged or recorded.
type Digit struct {
	Event    uint8         // 0 to 9; 10 is *, 11 is #, 12 to 15 are A to D, 16 is the hook flash
	Duration time.Duration // how long the key was held; 0: not known
}

// String keeps the digit out of logs.
func (d Digit) String() string { return "a digit" }

// Limits of a digit's duration. Whatever is shorter is not recognised by everybody (ITU-T Q.24: 40 ms).
const (
	MinDigit     = 40 * time.Millisecond
	MaxDigit     = 2 * time.Second
	DefaultDigit = 160 * time.Millisecond
)

// flash is the last event that is a digit here.
const flash = 16

// eventSize is the length of an event packet: the RTP header without anything further, and one event.
const eventSize = 12 + 4

// volume is what our digits are said to be played at, in -dBm0 (RFC 4733 §2.3.4): a usual level.
const volume = 10

// span is the duration within the limits.
func (d Digit) span() time.Duration {
	if d.Duration == 0 {
		return DefaultDigit
	}
	return min(max(d.Duration, MinDigit), MaxDigit)
}

// writeEvent is the payload of an event (RFC 4733 §2.3).
func writeEvent(b []byte, event uint8, end bool, duration uint16) {
	b[0], b[1] = event, volume
	if end {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], duration)
}

// eventReport is what one packet says of an event.
type eventReport struct {
	event    uint8
	end      bool
	duration uint16 // until now, in units of the RTP clock
	marker   bool
}

// readEvent reads the first event of a packet that is well formed.
func readEvent(packet []byte) (r eventReport, ok bool) {
	b := packet[headerLength(packet):]
	if packet[0]&0x20 != 0 {
		b = b[:max(0, len(b)-int(packet[len(packet)-1]))]
	}
	if len(b) < 4 {
		return r, false
	}
	return eventReport{b[0], b[1]&0x80 != 0, binary.BigEndian.Uint16(b[2:]), packet[1]&0x80 != 0}, true
}

// takesEvent reports whether a peer understands an event: by its a=fmtp, such as "0-15,66,70" (RFC 4733 §2.4.1), and
// DTMF where that is missing.
func takesEvent(c sdp.Codec, event uint8) bool {
	if c.Fmtp == "" {
		return event < flash
	}
	for part := range strings.SplitSeq(c.Fmtp, ",") {
		lo, hi, ranged := strings.Cut(strings.TrimSpace(part), "-")
		first, err := strconv.Atoi(lo)
		last := first
		if err == nil && ranged {
			last, err = strconv.Atoi(hi)
		}
		if err == nil && first <= int(event) && int(event) <= last {
			return true
		}
	}
	return false
}
