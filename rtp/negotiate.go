package rtp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"reveille/rtp/sdp"
)

// What is wrong with a peer's description; both come wrapped with the reason.
var (
	// ErrBadSDP says that the body is no session description. SIP answers 400.
	ErrBadSDP = sdp.ErrBad
	// ErrNotAcceptable says that there is no audio stream or codec we could agree to. SIP answers 488.
	ErrNotAcceptable = sdp.ErrNotAcceptable
	// ErrOrder says that the call is not in a state for this step of offer/answer: a fault of our own.
	ErrOrder = errors.New("offer/answer out of order")
)

// exchange is the offer/answer state of one side (RFC 3264). It is guarded by the session's mu.
type exchange struct {
	writer   sdp.Writer
	remote   *sdp.Description // the peer's latest
	offered  bool             // the first was the peer's offer, not its answer to ours
	ours     *sdp.Description // our latest
	answer   []byte           // our answer to the first offer; frozen once given
	pending  *sdp.Description // our offer in an offerless re-INVITE, until its answer
	wish     sdp.Direction    // what the peer wants by itself, whatever the other side allows
	secret   bool             // keys may go by the signalling: nobody else can read it
	security Security         // what the configuration says of SRTP
	early    knock            // came before the peer's description
	info     bool             // digits reach the peer by SIP INFO
	known    []sdp.Codec      // all that the peer knows, as far as an offer of its has said; nil: it has not
}

// agreed lists the codecs of a finished exchange under the numbers that the peer wants to receive, in the order of its
// preference; nothing while it is unfinished.
func (e *exchange) agreed() []sdp.Codec {
	if e.remote == nil || e.ours == nil {
		return nil
	}
	return common(e.remote.Codecs, e.ours.Codecs)
}

// audio gives a side's description its audio: nil stays nil.
func audio(d *sdp.Description) *sdp.Stream {
	if d == nil {
		return nil
	}
	return &d.Stream
}

// common keeps those codecs of list that allowed has too.
func common(list, allowed []sdp.Codec) []sdp.Codec {
	var out []sdp.Codec
	for _, c := range list {
		if _, ok := sdp.Find(allowed, c); ok {
			out = append(out, c)
		}
	}
	return out
}

// parse reads a side's description and checks that it can reach us.
func (s *Session) parse(side Side, body []byte, kinds sdp.Kinds) (*sdp.Description, error) {
	d, err := sdp.ParseKinds(body, kinds)
	if err != nil || d.Checked() { // ICE finds the peer, and nothing is sent to its address
		return d, err
	}
	s.mu.Lock()
	ours, via := s.audio.sockets[side].address, s.audio.path.ends[side].latch.via
	s.mu.Unlock()
	// Programs of this machine that only listen to each other are not for who is elsewhere to reach by our sockets.
	within := func(a netip.AddrPort) bool {
		return a.Addr().IsLoopback() && !ours.IsLoopback() && !via.IsLoopback()
	}
	if theirs := d.Addr.Addr(); ours.Is4() != theirs.Is4() {
		return nil, fmt.Errorf("%w: the %v's media address is %v, ours is %v: not the same IP version",
			ErrNotAcceptable, side, theirs, ours)
	}
	if within(d.Addr) || within(d.RTCP) {
		return nil, fmt.Errorf("%w: the %v's media address is a loopback address, which is this machine and not where its SIP comes from; the sender has to describe an address of its network",
			ErrNotAcceptable, side)
	}
	if s.owns(d.Addr) || s.owns(d.RTCP) {
		return nil, fmt.Errorf("%w: the %v's media address is a port of our own", ErrNotAcceptable, side)
	}
	if v := d.Video; v != nil && (ours.Is4() != v.Addr.Addr().Is4() || within(v.Addr) || within(v.RTCP) || s.owns(v.Addr) || s.owns(v.RTCP)) {
		d.Video = nil
	}
	return d, nil
}

