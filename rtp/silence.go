package rtp

import (
	"fmt"
	"net/netip"
	"time"
)

const (
	silentAfter = 20 * time.Second // without a packet: a side is silent; silence suppression rarely lasts as long
	silentMark  = 5 * time.Second  // how often to note what has come: the cause of a silence is what came since
	silentLook  = time.Second      // how often to look whether a silence is over
	talksNow    = 2 * time.Second  // a side whose last packet is no older talks
	reportsNow  = 15 * time.Second // the same for reports, of which there may be one every 7.5 s (RFC 3550 §6.2)
)

// quietness is what the watch knows of the silence of a side. It is guarded by the session's mu.
type quietness struct {
	counts         // when packets were last seen to come
	told    bool   // Silence was told
	from    moment // since when
	talking moment // when the last silence ended; 0: there was none
	unheard bool   // Unheard was told
}

// counts are those of what came from a side, by what became of it.
type counts struct {
	packets, strange, invalid, sealed uint64
}

// counts of a side. What is no SRTP with the key counts as strange too; here it does not.
func (e *end) counts() counts {
	c := counts{packets: e.got.packets, strange: e.got.dropped, invalid: e.got.invalid}
	if e.crypt != nil {
		c.sealed = e.crypt.dropped
		c.strange -= min(c.strange, c.sealed)
	}
	return c
}

// checkSilenceLocked tells when a side that has sent falls silent though nobody holds the call, opens its latch again, and
// tells when it is over. It says when to look again.
func (s *Session) checkSilenceLocked(side Side, now moment) time.Duration {
	e, q := &s.audio.path.ends[side], &s.watch.quiet[side]
	since := max(e.got.last, e.got.since)
	if seen := e.counts(); seen.packets != q.packets {
		q.counts = seen
		if q.told {
			q.told, q.talking = false, now
			lasted := (now - q.from).Round(time.Second)
			s.tell(Event{Kind: SilenceOver, Side: side, At: s.relay.at(now), Cause: fmt.Sprintf("after %v", lasted)})
		}
	}
	if s.audio.path.onHold() {
		q.told = false
		return silentAfter
	}
	if e.got.packets == 0 { // that it has sent nothing at all is told elsewhere
		return silentAfter
	}
	if left := since + silentAfter - now; left > 0 {
		return min(left, silentMark)
	}
	if !q.told {
		q.told, q.from = true, since
		cause := s.silenceCauseLocked(side, since)
		s.log.Warn("one side has fallen silent", "side", side.String(), "cause", cause)
		s.tell(Event{Kind: Silence, Side: side, At: s.relay.at(now), Cause: cause})
		s.audio.raiseLocked() // what comes from elsewhere is for the latch to judge
		e.latch.reopenAt(e.whereabouts(now))
	} else if e.latch.host.IsValid() && !e.whereabouts(now).IsValid() {
		e.latch.reopen()
	}
	return silentLook
}

// whereabouts is the host of a silent peer that reports from there by RTCP, as one that is muted does: its NAT may give its
// sound another port, but nobody elsewhere is it. Zero if it does not report any more: then it may be anywhere.
func (e *end) whereabouts(now moment) netip.Addr {
	if e.far.spoke == 0 || now-e.far.spoke > reportsNow {
		return netip.Addr{}
	}
	return e.latch.locked.Addr()
}

// silenceCauseLocked is the likely reason why a side that has sent does not any more.
func (s *Session) silenceCauseLocked(side Side, since moment) string {
	e, then := &s.audio.path.ends[side], &s.watch.quiet[side]
	ours, peer := s.oursLocked(side), e.latch.destination()
	now := e.counts()
	switch {
	case now.sealed > then.sealed:
		return fmt.Sprintf("%d packets have come to %s since that are not SRTP with the key of the %v's SDP", now.sealed-then.sealed, ours, side)
	case now.strange > then.strange:
		return fmt.Sprintf("%d packets have come to %s since from elsewhere than %v: its network or NAT has changed; it is taken from there now",
			now.strange-then.strange, ours, peer)
	case now.invalid > then.invalid:
		return fmt.Sprintf("%d packets have come to %s since, but %s", now.invalid-then.invalid, ours, e.got.oddity())
	case e.far.spoke > since+2*reportInterval && e.far.sending && e.far.reported > since+2*reportInterval:
		return fmt.Sprintf("it says by RTCP that it goes on sending: its packets are lost on their way to %s, or a firewall stops them", ours)
	case e.far.spoke > since+2*reportInterval:
		return "its RTCP goes on coming, so the way is open: it sends nothing, being muted, suppressing silence, or without a microphone"
	}
	return fmt.Sprintf("nothing at all comes from %v any more: its network is gone, its app asleep, or a NAT or firewall has closed", peer)
}

// oddity says what is wrong with packets that count as invalid.
func (r *reception) oddity() string {
	if r.foreign != 0 {
		return fmt.Sprintf("with payload type %d, which is not agreed: the sender uses another codec than its SDP says", r.foreign&0x7f)
	}
	return "none was RTP of an agreed payload type"
}

// checkUnheardLocked tells once when a side's own RTCP says that nothing comes to it, though we send.
func (s *Session) checkUnheardLocked(side Side, now moment) {
	e, other, q := &s.audio.path.ends[side], &s.audio.path.ends[side.Other()], &s.watch.quiet[side]
	f := &e.far
	sent := max(other.got.since, other.got.first, s.watch.quiet[side.Other()].talking) // from when on we have
	if s.audio.path.onHold() || other.got.packets == 0 || now-other.got.last > talksNow || now-sent < silentAfter {
		return
	}
	reports := f.told > 0 && now-f.told < reportsNow && (f.empty || f.about && f.ssrc == other.got.ssrc)
	if !reports || now-max(f.heard, sent) < silentAfter {
		q.unheard = q.unheard && !reports
		return
	}
	if q.unheard {
		return
	}
	q.unheard = true
	cause := fmt.Sprintf("we send to %v, and its RTCP says that nothing comes there: a firewall or NAT stops it, or the address is wrong",
		e.latch.destination())
	s.log.Warn("one side hears nothing", "side", side.String(), "cause", cause)
	s.tell(Event{Kind: Unheard, Side: side, At: s.relay.at(now), Cause: cause})
}

// oursLocked is our address on a side, as its peer knows it.
func (s *Session) oursLocked(side Side) string {
	if ours := s.exchanges[side].ours; s.remote != nil && ours != nil {
		return ours.Addr.String() + " of the rtpengine"
	}
	sock := &s.audio.sockets[side]
	return addrPort(sock.address, sock.port).String()
}
