package sip

import sipgo "github.com/emiago/sipgo/sip"

// Protocols of a Reason (RFC 3326 §2).
const (
	protoSIP  = "SIP"
	protoQ850 = "Q.850"
)

// q850Cause is one cause of ITU-T Q.850 §2.2.7 and the status it becomes (RFC
// 3398 §7.2.4.1; 3GPP TS 29.163 table 9 agrees but for its use of 500). 0: none,
// a normal end is no failure.
type q850Cause struct {
	cause  int
	name   string
	status int
}

// q850Causes is sorted by cause.
var q850Causes = [...]q850Cause{
	{1, "Unallocated number", 404},
	{2, "No route to transit network", 404},
	{3, "No route to destination", 404},
	{4, "Send special information tone", 500},
	{5, "Misdialled trunk prefix", 404},
	{6, "Channel unacceptable", 503},
	{8, "Preemption", 503},
	{14, "Ported number", 410},
	{16, "Normal call clearing", 0},
	{17, "User busy", 486},
	{18, "No user responding", 408},
	{19, "No answer from user", 480},
	{20, "Subscriber absent", 480},
	{21, "Call rejected", 603}, // by the callee; 403 where the network rejects, of which a phone never speaks
	{22, "Number changed", 410},
	{23, "Redirection to new destination", 410},
	{25, "Exchange routing error", 483},
	{26, "Non-selected user clearing", 404},
	{27, "Destination out of order", 502},
	{28, "Invalid number format", 484},
	{29, "Facility rejected", 501},
	{31, "Normal, unspecified", 480},
	{34, "No circuit available", 503},
	{38, "Network out of order", 503},
	{41, "Temporary failure", 503},
	{42, "Switching equipment congestion", 503},
	{44, "Requested circuit not available", 503},
	{47, "Resource unavailable, unspecified", 503},
	{50, "Requested facility not subscribed", 503},
	{55, "Incoming calls barred within CUG", 403},
	{57, "Bearer capability not authorized", 403},
	{58, "Bearer capability not presently available", 503},
	{63, "Service or option not available", 503},
	{65, "Bearer capability not implemented", 488},
	{69, "Requested facility not implemented", 501},
	{70, "Only restricted digital information available", 488},
	{79, "Service or option not implemented", 501},
	{87, "User not member of CUG", 403},
	{88, "Incompatible destination", 503},
	{90, "Non-existent CUG", 403},
	{95, "Invalid message", 500},
	{96, "Mandatory information element is missing", 500},
	{97, "Message type non-existent", 501},
	{99, "Information element non-existent", 501},
	{100, "Invalid information element contents", 500},
	{101, "Message not compatible with call state", 500},
	{102, "Recovery on timer expiry", 504},
	{110, "Message with unrecognized parameter discarded", 500},
	{111, "Protocol error", 500},
	{127, "Interworking, unspecified", 500},
}

// StatusOf is the SIP status that a Q.850 cause becomes; 0 where there is none:
// a normal clearing, or no cause at all. A cause that the table does not have
// is taken as the unspecified one of its class (Q.850 §2.2.5).
func StatusOf(cause int) int {
	if c := findCause(cause); c != nil {
		return c.status
	}
	switch {
	case cause < 1 || cause > 127:
		return 0
	case cause < 32:
		return 480 // as 31
	case cause < 64:
		return 503 // as 47 and 63
	case cause < 80:
		return 501 // as 79
	}
	return 500 // as 111 and 127
}

// CauseText is the name of a Q.850 cause; "" if it has none.
func CauseText(cause int) string {
	if c := findCause(cause); c != nil {
		return c.name
	}
	return ""
}

func findCause(cause int) *q850Cause {
	for i := range q850Causes {
		if q850Causes[i].cause == cause {
			return &q850Causes[i]
		}
	}
	return nil
}