// parseOffer is parse for an offer of a side.
func (s *Session) parseOffer(side Side, body []byte) (*sdp.Description, error) {
	kinds, err := s.kindsOf(side)
	if err != nil {
		return nil, err
	}
	return s.parse(side, body, kinds)
}

// SetOffer takes the offer in a side's INVITE.
func (s *Session) SetOffer(side Side, body []byte) error {
	d, err := s.parseOffer(side, body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.exchanges[side]
	if e.ours != nil {
		return fmt.Errorf("%w: an offer after ours or after its answer is a Reoffer", ErrOrder)
	}
	e.offers(d)
	e.offered = true
	s.remoteLocked(side)
	return nil
}

// Answer is our answer to a side's offer. Given before the other side has answered ours, it picks one codec and
// telephone-event: G.711 as first offered, so that a ringback can be played, else the first codec of the offer. Later
// calls return the identical bytes: the answer of a provisional response is final (RFC 3261 §13.2.1).
//
// Where early media is wanted, call it before Offer, so that the other side is offered that codec only.
func (s *Session) Answer(side Side) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, other := &s.exchanges[side], &s.exchanges[side.Other()]
	if e.answer != nil {
		return slices.Clone(e.answer), nil
	}
	if e.remote == nil || !e.offered {
		return nil, fmt.Errorf("%w: the %v has made no offer to answer", ErrOrder, side)
	}
	d := s.describeLocked(side, e.remote)
	d.Direction = e.remote.Direction.Mirror()
	pictures := func() []sdp.Codec { return earlyVideo(e.remote.Video.Codecs) }
	if other.remote != nil && !other.offered {
		d.Codecs = s.withEvents(side, renumber(other.agreed(), e.remote.Codecs), e.remote.Codecs)
		pictures = other.agreedVideo
		d.Direction = d.Direction.And(other.remote.Direction)
		d.Ptime, d.MaxPtime = other.remote.Ptime, other.remote.MaxPtime
	} else {
		d.Codecs = early(e.remote.Codecs)
	}
	if !sdp.HasSpeech(d.Codecs) {
		return nil, fmt.Errorf("%w: the %v chose no codec that the %v has offered", ErrNotAcceptable, side.Other(), side)
	}
	if e.remote.Video != nil {
		d.Video = s.answerVideoLocked(side, e.remote, pictures(), video(other.remote))
	}
	body, err := s.commitLocked(side, d)
	if err != nil {
		return nil, err
	}
	e.answer = body
	return slices.Clone(body), nil
}

// early picks the codecs of an answer that cannot wait: one for speech, and its telephone-event.
func early(offer []sdp.Codec) []sdp.Codec {
	i := slices.IndexFunc(offer, func(c sdp.Codec) bool { return c.Same(sdp.PCMA()) || c.Same(sdp.PCMU()) })
	if i < 0 {
		i = slices.IndexFunc(offer, sdp.Codec.Speech)
	}
	if i < 0 {
		return nil
	}
	out := []sdp.Codec{offer[i]}
	for _, c := range offer {
		if c.Event() && c.Rate == offer[i].Rate {
			return append(out, c)
		}
	}
	return out
}

// renumber gives the codecs of list the numbers that the peer's offer has for them, leaving out what it has not.
func renumber(list, offer []sdp.Codec) []sdp.Codec {
	var out []sdp.Codec
	for _, c := range list {
		if o, ok := sdp.Find(offer, c); ok && !slices.ContainsFunc(out, func(x sdp.Codec) bool { return x.PT == o.PT }) {
			o.Fmtp = c.Fmtp
			out = append(out, o)
		}
	}
	return out
}

