package sip

import (
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// HeaderKeeper is what PushSupport may know besides: the names of the headers
// of a trunk's INVITE that apps are told of. All others are forgotten at once.
type HeaderKeeper interface {
	Headers() []string
}

// maxCopied bounds what is kept of one header, in bytes: a call may be parked
// for long. What is shown of it is cleaned and cut where it is used.
const maxCopied = 1024

// copied are the headers of an INVITE that apps are told of, by the names that
// the keeper has for them; nil if there are none. Several headers of one name
// are one list (RFC 3261 §7.3.1).
func copied(req *sipgo.Request, p PushSupport) map[string]string {
	k, ok := p.(HeaderKeeper)
	if !ok {
		return nil
	}
	var kept map[string]string
	for _, name := range k.Headers() {
		var values []string
		for _, h := range req.GetHeaders(longName(name)) {
			values = append(values, h.Value())
		}
		if len(values) == 0 {
			continue
		}
		value := strings.Join(values, ", ")
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = strings.Clone(value[:min(len(value), maxCopied)])
	}
	return kept
}

// Copied are the headers of the INVITE that apps are to be told of, by name;
// they are as the trunk sent them, and not to be trusted.
func (in *Inbound) Copied() map[string]string { return in.copied }