// CauseOf is the Q.850 cause that a SIP status of 300 or more becomes (RFC 3398
// §8.2.6.1); 0 where there is none: 487 answers a CANCEL, which has its own.
func CauseOf(status int) int {
	switch status {
	case 400, 481, 500, 503:
		return 41
	case 401, 402, 403, 407, 603:
		return 21
	case 404, 485, 604:
		return 1
	case 405:
		return 63
	case 406, 415, 501:
		return 79
	case 408, 504:
		return 102
	case 410:
		return 22
	case 480:
		return 18
	case 482, 483:
		return 25
	case 484:
		return 28
	case 486, 600:
		return 17
	case 488, 606:
		return 88 // RFC 3398: by the Warning; 88 is what a codec mismatch is in ISDN
	case 487:
		return 0
	case 502:
		return 38
	}
	switch status / 100 {
	case 3:
		return 23
	case 4, 5:
		return 127
	case 6:
		return 31
	}
	return 0
}

// Both gives the reason with the cause of the other protocol beside its own, so
// that a peer that understands only one of them is told too (RFC 3326 §2). What
// the far end gave stays; the bridge's own "completed elsewhere" and "declined"
// have no counterpart and stay alone.
func (r Reason) Both() Reason {
	switch {
	case r.Also != 0 || r == reasonElsewhere || r == reasonDeclined:
	case r.Protocol == protoSIP && r.Cause >= 300:
		r.Also = CauseOf(r.Cause)
	case r.Protocol == protoQ850:
		r.Also = StatusOf(r.Cause)
	}
	return r
}

// StatusReason is the reason that a SIP status alone gives.
func StatusReason(code int) Reason {
	return Reason{Protocol: protoSIP, Cause: code, Text: Phrase(code)}
}

// Q850 is the reason's Q.850 cause, as given or as it follows from its status;
// 0 if there is none.
func (r Reason) Q850() int {
	switch r.Protocol {
	case protoQ850:
		return r.Cause
	case protoSIP:
		if r.Also != 0 || r.Cause < 300 {
			return r.Also
		}
		return CauseOf(r.Cause)
	}
	return 0
}

// ForResponse is the reason as a response may carry it: the status says the SIP
// part already, so only Q.850 is left (RFC 6432).
func (r Reason) ForResponse() Reason {
	if r.Protocol == protoQ850 {
		r.Also = 0
		return r
	}
	return q850Reason(r.Q850())
}

func q850Reason(cause int) Reason {
	if cause == 0 {
		return Reason{}
	}
	return Reason{Protocol: protoQ850, Cause: cause, Text: CauseText(cause)}
}

// other is the reason of the other protocol that is Also given.
func (r Reason) other() Reason {
	switch {
	case r.Also == 0:
		return Reason{}
	case r.Protocol == protoQ850:
		return Reason{Protocol: protoSIP, Cause: r.Also, Text: Phrase(r.Also)}
	}
	return q850Reason(r.Also)
}

// addReason writes the Reason headers of a message, none for the zero Reason.
// The SIP one comes first: phones look at the first alone.
func addReason(m sipgo.Message, r Reason) {
	first, second := r, r.other()
	if r.Protocol == protoQ850 && !second.IsZero() {
		first, second = second, first
	}
	for _, r := range []Reason{first, second} {
		if !r.IsZero() {
			m.AppendHeader(sipgo.NewHeader("Reason", r.String()))
		}
	}
}

// reasonOf reads the Reason headers of a message: the first SIP one and the
// first Q.850 one beside it; of others the bridge knows nothing.
func reasonOf(m sipgo.Message) Reason {
	var sip, q850 Reason
	for _, value := range headerList(m, "Reason") {
		switch r := ParseReason(value); {
		case r.Protocol == protoSIP && sip.IsZero():
			sip = r
		case r.Protocol == protoQ850 && q850.IsZero() && r.Cause <= 127:
			q850 = r
		}
	}
	if sip.IsZero() {
		return q850
	}
	sip.Also = q850.Cause
	return sip
}
