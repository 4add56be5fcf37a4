package sip

import (
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// What the network found of the caller's number (RFC 8224), as Caller.Verstat.
const (
	VerstatVerified = "verified" // the signature holds and the number is the caller's: full attestation
	VerstatFailed   = "failed"   // it was checked and is not to be trusted
	VerstatNone     = "none"     // not checked, or nobody vouches for the number
)

// verstatOf reads the verstat parameter (3GPP TS 24.229 §7.2A.20) of the
// headers that the caller is taken from, in their order. It stands in the user
// part ("+49…;verstat=…@host"), behind a tel number, or among the parameters
// of the URI or the header.
func verstatOf(req *sipgo.Request, sources []string) string {
	for _, source := range sources {
		for _, a := range identities(req, source) {
			if value, said := verstatParam(a); said {
				return verstatMeans(value)
			}
		}
	}
	return VerstatNone
}

func verstatParam(a nameAddr) (value string, said bool) {
	user := a.uri.User
	if a.uri.Scheme == "tel" {
		user = a.uri.Raw()
	}
	for piece := range strings.SplitSeq(user, ";") {
		if name, v, _ := strings.Cut(piece, "="); strings.EqualFold(name, "verstat") {
			return v, true
		}
	}
	if value, said = paramOf(a.uri.UriParams, "verstat"); said {
		return value, true
	}
	return paramOf(a.params, "verstat")
}

// verstatMeans: attestation A is the one that vouches for the number; with B
// the carrier knows its customer only, with C not even that (ATIS-1000074
// §5.2.3). Without a letter the verifier has taken that decision already.
func verstatMeans(value string) string {
	value = strings.ToLower(strings.TrimSpace(value))
	switch {
	case value == "tn-validation-passed", value == "tn-validation-passed-a":
		return VerstatVerified
	case value == "tn-validation-failed", strings.HasPrefix(value, "tn-validation-failed-"):
		return VerstatFailed
	}
	return VerstatNone
}

// verstatValue is what we tell a device.
func verstatValue(verstat string) string {
	switch verstat {
	case VerstatVerified:
		return "TN-Validation-Passed"
	case VerstatFailed:
		return "TN-Validation-Failed"
	}
	return ""
}

// identityHeaders are what an INVITE to a device says of the caller besides
// From: our own assertion of a number that was verified or failed to be (3GPP
// TS 24.229 §5.7.1.20), and who diverted the call. An anonymous caller has none
// of the first.
func (s *Server) identityHeaders(c Caller, f *flow, callee sipgo.Uri) (out []sipgo.Header) {
	if v := verstatValue(c.Verstat); v != "" && c.Number && !c.Anonymous {
		uri := s.handleURI(c.Handle, f)
		out = append(out, sipgo.NewHeader("P-Asserted-Identity", "<sip:"+uri.User+";verstat="+v+"@"+uri.Host+";user=phone>"))
	}
	if c.DivertedBy != "" {
		out = append(out, diversionHeaders(c, s.handleURI(c.DivertedBy, f), callee)...)
	}
	return out
}
