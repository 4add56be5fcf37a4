package siptest

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"time"
)

// Deaf has this end know no telephone-event (RFC 4733).
func (a *Audio) Deaf() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deaf = true
	a.codecs = strings.TrimSuffix(a.codecs, " 101")
}

// answered are the formats of an answer. The caller holds a.mu.
func (a *Audio) answered(payload string) string {
	if a.deaf {
		return payload
	}
	return payload + " 101"
}

// Press sends a key by telephone-event, in that many packets and two repetitions
// of the last, in place of the signal.
func (a *Audio) Press(ctx context.Context, event byte, packets int) error {
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	a.mu.Lock()
	start := a.sent
	a.sent += packets + 2
	to := a.remote
	a.mu.Unlock()
	for i := range packets + 2 {
		n := min(i+1, packets)
		p := make([]byte, 16)
		p[0], p[1] = 2<<6, 101
		if i == 0 {
			p[1] |= 0x80
		}
		binary.BigEndian.PutUint16(p[2:], uint16(start+i))
		binary.BigEndian.PutUint32(p[4:], uint32(start)*160)
		binary.BigEndian.PutUint32(p[8:], a.ssrc)
		p[12], p[13] = event, 10
		if n == packets {
			p[13] |= 0x80
		}
		binary.BigEndian.PutUint16(p[14:], uint16(n*160))
		p, err := a.sealed(p)
		if err == nil {
			_, err = a.conn.WriteTo(p, net.UDPAddrFromAddrPort(to))
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Digit is one that was received by telephone-event.
type Digit struct {
	Event    byte
	Duration uint16 // in units of the RTP clock
	Packets  int
	Ends     int // of those with the end bit
}

// Digits are those that have come by telephone-event under 101, by their timestamps.
func (a *Audio) Digits() (list []Digit) {
	last := uint32(0)
	for _, p := range a.Received() {
		if p.Payload != 101 || len(p.Data) != 4 {
			continue
		}
		if len(list) == 0 || p.Timestamp != last {
			list, last = append(list, Digit{Event: p.Data[0]}), p.Timestamp
		}
		d := &list[len(list)-1]
		d.Packets++
		d.Duration = max(d.Duration, binary.BigEndian.Uint16(p.Data[2:]))
		if p.Data[1]&0x80 != 0 {
			d.Ends++
		}
	}
	return list
}
