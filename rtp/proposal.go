package rtp

import (
	"errors"
	"fmt"
	"slices"

	"reveille/rtp/sdp"
)

// Proposal is what one side asks of the session while the call is up: a new offer of its own, or what it has said in
// answer to ours. The media is anchored here, so a new address or a refresh concerns nobody else; a change of
// direction or codecs is for the other side to agree to. Until Accept or Locally nothing changes.
type Proposal struct {
	s      *Session
	from   Side
	theirs *sdp.Description // what from says
	done   bool             // from has its answer
	carry  bool
	codecs bool             // other codecs are asked for
	video  bool             // video comes, goes, or changes its direction
	offer  *sdp.Description // ours to the other side, as last written
}

// Propose takes the offer of a side's re-INVITE or UPDATE.
func (s *Session) Propose(from Side, body []byte) (*Proposal, error) {
	d, err := s.parseOffer(from, body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, other := &s.exchanges[from], &s.exchanges[from.Other()]
	if e.ours == nil || e.remote == nil {
		return nil, fmt.Errorf("%w: a new offer of the %v before the first was answered", ErrOrder, from)
	}
	if s.remote != nil {
		if err := s.remote.revive(); err != nil {
			return nil, err
		}
	}
	p := &Proposal{s: s, from: from, theirs: d}
	if other.remote != nil && other.ours != nil {
		p.codecs = !covers(d.Codecs, other.agreed()) || e.prefers(d, other)
		p.video = s.relay.video && e.changesVideo(d, other)
		p.carry = p.codecs || p.video || d.Direction != e.remote.Direction && d.Direction != e.wish || s.staleLocked(from.Other())
	}
	return p, nil
}

// covers reports whether list has each codec for speech that is in use: whoever uses one must be understood.
func covers(list, used []sdp.Codec) bool {
	return !slices.ContainsFunc(used, func(c sdp.Codec) bool {
		_, ok := sdp.Find(list, c)
		return c.Speech() && !ok
	})
}

// prefers: the peer wants another codec than the one in use, has not said so before, and the other side may know it. A
// phone that only lists again all that it knows does not ask for anything.
func (e *exchange) prefers(d *sdp.Description, other *exchange) bool {
	want, had := speech(d.Codecs), speech(e.remote.Codecs)
	if _, used := sdp.Find(e.agreed(), want); used || want.Same(had) {
		return false
	}
	_, known := sdp.Find(other.known, want)
	return known || other.known == nil
}

// speech is the codec of list that is preferred.
func speech(list []sdp.Codec) sdp.Codec {
	if i := slices.IndexFunc(list, sdp.Codec.Speech); i >= 0 {
		return list[i]
	}
	return sdp.Codec{}
}

// Follow gives what a side wants of the other side, by its present description; nil if that knows already. It is for
// after ReofferAnswer, and for when only one side has followed the other. What the side wants is not what it has answered
// to an offer that left it no choice: who is held does not hold.
func (s *Session) Follow(from Side) *Proposal {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, other := &s.exchanges[from], &s.exchanges[from.Other()]
	if e.remote == nil || other.remote == nil || other.ours == nil {
		return nil
	}
	wants := *e.remote
	wants.Direction = e.wish
	p := &Proposal{s: s, from: from, theirs: &wants, done: true, carry: true, codecs: !covers(e.agreed(), other.agreed())}
	p.video = (e.agreedVideo() != nil) != (other.agreedVideo() != nil)
	could := other.wish.Mirror()
	if !p.codecs && !p.video && e.wish.And(could) == other.ours.Direction.And(could) && !s.staleLocked(from.Other()) {
		return nil
	}
	return p
}

// Carry reports whether the other side has to be asked.
func (p *Proposal) Carry() bool { return p.carry }

// Offer is what to ask the other side: our description with what changes, the version of its o= line one higher. It
// is made anew by each call, for each try.
func (p *Proposal) Offer() ([]byte, error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	other := &p.s.exchanges[p.from.Other()]
	d, err := other.again(p.from.Other())
	if err != nil {
		return nil, err
	}
	d.Direction = p.theirs.Direction
	d.Codecs = numbered(p.s.withEvents(p.from.Other(), other.agreed(), nil), other.ours.Codecs)
	if p.codecs {
		d.Codecs = numbered(p.s.withEvents(p.from.Other(), p.passing(other), nil), other.ours.Codecs)
		d.Ptime, d.MaxPtime = p.theirs.Ptime, p.theirs.MaxPtime
	}
	p.s.proposeVideoLocked(p, &d)
	if err := p.s.rehouseLocked(p.from.Other(), &d); err != nil {
		return nil, err
	}
	body, err := other.writer.Write(&d)
	if err != nil {
		return nil, err
	}
	p.offer = &d
	return slices.Clone(body), nil
}

// passing are the codecs that are wanted and that the other side knows; all that are wanted, where it has not said.
func (p *Proposal) passing(other *exchange) []sdp.Codec {
	if both := common(p.theirs.Codecs, other.known); sdp.HasSpeech(both) {
		return both
	}
	return p.theirs.Codecs
}

// numbered gives codecs the numbers that a side knows them by. A number once used keeps its meaning (RFC 3264 §8.3.2).
func numbered(list, used []sdp.Codec) []sdp.Codec {
	var out []sdp.Codec
	taken := func(pt uint8) bool {
		is := func(x sdp.Codec) bool { return x.PT == pt }
		return slices.ContainsFunc(used, is) || slices.ContainsFunc(out, is)
	}
	for _, c := range list {
		if known, ok := sdp.Find(used, c); ok {
			c.PT = known.PT
		} else {
			for pt := uint8(96); taken(c.PT) && pt < 128; pt++ {
				c.PT = pt
			}
		}
		if !slices.ContainsFunc(out, func(x sdp.Codec) bool { return x.PT == c.PT }) {
			out = append(out, c)
		}
	}
	return out
}

// AcceptAlone is Accept for when the side that asked has taken its offer back: only the other one has changed.
func (p *Proposal) AcceptAlone(answer []byte) error {
	p.done = true
	_, err := p.Accept(answer)
	return err
}

// Accept takes the other side's answer to Offer and gives ours to the side that asks; nil if that has its answer
// already. Both sides change together. After an error nothing has changed here, though the other side believes so.
func (p *Proposal) Accept(answer []byte) ([]byte, error) {
	s, to := p.s, p.from.Other()
	d, err := s.parse(to, answer, s.expectedOf(to, func(*exchange) *sdp.Description { return p.offer }))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, other := &s.exchanges[p.from], &s.exchanges[to]
	if p.offer == nil {
		return nil, fmt.Errorf("%w: the %v was offered nothing to answer", ErrOrder, to)
	}
	chosen := common(d.Codecs, p.offer.Codecs)
	if !sdp.HasSpeech(chosen) {
		return nil, fmt.Errorf("%w: the %v answered with no codec of our offer", ErrNotAcceptable, to)
	}
	if err := checkKey(to, &d.Stream, &p.offer.Stream); err != nil {
		return nil, err
	}
	checkVideo(d, p.offer)
	ours := s.describeLocked(p.from, p.theirs)
	ours.Codecs = s.withEvents(p.from, renumber(chosen, p.theirs.Codecs), p.theirs.Codecs)
	ours.Direction = p.theirs.Direction.Mirror().And(d.Direction)
	ours.Ptime, ours.MaxPtime = d.Ptime, d.MaxPtime
	if !sdp.HasSpeech(ours.Codecs) {
		return nil, fmt.Errorf("%w: the %v chose no codec that the %v has offered", ErrNotAcceptable, to, p.from)
	}
	if d.Video != nil {
		ours.Video = s.answerVideoLocked(p.from, p.theirs, common(d.Video.Codecs, p.offer.Video.Codecs), d.Video)
	}
	other.answered(d, p.offer)
	other.ours = p.offer
	s.remoteLocked(to)
	if p.done {
		return nil, nil
	}
	return s.answerLocked(p, ours, e)
}

// Locally answers the side that asks without the other one: with the codecs in use, and in the directions that the
// other side wants. It fails if no codec in use is among those asked for.
func (p *Proposal) Locally() ([]byte, error) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.done {
		return nil, errors.New("the answer has been given")
	}
	e, other := &s.exchanges[p.from], &s.exchanges[p.from.Other()]
	allowed := other.agreed()
	if allowed == nil {
		allowed = e.ours.Codecs
	}
	answer := s.describeLocked(p.from, p.theirs)
	answer.Direction = p.theirs.Direction.Mirror().And(other.wish)
	answer.Codecs = s.withEvents(p.from, common(p.theirs.Codecs, allowed), p.theirs.Codecs)
	if !sdp.HasSpeech(answer.Codecs) {
		return nil, fmt.Errorf("%w: no codec of the new offer is in use in this call", ErrNotAcceptable)
	}
	answer.Video = s.answerVideoLocked(p.from, p.theirs, e.agreedVideo(), video(other.remote))
	return s.answerLocked(p, answer, e)
}

