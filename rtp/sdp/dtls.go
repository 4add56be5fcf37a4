package sdp

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// Kinds are kinds of media that may be agreed to.
type Kinds uint8

// Plain is RTP; Keyed is SRTP with keys in the description (RFC 4568), for signalling that nobody else can read; Shaken
// is SRTP whose keys come from a DTLS handshake over the media's own path (RFC 5763).
const (
	Plain Kinds = 1 << iota
	Keyed
	Shaken
)

// Setup is who begins a DTLS handshake (RFC 4145 §4, RFC 8842 §5).
type Setup string

// The roles; ActPass leaves the choice to the answer.
const (
	ActPass Setup = "actpass"
	Active  Setup = "active"
	Passive Setup = "passive"
)

// Reply is the role that answers an offered one: we wait for the peer's ClientHello where it lets us.
func (s Setup) Reply() Setup {
	if s == Passive {
		return Active
	}
	return Passive
}

// DTLS is what a description says of a DTLS-SRTP association (RFC 5763 §5).
type DTLS struct {
	Setup Setup
	// Fingerprints are those of the describer's certificate, or of one that it may use: all of one hash function, the
	// best that the description has.
	Fingerprints []Fingerprint
	ID           string // a=tls-id (RFC 8842 §4); "" if none
}

// Same reports whether o speaks of the same association (RFC 8842 §3.1).
func (d *DTLS) Same(o *DTLS) bool {
	if d.ID != o.ID || len(d.Fingerprints) != len(o.Fingerprints) {
		return false
	}
	for i := range d.Fingerprints {
		if d.Fingerprints[i] != o.Fingerprints[i] {
			return false
		}
	}
	return true
}

// Hash is the name of a hash function in a=fingerprint, in lower case.
type Hash string

// The hash functions that are taken. SHA-1 and MD5 are not: certificates can be forged to collide, and no peer of
// DTLS-SRTP lacks SHA-256 (RFC 8122 §5 requires it).
const (
	SHA256 Hash = "sha-256"
	SHA384 Hash = "sha-384"
	SHA512 Hash = "sha-512"
)

// hashes gives the bytes of each function's sum, and which goes before which (0: not taken).
func (h Hash) hashes() (size, rank int) {
	switch h {
	case SHA256:
		return 32, 3
	case SHA512:
		return 64, 2
	case SHA384:
		return 48, 1
	}
	return 0, 0
}

// Fingerprint is one a=fingerprint (RFC 8122 §5).
type Fingerprint struct {
	Hash Hash
	Sum  string // its bytes, not their text
}

// attribute is the value of a=fingerprint.
func (f Fingerprint) attribute() string {
	var b strings.Builder
	b.WriteString(string(f.Hash))
	for i := range len(f.Sum) {
		separator := byte(':')
		if i == 0 {
			separator = ' '
		}
		b.WriteByte(separator)
		fmt.Fprintf(&b, "%02X", f.Sum[i])
	}
	return b.String()
}

