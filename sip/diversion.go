package sip

import (
	"slices"
	"strconv"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// maxDiversions bounds what is read of Diversion and History-Info. RFC 5806
// has no limit; networks end a call after 5 diversions or fewer.
const maxDiversions = 20

// divertedBy is who sent the call on last, and why: of Diversion (RFC 5806) or,
// without one, of History-Info (RFC 7044). Nothing if that party asked for privacy.
func divertedBy(req *sipgo.Request) (handle, why string) {
	for _, p := range privacyOf(req) {
		if p == "history" || p == "header" || p == "session" { // RFC 7044 §10.1.2
			return "", ""
		}
	}
	if values := headerList(req, "Diversion"); len(values) > 0 { // the newest comes first, RFC 5806 §4
		a, err := parseNameAddr(values[0])
		if err != nil || paramIs(a.params, "privacy", "full") || paramIs(a.params, "privacy", "uri") {
			return "", ""
		}
		reason, _ := paramOf(a.params, "reason")
		return handleOf(a.uri), diversionReason(reason)
	}
	return lastOfHistory(req)
}

// diversionReason keeps the words of RFC 5806 §9; all others are "".
func diversionReason(word string) string {
	word = strings.ToLower(word)
	switch word {
	case "user-busy", "no-answer", "unavailable", "unconditional", "time-of-day",
		"do-not-disturb", "deflection", "follow-me", "out-of-service", "away":
		return word
	}
	return ""
}

// historyEntry is one hi-entry of History-Info (RFC 7044 §5).
type historyEntry struct {
	uri       sipgo.Uri
	index, mp string // mp: the index of the entry that was mapped to this one
	cause     int    // why this target was left, of the Reason in its URI
	arrived   int    // why this target was chosen, of its cause parameter (RFC 4458)
	private   bool
}

// lastOfHistory finds the newest target that the call was sent on from: the
// entry that the last mp points at; else, as RFC 4244 had it, the last that
// carries a Reason; else the one before the last that has a cause parameter.
func lastOfHistory(req *sipgo.Request) (handle, why string) {
	entries := history(req)
	for i := len(entries) - 1; i > 0; i-- {
		e := entries[i]
		left := slices.IndexFunc(entries[:i], func(old historyEntry) bool { return e.mp != "" && old.index == e.mp })
		if left < 0 && entries[i-1].cause != 0 || left < 0 && e.arrived != 0 {
			left = i - 1
		}
		if left < 0 {
			continue
		}
		from := entries[left]
		if from.private {
			return "", ""
		}
		cause := e.arrived
		if cause == 0 {
			cause = from.cause
		}
		return handleOf(from.uri), diversionOf(cause)
	}
	return "", ""
}

func history(req *sipgo.Request) (entries []historyEntry) {
	for _, value := range headerList(req, "History-Info") {
		a, err := parseNameAddr(value)
		if err != nil {
			continue
		}
		e := historyEntry{uri: a.uri}
		e.index, _ = paramOf(a.params, "index")
		e.mp, _ = paramOf(a.params, "mp")
		if v, ok := paramOf(a.uri.UriParams, "cause"); ok {
			e.arrived, _ = strconv.Atoi(v)
		}
		for _, h := range a.uri.Headers {
			switch v := unescapeURI(h.V); {
			case strings.EqualFold(h.K, "Reason") && e.cause == 0:
				e.cause = ParseReason(v).Cause
			case strings.EqualFold(h.K, "Privacy"):
				e.private = strings.Contains(strings.ToLower(v), "history")
			}
		}
		if entries = append(entries, e); len(entries) == maxDiversions {
			break
		}
	}
	return entries
}

// diversionOf turns the cause of a diversion (RFC 4458 §2) into a word of RFC
// 5806, as RFC 7544 §7 does; causeOfDiversion turns it back.
func diversionOf(cause int) string {
	switch cause {
	case 302:
		return "unconditional"
	case 486:
		return "user-busy"
	case 408:
		return "no-answer"
	case 480, 487:
		return "deflection"
	case 503:
		return "unavailable"
	}
	return ""
}

func causeOfDiversion(why string) int {
	switch why {
	case "unconditional":
		return 302
	case "user-busy":
		return 486
	case "no-answer":
		return 408
	case "deflection":
		return 480
	case "unavailable":
		return 503
	}
	return 404 // unknown, RFC 4458 §2
}

// diversionHeaders tell a device who has sent the call on, in both forms. A
// handle that is long is left out: the INVITE must fit into the buffers of phones.
func diversionHeaders(c Caller, by, callee sipgo.Uri) []sipgo.Header {
	if c.DivertedBy == "" || len(by.User)+len(by.Host) > maxDiverter {
		return nil
	}
	why := c.DivertedWhy
	if why == "" {
		why = "unknown"
	}
	cause := strconv.Itoa(causeOfDiversion(why))
	who, to := "sip:"+by.User+"@"+by.Host, "sip:"+callee.User+"@"+callee.Host
	return []sipgo.Header{
		sipgo.NewHeader("Diversion", "<"+who+">;reason="+why),
		sipgo.NewHeader("History-Info", "<"+who+"?Reason=SIP%3Bcause%3D"+cause+">;index=1, <"+to+";cause="+cause+">;index=1.1;mp=1"),
	}
}

// maxDiverter bounds user and host of the diverting party in an INVITE, in bytes.
const maxDiverter = 160
