package rtp

import (
	"crypto/rand"
	"fmt"

	"reveille/rtp/sdp"
)

// KnowsDTLS reports whether the packets of the session can have keys of a handshake: those by rtpengine cannot.
func (s *Session) KnowsDTLS() bool { return s.remote == nil }

// OfferDTLS is Offer with SRTP whose keys come from a DTLS handshake, without ICE: for phones that take nothing else.
func (s *Session) OfferDTLS(side Side) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.exchanges[side]
	if _, err := e.mode(side); err != nil || e.security == SRTPOff || s.remote != nil {
		return nil, fmt.Errorf("%w: DTLS-SRTP cannot be offered to the %v", ErrNotAcceptable, side)
	}
	return s.offerLocked(side, func(d *sdp.Description) { shaken(d, s.relay.badge, "UDP/TLS/RTP/SAVP") })
}

// OfferWebRTC is Offer as a WebRTC phone takes it, and nothing else: DTLS-SRTP, ICE, RTP and RTCP on one port (RFC 8834,
// RFC 8829). It goes before what the configuration says of SRTP, unless that requires it and others read the signalling:
// they could put another fingerprint in place of ours.
func (s *Session) OfferWebRTC(side Side) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.exchanges[side].mode(side); err != nil {
		return nil, err
	}
	if s.remote != nil {
		return nil, fmt.Errorf("%w: DTLS-SRTP for the %v needs media.engine: builtin", ErrNotAcceptable, side)
	}
	return s.offerLocked(side, func(d *sdp.Description) {
		shaken(d, s.relay.badge, "UDP/TLS/RTP/SAVPF")
		d.ICE, d.Mid, d.Bundle = newICE(), "0", true
	})
}

// shaken makes d an offer of DTLS-SRTP. The peer may choose who begins.
func shaken(d *sdp.Description, id *badge, proto string) {
	profile(d, proto)
	d.Crypto, d.Mux = nil, true
	d.DTLS = &sdp.DTLS{Setup: sdp.ActPass, Fingerprints: []sdp.Fingerprint{id.fingerprint}, ID: newTLSID()}
}

// newTLSID is a random a=tls-id (RFC 8842 §4).
func newTLSID() string { return rand.Text() }

// respondDTLS answers a peer's DTLS and ICE: with what we have said before, as long as the peer does too. Another
// certificate or a=tls-id is another association, other credentials are an ICE restart (RFC 8839 §4.4.1.1).
func (e *exchange) respondDTLS(d, peer *sdp.Description, id *badge) {
	d.Mid, d.Bundle = peer.Mid, peer.Bundle
	d.DTLS = &sdp.DTLS{Setup: peer.DTLS.Setup.Reply(), Fingerprints: []sdp.Fingerprint{id.fingerprint}}
	known := e.remote != nil && e.ours != nil && e.remote.DTLS != nil && e.ours.DTLS != nil
	same := known && e.remote.DTLS.Same(peer.DTLS)
	if same && peer.DTLS.Setup == sdp.ActPass && e.begins() {
		d.DTLS.Setup = sdp.Active // roles stay (RFC 8842 §5.3)
	}
	switch {
	case peer.DTLS.ID == "":
	case same && e.ours.DTLS.ID != "":
		d.DTLS.ID = e.ours.DTLS.ID
	default:
		d.DTLS.ID = newTLSID()
	}
	switch {
	case peer.ICE == nil:
	case known && e.ours.ICE != nil && e.remote.ICE != nil && *e.remote.ICE == *peer.ICE:
		d.ICE = e.ours.ICE
	default:
		d.ICE = newICE()
	}
}

// begins reports whether it is we that send the ClientHello, by the descriptions of a finished exchange.
func (e *exchange) begins() bool {
	return e.ours.DTLS.Setup == sdp.Active || e.ours.DTLS.Setup == sdp.ActPass && e.remote.DTLS.Setup == sdp.Passive
}
