package rtp

import (
	"errors"
	"slices"
	"sync"

	"reveille/rtp/sdp"
)

// Why a digit is not sent as an event; what became of it is for the caller to see to.
var (
	// ErrNoEvents says that the other side has agreed to no telephone-event, or not to this one, or takes nothing now.
	ErrNoEvents = errors.New("the other side takes no telephone-event")
	// ErrDigits says that too many digits wait already.
	ErrDigits = errors.New("too many digits are waiting")
	// ErrDoubled says that the side sends events of its own, which are passed on: the digit is one of those.
	ErrDoubled = errors.New("the side sends telephone-events itself")
)

// HeardDigit is a digit that a side has sent by telephone-event and that the other one is to get by SIP.
type HeardDigit struct {
	From Side
	Digit
}

// dialler plays the digits of a stream, and waits for the ends of those that it hears.
type dialler struct {
	stream  *stream
	keypads [2]*keypad // of what comes from a side; an end has its only while there is something to play
	running bool       // the scheduler has it; guarded by the session's mu, as are the keypads
	heard   chan HeardDigit

	mu      sync.Mutex // guards the following; held through a tick
	stopped bool
}

// diallerLocked is the stream's, made when there is need.
func (st *stream) diallerLocked() *dialler {
	if st.dialler == nil {
		st.dialler = &dialler{stream: st, heard: make(chan HeardDigit, maxDigits)}
	}
	return st.dialler
}

// TakesInfo says that a side takes digits by SIP INFO. Where it does not know telephone-event, the other side is offered
// it all the same, and what that sends comes by Digits.
func (s *Session) TakesInfo(side Side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.remote != nil { // whose events nobody here hears
		return
	}
	s.exchanges[side].info = true
	s.audio.raiseSideLocked(side.Other())
	s.hearLocked(side.Other())
}

// HearsEvents reports whether a side has agreed to telephone-event.
func (s *Session) HearsEvents(side Side) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.exchanges[side].agreed(), sdp.Codec.Event)
}

// Digits yields those that a side has sent by telephone-event and that the other one, which does not know it, takes by
// SIP INFO. nil while there can be none.
func (s *Session) Digits() <-chan HeardDigit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.audio.dialler == nil {
		return nil
	}
	return s.audio.dialler.heard
}

// Dial plays a digit to the other side by telephone-event, as if the side had sent it, after those that were dialled
// before. It does not wait for that.
func (s *Session) Dial(from Side, d Digit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, e := s.audio, &s.audio.path.ends[from]
	st.readFastLocked()
	codec, ok := eventCodec(s.exchanges[from.Other()].agreed())
	switch {
	case e.events && st.eventsPass(from):
		return ErrDoubled
	case s.remote != nil || !ok || !takesEvent(codec, d.Event) || !st.takes(from.Other()):
		return ErrNoEvents
	}
	st.raiseSideLocked(from)
	j := st.diallerLocked()
	k := j.keypads[from]
	if k == nil {
		k = &keypad{}
		j.keypads[from] = k
	}
	if e.keypad == nil && e.got.packets > 0 {
		k.known, k.last, k.seen = true, e.got.last, e.got.ssrc
	}
	if !k.push(d) {
		return ErrDigits
	}
	if k.phase == idle {
		k.number, k.rate = codec.PT, uint32(codec.Rate)
	}
	e.keypad = k
	e.got.digits++
	j.startLocked()
	return nil
}

// eventCodec is the telephone-event that goes with the speech of a list (RFC 7587 has 48 kHz, G.722 has 8).
func eventCodec(list []sdp.Codec) (sdp.Codec, bool) {
	rate := speech(list).Rate
	i := slices.IndexFunc(list, func(c sdp.Codec) bool { return c.Event() && c.Rate == rate })
	if i < 0 {
		i = slices.IndexFunc(list, sdp.Codec.Event)
	}
	if i < 0 {
		return sdp.Codec{}, false
	}
	return list[i], true
}

// takes reports whether a side can be sent anything now.
func (st *stream) takes(side Side) bool {
	e := &st.path.ends[side]
	return st.path.connected && e.takes && e.latch.destination().IsValid()
}

// eventsPass reports whether the telephone-events of a side are passed on.
func (st *stream) eventsPass(from Side) bool {
	return slices.ContainsFunc(st.path.ends[from].formats, func(f format) bool { return f.event && f.passes })
}

