package sip

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Reason is the value of a Reason header (RFC 3326): why a request was sent.
// The zero Reason means that the header is absent.
type Reason struct {
	Protocol string // "SIP" or "Q.850"
	Cause    int
	Text     string
	// Also is the cause of the other protocol, given beside it: a Q.850 cause
	// where Protocol is "SIP", a status where it is "Q.850". 0: none.
	Also int
}

// Reasons that the bridge itself gives.
var (
	reasonElsewhere = Reason{Protocol: protoSIP, Cause: 200, Text: "Call completed elsewhere"}
	reasonDeclined  = Reason{Protocol: protoSIP, Cause: 600, Text: "Busy Everywhere"}
)

// CompletedElsewhere is given to devices whose call another device answered.
func CompletedElsewhere() Reason { return reasonElsewhere }

// Declined is given to devices whose call another device declined for all.
func Declined() Reason { return reasonDeclined }

// IsZero reports whether there is no reason.
func (r Reason) IsZero() bool { return r.Protocol == "" }

// String gives the header's value, such as `SIP;cause=200;text="Call completed elsewhere"`, without what is Also given.
func (r Reason) String() string {
	if r.IsZero() {
		return ""
	}
	s := r.Protocol + ";cause=" + strconv.Itoa(r.Cause)
	if r.Text != "" {
		s += ";text=" + Quote(SanitiseText(r.Text, maxCallerName))
	}
	return s
}

// ParseReason reads one value of a Reason header; the zero Reason if it
// cannot be read.
func ParseReason(value string) Reason {
	pieces, ok := splitOutside(value, ';')
	r := Reason{Protocol: strings.ToUpper(strings.TrimSpace(pieces[0]))}
	if !ok || r.Protocol != protoSIP && r.Protocol != protoQ850 {
		return Reason{}
	}
	params, err := parseParams(pieces[1:])
	if err != nil {
		return Reason{}
	}
	if cause, ok := paramOf(params, "cause"); ok {
		if r.Cause, err = strconv.Atoi(cause); err != nil || r.Cause < 0 || r.Cause > 699 {
			return Reason{}
		}
	}
	text, _ := paramOf(params, "text")
	r.Text = SanitiseText(text, maxCallerName)
	return r
}

// Refused is a final answer of 300 or more to an INVITE. It is an error so
// that whoever finds the fault decides the answer and one place sends it.
type Refused struct {
	Code       int
	Phrase     string        // default: the RFC's phrase for the code
	Reason     Reason        // Reason header, if any
	RetryAfter time.Duration // Retry-After in whole seconds, with 503
	Contact    string        // where to go instead, a URI, with 3xx
	Headers    []Header      // further ones
}

// Error gives "486 Busy Here".
func (r *Refused) Error() string { return fmt.Sprintf("%d %s", r.Code, r.phrase()) }

func (r *Refused) phrase() string {
	if r.Phrase != "" {
		return r.Phrase
	}
	return Phrase(r.Code)
}

// Phrase is the reason phrase for a status code (RFC 3261 §21 and the IANA registry).
func Phrase(code int) string {
	switch code {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 183:
		return "Session Progress"
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 302:
		return "Moved Temporarily"
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 408:
		return "Request Timeout"
	case 410:
		return "Gone"
	case 413:
		return "Request Entity Too Large"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 422:
		return "Session Interval Too Small"
	case 423:
		return "Interval Too Brief"
	case 433:
		return "Anonymity Disallowed" // RFC 5079
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 484:
		return "Address Incomplete"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 491:
		return "Request Pending"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Server Time-out"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	case 604:
		return "Does Not Exist Anywhere"
	case 606:
		return "Not Acceptable"
	}
	return "Refused"
}
