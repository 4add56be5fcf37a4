package rtp

import (
	"slices"
	"strconv"
	"strings"

	"reveille/rtp/sdp"
)

// The video of a call is a second stream beside its audio, relayed where both sides have it and it is not declined by
// the configuration. It never decides anything: whatever fails with it declines the video, and the call goes on.

// agreedVideo is agreed for the video.
func (e *exchange) agreedVideo() []sdp.Codec {
	if e.remote == nil || e.ours == nil || e.remote.Video == nil || e.ours.Video == nil {
		return nil
	}
	return common(e.remote.Video.Codecs, e.ours.Video.Codecs)
}

// video gives a side's description a stream to compare with: nil stays nil.
func video(d *sdp.Description) *sdp.Stream {
	if d == nil {
		return nil
	}
	return d.Video
}

// earlyVideo picks the codec of an answer that cannot wait, as early does: one that most phones have.
func earlyVideo(offer []sdp.Codec) []sdp.Codec {
	for _, name := range []string{"H264", "VP8"} {
		for _, c := range offer {
			if strings.EqualFold(c.Name, name) {
				return []sdp.Codec{c}
			}
		}
	}
	return offer[:min(1, len(offer))]
}

// openVideoLocked has a side's video port opened, and tells its description; false if the video is to be declined.
func (s *Session) openVideoLocked(side Side) bool {
	if !s.relay.video || s.closed {
		return false
	}
	if s.video == nil {
		s.video = &stream{session: s}
		s.video.path.connected = s.audio.path.connected
		for side := range s.exchanges {
			s.video.path.ends[side].latch.via = s.audio.path.ends[side].latch.via
			if theirs := video(s.exchanges[side].remote); theirs != nil {
				s.video.path.ends[side].describe(theirs)
			}
		}
	}
	sock := &s.video.sockets[side]
	if sock.rtp != nil {
		return true
	}
	if sock.port == 0 {
		port, err := s.relay.ports.take()
		if err != nil {
			s.log.Warn("video declined", "err", err)
			return false
		}
		sock.address, sock.port = s.audio.sockets[side].address, port
	}
	if err := s.relay.bind(s.video, side); err != nil {
		s.log.Warn("video declined", "err", err)
		return false
	}
	return true
}

// answerVideoLocked is the video of our answer to what a side says: the codecs of list, under the peer's numbers, if the
// peer has any of them; nil declines it.
func (s *Session) answerVideoLocked(side Side, theirs *sdp.Description, list []sdp.Codec, other *sdp.Stream) *sdp.Stream {
	if theirs.Video == nil || len(list) == 0 || !s.relay.video {
		return nil
	}
	e := &s.exchanges[side]
	v := &sdp.Stream{
		Index: theirs.Video.Index, Mux: theirs.Video.Mux, Direction: theirs.Video.Direction.Mirror(),
		Codecs: renumber(list, theirs.Video.Codecs),
		Crypto: respond(theirs.Video.Crypto, video(e.remote), video(e.ours)),
	}
	if len(v.Codecs) == 0 {
		return nil
	}
	kinds := theirs.Video.Feedback
	if other != nil {
		v.Direction = v.Direction.And(other.Direction)
		kinds = other.Feedback
	}
	v.Feedback = feedback(theirs.Video.Feedback, v.Codecs, kinds)
	return v
}