// rewireLocked fits digits to what has been agreed.
func (s *Session) rewireLocked() {
	for _, from := range []Side{Trunk, Device} {
		s.hearLocked(from)
		e := &s.audio.path.ends[from]
		if e.keypad == nil {
			continue
		}
		if codec, ok := eventCodec(s.exchanges[from.Other()].agreed()); ok {
			if e.keypad.number = codec.PT; e.keypad.phase == idle {
				e.keypad.rate = uint32(codec.Rate)
			}
		} else {
			e.keypad.clear()
			e.keypad = nil
		}
	}
}

// withEvents adds telephone-event to what a side is to be told, where digits reach the other side, which does not know
// it, by SIP INFO; or where the side has it already. offered is the side's offer that this is the answer to; nil: it is
// an offer of ours.
func (s *Session) withEvents(side Side, codecs, offered []sdp.Codec) []sdp.Codec {
	spoken := speech(codecs)
	wanted := s.exchanges[side.Other()].info || slices.ContainsFunc(s.exchanges[side].agreed(), sdp.Codec.Event)
	if !wanted || spoken.Rate == 0 || slices.ContainsFunc(codecs, sdp.Codec.Event) {
		return codecs
	}
	for _, c := range offered {
		if c.Event() && c.Rate == spoken.Rate {
			return append(slices.Clip(codecs), c)
		}
	}
	if offered != nil {
		return codecs
	}
	event := sdp.TelephoneEvent()
	event.Rate = spoken.Rate
	return numbered(append(slices.Clip(codecs), event), nil)
}

// hearLocked has the events of a side become digits where the other side cannot take them otherwise.
func (s *Session) hearLocked(from Side) {
	e := &s.audio.path.ends[from]
	if !s.exchanges[from.Other()].info || s.audio.eventsPass(from) || !slices.ContainsFunc(e.formats, func(f format) bool { return f.event }) {
		e.listener = nil
	} else if e.listener == nil {
		e.listener = &listener{}
		s.audio.diallerLocked()
	}
}

// heardLocked hands on what a side's listener has heard.
func (st *stream) heardLocked(from Side) {
	e := &st.path.ends[from]
	l := e.listener
	for _, d := range l.heard[:l.count] {
		select {
		case st.dialler.heard <- HeardDigit{from, d}:
			e.got.digits++
		default: // nobody listens
		}
	}
	l.heard, l.count = [heardRoom]Digit{}, 0
	if l.busy {
		st.dialler.startLocked()
	}
}

// startLocked has the scheduler give the dialler its turns.
func (j *dialler) startLocked() {
	if s := j.stream.session; !j.running && !s.closed {
		j.running = true
		s.relay.ringers.start(j)
	}
}

// tick sends what is due of digits that have no stream to go in, and ends events whose end was lost.
func (j *dialler) tick(now moment, buf []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, from := range []Side{Trunk, Device} {
		if j.stopped {
			return
		}
		if packet := j.due(from, now, buf); packet != nil {
			j.stream.emit(from.Other(), false, packet)
		}
	}
	j.rest()
}

// due is the packet to send for a side, if there is one.
func (j *dialler) due(from Side, now moment, buf []byte) []byte {
	s := j.stream.session
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &j.stream.path.ends[from]
	if e.listener != nil {
		e.listener.expire(now)
		j.stream.heardLocked(from)
	}
	k := e.keypad
	if k == nil {
		return nil
	}
	if !j.stream.takes(from.Other()) {
		k.clear() // on hold, or taken out of the call: the digits would come too late
	}
	var packet []byte
	if k.busy() {
		packet = k.tick(now, buf)
	}
	if !k.busy() {
		e.keypad = nil
	}
	return packet
}

// rest leaves the scheduler when nothing is left to do.
func (j *dialler) rest() {
	s := j.stream.session
	s.mu.Lock()
	defer s.mu.Unlock()
	for side := range j.stream.path.ends {
		e := &j.stream.path.ends[side]
		if e.keypad != nil || e.listener != nil && e.listener.busy {
			return
		}
	}
	j.running = false
	s.relay.ringers.remove(j)
}

// halt keeps the dialler from sending anything more, once it returns.
func (j *dialler) halt() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = true
}

// hushLocked ends the digits that play, as a side is about to be another.
func (s *Session) hushLocked() {
	for side := range s.audio.path.ends {
		s.audio.path.ends[side].keypad = nil
	}
	if j := s.audio.dialler; j != nil {
		j.keypads = [2]*keypad{}
	}
}
