package rtp

import (
	"encoding/binary"
	"time"
)

const (
	// maxDigits may wait: more than anybody types ahead of a voice menu.
	maxDigits = 32
	// digitPause is what follows the last packet of a digit before another may begin. That packet comes 40 ms after the
	// digit's end, so that the pause is 100 ms; receivers ask for 40 ms at least (ITU-T Q.24).
	digitPause = 60 * time.Millisecond
	// flowing is how far the packets of a stream may be from each other for it to count as one that flows: six packets of
	// 20 ms. Comfort noise comes more rarely (RFC 3389), and so has no digit begin.
	flowing = 120 * time.Millisecond
	// stalled is how long a stream may pause within a digit before that is ended without it: longer than a network holds
	// packets back, and less than receivers wait for the next packet before they end a digit themselves (Asterisk: 375 ms).
	stalled = 250 * time.Millisecond
	// endings is how often the final packet of an event is sent (RFC 4733 §2.5.1.4).
	endings = 3
)

// phase says how a keypad's present digit is sent.
type phase uint8

const (
	idle     phase = iota
	inStream       // in place of the packets of the side's own stream
	alone          // as a stream of its own, as there is no other
)

// keypad plays digits to the one side of a call, as if the other had sent them. While a stream of that other flows, each
// of its packets of speech becomes one of the event: its sequence number and source stay, so that nothing that follows
// needs to be renumbered, and SRTP, which allows no number twice, neither. Where nothing flows, the event is a source of
// its own (RFC 3550 §8.1), and the numbers that the other stream will go on with are left to it.
//
// It is part of the path and guarded with it.
type keypad struct {
	number uint8  // payload type of the events
	rate   uint32 // their clock, Hz

	queue [maxDigits]Digit
	count int

	phase  phase
	digit  Digit
	length uint16 // in units of rate
	start  uint32 // timestamp of its packets
	ssrc   uint32 // of the stream that it is in
	sent   bool   // its first packet has left
	ends   uint8  // final packets that have left
	began  moment // of a digit alone
	rest   moment // before this none may begin

	// The side's own stream.
	known bool   // it has been heard
	last  moment // its latest packet of speech
	seen  uint32 // SSRC of that
	stamp uint32 // timestamp of that
	step  uint32 // from one packet to the next; 0: not known

	source struct { // of digits alone; the same for all of them
		made            bool
		ssrc, timestamp uint32 // timestamp of moment 0
		seq             uint16
	}
}

// push adds a digit; false: too many are waiting.
func (k *keypad) push(d Digit) bool {
	if k.count == maxDigits {
		return false
	}
	k.queue[k.count] = d
	k.count++
	return true
}

// busy reports whether there is anything to play.
func (k *keypad) busy() bool { return k.phase != idle || k.count > 0 }

// clear forgets what there is to play.
func (k *keypad) clear() { k.phase, k.count, k.queue = idle, 0, [maxDigits]Digit{} }

// begin takes the next digit.
func (k *keypad) begin(p phase, start, ssrc uint32) {
	k.digit = k.queue[0]
	copy(k.queue[:], k.queue[1:k.count])
	k.count--
	k.queue[k.count] = Digit{}
	// A duration has 16 bits: at 48 kHz a digit ends after 1.3 s (RFC 4733 §2.5.1.3 would have it go on as another).
	k.length = uint16(min(uint64(k.digit.span())*uint64(k.rate)/uint64(time.Second), 0xffff))
	k.phase, k.start, k.ssrc, k.sent, k.ends = p, start, ssrc, false, 0
}

// finish ends the present digit.
func (k *keypad) finish(now moment) { k.phase, k.digit, k.rest = idle, Digit{}, now+digitPause }

// follow notes a packet of the side's own stream. It reports whether that flows.
func (k *keypad) follow(h header, rate uint32, now moment) bool {
	steady := k.known && h.ssrc == k.seen && now-k.last <= flowing
	if step := h.timestamp - k.stamp; steady && step > 0 && step <= rate/10 { // packets of 100 ms at most
		k.step = step
	}
	k.known, k.last, k.seen, k.stamp = true, now, h.ssrc, h.timestamp
	return steady
}

