package rtp

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"slices"

	"reveille/rtp/sdp"
)

// Security is what a side's media may be: plain, encrypted where it can, or encrypted only.
type Security = sdp.Security

// The three, as the configuration has them: off, optional, required.
const (
	SRTPOff      = sdp.Off
	SRTPOptional = sdp.Optional
	SRTPRequired = sdp.Required
)

// ParseSecurity reads "off", "optional" or "required"; "" is off.
func ParseSecurity(text string) (Security, error) { return sdp.ParseSecurity(text) }

// Secret tells whether nobody else can read a side's signalling (TLS, WSS). Only then are keys sent or taken (RFC 4568
// §7). It is for each step of offer/answer, as the way may change; before the first, signalling counts as open.
func (s *Session) Secret(side Side, secret bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exchanges[side].secret = secret
}

// Security is what the configuration says of a side's media.
func (s *Session) Security(side Side) Security {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchanges[side].security
}

// Encrypted is the crypto suite of a side's media, behind "DTLS " where its keys are from a handshake; "" for plain RTP,
// and as long as a handshake is not done: an event, Secured, tells when it is.
func (s *Session) Encrypted(side Side) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.audio.path.ends[side].crypt; c.keyed() {
		return c.name()
	}
	return ""
}

// OfferEncrypted is Offer for a device that has refused one with RTP/AVP: with RTP/SAVP, as some phones insist.
func (s *Session) OfferEncrypted(side Side) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := &s.exchanges[side]; !e.secret || e.security == SRTPOff {
		return nil, fmt.Errorf("%w: SRTP cannot be offered to the %v", ErrNotAcceptable, side)
	}
	return s.offerLocked(side, func(d *sdp.Description) { encrypt(d, SRTPRequired) })
}

// mode is what the next step may agree to.
func (e *exchange) mode(side Side) (Security, error) {
	switch {
	case e.secret:
		return e.security, nil
	case e.security == SRTPRequired:
		return SRTPOff, fmt.Errorf("%w: SRTP is required, and the %v's signalling is not by TLS or WSS, where keys may go",
			ErrNotAcceptable, side)
	}
	return SRTPOff, nil
}

// kindsOf is what an offer of a side may have. Fingerprints may go by any signalling, keys may not. A device that offers
// DTLS is let, whatever the configuration says of what we offer: a WebRTC phone has nothing else.
func (s *Session) kindsOf(side Side) (sdp.Kinds, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.exchanges[side]
	security, err := e.mode(side)
	kinds := security.Kinds()
	if (side == Device || e.security != SRTPOff) && s.remote == nil {
		kinds |= sdp.Shaken
	}
	return kinds, err
}

// MayOffer fails where SRTP is required of a side and no keys may go to it.
func (s *Session) MayOffer(side Side) error {
	_, err := s.kindsOf(side)
	return err
}

// StandIn is SetAnswer with an offer in place of the answer: of a device that takes over from one that was offered the
// call. What it offers is for Reoffer to answer, keys above all. undo forgets it, where it has not come to that: others may
// answer yet. It is never nil.
func (s *Session) StandIn(side Side, body []byte) (undo func(), err error) {
	d, err := s.parseOffer(side, body)
	if err != nil {
		return func() {}, err
	}
	d.Crypto, d.DTLS, d.ICE, d.Video = nil, nil, nil, nil
	s.mu.Lock()
	before := s.exchanges[side]
	s.mu.Unlock()
	return func() { s.forget(side, before) }, s.setAnswer(side, d)
}

// forget puts a side back to when nobody had answered there.
func (s *Session) forget(side Side, before exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raiseLocked()
	s.unguardLocked(side)
	for _, st := range s.streams() {
		st.path.ends[side] = end{got: st.path.ends[side].got}
	}
	s.exchanges[side] = before
	s.remapLocked()
}

// expected is what an answer to an offer of ours may be.
func expected(ours *sdp.Description) sdp.Kinds {
	switch {
	case ours == nil:
		return sdp.Plain
	case ours.DTLS != nil:
		return sdp.Shaken
	case ours.Crypto == nil:
		return sdp.Plain
	case ours.Lines[ours.Index].Proto == "RTP/AVP":
		return sdp.Plain | sdp.Keyed
	}
	return sdp.Keyed
}

// expectedOf is expected for who does not hold the lock.
func (s *Session) expectedOf(side Side, offer func(*exchange) *sdp.Description) sdp.Kinds {
	s.mu.Lock()
	defer s.mu.Unlock()
	return expected(offer(&s.exchanges[side]))
}

