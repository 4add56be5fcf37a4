package sdp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// Parse reads a peer's description. It fails with ErrBad if the body is no session description, and with
// ErrNotAcceptable if it has no audio stream that we could take; both wrapped with the reason.
//
// It reads plain RTP. ParseSecure takes the keys of SRTP too, or insists on them.
func Parse(body []byte) (d *Description, err error) { return ParseSecure(body, Off) }

// ParseSecure is Parse for a body that came by signalling which nobody else can read.
func ParseSecure(body []byte, security Security) (*Description, error) {
	return ParseKinds(body, security.Kinds())
}

// ParseKinds is Parse for a body that may agree to certain kinds of media. Of several audio lines, one with DTLS goes
// before one with keys, and that before a plain one.
func ParseKinds(body []byte, kinds Kinds) (d *Description, err error) {
	// The parser is another's and the bytes are a stranger's: a panic in it must cost one call, not all.
	defer func() {
		if r := recover(); r != nil {
			d, err = nil, fmt.Errorf("%w: the parser failed: %v", ErrBad, r)
		}
	}()
	if err := checkText(body); err != nil {
		return nil, err
	}
	d, err = parseLines(body, kinds, true)
	if err != nil && errors.Is(err, ErrBad) { // it may be the video, which the call can do without
		if without, e := parseLines(body, kinds, false); e == nil {
			return without, nil
		}
	}
	return d, brief(err)
}

// maxReason bounds what an error quotes of a description, for the sake of logs and records.
const maxReason = 300

// brief is err, cut to what a person reads.
func brief(err error) error {
	if err == nil || len(err.Error()) <= maxReason {
		return err
	}
	kind := ErrNotAcceptable
	if errors.Is(err, ErrBad) {
		kind = ErrBad
	}
	text := strings.TrimPrefix(err.Error(), kind.Error()+": ")
	return fmt.Errorf("%w: %s…", kind, strings.ToValidUTF8(text[:min(maxReason, len(text))], ""))
}

// parseLines is ParseKinds with the video or without.
func parseLines(body []byte, kinds Kinds, video bool) (*Description, error) {
	plain, lines, err := simplify(string(body), kinds, video)
	if err != nil {
		return nil, err
	}
	var s pion.SessionDescription
	if err := s.UnmarshalString(plain); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	if s.Origin.NetworkType == "" {
		return nil, fmt.Errorf("%w: no o= line", ErrBad)
	}
	if len(s.MediaDescriptions) != len(lines) {
		return nil, fmt.Errorf("%w: m= lines in the wrong place", ErrBad)
	}
	d, err := describe(&s, lines, kinds)
	if err == nil && video {
		d.Video = d.video(&s, kinds)
	}
	return d, err
}

// simplify keeps from the parser what we have no use for and it might not know: each m= line that is not audio, or
// video, as we relay it is listed, and stands declined and without attributes in the text returned; the o= line, of which nothing is used,
// is checked for its form and made harmless, as its numbers may be longer than the parser's.
func simplify(body string, kinds Kinds, video bool) (plain string, lines []Line, err error) {
	var b strings.Builder
	skipping := false
	for row := range strings.Lines(body) {
		row = strings.TrimRight(row, "\r\n")
		if value, ok := strings.CutPrefix(row, "o="); ok && len(lines) == 0 {
			if len(strings.Fields(value)) != 6 {
				return "", nil, fmt.Errorf("%w: o= line %q", ErrBad, row)
			}
			row = "o=- 0 0 IN IP4 0.0.0.0"
		}
		if value, ok := strings.CutPrefix(row, "m="); ok {
			line, err := parseLine(value)
			if err != nil {
				return "", nil, err
			}
			if lines = append(lines, line); len(lines) > maxLines {
				return "", nil, fmt.Errorf("%w: more than %d m= lines", ErrBad, maxLines)
			}
			if skipping = !line.usable(kinds) && !(video && line.video(kinds)); skipping {
				b.WriteString("m=application 0 UDP 0\r\n")
			}
		}
		if !skipping {
			b.WriteString(row + "\r\n")
		}
	}
	return b.String(), lines, nil
}

// parseLine reads the value of an m= line, but for its port.
func parseLine(value string) (Line, error) {
	fields := strings.Fields(value)
	if len(fields) < 4 || len(fields) > 3+maxFormats {
		return Line{}, fmt.Errorf("%w: m=%s", ErrBad, value)
	}
	formats := make([]string, len(fields)-3)
	for i := range formats {
		formats[i] = lasting(fields[i+3])
	}
	return Line{Media: lasting(fields[0]), Proto: lasting(fields[2]), Formats: formats}, nil
}

// checkText refuses what no description may hold, above all the control characters with which a value could end its
// line early when it is copied into ours.
func checkText(body []byte) error {
	if len(body) > MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d are taken", ErrBad, len(body), MaxSize)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return fmt.Errorf("%w: empty", ErrBad)
	}
	for i, c := range body {
		switch {
		case c == '\n' || c == '\t' || c >= 0x20 && c != 0x7f:
		case c == '\r' && i+1 < len(body) && body[i+1] == '\n':
		default:
			return fmt.Errorf("%w: control character %#02x at byte %d", ErrBad, c, i)
		}
	}
	return nil
}

