package sip

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// Refer is what a REFER asks for (RFC 3515), read strictly: it leads to a new
// call, so nothing that is not understood is passed over.
type Refer struct {
	User           string    // user part of Refer-To, unescaped; a number without visual separators
	Host           string    // its host; "" in a tel: URI
	Replaces       *Replaces // attended transfer (RFC 5589 §7): the call to join; nil for a blind one
	NoSubscription bool      // Refer-Sub: false (RFC 4488): no NOTIFY is wanted
	CSeq           uint32    // names the subscription (RFC 3515 §2.4.6)
}

// parseRefer reads the headers of a REFER.
func parseRefer(req *sipgo.Request) (*Refer, *Refused) {
	targets := req.GetHeaders("Refer-To")
	if len(targets) != 1 { // RFC 3515 §2.4.2: exactly one
		return nil, &Refused{Code: 400, Phrase: "Refer-To Is Missing"}
	}
	r, err := parseReferTo(targets[0].Value())
	if err != nil {
		return nil, &Refused{Code: 400, Phrase: "Bad Refer-To"}
	}
	r.NoSubscription = strings.EqualFold(strings.TrimSpace(headerValue(req, "Refer-Sub")), "false")
	r.CSeq = req.CSeq().SeqNo
	return r, nil
}

// parseReferTo reads a Refer-To (RFC 3515 §2.1): an address that a call can be
// made to by INVITE, with Replaces as its sole URI header.
func parseReferTo(value string) (*Refer, error) {
	a, err := parseNameAddr(value)
	if err != nil {
		return nil, err
	}
	u := a.uri
	r := &Refer{Host: strings.ToLower(u.Host)}
	switch u.Scheme {
	case "tel":
		r.User, r.Host = strings.TrimPrefix(u.Raw(), "tel:"), ""
	case "sip", "sips":
		r.User = unescapeURI(u.User)
	default:
		return nil, errBadAddress
	}
	if method, ok := paramOf(u.UriParams, "method"); ok && !strings.EqualFold(method, "INVITE") {
		return nil, errBadAddress
	}
	r.User, _, _ = strings.Cut(r.User, ";") // ";phone-context" and the like
	if n, ok := SanitiseNumber(r.User); ok {
		r.User = n
	}
	if !plainUser(r.User) || r.Host != "" && !plainHost(r.Host) {
		return nil, errBadAddress
	}
	for _, h := range u.Headers {
		if !strings.EqualFold(h.K, "Replaces") {
			continue // RFC 3261 §19.1.5: a header that is not wanted is passed over
		}
		if r.Replaces != nil {
			return nil, errBadAddress
		}
		if r.Replaces, err = ParseReplaces(unescapeURI(h.V)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// plainUser reports whether s can be dialled: 1 to 64 letters, digits and
// marks, none of which means anything inside a URI.
func plainUser(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlnum(c) && strings.IndexByte("+*#-._~!'", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Replaces names a dialog as the peer that gets the header has it (RFC 3891
// §6.1): To is that peer's tag, From the other's.
type Replaces struct {
	CallID, To, From string
	EarlyOnly        bool
}

// ParseReplaces reads the value of a Replaces header.
func ParseReplaces(value string) (*Replaces, error) {
	pieces, ok := splitOutside(value, ';')
	r := &Replaces{CallID: strings.TrimSpace(pieces[0])}
	if !ok || !isCallID(r.CallID) {
		return nil, errBadAddress
	}
	params, err := parseParams(pieces[1:])
	if err != nil {
		return nil, err
	}
	r.To, _ = params.Get("to-tag")
	r.From, _ = params.Get("from-tag")
	r.EarlyOnly = params.Has("early-only")
	if !isToken(r.To) || !isToken(r.From) {
		return nil, errBadAddress
	}
	return r, nil
}

// isCallID holds s against word["@"word] (RFC 3261 §25.1), without what would
// need quotes.
func isCallID(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenByte(s[i]) && strings.IndexByte("@:/()[]{}?", s[i]) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// escaped gives the value as a header of a URI (RFC 3261 §19.1.5).
func (r *Replaces) escaped() string {
	return escapeHeader(r.CallID + ";to-tag=" + r.To + ";from-tag=" + r.From)
}

// escapeHeader escapes what is no hnv-unreserved or unreserved character.
func escapeHeader(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if isAlnum(c) || strings.IndexByte("-_.!~*'()", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Notice is what a NOTIFY tells (RFC 6665 §4.1.3), for event "refer".
type Notice struct {
	Event string // package, in lower case
	ID    string // CSeq of the REFER, where given
	Over  bool   // the subscription is terminated
	Code  int    // status of the transfer; 0 if the body does not tell
}

func parseNotice(req *sipgo.Request) *Notice {
	n := &Notice{}
	pieces, _ := splitOutside(headerValue(req, "Event"), ';')
	n.Event = strings.ToLower(SanitiseToken(strings.TrimSpace(pieces[0]), 64))
	if params, err := parseParams(pieces[1:]); err == nil {
		id, _ := params.Get("id")
		n.ID = SanitiseToken(id, 16)
	}
	state, _, _ := strings.Cut(headerValue(req, "Subscription-State"), ";")
	n.Over = strings.EqualFold(strings.TrimSpace(state), "terminated")
	if strings.HasPrefix(contentType(req), "message/sipfrag") {
		n.Code = fragStatus(req.Body())
	}
	return n
}

// fragStatus is the status of a sipfrag that begins with a status line (RFC
// 3515 §2.4.5, RFC 3420); 0 if it does not.
func fragStatus(body []byte) int {
	line, _, _ := bytes.Cut(body, []byte("\n"))
	version, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	code, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(code)
	if !strings.EqualFold(version, "SIP/2.0") || err != nil || len(code) != 3 || n < 100 || n > 699 {
		return 0
	}
	return n
}

// Notify tells who sent a REFER how the transfer stands (RFC 3515 §2.4.5). A
// code of 200 or more is the last word and ends the subscription. first: no
// earlier REFER of this dialog has made one, so that no id is needed; some
// phones do not expect it (§2.4.6).
func (r *Refer) Notify(code int, first bool) Outgoing {
	event, state := "refer", "active;expires=180"
	if !first {
		event += ";id=" + strconv.FormatUint(uint64(r.CSeq), 10)
	}
	if code >= 200 {
		state = "terminated;reason=noresource"
	}
	return Outgoing{
		Method: "NOTIFY", ContentType: "message/sipfrag;version=2.0",
		Body:    []byte("SIP/2.0 " + strconv.Itoa(code) + " " + Phrase(code) + "\r\n"),
		Headers: []Header{{"Event", event}, {"Subscription-State", state}},
	}
}
