package sip

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// Bytes become a message in two steps, so that a request whose meaning cannot
// be read can still be answered: cutHead finds the lines and headers, build
// reads them. sipgo's own parser is not used: it gives up on the first bad
// header without a word to the sender, takes a bare line feed, misses
// parameters behind white space and leaves most compact forms alone.

// Limits on a message; sizes are in sip.limits.
const (
	maxHeaders = 100
	maxVias    = 70 // more hops than the usual Max-Forwards allows
)

var (
	errNoHead     = errors.New("no empty line after the header")
	errUnsafe     = errors.New("line break or control character inside a header")
	errNotSIP     = errors.New("not a SIP message")
	errBadLength  = errors.New("Content-Length is missing or no number")
	errHeadTooBig = errors.New("header larger than limits.header_size")
	errBodyTooBig = errors.New("message larger than limits.message_size")
)

// badMessage is a message that can be told from others but not be obeyed. It
// carries the answer that its sender deserves if it is a request.
type badMessage struct {
	status int
	reason string
}

func (b *badMessage) Error() string { return fmt.Sprintf("%d %s", b.status, b.reason) }

func bad(format string, args ...any) *badMessage {
	return &badMessage{400, fmt.Sprintf(format, args...)}
}

// rawMessage is a message cut into its parts, before any meaning is read.
type rawMessage struct {
	start   string
	headers []rawHeader
	body    []byte
	fault   *badMessage // first fault found while cutting
}

// rawHeader is one header line: unfolded, trimmed, with its long name.
type rawHeader struct{ name, value string }

// parseDatagram reads the one message of a datagram. What follows the body is
// ignored (RFC 3261 §18.3). The rawMessage is nil if nothing can be answered.
func parseDatagram(data []byte, maxHead int) (sipgo.Message, *rawMessage, error) {
	head, body, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok {
		// The end of the datagram stands in for the empty line.
		if head, ok = bytes.CutSuffix(data, []byte("\r\n")); !ok {
			return nil, nil, errNoHead
		}
	}
	if len(head) > maxHead {
		return nil, nil, errHeadTooBig
	}
	raw, err := cutHead(string(head) + "\r\n")
	if err != nil {
		return nil, nil, err
	}
	length, err := raw.contentLength()
	switch {
	case err != nil && raw.has("Content-Length"):
		return nil, raw, bad("Bad Content-Length")
	case err == nil && length > len(body):
		return nil, raw, bad("Content-Length exceeds the datagram")
	case err == nil:
		body = body[:length]
	}
	if len(body) > 0 {
		raw.body = append([]byte(nil), body...)
	}
	m, err := raw.build()
	return m, raw, err
}

// cutHead cuts start line and headers; each line ends in CRLF. It fails only on
// what must not be answered: what is no SIP at all, or would carry line breaks
// into the answer.
func cutHead(head string) (*rawMessage, error) {
	if unsafeHead(head) {
		return nil, errUnsafe
	}
	start, rest, _ := strings.Cut(head, "\r\n")
	if !strings.Contains(start, "SIP/") {
		return nil, errNotSIP
	}
	raw := &rawMessage{start: start, headers: make([]rawHeader, 0, 16)}
	parked := strings.HasPrefix(start, "INVITE ")
	if parked {
		raw.start = strings.Clone(start)
	}
	vias := 0
	for rest != "" {
		var line string
		line, rest = nextHeaderLine(rest)
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || !isToken(name) {
			raw.blame(bad("Header line without a name"))
			continue
		}
		name = longName(name)
		if name == "Via" {
			vias++
		}
		if len(raw.headers) >= maxHeaders || vias > maxVias {
			raw.blame(bad("Too many headers")) // read on: the answer needs some of them
		}
		value = strings.Trim(value, " \t")
		if parked && (answerNeeds(name) || name == "Contact") {
			value = strings.Clone(value) // else it would keep the whole head in memory
		}
		raw.headers = append(raw.headers, rawHeader{name, value})
	}
	return raw, nil
}

// nextHeaderLine takes one header off the front of s and unfolds it (RFC 3261
// §7.3.1: a line that starts with white space continues the one before).
func nextHeaderLine(s string) (line, rest string) {
	line, rest, _ = strings.Cut(s, "\r\n")
	if rest == "" || rest[0] != ' ' && rest[0] != '\t' {
		return line, rest
	}
	var b strings.Builder
	b.WriteString(strings.TrimRight(line, " \t"))
	for rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
		line, rest, _ = strings.Cut(rest, "\r\n")
		b.WriteByte(' ')
		b.WriteString(strings.Trim(line, " \t"))
	}
	return b.String(), rest
}

// unsafeHead reports a CR or LF outside a CRLF, and control characters other
// than tab unless quoted with a backslash (quoted-pair, RFC 3261 §25.1).
func unsafeHead(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != 0x7f || c == '\t' {
			continue
		}
		if c == '\r' && i+1 < len(s) && s[i+1] == '\n' {
			i++
			continue
		}
		if c == '\r' || c == '\n' || i == 0 || s[i-1] != '\\' {
			return true
		}
	}
	return false
}

func (r *rawMessage) blame(b *badMessage) {
	if r.fault == nil {
		r.fault = b
	}
}

func (r *rawMessage) has(name string) bool {
	_, ok := r.first(name)
	return ok
}

// first is the value of the first header of that (long) name.
func (r *rawMessage) first(name string) (string, bool) {
	for _, h := range r.headers {
		if h.name == name {
			return h.value, true
		}
	}
	return "", false
}

// contentLength is the length of the body in bytes. Two headers are an error
// even if they agree: someone on the path may read the other one.
func (r *rawMessage) contentLength() (int, error) {
	length, found := 0, false
	for _, h := range r.headers {
		if h.name != "Content-Length" {
			continue
		}
		n, err := strconv.ParseUint(h.value, 10, 31)
		if err != nil || found {
			return 0, errBadLength
		}
		length, found = int(n), true
	}
	if !found {
		return 0, errBadLength
	}
	return length, nil
}

// isRequest reports whether an answer may be sent: responses and ACKs get none.
func (r *rawMessage) isRequest() bool {
	method, _, _ := strings.Cut(r.start, " ")
	return isToken(method) && method != "ACK"
}

// refuse gives the answer to a request that could not be read, made of the
// header lines as they came (RFC 3261 §8.2.6); nil if there must be none.
func (r *rawMessage) refuse(b *badMessage) []byte {
	if !r.isRequest() || !r.has("Via") {
		return nil
	}
	var s strings.Builder
	fmt.Fprintf(&s, "SIP/2.0 %d %s\r\n", b.status, b.reason)
	for _, h := range r.headers {
		if h.name == "Via" {
			s.WriteString("Via: " + h.value + "\r\n")
		}
	}
	for _, name := range []string{"From", "To", "Call-ID", "CSeq"} {
		value, ok := r.first(name)
		if !ok {
			continue
		}
		if name == "To" && !strings.Contains(strings.ToLower(value), "tag") {
			value += ";tag=" + newTag()
		}
		s.WriteString(name + ": " + value + "\r\n")
	}
	s.WriteString("Content-Length: 0\r\n\r\n")
	return []byte(s.String())
}
