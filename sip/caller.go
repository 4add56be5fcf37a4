package sip

import (
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// Caller is who calls, as far as the trunk may be believed, cleaned of all
// that does not belong into a display, a header or a push.
type Caller struct {
	Handle    string // number ("+4930123456") or "user@host"; "" when withheld
	Number    bool   // Handle is a telephone number
	Name      string // display name; "Anonymous" when withheld
	Anonymous bool   // RFC 3323: the caller asked for privacy
	// Withheld is the handle behind an anonymous call, where the trunk told it.
	// It is for the operator's own records: no device and no push may have it.
	Withheld string
	Verstat  string // one of the Verstat constants

	DivertedBy  string // who sent the call on last, if anybody; as Handle
	DivertedWhy string // the reason in the words of RFC 5806; "" is not known
}

// callerOf reads the caller's identity from the headers of a trunk, in the
// order of its caller_id (RFC 3325 §9.1, RFC 3323 §4). Only configured trunks
// come here, and each is believed in what it asserts of its caller; of the
// verification of the number (RFC 8224) only one whose verstat says so.
func callerOf(req *sipgo.Request, trunk TrunkConfig) Caller {
	c := Caller{Verstat: VerstatNone}
	source := ""
	for _, source = range trunk.CallerID {
		if name, uri, ok := identity(req, source); ok {
			c.Name, c.Handle = SanitiseName(name), handleOf(uri)
			_, c.Number = SanitiseNumber(c.Handle)
			break
		}
	}
	c.DivertedBy, c.DivertedWhy = divertedBy(req)
	if withheld(req, source) {
		if source == CallerFromFrom && anonymousFrom(req) {
			c.Handle = ""
		}
		return Caller{Name: "Anonymous", Anonymous: true, Withheld: c.Handle, Verstat: VerstatNone,
			DivertedBy: c.DivertedBy, DivertedWhy: c.DivertedWhy}
	}
	if trunk.Verstat && c.Number {
		c.Verstat = verstatOf(req, trunk.CallerID)
	}
	return c
}

// identity is the caller as one header has it.
func identity(req *sipgo.Request, source string) (name string, uri sipgo.Uri, ok bool) {
	best := nameAddr{}
	for _, a := range identities(req, source) {
		if !ok {
			best, ok = a, true
		}
		// P-Asserted-Identity may hold a SIP and a tel URI (RFC 3325 §9.1): the
		// one with a number is what a telephone can show and dial.
		if !isNumber(best.uri) && isNumber(a.uri) {
			best.uri = a.uri
		}
		if best.display == "" {
			best.display = a.display
		}
	}
	if source == CallerFromRPID && paramIs(best.params, "privacy", "name") {
		best.display = ""
	}
	return best.display, best.uri, ok
}

// identities lists the addresses of a header that speak of the caller.
func identities(req *sipgo.Request, source string) (out []nameAddr) {
	if source == CallerFromFrom {
		from := req.From()
		return []nameAddr{{from.DisplayName, from.Address, from.Params}}
	}
	for _, value := range headerList(req, source) {
		a, err := parseNameAddr(value)
		if err != nil || source == CallerFromRPID && isCalled(a) {
			continue
		}
		if out = append(out, a); len(out) == maxIdentities {
			break
		}
	}
	return out
}

// maxIdentities bounds what is read of one header: RFC 3325 knows two values.
const maxIdentities = 8

// isCalled: a Remote-Party-ID may also speak of the callee.
func isCalled(a nameAddr) bool {
	party, said := paramOf(a.params, "party")
	return said && !strings.EqualFold(party, "calling")
}

func paramIs(params sipgo.HeaderParams, name, want string) bool {
	value, _ := paramOf(params, name)
	return strings.EqualFold(value, want)
}

func isNumber(u sipgo.Uri) bool {
	_, ok := SanitiseNumber(userOf(u))
	return ok
}

// userOf is the user part of a SIP URI or the number of a tel URI, unescaped,
// without its parameters.
func userOf(u sipgo.Uri) string {
	user := u.User
	if u.Scheme == "tel" {
		user = u.Raw()
	}
	user, _, _ = strings.Cut(user, ";") // ";phone-context" and the like
	return unescapeURI(user)
}

// handleOf is a number without visual separators, or user@host.
func handleOf(u sipgo.Uri) string {
	user := userOf(u)
	if n, ok := SanitiseNumber(user); ok {
		return n
	}
	user = without(SanitiseText(user, maxCallerName), "@")
	if u.Host == "" || user == "" || !isURIHost(u.Host) {
		return user
	}
	return user + "@" + u.Host
}

// isURIHost: a zone, which an IPv6 address may end with, can hold any text.
func isURIHost(host string) bool {
	return isHost(strings.Trim(host, "[]")) && !strings.Contains(host, "%")
}

// withheld reports whether the caller is not to be shown: by Privacy (RFC 3323
// §4.2, RFC 3325 §9.3), by a Remote-Party-ID, or by an anonymous From, which
// says the same where no Privacy does. "none" overrules an anonymous From for
// an identity that comes from another header.
func withheld(req *sipgo.Request, source string) bool {
	none := false
	for _, p := range privacyOf(req) {
		switch p {
		case "id", "user", "header", "full", "critical": // critical alone asks for more than we could refuse
			return true
		case "none":
			none = true
		}
	}
	for _, a := range identities(req, CallerFromRPID) {
		if paramIs(a.params, "privacy", "full") || paramIs(a.params, "privacy", "uri") {
			return true
		}
	}
	return strings.EqualFold(req.From().Address.Host, "anonymous.invalid") && (!none || source == CallerFromFrom) ||
		source == CallerFromFrom && anonymousFrom(req)
}

// anonymousFrom: the From names nobody (RFC 3323 §4.1.1.3).
func anonymousFrom(req *sipgo.Request) bool {
	from := req.From().Address
	return strings.EqualFold(from.Host, "anonymous.invalid") || strings.EqualFold(from.User, "anonymous")
}

// privacyOf lists the values of Privacy, in lower case.
func privacyOf(req *sipgo.Request) (values []string) {
	for _, h := range req.GetHeaders("Privacy") {
		values = append(values, strings.FieldsFunc(strings.ToLower(h.Value()), func(r rune) bool { return r == ';' || r == ',' || r == ' ' || r == '\t' })...)
	}
	return values
}
