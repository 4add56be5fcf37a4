package rtp

import (
	"fmt"
	"net/netip"
	"slices"

	"reveille/rtp/ng"
	"reveille/rtp/sdp"
)

// homeLocked puts the address of a side into our description of it: that of its socket, which is opened, or of the daemon.
func (s *Session) homeLocked(side Side, d *sdp.Description) error {
	if s.remote != nil {
		return s.remote.place(side, d, s.exchanges[side].remote == nil)
	}
	if err := s.listenLocked(side); err != nil {
		return err
	}
	// The pair may have been exchanged for another while it was opened.
	sock := &s.audio.sockets[side]
	d.Addr, d.RTCP = sock.described()
	return nil
}

// step is one of offer/answer at the daemon.
type step struct {
	command     string // offer or answer
	says, hears Side   // who describes itself in body, and whom the daemon's description is for
	from, to    string // tags of who offers and who answers
	body        string
	secure      bool // of an offer: with keys
}

// exchange does a step and gives the daemon's description.
func (r *remote) exchange(st step) (*sdp.Description, error) {
	flow := "start" // to drop all
	if r.s.audio.path.connected {
		flow = "stop"
	}
	args := ng.Dict{
		"from-tag": st.from, "to-tag": st.to, "sdp": st.body, "drop-traffic": flow,
		"flags":    []string{"port latching", "strict source", "trust address"},
		"rtcp-mux": []string{"offer", "accept"}, "ICE": "remove", "DTLS": "off", "SDES": []string{"pad"},
	}
	if st.command == "offer" {
		args["transport-protocol"] = "RTP/AVP"
		if st.secure {
			args["transport-protocol"] = "RTP/SAVP"
		}
		args["address-family"] = family(r.s.audio.sockets[st.hears].address)
	}
	if names := r.s.relay.interfaces; names[Trunk] != "" {
		args["direction"] = []string{names[st.says], names[st.hears]}
	}
	answer, err := r.do(st.command, args)
	if err != nil {
		return nil, err
	}
	d, err := sdp.ParseSecure([]byte(answer.Text("sdp")), SRTPOptional)
	if err != nil {
		return nil, fmt.Errorf("the description of the rtpengine at %s: %w", r.engine.URL(), err)
	}
	if st.command == "offer" {
		d.Crypto = usable(d.Crypto)
	}
	return d, nil
}

// usable are the keys that we offer, in our order.
func usable(list []sdp.Crypto) []sdp.Crypto {
	var out []sdp.Crypto
	for _, suite := range sdp.Offered() {
		if i := slices.IndexFunc(list, func(c sdp.Crypto) bool { return c.Suite == suite }); i >= 0 {
			out = append(out, list[i])
		}
	}
	return out
}

// family is the address family of a side, as the daemon names it.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IP4"
	}
	return "IP6"
}

// describe is what a side has said, for the daemon.
func (r *remote) describe(side Side) string { return r.describeAs(side, r.s.exchanges[side].ours) }

// describeAs is describe where our description of the side is ours. The daemon needs to know what is in use only.
func (r *remote) describeAs(side Side, ours *sdp.Description) string {
	e := &r.s.exchanges[side]
	st := e.remote.Stream
	if both := agreedCodecs(e, ours); both != nil {
		st.Codecs = both
	}
	st.Mux = st.Mux && (ours == nil || ours.Mux)
	st.Crypto = st.Crypto[:min(1, len(st.Crypto))]
	return write(st)
}

func agreedCodecs(e *exchange, ours *sdp.Description) []sdp.Codec {
	if ours == nil {
		return nil
	}
	return common(e.remote.Codecs, ours.Codecs)
}

// placeholder describes a side that has said nothing yet.
func (r *remote) placeholder(side Side, d *sdp.Description) string {
	return nobody(r.s.audio.sockets[side].address.Is4(), d.Codecs)
}

// nobody describes one to whom nothing can be sent. It can receive nothing, but send, so that the daemon plays sound to the
// other side.
func nobody(four bool, codecs []sdp.Codec) string {
	loopback := netip.IPv6Loopback()
	if four {
		loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return write(sdp.Stream{Addr: netip.AddrPortFrom(loopback, discard), Codecs: codecs, Direction: sdp.SendOnly})
}

// discard is the port of nobody (RFC 863).
const discard = 9

// write gives a description of one stream.
func write(st sdp.Stream) string {
	proto := "RTP/AVP"
	if len(st.Crypto) > 0 {
		proto = "RTP/SAVP"
	}
	st.Index, st.Mid, st.Bundle, st.DTLS, st.ICE = 0, "", false, nil, nil
	w := sdp.Writer{ID: 1}
	body, err := w.Write(&sdp.Description{Lines: []sdp.Line{{Media: "audio", Proto: proto}}, Stream: st})
	if err != nil {
		return "" // the daemon refuses it
	}
	return string(body)
}
