package sip

import (
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// validate holds a request against what RFC 3261 §8.1.1 makes mandatory, and
// gives the answer it deserves: status 0 if it is fine. What depends on policy
// (Max-Forwards used up, methods, extensions) is left to the server.
func validate(req *sipgo.Request) (status int, reason string) {
	for _, check := range []func(*sipgo.Request) (int, string){
		checkPresent, checkCSeq, checkVia, checkRequestURI, checkRegister,
	} {
		if status, reason = check(req); status != 0 {
			return status, reason
		}
	}
	return 0, ""
}

func checkPresent(req *sipgo.Request) (int, string) {
	switch {
	case req.SipVersion != "SIP/2.0":
		return 505, "Version Not Supported"
	case req.Via() == nil:
		return 400, "Missing Via"
	case req.From() == nil:
		return 400, "Missing From"
	case req.To() == nil:
		return 400, "Missing To"
	case req.CallID() == nil || *req.CallID() == "":
		return 400, "Missing Call-ID"
	case req.CSeq() == nil:
		return 400, "Missing CSeq"
	}
	return 0, ""
}

func checkCSeq(req *sipgo.Request) (int, string) {
	if req.CSeq().MethodName != req.Method {
		return 400, "CSeq method differs from request method"
	}
	return 0, ""
}

// checkVia refuses a branch that promises RFC 3261 matching and then gives
// nothing to match (RFC 4475 §3.2.1).
func checkVia(req *sipgo.Request) (int, string) {
	via := req.Via()
	if via.Host == "" || !strings.EqualFold(via.ProtocolName, "SIP") {
		return 400, "Bad Via"
	}
	if branch, _ := via.Params.Get("branch"); branch == sipgo.RFC3261BranchMagicCookie {
		return 400, "Empty branch"
	}
	return 0, ""
}

// checkRequestURI refuses schemes we cannot route (416) and URI headers, which
// would smuggle header fields into the request (RFC 3261 §19.1.5).
func checkRequestURI(req *sipgo.Request) (int, string) {
	u := &req.Recipient
	switch u.Scheme {
	case "tel":
		return 0, ""
	case "sip", "sips":
	default:
		return 416, "Unsupported URI Scheme"
	}
	if len(u.Headers) > 0 {
		return 400, "Headers in Request-URI"
	}
	if !plainHost(u.Host) || u.Port < 0 || u.Port > 65535 {
		return 400, "Bad Request-URI"
	}
	return 0, ""
}

// checkRegister refuses an AOR that cannot be one (RFC 4475 §3.3.4).
func checkRegister(req *sipgo.Request) (int, string) {
	if req.Method != sipgo.REGISTER {
		return 0, ""
	}
	if s := req.To().Address.Scheme; s != "sip" && s != "sips" && s != "tel" {
		return 400, "To is no address-of-record"
	}
	return 0, ""
}

// plainHost reports whether s has only the characters of a host name or of an
// IP address, in brackets for IPv6.
func plainHost(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._:[]%", c) >= 0) {
			return false
		}
	}
	return s != ""
}
