// Package sdp reads the session descriptions of peers and writes ours.
//
// A description is never edited and passed on: what a call needs (address, port, codecs, packet time, direction) is
// taken out of it, and ours is built anew from that, so that nothing else of one side's network reaches the other.
//
//	RFC 8866  SDP: Session Description Protocol
//	RFC 3264  offer/answer: lines keep number and order, a declined line has port 0, directions are mirrored
//	RFC 3551  static payload types
//	RFC 3605  a=rtcp
//	RFC 4568  a=crypto
//	RFC 4733  telephone-event
//	RFC 5761  a=rtcp-mux
//	RFC 5763  DTLS-SRTP: a=fingerprint (RFC 8122), a=setup, a=tls-id (RFC 8842)
//	RFC 7714  suites with AES-GCM
//	RFC 8643  a=crypto with RTP/AVP: encrypted where both can
//	RFC 8839  ICE, as a lite agent
//	RFC 9143  a=group:BUNDLE, of the one audio line
//
// The codec is pion/sdp; its types stay inside this package.
package sdp

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// MaxSize is the largest description that Parse takes, in bytes. A WebRTC offer of audio and video with its
// candidates stays below 10 kB; the rest is head room.
const MaxSize = 16 << 10

// Limits on what is kept of one description, so that a call's memory has a bound that a peer cannot move.
const (
	maxLines   = 16
	maxCodecs  = 32
	maxFormats = 64
	maxFmtp    = 512 // bytes of one a=fmtp value
)

var (
	// ErrBad says that a body is no valid session description. SIP answers 400.
	ErrBad = errors.New("bad session description")
	// ErrNotAcceptable says that a valid description has nothing we could agree to. SIP answers 488.
	ErrNotAcceptable = errors.New("session description not acceptable")
)

// Line is one m= line as needed to decline it in place (RFC 3264 §6: same media, protocol and formats, port 0).
type Line struct {
	Media   string
	Proto   string
	Formats []string
}

// Description is what is kept of a session description, a peer's or ours: an audio stream, a video stream where there is
// one, and the other lines only to be declined.
type Description struct {
	Lines  []Line // every m= line in order
	Stream        // the audio
	Video  *Stream
}

// Stream is an m= line that carries RTP.
type Stream struct {
	Index     int            // its place in Lines
	Addr      netip.AddrPort // where the describer wants RTP; the address is unspecified for an RFC 2543 hold (c=0.0.0.0)
	RTCP      netip.AddrPort // where it wants RTCP unless both sides have rtcp-mux; invalid if nowhere
	Mux       bool           // a=rtcp-mux
	Direction Direction      // as the describer sees it; c=0.0.0.0 is already taken into account
	Codecs    []Codec        // in order of preference, telephone-event and comfort noise among them
	Ptime     int            // a=ptime in ms, 0 if not given
	MaxPtime  int            // a=maxptime in ms, 0 if not given
	Crypto    []Crypto       // keys that the describer encrypts with, by suite; nil: plain RTP, or DTLS
	DTLS      *DTLS          // SRTP with keys from a handshake; nil: no
	ICE       *ICE           // only beside DTLS; nil: the address says where the peer is
	Mid       string         // a=mid; "" if none
	Bundle    bool           // the stream stands in an a=group:BUNDLE
	Feedback  []string       // values of a=rtcp-fb, of video only (RFC 4585 §4.2)
}

// Direction is the direction of a stream as its describer sees it (RFC 3264 §5.1).
type Direction uint8

// The four directions; the zero value is the default of RFC 3264.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// Directed is the direction of one that sends, or not, and receives, or not.
func Directed(sends, receives bool) Direction {
	switch {
	case sends && receives:
		return SendRecv
	case sends:
		return SendOnly
	case receives:
		return RecvOnly
	}
	return Inactive
}

// Sends reports whether the describer will send.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly }

// Receives reports whether the describer wants to receive.
func (d Direction) Receives() bool { return d == SendRecv || d == RecvOnly }

// Mirror is the direction seen from the other end: what an answer to d says.
func (d Direction) Mirror() Direction { return Directed(d.Receives(), d.Sends()) }

// And is the direction that allows what both allow.
func (d Direction) And(o Direction) Direction {
	return Directed(d.Sends() && o.Sends(), d.Receives() && o.Receives())
}

// String is the attribute's name.
func (d Direction) String() string {
	switch d {
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	case Inactive:
		return "inactive"
	}
	return "sendrecv"
}

// parseDirection gives the direction of an attribute's name.
func parseDirection(name string) (Direction, bool) {
	for _, d := range []Direction{SendRecv, SendOnly, RecvOnly, Inactive} {
		if d.String() == name {
			return d, true
		}
	}
	return SendRecv, false
}

// Codec is one payload type of a description.
type Codec struct {
	PT       uint8  // payload type number, 0-127
	Name     string // encoding name as its describer writes it; compared without regard to case
	Rate     int    // RTP clock rate in Hz
	Channels int    // 1 if not given
	Fmtp     string // value of a=fmtp, "" if none
}

// Same reports whether two payload types name the same encoding; numbers and parameters may differ.
func (c Codec) Same(o Codec) bool {
	return c.Rate == o.Rate && c.Channels == o.Channels && strings.EqualFold(c.Name, o.Name)
}

// Event reports whether c carries telephone events (RFC 4733) and not sound.
func (c Codec) Event() bool { return strings.EqualFold(c.Name, "telephone-event") }

// Noise reports whether c is comfort noise (RFC 3389).
func (c Codec) Noise() bool { return strings.EqualFold(c.Name, "CN") }

// Speech reports whether c carries sound by itself: a stream needs one such codec.
func (c Codec) Speech() bool { return !c.Event() && !c.Noise() }

// PCMU is G.711 µ-law, PCMA is G.711 A-law, each with its static number (RFC 3551).
func PCMU() Codec { return Codec{PT: 0, Name: "PCMU", Rate: 8000, Channels: 1} }

// PCMA is G.711 A-law.
func PCMA() Codec { return Codec{PT: 8, Name: "PCMA", Rate: 8000, Channels: 1} }

// TelephoneEvent is RFC 4733 at 8 kHz with the sixteen DTMF events, under the number that most phones use.
func TelephoneEvent() Codec {
	return Codec{PT: 101, Name: "telephone-event", Rate: 8000, Channels: 1, Fmtp: "0-15"}
}

// Find looks for c in list: with the same number and encoding, else with the same encoding and parameters, else with
// the same encoding.
func Find(list []Codec, c Codec) (Codec, bool) {
	tests := []func(Codec) bool{
		func(x Codec) bool { return x.PT == c.PT && x.Same(c) },
		func(x Codec) bool { return x.Fmtp == c.Fmtp && x.Same(c) },
		func(x Codec) bool { return x.Same(c) },
	}
	for _, test := range tests {
		if i := slices.IndexFunc(list, test); i >= 0 {
			return list[i], true
		}
	}
	return Codec{}, false
}

// HasSpeech reports whether a codec in list carries sound.
func HasSpeech(list []Codec) bool { return slices.ContainsFunc(list, Codec.Speech) }