// checkKey checks the key in an answer: one of ours by tag and suite, or none where that was allowed (RFC 4568 §5.1.3).
func checkKey(side Side, answer, offer *sdp.Stream) error {
	if answer.DTLS != nil && answer.DTLS.Setup == sdp.ActPass {
		return fmt.Errorf("%w: the %v answered with a=setup:actpass, which leaves open who begins", ErrNotAcceptable, side)
	}
	if len(answer.Crypto) == 0 || len(answer.Crypto) == 1 && pairs(answer.Crypto[0], offer.Crypto) {
		return nil
	}
	return fmt.Errorf("%w: the %v answered with an a=crypto that is none of our offer", ErrNotAcceptable, side)
}

func pairs(c sdp.Crypto, list []sdp.Crypto) bool {
	return slices.ContainsFunc(list, func(o sdp.Crypto) bool { return o.Tag == c.Tag && o.Suite == c.Suite })
}

// inUse are the two keys that the descriptions of a finished exchange agree to for a stream.
func inUse(remote, local *sdp.Stream) (theirs, ours sdp.Crypto, ok bool) {
	if remote == nil || local == nil {
		return theirs, ours, false
	}
	for _, theirs = range remote.Crypto {
		for _, ours = range local.Crypto {
			if theirs.Tag == ours.Tag && theirs.Suite == ours.Suite {
				return theirs, ours, true
			}
		}
	}
	return sdp.Crypto{}, sdp.Crypto{}, false
}

// respond answers a peer's keys for a stream: the first suite that we know, with the peer's tag and a key of our own (RFC
// 4568 §5.1.2). It is a new one, unless the peer goes on with its own: a refresh is no reason to cut the sound.
func respond(offer []sdp.Crypto, remote, local *sdp.Stream) []sdp.Crypto {
	if len(offer) == 0 {
		return nil
	}
	c := offer[0]
	if theirs, ours, ok := inUse(remote, local); ok && same(theirs, c) {
		return []sdp.Crypto{ours}
	}
	return []sdp.Crypto{{Tag: c.Tag, Suite: c.Suite, Key: newKey(c.Suite)}}
}

func same(a, b sdp.Crypto) bool {
	return a.Tag == b.Tag && a.Suite == b.Suite && subtle.ConstantTimeCompare(a.Key, b.Key) == 1
}

// newKey is a random master key and salt.
func newKey(suite sdp.Suite) sdp.Key {
	n, salt := suite.Lengths()
	key := make(sdp.Key, n+salt)
	_, _ = rand.Read(key) // it never fails
	return key
}

// encrypt puts fresh keys of all suites into an offer of ours. As long as plain RTP would do it stays RTP/AVP: who does
// not know a=crypto passes over it, who does answers with a key (RFC 8643). RTP/SAVP leaves no choice.
func encrypt(d *sdp.Description, security Security) {
	d.Crypto = nil
	if security != SRTPOff {
		d.Crypto = freshKeys()
	}
	if d.Video != nil {
		v := *d.Video // the description may be a copy of another
		if v.Crypto = nil; security != SRTPOff {
			v.Crypto = freshKeys()
		}
		d.Video = &v
	}
	switch security {
	case SRTPOff:
		profile(d, "RTP/AVP")
	case SRTPRequired:
		profile(d, "RTP/SAVP")
	}
}

// freshKeys has a key for each suite that we offer.
func freshKeys() (list []sdp.Crypto) {
	for i, suite := range sdp.Offered() {
		list = append(list, sdp.Crypto{Tag: uint32(i + 1), Suite: suite, Key: newKey(suite)})
	}
	return list
}

// profile sets that of the lines in use.
func profile(d *sdp.Description, proto string) {
	d.Lines = slices.Clone(d.Lines)
	d.Lines[d.Index].Proto = proto
	if d.Video != nil {
		d.Lines[d.Video.Index].Proto = proto
	}
}

// again is a description of ours, to be offered once more with changes: with the keys that it has, if they may go by
// the way that the signalling takes now.
func (e *exchange) again(side Side) (sdp.Description, error) {
	d := *e.ours
	if d.DTLS != nil {
		dtls := *d.DTLS
		dtls.Setup = sdp.ActPass // of every offer (RFC 8842 §5.5); the peer goes on with its role
		d.DTLS = &dtls
	}
	security, err := e.mode(side)
	if err == nil && security == SRTPOff && d.Crypto != nil {
		encrypt(&d, SRTPOff)
	}
	return d, err
}

// anew is such a description with fresh keys, for a peer that asks for an offer: it may be another than before.
func (e *exchange) anew(side Side) (sdp.Description, error) {
	d, err := e.again(side)
	switch {
	case d.DTLS != nil:
	case d.Crypto != nil && expected(&d)&sdp.Plain == 0:
		encrypt(&d, SRTPRequired)
	case d.Crypto != nil:
		encrypt(&d, SRTPOptional)
	case e.secret:
		encrypt(&d, e.security)
	}
	return d, err
}
