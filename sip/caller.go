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
			c.Name, c.Handle = SanitiseName(name), handleOf(uri)
			_, c.Number = SanitiseNumber(c.Handle)
			break
		}
	}
	if _, uri, ok := firstAddress(req, "Diversion"); ok {
		c.DivertedBy = handleOf(uri)
	}
	if wantsPrivacy(req) {
		return Caller{Name: "Anonymous", Anonymous: true, DivertedBy: c.DivertedBy}
	}
	return c
}

func identity(req *sipgo.Request, source string) (name string, uri sipgo.Uri, ok bool) {
	if source != CallerFromFrom {
		return firstAddress(req, source)
	}
	from := req.From()
	return from.DisplayName, from.Address, true
}

// firstAddress is the first address of a header.
func firstAddress(req *sipgo.Request, header string) (name string, uri sipgo.Uri, ok bool) {
	values := headerList(req, header)
	if len(values) == 0 {
		return "", sipgo.Uri{}, false
	}
	a, err := parseNameAddr(values[0])
	return a.display, a.uri, err == nil
}

// handleOf is a number without visual separators, or user@host.
func handleOf(u sipgo.Uri) string {
	user := u.User
	if u.Scheme == "tel" {
		user = strings.TrimPrefix(u.Raw(), "tel:")
	}
	user, _, _ = strings.Cut(user, ";") // ";phone-context" and the like
	if n, ok := SanitiseNumber(user); ok {
		return n
	}
	user = SanitiseText(user, maxCallerName)
	if u.Host == "" || user == "" {
		return user
	}
	return user + "@" + SanitiseText(u.Host, 128)
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
	return strings.EqualFold(req.From().Address.Host, "anonymous.invalid")
}