// ParseFingerprint reads the value of an a=fingerprint. ok is false for a hash function that is not taken.
func ParseFingerprint(value string) (f Fingerprint, ok bool, err error) {
	name, text, found := strings.Cut(strings.TrimSpace(value), " ")
	f.Hash = Hash(strings.ToLower(name))
	size, rank := f.Hash.hashes()
	if found && rank == 0 {
		return Fingerprint{}, false, nil
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(sum) != size || size == 0 || len(text) != 3*size-1 {
		return Fingerprint{}, false, fmt.Errorf("%w: an a=fingerprint that is no hash function and its bytes", ErrBad)
	}
	for i := 2; i < len(text); i += 3 {
		if text[i] != ':' {
			return Fingerprint{}, false, fmt.Errorf("%w: an a=fingerprint that is no hash function and its bytes", ErrBad)
		}
	}
	f.Sum = string(sum)
	return f, true, nil
}

// maxFingerprints bounds those that are kept of one description.
const maxFingerprints = 8

// ICE is what a description says of ICE (RFC 8839). Candidates are not kept: we are a lite agent, which never checks
// them, but answers checks that come from anywhere with the password.
type ICE struct {
	Ufrag string
	Pwd   Secret
	Lite  bool // its describer answers checks and makes none
}

// Secret is a password. It does not show when it is printed.
type Secret string

// Format prints nothing of the password, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[password]") }

// MarshalText prints nothing of the password.
func (Secret) MarshalText() ([]byte, error) { return []byte("[password]"), nil }

// stated is the value of an attribute of a stream: the line's own, else the session's.
func stated(s *pion.SessionDescription, m *pion.MediaDescription, key string) (string, bool) {
	if value, ok := m.Attribute(key); ok {
		return strings.TrimSpace(value), true
	}
	value, ok := s.Attribute(key)
	return strings.TrimSpace(value), ok
}

// fingerprints are the best of a stream.
func fingerprints(s *pion.SessionDescription, m *pion.MediaDescription) (list []Fingerprint, why string, err error) {
	best, unknown := 0, false
	for _, attributes := range [][]pion.Attribute{m.Attributes, s.Attributes} {
		for _, a := range attributes {
			if a.Key != "fingerprint" {
				continue
			}
			f, ok, err := ParseFingerprint(a.Value)
			if err != nil {
				return nil, "", err
			}
			unknown = unknown || !ok
			_, rank := f.Hash.hashes()
			if rank > best {
				best, list = rank, nil
			}
			if ok && rank == best && len(list) < maxFingerprints {
				list = append(list, f)
			}
		}
		if list != nil {
			return list, "", nil
		}
	}
	if unknown {
		return nil, "no a=fingerprint by SHA-256, SHA-384 or SHA-512", nil
	}
	return nil, "no a=fingerprint on the audio line", nil
}

// shake takes what an audio line says of DTLS and ICE, or says why it cannot be used.
func (d *Stream) shake(s *pion.SessionDescription, m *pion.MediaDescription, line Line) (why string, err error) {
	list, why, err := fingerprints(s, m)
	if why != "" || err != nil {
		return why, err
	}
	setup, _ := stated(s, m, "setup")
	switch Setup(setup) {
	case ActPass, Active, Passive:
	case "holdconn":
		return "a=setup:holdconn: it does not want a connection yet", nil
	default:
		return "no a=setup that says who begins the DTLS handshake", nil
	}
	id, _ := stated(s, m, "tls-id")
	if id != "" && !token(id, 20, 255, "+/-_") {
		return "", fmt.Errorf("%w: a=tls-id", ErrBad)
	}
	d.DTLS = &DTLS{Setup: Setup(strings.Clone(setup)), Fingerprints: list, ID: strings.Clone(id)}
	return d.connect(s, m, line)
}

// connect takes what a line says of ICE.
func (d *Stream) connect(s *pion.SessionDescription, m *pion.MediaDescription, line Line) (why string, err error) {
	ufrag, some := stated(s, m, "ice-ufrag")
	pwd, both := stated(s, m, "ice-pwd")
	switch {
	case !some && !both:
		return "", nil
	case !token(ufrag, 4, 256, "+/") || !token(pwd, 22, 256, "+/"): // RFC 8839 §5.4
		return "", fmt.Errorf("%w: a=ice-ufrag needs 4 characters and a=ice-pwd 22, of letters, digits, + and /", ErrBad)
	case !d.Mux && strings.HasSuffix(line.Proto, "F"): // a WebRTC peer has no second port (RFC 8834 §4.5)
		return "ICE without a=rtcp-mux: RTP and RTCP share one port here", nil
	case !d.Mux: // without ICE both ports work
		return "", nil
	}
	_, lite := s.Attribute("ice-lite")
	d.ICE = &ICE{Ufrag: strings.Clone(ufrag), Pwd: Secret(strings.Clone(pwd)), Lite: lite}
	return "", nil
}

// token reports whether text has from..to characters, all letters, digits, or of more.
func token(text string, from, to int, more string) bool {
	if len(text) < from || len(text) > to {
		return false
	}
	for i := range len(text) {
		switch c := text[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte(more, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// bundled takes the stream's name, and whether it stands in a group of streams that share a port (RFC 9143).
func (d *Stream) bundled(s *pion.SessionDescription, m *pion.MediaDescription) {
	mid, ok := m.Attribute("mid")
	if !ok || !token(mid, 1, 64, "!#$%&'*+-.^_`{|}~") {
		return
	}
	d.Mid = strings.Clone(mid)
	for _, a := range s.Attributes {
		if group, members, _ := strings.Cut(a.Value, " "); a.Key == "group" && group == "BUNDLE" {
			for member := range strings.FieldsSeq(members) {
				d.Bundle = d.Bundle || member == mid
			}
		}
	}
}

// writeDTLS writes what ours says of the stream's transport. Its only candidate is the address of the line (RFC 8445
// §5.2: a lite agent has host candidates alone).
func (d *Stream) writeDTLS(m *pion.MediaDescription) {
	if d.ICE != nil {
		m.WithValueAttribute("ice-ufrag", d.ICE.Ufrag).WithValueAttribute("ice-pwd", string(d.ICE.Pwd))
		// 2130706431 is the priority of a host candidate with the highest preference (RFC 8445 §5.1.2.1).
		m.WithValueAttribute("candidate", fmt.Sprintf("1 1 UDP 2130706431 %v %d typ host", d.Addr.Addr(), d.Addr.Port()))
		m.WithPropertyAttribute("end-of-candidates")
	}
	for _, f := range d.DTLS.Fingerprints {
		m.WithValueAttribute("fingerprint", f.attribute())
	}
	m.WithValueAttribute("setup", string(d.DTLS.Setup))
	if d.DTLS.ID != "" {
		m.WithValueAttribute("tls-id", d.DTLS.ID)
	}
}