// offerVideoLocked adds to an offer of ours to a side the video that the other side has, in codecs of list.
func (s *Session) offerVideoLocked(side Side, d *sdp.Description, theirs *sdp.Stream, list []sdp.Codec) {
	was := d.Video
	d.Video = nil
	if theirs == nil || len(list) == 0 || !s.relay.video || d.DTLS != nil {
		return
	}
	v := &sdp.Stream{Mux: side == Device, Direction: theirs.Direction, Codecs: list}
	if was != nil {
		v.Mux, v.Crypto = was.Mux, was.Crypto
		v.Codecs = numbered(list, was.Codecs)
	}
	v.Feedback = feedback(theirs.Feedback, v.Codecs, theirs.Feedback)
	v.Index = slices.IndexFunc(d.Lines, func(l sdp.Line) bool { return l.Media == "video" })
	if was != nil {
		v.Index = was.Index
	}
	d.Lines = slices.Clone(d.Lines)
	if v.Index < 0 {
		v.Index = len(d.Lines)
		d.Lines = append(d.Lines, sdp.Line{Media: "video"})
	}
	line := &d.Lines[v.Index]
	line.Proto, line.Formats = d.Lines[d.Index].Proto, nil
	for _, c := range v.Codecs {
		line.Formats = append(line.Formats, strconv.Itoa(int(c.PT)))
	}
	if v.Crypto == nil && d.Crypto != nil {
		v.Crypto = freshKeys()
	}
	if d.Crypto == nil {
		v.Crypto = nil
	}
	d.Video = v
}

// feedback keeps those of values that are about a codec of list and of a kind that the other side has (RFC 4585 §4.2).
func feedback(values []string, list []sdp.Codec, other []string) (out []string) {
	kind := func(value string) string {
		_, k, _ := strings.Cut(value, " ")
		return k
	}
	for _, value := range values {
		number, _, _ := strings.Cut(value, " ")
		about := number == "*" || slices.ContainsFunc(list, func(c sdp.Codec) bool { return strconv.Itoa(int(c.PT)) == number })
		if about && slices.ContainsFunc(other, func(o string) bool { return kind(o) == kind(value) }) {
			out = append(out, value)
		}
	}
	return out
}

// placeVideoLocked writes our address into the video of a description, or declines it.
func (s *Session) placeVideoLocked(side Side, d *sdp.Description) {
	if d.Video == nil {
		return
	}
	if !s.openVideoLocked(side) {
		d.Video = nil
		return
	}
	v := *d.Video // another description may share it
	v.Addr, v.RTCP = s.video.sockets[side].described()
	if v.Mux && s.exchanges[side].remote != nil {
		v.RTCP = v.Addr
	}
	d.Video = &v
}

// HasVideo reports whether a side has video that may be relayed.
func (s *Session) HasVideo(side Side) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.relay.video && video(s.exchanges[side].remote) != nil
}

// VideoLeft reports whether a side believes that there is video, and the other one has none: it is to be told (Follow).
func (s *Session) VideoLeft(side Side) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchanges[side].agreedVideo() != nil && s.exchanges[side.Other()].agreedVideo() == nil
}

// checkVideo takes the video out of an answer that has agreed to nothing of our offer: no codec, or a key that is none
// of ours.
func checkVideo(answer, offer *sdp.Description) {
	if answer.Video == nil {
		return
	}
	if offer == nil || offer.Video == nil || len(common(answer.Video.Codecs, offer.Video.Codecs)) == 0 ||
		checkKey(Trunk, answer.Video, offer.Video) != nil {
		answer.Video = nil
	}
}

// changesVideo: the peer's offer brings video, ends it, or changes its direction, and the other side may follow.
func (e *exchange) changesVideo(d *sdp.Description, other *exchange) bool {
	has := e.agreedVideo() != nil
	if !has || d.Video == nil {
		return has != (d.Video != nil)
	}
	return d.Video.Direction != e.remote.Video.Direction || len(common(d.Video.Codecs, other.agreedVideo())) == 0
}

// proposeVideoLocked fills in the video of an offer that carries a change: what holds, or what is asked for.
func (s *Session) proposeVideoLocked(p *Proposal, d *sdp.Description) {
	to := p.from.Other()
	list := s.exchanges[to].agreedVideo()
	wanted := p.theirs.Video
	switch {
	case wanted == nil:
		d.Video = nil
		return
	case len(common(wanted.Codecs, list)) == 0:
		list = wanted.Codecs
	}
	s.offerVideoLocked(to, d, wanted, list)
	s.placeVideoLocked(to, d)
}