// Offer is our offer to a side: what the other side offered, in its order, or the one codec that we have answered it
// with, or what it has answered us. Where it has said nothing yet (an INVITE without offer), it is G.711. It opens the
// side's socket. Repeated, it gives the same bytes unless something has changed; but with keys of SRTP, which no two
// legs may share, it is another offer each time.
func (s *Session) Offer(side Side) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	security, err := s.exchanges[side].mode(side)
	if err != nil {
		return nil, err
	}
	return s.offerLocked(side, func(d *sdp.Description) { encrypt(d, security) })
}

// offerLocked is Offer with SRTP or without, as protect has it.
func (s *Session) offerLocked(side Side, protect func(*sdp.Description)) ([]byte, error) {
	e, other := &s.exchanges[side], &s.exchanges[side.Other()]
	if e.offered || e.remote != nil {
		return nil, fmt.Errorf("%w: an offer to the %v after its own, or after its answer, is a Reoffer", ErrOrder, side)
	}
	d := s.describeLocked(side, &sdp.Description{Lines: []sdp.Line{{Media: "audio", Proto: "RTP/AVP"}}})
	d.Mux = side == Device // costs a phone nothing, and saves it a second NAT binding; trunks are asked for nothing new
	d.Codecs = []sdp.Codec{sdp.PCMA(), sdp.PCMU(), sdp.TelephoneEvent()}
	if other.remote != nil {
		d.Direction, d.Ptime, d.MaxPtime = other.wish, other.remote.Ptime, other.remote.MaxPtime
		d.Codecs = other.remote.Codecs
		pictures := video(other.remote)
		if other.ours != nil {
			d.Codecs = other.agreed()
		}
		d.Codecs = s.withEvents(side, d.Codecs, nil)
		if pictures != nil && other.ours != nil {
			s.offerVideoLocked(side, d, pictures, other.agreedVideo())
		} else if pictures != nil {
			s.offerVideoLocked(side, d, pictures, pictures.Codecs)
		}
	}
	if protect(d); d.DTLS != nil && d.Video != nil { // which would need a handshake of its own, or its place in a bundle
		d.Video, d.Lines = nil, d.Lines[:1]
	}
	if d.Crypto != nil || d.DTLS != nil {
		e.writer = sdp.Writer{ID: rand.Uint64() >> 2}
	}
	return s.commitLocked(side, d)
}

// SetAnswerTo is SetAnswer where several offers are out: it takes the answer to that one.
func (s *Session) SetAnswerTo(side Side, offer, body []byte) error {
	ours, err := sdp.ParseSecure(offer, SRTPOptional)
	if err != nil {
		return err
	}
	w, err := sdp.Resume(offer)
	if err != nil {
		return err
	}
	s.mu.Lock()
	e := &s.exchanges[side]
	if e.remote == nil && !e.offered {
		e.ours, e.writer = ours, w
		if s.remote != nil {
			s.remote.chose(ours.Addr)
		}
	}
	s.mu.Unlock()
	return s.SetAnswer(side, body)
}

// SetAnswer takes a side's answer to our Offer.
func (s *Session) SetAnswer(side Side, body []byte) error {
	d, err := s.parse(side, body, s.expectedOf(side, func(e *exchange) *sdp.Description { return e.ours }))
	if err != nil {
		return err
	}
	return s.setAnswer(side, d)
}

func (s *Session) setAnswer(side Side, d *sdp.Description) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.exchanges[side]
	if e.ours == nil || e.offered {
		return fmt.Errorf("%w: the %v was offered nothing to answer", ErrOrder, side)
	}
	if err := e.accept(side, d, e.ours); err != nil {
		return err
	}
	s.remoteLocked(side)
	return nil
}

// describeLocked begins a description of ours: the peer's lines, our address, a key if the peer has given one.
func (s *Session) describeLocked(side Side, peer *sdp.Description) *sdp.Description {
	sock := &s.audio.sockets[side]
	d := &sdp.Description{Lines: peer.Lines, Stream: sdp.Stream{
		Index: peer.Index,
		Mux:   peer.Mux, Ptime: peer.Ptime, MaxPtime: peer.MaxPtime,
		Crypto: respond(peer.Crypto, audio(s.exchanges[side].remote), audio(s.exchanges[side].ours)),
	}}
	if peer.DTLS != nil {
		s.exchanges[side].respondDTLS(d, peer, s.relay.badge)
	}
	d.Addr = addrPort(sock.address, sock.port)
	return d
}