// describe takes the best usable audio stream out of s.
func describe(s *pion.SessionDescription, lines []Line, kinds Kinds) (*Description, error) {
	var best *Description
	reason := "no audio line"
	for i, m := range s.MediaDescriptions {
		d := &Description{Lines: lines, Stream: Stream{Index: i}}
		why := ""
		switch line := lines[i]; {
		case line.Media != "audio":
			continue
		case !line.usable(kinds):
			why = "audio only as " + strconv.Quote(line.Proto) + ", RTP/AVP is taken"
		case m.MediaName.Port.Value == 0:
			why = "the audio line is declined (port 0)"
		default:
			var err error
			if why, err = d.audio(s, m, line, kinds); err != nil {
				return nil, err
			}
		}
		switch {
		case why != "":
			reason = why
		case best == nil || d.kind() > best.kind():
			best = d
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotAcceptable, reason)
	}
	return best, nil
}

// kind is that of the stream.
func (d *Stream) kind() Kinds {
	switch {
	case d.DTLS != nil:
		return Shaken
	case d.Crypto != nil:
		return Keyed
	}
	return Plain
}

// audio fills d from an audio line, or says why that line cannot be used.
func (d *Stream) audio(s *pion.SessionDescription, m *pion.MediaDescription, line Line, kinds Kinds) (why string, err error) {
	if port := m.MediaName.Port.Value; port < 0 || port > 65535 {
		return "", fmt.Errorf("%w: audio port %d", ErrBad, port)
	}
	codecs, err := codecs(m)
	if err != nil {
		return "", err
	}
	if !HasSpeech(codecs) {
		return "no known audio codec on the audio line", nil
	}
	_, d.Mux = m.Attribute("rtcp-mux")
	if _, only := m.Attribute("rtcp-mux-only"); only { // RFC 8858
		d.Mux = true
	}
	d.bundled(s, m)
	if why, err := d.secure(s, m, line, kinds); why != "" || err != nil {
		return why, err
	}
	if why, err := d.address(s, m); why != "" && !d.Checked() || err != nil {
		return why, err
	}
	d.Codecs = codecs
	d.timing(m)
	d.direct(s, m)
	return "", nil
}

// address fills in where RTP and RTCP go.
func (d *Stream) address(s *pion.SessionDescription, m *pion.MediaDescription) (why string, err error) {
	c := m.ConnectionInformation
	if c == nil {
		c = s.ConnectionInformation
	}
	if c == nil || c.Address == nil {
		return "", fmt.Errorf("%w: no c= line for the audio line", ErrBad)
	}
	addr, why, err := parseAddr(c.Address.Address)
	if why != "" || err != nil {
		return why, err
	}
	port := uint16(m.MediaName.Port.Value)
	d.Addr = netip.AddrPortFrom(addr, port)
	switch value, ok := m.Attribute("rtcp"); {
	case ok:
		d.RTCP, err = parseRTCP(value, addr)
	case port < 65535: // RFC 3550 §11: the next higher port
		d.RTCP = netip.AddrPortFrom(addr, port+1)
	}
	return "", err
}

// parseAddr reads the address of a c= line. Names are not looked up: the media path does not wait for DNS.
func parseAddr(text string) (addr netip.Addr, why string, err error) {
	text, _, _ = strings.Cut(text, "/") // the time to live of a multicast address
	addr, err = netip.ParseAddr(text)
	switch {
	case err != nil && strings.Contains(text, ":"):
		return addr, "", fmt.Errorf("%w: address %q in the c= line", ErrBad, text)
	case err != nil:
		return addr, "the c= line names a host, an IP address is taken", nil
	case addr.Zone() != "":
		return addr, "", fmt.Errorf("%w: address with a zone in the c= line", ErrBad)
	case !single(addr):
		return addr, "the c= line has a multicast or broadcast address", nil
	}
	return addr.Unmap(), "", nil
}

// single reports whether an address is no multicast, nor IPv4's broadcast to all.
func single(a netip.Addr) bool {
	return !a.Unmap().IsMulticast() && a.Unmap() != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// parseRTCP reads the value of a=rtcp: a port, and perhaps "IN IP4 address" (RFC 3605 §2.1).
func parseRTCP(value string, addr netip.Addr) (netip.AddrPort, error) {
	fields := strings.Fields(value)
	if len(fields) != 1 && len(fields) != 4 {
		return netip.AddrPort{}, fmt.Errorf("%w: a=rtcp:%s", ErrBad, value)
	}
	port, err := strconv.ParseUint(fields[0], 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: a=rtcp:%s", ErrBad, value)
	}
	if len(fields) == 4 {
		if a, err := netip.ParseAddr(fields[3]); err == nil && a.Unmap().Is4() == addr.Is4() && single(a) && a.Zone() == "" {
			addr = a.Unmap()
		}
	}
	if port == 0 {
		return netip.AddrPort{}, nil
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// timing takes the packet times; nonsense is as good as nothing.
func (d *Stream) timing(m *pion.MediaDescription) {
	ms := func(key string) int {
		value, _ := m.Attribute(key)
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil || n < 1 || n > 1000 {
			return 0
		}
		return n
	}
	d.Ptime, d.MaxPtime = ms("ptime"), ms("maxptime")
}

// direct takes the direction: the line's, else the session's (RFC 3264 §5.1). An unspecified address is a hold as RFC
// 2543 did it: the peer does not want to receive.
func (d *Stream) direct(s *pion.SessionDescription, m *pion.MediaDescription) {
	for _, attributes := range [][]pion.Attribute{s.Attributes, m.Attributes} {
		for _, a := range attributes {
			if dir, ok := parseDirection(a.Key); ok {
				d.Direction = dir
			}
		}
	}
	if d.Addr.Addr().IsUnspecified() && !d.Checked() {
		d.Direction = d.Direction.And(SendOnly)
	}
}
