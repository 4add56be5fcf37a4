package sip

import (
	"strconv"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// build reads a cut message into sipgo's types. The error is a *badMessage for
// whatever can be answered.
func (r *rawMessage) build() (sipgo.Message, error) {
	var m sipgo.Message
	var err error
	if strings.HasPrefix(r.start, "SIP/") {
		m, err = buildStatusLine(r.start)
	} else {
		m, err = buildRequestLine(r.start)
	}
	if err != nil {
		return nil, err
	}
	if r.fault != nil {
		return nil, r.fault
	}
	if err := r.checkCounts(); err != nil {
		return nil, err
	}
	for _, h := range r.headers {
		if err := appendHeader(m, h); err != nil {
			return nil, err
		}
	}
	m.SetBody(r.body)
	return m, nil
}

func buildRequestLine(start string) (sipgo.Message, error) {
	parts := strings.Split(start, " ")
	if len(parts) != 3 || !isToken(parts[0]) || parts[1] == "" {
		return nil, bad("Bad request line")
	}
	if !strings.HasPrefix(strings.ToUpper(parts[2]), "SIP/") {
		return nil, bad("Bad request line")
	}
	if !strings.EqualFold(parts[2], "SIP/2.0") {
		return nil, &badMessage{505, "Version Not Supported"}
	}
	if strings.ContainsAny(parts[1], "<>\"\t") {
		return nil, bad("Bad Request-URI")
	}
	if unknownScheme(parts[1]) {
		return nil, &badMessage{416, "Unsupported URI Scheme"}
	}
	var uri sipgo.Uri
	if err := readURI(parts[1], &uri); err != nil || uri.Wildcard {
		return nil, bad("Bad Request-URI")
	}
	return sipgo.NewRequest(sipgo.RequestMethod(parts[0]), uri), nil
}

// unknownScheme reports a well-formed URI of a scheme that is none of SIP's.
func unknownScheme(uri string) bool {
	scheme, _, ok := strings.Cut(uri, ":")
	if !ok || !isToken(scheme) {
		return false
	}
	switch strings.ToLower(scheme) {
	case "sip", "sips", "tel":
		return false
	}
	return true
}

func buildStatusLine(start string) (sipgo.Message, error) {
	version, rest, _ := strings.Cut(start, " ")
	code, reason, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if version != "SIP/2.0" || err != nil || len(code) != 3 || n < 100 || n > 699 {
		return nil, bad("Bad status line")
	}
	return sipgo.NewResponse(n, reason), nil
}

// singles are the headers that must not occur twice: two readers of the
// message could follow different ones.
var singles = []string{"From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length",
	"Content-Type", "Expires", "Min-Expires", "Refer-To", "Replaces", "Session-Expires", "RAck", "RSeq"}

func (r *rawMessage) checkCounts() error {
	for _, name := range singles {
		n := 0
		for _, h := range r.headers {
			if h.name == name {
				n++
			}
		}
		if n > 1 {
			return bad("More than one %s", name)
		}
	}
	return nil
}

// appendHeader adds one header line; lists of Via, Contact and Route become one
// header for each value.
func appendHeader(m sipgo.Message, h rawHeader) error {
	switch h.name {
	case "Via", "Contact", "Route", "Record-Route":
		values, ok := splitOutside(h.value, ',')
		if !ok {
			return bad("Unbalanced quotes in %s", h.name)
		}
		if h.name == "Via" && len(values) > maxVias {
			return bad("Too many Via")
		}
		for _, v := range values {
			header, err := parseListed(h.name, strings.TrimSpace(v))
			if err != nil {
				return bad("Bad %s", h.name)
			}
			m.AppendHeader(header)
		}
		return nil
	}
	header, err := parseSingle(h.name, h.value)
	if err != nil {
		return bad("Bad %s", h.name)
	}
	m.AppendHeader(header)
	return nil
}

func parseListed(name, value string) (sipgo.Header, error) {
	if name == "Via" {
		return parseVia(value)
	}
	if name == "Contact" && value == "*" {
		return &sipgo.ContactHeader{Address: sipgo.Uri{Wildcard: true, Host: "*"}}, nil
	}
	a, err := parseNameAddr(value)
	if err != nil {
		return nil, err
	}
	switch name {
	case "Route":
		return &sipgo.RouteHeader{Address: a.uri}, nil
	case "Record-Route":
		// As it came: our answers return it with all its parameters, those of the
		// header too (RFC 3261 §12.1.1), which sipgo's type would lose.
		return sipgo.NewHeader(name, value), nil
	}
	return &sipgo.ContactHeader{DisplayName: a.display, Address: a.uri, Params: a.params}, nil
}

func parseSingle(name, value string) (sipgo.Header, error) {
	switch name {
	case "From", "To":
		a, err := parseNameAddr(value)
		if err != nil || a.uri.Wildcard {
			return nil, errBadAddress
		}
		if name == "From" {
			return &sipgo.FromHeader{DisplayName: a.display, Address: a.uri, Params: a.params}, nil
		}
		return &sipgo.ToHeader{DisplayName: a.display, Address: a.uri, Params: a.params}, nil
	case "Call-ID":
		if value == "" || strings.ContainsAny(value, " \t") {
			return nil, errBadAddress
		}
		h := sipgo.CallIDHeader(value)
		return &h, nil
	case "CSeq":
		return parseCSeq(value)
	case "Max-Forwards":
		n, err := strconv.ParseUint(value, 10, 8) // 0-255, RFC 3261 §20.22
		h := sipgo.MaxForwardsHeader(n)
		return &h, err
	case "Content-Length":
		n, err := strconv.ParseUint(value, 10, 31)
		h := sipgo.ContentLengthHeader(n)
		return &h, err
	case "Content-Type":
		h := sipgo.ContentTypeHeader(value)
		return &h, nil
	}
	return sipgo.NewHeader(name, value), nil
}

func parseCSeq(value string) (sipgo.Header, error) {
	fields := strings.Fields(value)
	if len(fields) != 2 || !isToken(fields[1]) {
		return nil, errBadAddress
	}
	n, err := strconv.ParseUint(fields[0], 10, 31) // below 2^31, RFC 3261 §8.1.1.5
	return &sipgo.CSeqHeader{SeqNo: uint32(n), MethodName: sipgo.RequestMethod(fields[1])}, err
}

// parseVia reads one Via value, with white space wherever RFC 3261 allows it.
func parseVia(value string) (*sipgo.ViaHeader, error) {
	pieces, ok := splitOutside(value, ';')
	parts := strings.SplitN(pieces[0], "/", 3)
	if !ok || len(parts) != 3 {
		return nil, errBadAddress
	}
	last := strings.TrimSpace(parts[2])
	i := strings.IndexAny(last, " \t")
	if i < 0 {
		return nil, errBadAddress
	}
	host, port, err := parseSentBy(last[i:])
	if err != nil {
		return nil, err
	}
	params, err := parseParams(pieces[1:])
	if err != nil {
		return nil, err
	}
	return &sipgo.ViaHeader{
		ProtocolName:    strings.TrimSpace(parts[0]),
		ProtocolVersion: strings.TrimSpace(parts[1]),
		Transport:       strings.ToUpper(last[:i]),
		Host:            host,
		Port:            port,
		Params:          params,
	}, nil
}

// parseSentBy reads host[:port]. The host of an IPv6 reference comes without
// its brackets, which is what sipgo's ViaHeader wants.
func parseSentBy(s string) (host string, port int, err error) {
	s = without(s, " \t")
	host, rest := s, ""
	if strings.HasPrefix(s, "[") {
		var ok bool
		if host, rest, ok = strings.Cut(s[1:], "]"); !ok {
			return "", 0, errBadAddress
		}
		rest = strings.TrimPrefix(rest, ":")
	} else {
		host, rest, _ = strings.Cut(s, ":")
	}
	if host == "" || strings.ContainsAny(host, "/@,;<>\"") {
		return "", 0, errBadAddress
	}
	if rest == "" {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(rest, 10, 16)
	return host, int(n), err
}
