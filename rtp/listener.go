package rtp

import "time"

// eventLost is how long after its last packet an event counts as over whose end was lost: four packets of 50 ms, the
// interval of RFC 4733 §2.5.1.2.
const eventLost = 200 * time.Millisecond

// reordered is how much older than the present event another one's packet may be, and late rather than new.
const reorderedBy = 10 * time.Second

// heardRoom is how many digits a listener keeps that nobody has fetched: it is looked at after each packet.
const heardRoom = 4

// listener makes digits of one side's event packets. It tells each once, when it has ended, however often and in what
// order its packets come. It is part of the path and guarded with it.
type listener struct {
	known bool // there is, or was, an event
	busy  bool // it has not ended yet

	ssrc, start uint32 // what the event is known by (RFC 4733 §2.2.2)
	event       uint8
	rate        uint32
	before      uint32 // its duration in segments before the present one
	duration    uint16
	last        moment

	heard [heardRoom]Digit
	count int
}

// take reads an event packet.
func (l *listener) take(packet []byte, h header, rate uint32, now moment) {
	r, ok := readEvent(packet)
	if !ok || r.event > flash {
		return
	}
	if l.known && h.ssrc == l.ssrc {
		switch since := int32(h.timestamp - l.start); {
		case since == 0:
			l.more(r, now)
			return
		case since < 0 && -int64(since) < int64(rate)*int64(reorderedBy/time.Second):
			return
		case l.busy && r.event == l.event && !r.marker && l.duration > 0 && since == int32(l.duration): // a long event goes on
			l.before += uint32(l.duration)
			l.start, l.duration = h.timestamp, 0
			l.more(r, now)
			return
		}
	}
	if l.busy {
		l.finish() // its end was lost
	}
	l.known, l.busy, l.before, l.duration = true, true, 0, 0
	l.ssrc, l.start, l.event, l.rate = h.ssrc, h.timestamp, r.event, rate
	l.more(r, now)
}

// more takes a further report of the present event.
func (l *listener) more(r eventReport, now moment) {
	if !l.busy { // a repetition of its end
		return
	}
	l.last = now
	l.duration = max(l.duration, r.duration)
	if r.end {
		l.finish()
	}
}

// finish tells the present event.
func (l *listener) finish() {
	l.busy = false
	if l.count == heardRoom {
		return
	}
	length := time.Duration(uint64(l.before)+uint64(l.duration)) * time.Second / time.Duration(max(l.rate, 1))
	l.heard[l.count] = Digit{Event: l.event, Duration: min(max(length, MinDigit), MaxDigit)}
	l.count++
}

// expire ends an event whose end was lost.
func (l *listener) expire(now moment) {
	if l.busy && now-l.last > eventLost {
		l.finish()
	}
}
