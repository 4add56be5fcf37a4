package sip

import (
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// Caller is who calls, as far as the trunk may be believed, cleaned of all
// that does not belong into a display, a header or a push.
type Caller struct {
	Handle     string // number ("+4930123456") or "user@host"; "" when withheld
	Number     bool   // Handle is a telephone number
	Name       string // display name; "Anonymous" when withheld
	Anonymous  bool   // RFC 3323: the caller asked for privacy
	DivertedBy string // who sent the call on, if anybody
}

// callerOf reads the caller's identity from the headers the trunk is trusted
// for, in the order of the trunk's caller_id (RFC 3325 §9.1, RFC 3323 §4).
func callerOf(req *sipgo.Request, order []string) Caller {
	c := Caller{}
	for _, source := range order {
		if name, uri, ok := identity(req, source); ok {
			c.Name, c.Handle, c.Number = SanitiseText(name, 64), handleOf(uri), isNumber(uri.User)
			break
		}
	}
	if h := req.GetHeader("Diversion"); h != nil {
		if _, uri, ok := parseAddress(h.Value()); ok {
			c.DivertedBy = SanitiseText(uri.User, 64)
		}
	}
	if wantsPrivacy(req) || strings.EqualFold(c.Handle, "anonymous@anonymous.invalid") {
		return Caller{Name: "Anonymous", Anonymous: true, DivertedBy: c.DivertedBy}
	}
	return c
}

func identity(req *sipgo.Request, source string) (name string, uri sipgo.Uri, ok bool) {
	switch source {
	case "from":
		if h := req.From(); h != nil {
			return unescapeQuoted(h.DisplayName), h.Address, true
		}
	case "p-asserted-identity", "remote-party-id":
		if h := req.GetHeader(source); h != nil {
			return parseAddress(h.Value())
		}
	}
	return "", sipgo.Uri{}, false
}

// parseAddress reads a name-addr or addr-spec; sipgo's parser wants one value.
func parseAddress(value string) (name string, uri sipgo.Uri, ok bool) {
	params := sipgo.NewParams()
	name, err := sipgo.ParseAddressValue(firstValue(value), &uri, &params)
	return unescapeQuoted(name), uri, err == nil && (uri.User != "" || uri.Host != "" || uri.Raw() != "")
}

// firstValue cuts a comma-separated header after its first value, minding
// quotes and angle brackets.
func firstValue(s string) string {
	quoted, depth := false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c == '<':
			depth++
		case !quoted && c == '>':
			depth--
		case !quoted && depth == 0 && c == ',':
			return strings.TrimSpace(s[:i])
		}
	}
	return strings.TrimSpace(s)
}

func handleOf(u sipgo.Uri) string {
	user := u.User
	if u.Scheme == "tel" {
		user, _, _ = strings.Cut(u.Raw(), ";")
		user = strings.TrimPrefix(user, "tel:")
	}
	user = SanitiseText(stripNumber(user), 64)
	if isNumber(user) || u.Host == "" {
		return user
	}
	return user + "@" + SanitiseText(u.Host, 128)
}

// stripNumber drops the visual separators that RFC 3966 allows in a number,
// and user parameters such as ";phone-context".
func stripNumber(user string) string {
	user, _, _ = strings.Cut(user, ";")
	if strings.Trim(user, "+0123456789-.()*# ") != "" {
		return user
	}
	return strings.NewReplacer("-", "", ".", "", "(", "", ")", "", " ", "").Replace(user)
}

// isNumber: what a phone shows and dials as a number, [+0-9*#]{1,32}.
func isNumber(user string) bool {
	user = stripNumber(user)
	return user != "" && len(user) <= 32 && strings.Trim(user, "+0123456789*#") == ""
}

// wantsPrivacy: any of id, user, header, full hides the caller (RFC 3323 §4.2, RFC 3325 §9.3).
func wantsPrivacy(req *sipgo.Request) bool {
	for _, h := range req.GetHeaders("Privacy") {
		for _, p := range strings.FieldsFunc(strings.ToLower(h.Value()), func(r rune) bool { return r == ';' || r == ',' || r == ' ' }) {
			switch p {
			case "id", "user", "header", "full":
				return true
			}
		}
	}
	if from := req.From(); from != nil {
		return strings.EqualFold(from.Address.Host, "anonymous.invalid")
	}
	return false
}