// answerLocked brings a side's offer and our answer into force.
func (s *Session) answerLocked(p *Proposal, ours *sdp.Description, e *exchange) ([]byte, error) {
	p.done = true
	e.offers(p.theirs)
	out, err := s.commitLocked(p.from, ours)
	s.remoteLocked(p.from)
	if e.answer != nil && !s.audio.path.connected { // an UPDATE before the answer: the 200 repeats this one
		e.answer = out
	}
	return slices.Clone(out), err
}

// offers takes a peer's offer: it says what the peer wants, and all that it knows.
func (e *exchange) offers(d *sdp.Description) { e.remote, e.wish, e.known = d, d.Direction, d.Codecs }

// answered takes a peer's answer. It tells what the peer wants only where our offer left it the choice.
func (e *exchange) answered(d, offer *sdp.Description) {
	sends, receives := e.wish.Sends(), e.wish.Receives()
	if offer.Direction.Receives() {
		sends = d.Direction.Sends()
	}
	if offer.Direction.Sends() {
		receives = d.Direction.Receives()
	}
	e.remote, e.wish = d, sdp.Directed(sends, receives)
}

// Refreshed takes a side's answer to an offer of ours that has changed nothing: the peer may have moved.
func (s *Session) Refreshed(side Side, body []byte) error {
	d, err := s.parse(side, body, s.expectedOf(side, func(e *exchange) *sdp.Description { return e.ours }))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.exchanges[side]
	if e.ours == nil || !sdp.HasSpeech(common(d.Codecs, e.ours.Codecs)) {
		return fmt.Errorf("%w: the %v answered with no codec of our offer", ErrNotAcceptable, side)
	}
	if err := checkKey(side, &d.Stream, &e.ours.Stream); err != nil {
		return err
	}
	checkVideo(d, e.ours)
	e.answered(d, e.ours)
	s.remoteLocked(side)
	return nil
}