// replace takes a packet of speech, of a clock of rate, that is about to be passed on, and gives what goes in its place:
// itself, a packet of a digit, or nothing while a digit goes by a stream of its own.
func (k *keypad) replace(packet []byte, h header, rate uint32, now moment) []byte {
	flows := k.follow(h, rate, now)
	switch {
	case k.phase == alone:
		return nil // the one stream would be mixed into the other
	case k.phase == idle:
		if k.count == 0 || now < k.rest || !flows {
			return packet
		}
		k.begin(inStream, h.timestamp, h.ssrc)
	case h.ssrc != k.ssrc: // the stream has begun anew, and the receiver has ended the digit
		k.finish(now)
		return packet
	case int32(h.timestamp-k.start) < 0: // late, of before the digit
		return packet
	}
	step := k.step
	if step == 0 {
		step = rate / 50
	}
	elapsed := uint64(h.timestamp-k.start) + uint64(step)
	if rate != k.rate { // the clocks of speech and events should be the same, and are not everywhere
		elapsed = elapsed * uint64(k.rate) / uint64(max(rate, 1))
	}
	packet = packet[:eventSize]
	packet[0] = 2 << 6 // without sources, extension and padding
	k.write(packet, elapsed, now)
	return packet
}

// dial is replace for a packet of an end, whose keypad is let go with its last digit.
func (e *end) dial(packet []byte, h header, rate uint32, now moment) []byte {
	packet = e.keypad.replace(packet, h, rate, now)
	if !e.keypad.busy() {
		e.keypad = nil
	}
	if packet == nil {
		e.got.held++
	}
	return packet
}

// write makes the packet of the present digit after elapsed units of its clock, but for sequence number and source.
func (k *keypad) write(packet []byte, elapsed uint64, now moment) {
	packet[1] = k.number
	if !k.sent {
		packet[1] |= 0x80 // the marker tells of a new event (RFC 4733 §2.5.1.1)
		k.sent = true
	}
	binary.BigEndian.PutUint32(packet[4:], k.start)
	end := k.ends > 0 || elapsed >= uint64(k.length)
	duration := k.length
	if !end {
		duration = uint16(elapsed)
	}
	writeEvent(packet[12:], k.digit.Event, end, duration)
	if end {
		if k.ends++; k.ends == endings {
			k.finish(now)
		}
	}
}

// open makes the source of digits alone.
func (k *keypad) open() {
	if s := &k.source; !s.made {
		s.ssrc, s.timestamp, s.seq = source()
		s.made = true
	}
}

// leave goes on without the stream that the present digit is in, which has stopped: with the digit's end, by the source of
// digits alone, as the stream may go on with the numbers that come next. Receivers know an event by its timestamp.
func (k *keypad) leave(now moment) {
	k.open()
	k.phase, k.ssrc = alone, k.source.ssrc
	k.began = now - moment(time.Second)*moment(k.length)/moment(max(k.rate, 1))
}

// tick gives the packet that is due of a digit alone, built in buf; nil if none is.
func (k *keypad) tick(now moment, buf []byte) []byte {
	switch {
	case k.phase == inStream && now-k.last <= stalled:
		return nil
	case k.phase == inStream && k.ends > 0: // the receiver knows the end
		k.finish(now)
		return nil
	case k.phase == inStream:
		k.leave(now)
	case k.phase == idle:
		if k.count == 0 || now < k.rest || k.known && now-k.last <= flowing {
			return nil // the digit takes the place of the stream's next packet
		}
		k.open()
		k.began = now
		k.begin(alone, k.source.timestamp+uint32(uint64(now)*uint64(k.rate)/uint64(time.Second)), k.source.ssrc)
	}
	packet := buf[:eventSize]
	packet[0] = 2 << 6
	binary.BigEndian.PutUint16(packet[2:], k.source.seq)
	binary.BigEndian.PutUint32(packet[8:], k.source.ssrc)
	k.source.seq++
	frames := uint64((now-k.began+frameTime/2)/frameTime) + 1 // to the nearest, as no clock ticks quite evenly
	k.write(packet, frames*uint64(k.rate)/50, now)
	return packet
}
