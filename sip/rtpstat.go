package sip

import (
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// rtpStat is the header by which many gateways and phones tell at the end of a call how its sound was. It has no
// RFC; the fields are those of AudioCodes, AVM, Poly and others.
const rtpStat = "X-RTP-Stat"

// maxRTPStat bounds what is kept of a peer's: such headers have 100 to 300 characters.
const maxRTPStat = 512

// ReportSound has our BYE, and our 200 to the trunk's, tell how the sound was, in an X-RTP-Stat header. It is asked
// when one of them goes out, with the leg locked: it must not use the leg.
func (in *Inbound) ReportSound(value func() string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sound = value
}

// addSound puts the header into a BYE, or its answer. The caller holds l.mu.
func (l *leg) addSound(m sipgo.Message) {
	if l.sound == nil {
		return
	}
	if value := l.sound(); value != "" {
		m.AppendHeader(sipgo.NewHeader(rtpStat, value))
	}
}

// answerBye is the 200 to the peer's BYE.
func (s *Server) answerBye(l *leg, tx *serverTx) {
	res := s.response(tx, 200, nil)
	l.mu.Lock()
	l.addSound(res)
	l.mu.Unlock()
	s.respond(tx, res)
}

// soundOf is what a peer's BYE tells of the sound that it had: X-RTP-Stat, or P-RTP-Stat, as it wrote it, cut to what
// can be shown.
func soundOf(bye *sipgo.Request) string {
	for _, name := range []string{rtpStat, "P-RTP-Stat"} {
		if h := bye.GetHeader(name); h != nil {
			return printed(h.Value(), maxRTPStat)
		}
	}
	return ""
}

// printed keeps the printable ASCII of s, n characters at most.
func printed(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s[:min(n, len(s))])
}
