package sip

import (
	"crypto/rand"
	"errors"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

var errBadAddress = errors.New("malformed header value")

// longName gives the long form of a header name in its usual case, so that
// look-ups by name find compact forms and odd spellings too. Names that we do
// not know stay as they are.
func longName(name string) string {
	if long, ok := longNames[name]; ok { // written as usual
		return long
	}
	lower := strings.ToLower(name)
	if len(lower) == 1 {
		if long := compactName(lower[0]); long != "" {
			return long
		}
		return name
	}
	if long, ok := longNames[lower]; ok {
		return long
	}
	return name
}

// longNames finds the names that we know in their usual case and in lower case.
var longNames = func() map[string]string {
	m := make(map[string]string, 2*len(knownNames))
	for _, name := range knownNames {
		m[name], m[strings.ToLower(name)] = name, name
	}
	return m
}()

// compactName is IANA's list of compact header names.
func compactName(c byte) string {
	switch c {
	case 'a':
		return "Accept-Contact"
	case 'b':
		return "Referred-By"
	case 'c':
		return "Content-Type"
	case 'd':
		return "Request-Disposition"
	case 'e':
		return "Content-Encoding"
	case 'f':
		return "From"
	case 'i':
		return "Call-ID"
	case 'j':
		return "Reject-Contact"
	case 'k':
		return "Supported"
	case 'l':
		return "Content-Length"
	case 'm':
		return "Contact"
	case 'n':
		return "Identity-Info"
	case 'o':
		return "Event"
	case 'r':
		return "Refer-To"
	case 's':
		return "Subject"
	case 't':
		return "To"
	case 'u':
		return "Allow-Events"
	case 'v':
		return "Via"
	case 'x':
		return "Session-Expires"
	case 'y':
		return "Identity"
	}
	return ""
}

// knownNames are the headers that the bridge reads or writes.
var knownNames = []string{
	"Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Content-Length",
	"Content-Type", "Route", "Record-Route", "Allow", "Supported", "Require", "Proxy-Require",
	"User-Agent", "Server", "Authorization", "Proxy-Authorization", "WWW-Authenticate",
	"Proxy-Authenticate", "Expires", "Min-Expires", "Path", "Service-Route", "P-Associated-URI",
	"P-Asserted-Identity", "P-Preferred-Identity", "Privacy", "Diversion", "History-Info",
	"Reason", "Retry-After", "Event", "Subscription-State", "Info-Package", "Refer-Sub", "Refer-To", "Referred-By", "Replaces", "Session-Expires",
	"Min-SE", "RSeq", "RAck", "Accept", "Alert-Info", "Call-Info", "Subject", "Warning",
	"Feature-Caps", "Flow-Timer", "Identity", "Session-ID", "X-Call-UUID", "Unsupported",
	"P-Charging-Vector", "P-Early-Media", "Remote-Party-ID", "Content-Encoding",
	"Content-Disposition", "Authentication-Info", "Date", "Timestamp", "Priority",
}

// nameAddr is a name-addr or addr-spec with its header parameters (RFC 3261
// §20.10).
type nameAddr struct {
	display string // without quotes; backslashes stay, see SanitiseName
	uri     sipgo.Uri
	params  sipgo.HeaderParams // names in lower case; values as sent
}

// parseNameAddr reads one address. It bears white space around the URI and the
// parameters, and display names with characters that ought to be quoted.
func parseNameAddr(s string) (nameAddr, error) {
	var a nameAddr
	pieces, ok := splitOutside(s, ';')
	if !ok {
		return a, errBadAddress
	}
	head := strings.TrimSpace(pieces[0])
	uri := head
	if open := indexOutsideQuotes(head, '<'); open >= 0 {
		if !strings.HasSuffix(head, ">") {
			return a, errBadAddress
		}
		a.display = displayName(head[:open])
		uri = strings.TrimSpace(head[open+1 : len(head)-1])
	} else if strings.ContainsAny(uri, "?, \t\"") {
		// Without brackets these would be ambiguous (RFC 3261 §20.10).
		return a, errBadAddress
	}
	if strings.ContainsAny(uri, "<>\" \t") {
		return a, errBadAddress
	}
	if err := readURI(uri, &a.uri); err != nil {
		return a, errBadAddress
	}
	var err error
	a.params, err = parseParams(pieces[1:])
	return a, err
}

// displayName takes the quotes off; quotes inside what should have been one
// quoted-string are dropped.
func displayName(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		if inner := s[1 : len(s)-1]; indexUnescaped(inner, '"') < 0 {
			return inner
		}
	}
	return without(s, `"\`)
}

// without drops every rune of cut from s.
func without(s, cut string) string {
	if !strings.ContainsAny(s, cut) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(cut, r) {
			return -1
		}
		return r
	}, s)
}

// parseParams reads ";name=value" pieces, cut at the semicolons. Names become
// lower case. A name may stand only once (RFC 3261 §7.3.1); an empty piece is
// borne at the end only.
func parseParams(pieces []string) (sipgo.HeaderParams, error) {
	if len(pieces) == 0 {
		return nil, nil
	}
	params := make(sipgo.HeaderParams, 0, len(pieces))
	for i, piece := range pieces {
		name, value, _ := strings.Cut(piece, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		value = strings.TrimSpace(value)
		if name == "" && i == len(pieces)-1 && value == "" {
			break
		}
		if !isToken(name) || params.Has(name) {
			return nil, errBadAddress
		}
		// sipgo writes quotes of its own around a value with blanks.
		if n := len(value); strings.ContainsAny(value, " \t") && n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		params = append(params, sipgo.HeaderKV{K: name, V: value})
	}
	return params, nil
}

// splitOutside cuts s at each sep that stands outside quotes and angle
// brackets. It is false if a quote or bracket stays open.
func splitOutside(s string, sep byte) ([]string, bool) {
	out := make([]string, 0, 1+strings.Count(s, string(sep)))
	start, quoted, inside := 0, false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"' && !inside:
			quoted = !quoted
		case quoted:
		case c == '<':
			inside = true
		case c == '>':
			inside = false
		case c == sep && !inside:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:]), !quoted && !inside
}

func indexOutsideQuotes(s string, want byte) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == want && !quoted:
			return i
		}
	}
	return -1
}

func indexUnescaped(s string, want byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case want:
			return i
		}
	}
	return -1
}

// headerValue is the first header of that name, "" if there is none.
func headerValue(m sipgo.Message, name string) string {
	first, ok := m.(interface{ GetHeader(string) sipgo.Header }) // without a list
	if !ok {
		return ""
	}
	if h := first.GetHeader(name); h != nil {
		return h.Value()
	}
	return ""
}

// headerList gives every value of a comma-separated header, over all its lines.
func headerList(m sipgo.Message, name string) []string {
	var out []string
	for _, h := range m.GetHeaders(name) {
		values, _ := splitOutside(h.Value(), ',')
		for _, v := range values {
			if v = strings.TrimSpace(v); v != "" {
				out = append(out, v)
			}
		}
	}
	return out
}

// hasToken reports whether a list header, such as Supported, names token.
func hasToken(m sipgo.Message, name, token string) bool {
	for _, v := range headerList(m, name) {
		if strings.EqualFold(v, token) {
			return true
		}
	}
	return false
}

// paramOf looks a parameter up whatever the case of its name, and takes the
// quotes off its value.
func paramOf(params sipgo.HeaderParams, name string) (string, bool) {
	for _, kv := range params {
		if strings.EqualFold(strings.TrimSpace(kv.K), name) {
			return unescapeQuoted(strings.TrimSpace(kv.V)), true
		}
	}
	return "", false
}

// newBranch gives a Via branch (RFC 3261 §8.1.1.7). It is unguessable: whoever
// knows it can answer or cancel the request.
func newBranch() string { return sipgo.RFC3261BranchMagicCookie + rand.Text() }
