package sip

import (
	"slices"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// optionTags are the extensions that a peer may require of us (RFC 3261
// §19.2), one a line: what is not here is refused with 420. The registrar has
// its own for REGISTER.
func optionTags() []string {
	return []string{
		"100rel",     // RFC 3262, towards trunks: reliable.go
		"timer",      // RFC 4028: session_timer.go
		"norefersub", // RFC 4488
		"replaces",   // RFC 3891, from devices: replaces.go
	}
}

// addSupported says which extensions we know: in 2xx answers to INVITE and
// OPTIONS and with a 420 (RFC 3261 §8.2.2.3, §11.2, §13.3.1.4). Our INVITEs to
// devices name only what a device may use: Replaces, and REFER without NOTIFY.
func addSupported(res *sipgo.Response) {
	res.AppendHeader(sipgo.NewHeader("Supported", strings.Join(optionTags(), ", ")))
}

// unknownTags lists the option tags that the request requires and we do not
// know, for 420 and its Unsupported (RFC 3261 §8.2.2.3).
func unknownTags(req *sipgo.Request) []string {
	return slices.DeleteFunc(required(req), func(tag string) bool {
		return slices.ContainsFunc(optionTags(), func(ours string) bool { return strings.EqualFold(ours, tag) })
	})
}

// required lists the option tags that the request requires.
func required(req *sipgo.Request) []string {
	var tags []string
	for _, tag := range headerList(req, "Require") {
		if tag = SanitiseToken(tag, 64); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}