// commitLocked makes d our description of a side, opens its socket, and gives the body to send.
func (s *Session) commitLocked(side Side, d *sdp.Description) ([]byte, error) {
	if err := s.homeLocked(side, d); err != nil {
		return nil, err
	}
	s.placeVideoLocked(side, d)
	e := &s.exchanges[side]
	if d.Mux && (e.remote != nil || d.ICE != nil) {
		d.RTCP = d.Addr
	}
	body, err := e.writer.Write(d)
	if err != nil {
		return nil, err
	}
	e.ours = d
	s.remapLocked()
	return body, nil
}

// remoteLocked brings a side's latest description into the packet path.
func (s *Session) remoteLocked(side Side) {
	s.raiseLocked()
	e := &s.exchanges[side]
	held := s.audio.path.onHold()
	s.audio.path.ends[side].describe(&e.remote.Stream)
	if held && !s.audio.path.onHold() {
		s.watch.resumed = s.relay.now()
		for side := range s.audio.path.ends {
			s.audio.path.ends[side].got.resume(s.watch.resumed)
		}
	}
	if s.video != nil && e.remote.Video != nil {
		s.video.path.ends[side].describe(e.remote.Video)
	}
	s.remapLocked()
	for _, st := range s.streams() {
		if st.path.connected {
			st.listenRTCPLocked(side)
		}
	}
	if s.remote != nil {
		s.remote.sync()
	}
}

// describe takes what the peer says of a stream.
func (e *end) describe(d *sdp.Stream) {
	e.latch.signal(d.Addr)
	if e.latch.locked.IsValid() || e.control.signalled == d.RTCP {
		e.control.signalled = d.RTCP
	} else {
		e.control = control{signalled: d.RTCP}
	}
	e.takes, e.sends, e.described = d.Direction.Receives(), d.Direction.Sends(), true
}

// remapLocked works out from both exchanges which payload types are agreed, and under which number each goes on.
func (s *Session) remapLocked() {
	s.raiseLocked()
	for _, side := range []Side{Trunk, Device} {
		e, other := &s.exchanges[side], &s.exchanges[side.Other()]
		s.audio.remap(side, audio(e.remote), audio(e.ours), other.agreed())
		if s.video != nil {
			s.video.remap(side, video(e.remote), video(e.ours), other.agreedVideo())
		}
	}
	s.tuneLocked()
	s.rewireLocked()
}

// remap does so for a side of a stream; onward is what the other side has agreed to.
func (st *stream) remap(side Side, remote, ours *sdp.Stream, onward []sdp.Codec) {
	end := &st.path.ends[side]
	end.index, end.formats, end.codec = [128]uint8{}, nil, ""
	st.protectLocked(side, remote, ours)
	if end.mux = false; remote == nil || ours == nil {
		return
	}
	end.mux = remote.Mux && ours.Mux
	for _, theirs := range common(remote.Codecs, ours.Codecs) {
		f := format{event: theirs.Event(), rate: uint32(theirs.Rate)}
		if end.codec == "" && theirs.Speech() {
			end.codec = theirs.Name
		}
		if out, ok := sdp.Find(onward, theirs); ok {
			f.out, f.passes = out.PT, true
		}
		end.formats = append(end.formats, f)
		// A peer must send under our number (RFC 3264 §5.1); many send under their own.
		place := uint8(len(end.formats))
		number, _ := sdp.Find(ours.Codecs, theirs)
		end.index[number.PT] = place
		if end.index[theirs.PT] == 0 {
			end.index[theirs.PT] = place
		}
	}
}
