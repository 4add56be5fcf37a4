package rtp

import (
	"fmt"
	"time"
)

// EventKind says what happened.
type EventKind uint8

// The events of a session.
const (
	FirstPacket EventKind = iota // the first packet of a side was accepted
	Idle                         // no RTP from either side for the configured timeout, not on hold
	NoMedia                      // no packet of a side was accepted in the 5 s after Connect, or ICE has lost the peer
	Silence                      // a side that had sent has sent nothing for 20 s, though nobody holds the call
	SilenceOver                  // it sends again
	Unheard                      // a side reports by RTCP that nothing comes to it, though we send
	Secured                      // a side has the keys of a DTLS handshake
	EngineLost                   // Idle, as the rtpengine that has the call's media is gone, or has forgotten it
)

// String is the kind's name.
func (k EventKind) String() string {
	switch k {
	case FirstPacket:
		return "first packet"
	case Idle:
		return "idle"
	case Silence:
		return "silence"
	case SilenceOver:
		return "silence over"
	case Unheard:
		return "not heard"
	case Secured:
		return "SRTP"
	case EngineLost:
		return "media engine lost"
	}
	return "no media"
}

// Event is what the owner of a call learns of its media.
type Event struct {
	Kind  EventKind
	Side  Side      // of all but Idle
	At    time.Time // when it happened
	Cause string    // of NoMedia, Silence, Unheard and EngineLost: the likely one, for a person to read; of SilenceOver: how long it was; of Secured: "DTLS" and the suite
}

const (
	eventBuffer = 8               // each side's first packet, keys, silence and its end: they are taken long before there are more
	firstWithin = 5 * time.Second // from Connect: then a side without packets is an event
)

// watch is the session's one timer, running from Connect on. It is guarded by the session's mu.
type watch struct {
	timer     *time.Timer
	connected moment
	resumed   moment // when the last hold ended
	idleAt    uint64 // packets of both sides when Idle was last told
	idle      bool
	quiet     [2]quietness
}

// Events tells what happens to the session's media. Nobody needs to listen; the channel is never closed.
func (s *Session) Events() <-chan Event { return s.events }

// tell passes an event on without ever waiting: the packet path calls it.
func (s *Session) tell(e Event) {
	if fault := e.Kind.fault(); fault != "" {
		s.relay.metrics.faults.WithLabelValues(fault, e.Side.String()).Inc()
	}
	select {
	case s.events <- e:
	default:
		s.log.Debug("media event not taken", "event", e.Kind.String())
	}
}

// startWatchLocked begins to watch over a connected session.
func (s *Session) startWatchLocked() {
	s.watch.connected = s.relay.now()
	s.watch.quiet = [2]quietness{}
	first := min(firstWithin, s.relay.timeout)
	if s.remote != nil {
		first = s.remote.next(first)
	}
	s.watch.timer = time.AfterFunc(first, s.check)
}

// stopWatchLocked ends it.
func (s *Session) stopWatchLocked() {
	if s.watch.timer != nil {
		s.watch.timer.Stop()
	}
}

// check looks for silence and sets the timer for the next look.
func (s *Session) check() {
	if s.remote != nil {
		s.remote.look()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.audio.path.connected { // the device is being exchanged
		return
	}
	now := s.relay.now()
	s.audio.readFastLocked()
	if now-s.watch.connected >= firstWithin {
		s.checkFirstLocked(Trunk, now)
		s.checkFirstLocked(Device, now)
	}
	next := s.checkIdleLocked(now)
	for _, side := range []Side{Trunk, Device} {
		next = min(next, s.checkSilenceLocked(side, now))
		s.checkUnheardLocked(side, now)
	}
	if early := s.watch.connected + firstWithin - now; early > 0 {
		next = min(next, early)
	}
	if s.remote != nil {
		next = s.remote.next(next)
	}
	s.watch.timer.Reset(next)
}

// checkFirstLocked tells once of a side that should have sent by now and has not, and opens its latch again.
func (s *Session) checkFirstLocked(side Side, now moment) {
	e := &s.audio.path.ends[side]
	if !e.sends || e.got.packets > 0 || e.silenceTold {
		return
	}
	e.silenceTold = true
	cause := s.causeLocked(side)
	s.log.Warn("no sound from one side", "side", side.String(), "cause", cause)
	s.tell(Event{Kind: NoMedia, Side: side, At: s.relay.at(now), Cause: cause})
	s.audio.raiseLocked()
	e.latch.reopen()
}

// causeLocked is the likely reason for a side's silence.
func (s *Session) causeLocked(side Side) string {
	e, ours := &s.audio.path.ends[side], s.oursLocked(side)
	if g, ok := e.agent.(*guard); ok && g.cause() != "" {
		return g.cause()
	}
	switch {
	case e.crypt != nil && e.crypt.dropped > 0:
		return fmt.Sprintf("%d packets came to %s that are not SRTP with the key of the %v's SDP", e.crypt.dropped, ours, side)
	case e.got.dropped > 0:
		return fmt.Sprintf("%d packets came to %s, but not from %v as described, nor steadily enough from one other source to trust it",
			e.got.dropped, ours, e.latch.signalled)
	case e.got.invalid > 0:
		return fmt.Sprintf("%d packets came to %s, but %s", e.got.invalid, ours, e.got.oddity())
	case e.far.spoke > 0:
		return fmt.Sprintf("its RTCP comes, but no RTP to %s: it sends nothing, or a firewall lets nothing to that port", ours)
	}
	return fmt.Sprintf("nothing has come to %s: a firewall or NAT stops it, or our external address is not the one in our SDP", ours)
}

// checkIdleLocked tells of a call in which nobody sends, and says when to look again. After an Idle it waits for
// packets before it tells of another.
func (s *Session) checkIdleLocked(now moment) time.Duration {
	if s.audio.path.onHold() {
		return s.relay.timeout
	}
	t, d := &s.audio.path.ends[Trunk].got, &s.audio.path.ends[Device].got
	packets := t.packets + d.packets
	last := max(s.watch.connected, s.watch.resumed, t.last, d.last)
	if left := last + s.relay.timeout - now; left > 0 {
		return left
	}
	if !s.watch.idle || s.watch.idleAt != packets {
		s.watch.idle, s.watch.idleAt = true, packets
		s.tell(s.idleLocked(now))
	}
	return s.relay.timeout
}

// idleLocked is the event of a call in which nobody sends.
func (s *Session) idleLocked(now moment) Event {
	e := Event{Kind: Idle, At: s.relay.at(now)}
	if s.remote == nil {
		return e
	}
	if cause := s.remote.cause(); cause != "" {
		e.Kind, e.Cause = EngineLost, cause
	}
	return e
}