// Reoffer is Propose and Locally in one. With an empty body (a re-INVITE without offer) it gives our own offer, to be
// completed by ReofferAnswer.
func (s *Session) Reoffer(side Side, body []byte) ([]byte, error) {
	if len(body) == 0 {
		return s.reofferOurs(side)
	}
	p, err := s.Propose(side, body)
	if err != nil {
		return nil, err
	}
	return p.Locally()
}

// reofferOurs offers what the other side can do, what is in use first, and in the directions that it wants: a hold of
// the side itself can end by it (RFC 3261 §14.2).
func (s *Session) reofferOurs(side Side) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, other := &s.exchanges[side], &s.exchanges[side.Other()]
	if e.ours == nil || e.remote == nil {
		return nil, fmt.Errorf("%w: the %v has no media to offer again", ErrOrder, side)
	}
	d, err := e.anew(side)
	if err != nil {
		return nil, err
	}
	if e.agreedVideo() == nil {
		d.Video = nil
	}
	d.Direction = other.wish
	if used := other.agreed(); used != nil {
		d.Codecs = numbered(s.withEvents(side, append(used, other.known...), nil), e.ours.Codecs)
		slices.SortStableFunc(d.Codecs, func(a, b sdp.Codec) int { return last(a) - last(b) })
	}
	if s.remote != nil {
		if err := s.remote.renew(side, &d); err != nil {
			return nil, err
		}
	}
	e.pending = &d
	body, err := e.writer.Write(&d)
	return slices.Clone(body), err
}

// last sorts what carries no sound behind what does.
func last(c sdp.Codec) int {
	if c.Speech() {
		return 0
	}
	return 1
}

// ReofferAnswer takes the answer to our offer in an offerless re-INVITE, from its ACK.
func (s *Session) ReofferAnswer(side Side, body []byte) error {
	d, err := s.parse(side, body, s.expectedOf(side, func(e *exchange) *sdp.Description { return e.pending }))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.exchanges[side]
	if e.pending == nil {
		return fmt.Errorf("%w: the %v was offered nothing anew", ErrOrder, side)
	}
	if err := e.accept(side, d, e.pending); err != nil {
		return err
	}
	e.ours, e.pending = e.pending, nil
	s.remoteLocked(side)
	return nil
}

// accept takes a side's answer to an offer of ours, if it fits.
func (e *exchange) accept(side Side, d, ours *sdp.Description) error {
	if !sdp.HasSpeech(common(d.Codecs, ours.Codecs)) {
		return fmt.Errorf("%w: the %v answered with no codec of our offer", ErrNotAcceptable, side)
	}
	if err := checkKey(side, &d.Stream, &ours.Stream); err != nil {
		return err
	}
	checkVideo(d, ours)
	e.answered(d, ours)
	return nil
}
