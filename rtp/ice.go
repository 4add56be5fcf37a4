package rtp

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"

	"reveille/rtp/sdp"
)

const (
	consentTime  = 30 * time.Second // without a check the peer does not consent to packets any more (RFC 7675 §5.1)
	settleTime   = 3 * time.Second  // from the first nomination: of several, the one with the highest priority counts
	maxPaths     = 8                // sources with valid checks that are kept
	maxChecks    = 16               // transactions that are kept, against replays from elsewhere
	noPriority   = 0
	stunRequired = 0x8000 // attribute types below must be understood (RFC 8489 §14)
)

// lite is the ICE agent of a side (RFC 8445 §2.5): it answers the peer's checks, and sends to where a check has
// nominated. Only who knows the password, which went by the signalling alone, gets an answer at all. It does no input or
// output, and is guarded by the session's mu.
type lite struct {
	ours, theirs sdp.ICE
	user         []byte // the USERNAME of the peer's checks
	integrity    stun.MessageIntegrity
	paths        [maxPaths]icePath
	selected     netip.AddrPort // the peer; zero until the first valid check
	priority     uint32         // of selected
	nominated    bool           // selected was nominated; else it is what was heard first
	since        moment         // when the first was
	heard        moment         // when selected had its last check
	checks       [maxChecks]iceCheck
	check        uint8 // place of the next one
}

// icePath is a source that the password has come from.
type icePath struct {
	addr netip.AddrPort
	last moment
}

// iceCheck is a check that was answered.
type iceCheck struct {
	id   [stun.TransactionIDSize]byte
	from netip.AddrPort
}

// newICE makes credentials of ours: 128 bits of randomness in the password, as RFC 8445 §5.3 asks for, 48 in the name.
func newICE() *sdp.ICE {
	var b [24]byte
	_, _ = rand.Read(b[:]) // it never fails
	text := base64.RawStdEncoding.EncodeToString(b[:])
	return &sdp.ICE{Ufrag: text[:8], Pwd: sdp.Secret(text[8:]), Lite: true}
}

func newLite(ours, theirs sdp.ICE) *lite {
	return &lite{
		ours: ours, theirs: theirs, user: []byte(ours.Ufrag + ":" + theirs.Ufrag),
		integrity: stun.NewShortTermIntegrity(string(ours.Pwd)),
	}
}

// answer takes a STUN message and gives the reply to it; nil for what is no check of the peer's. Silence is what a
// stranger gets: nobody can use it to find the port, or to have it send anywhere.
func (l *lite) answer(packet []byte, from netip.AddrPort, now moment) []byte {
	m := &stun.Message{}
	if len(packet) < 20 || stun.Decode(packet, m) != nil || m.Type != stun.BindingRequest || !l.authentic(m) {
		return nil
	}
	if l.replayed(m.TransactionID, from) {
		return nil
	}
	list := m.Attributes[:integrityAt(m)] // what follows is not authentic
	if unknown := unknownAttributes(list); unknown != nil {
		return l.reply(m, stun.BindingError, stun.CodeUnknownAttribute, unknown)
	}
	if _, controlled := list.Get(stun.AttrICEControlled); controlled { // we are: a lite agent always is (RFC 8445 §6.1.1)
		return l.reply(m, stun.BindingError, stun.CodeRoleConflict)
	}
	_, nominates := list.Get(stun.AttrUseCandidate)
	l.note(from, priorityIn(list), nominates, now)
	return l.reply(m, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IP(from.Addr().AsSlice()), Port: int(from.Port())})
}

// authentic reports whether a message is by who has the password (RFC 8489 §9.1.3, RFC 8445 §7.3).
func (l *lite) authentic(m *stun.Message) bool {
	n, at := len(m.Attributes), integrityAt(m)
	if n == 0 || m.Attributes[n-1].Type != stun.AttrFingerprint || len(m.Raw) != 20+int(m.Length) || at < 0 {
		return false
	}
	user, ok := m.Attributes[:at].Get(stun.AttrUsername)
	return ok && bytes.Equal(user.Value, l.user) && m.Attributes[at].Length == 20 &&
		stun.Fingerprint.Check(m) == nil && l.integrity.Check(m) == nil
}

// integrityAt is the place of MESSAGE-INTEGRITY, -1 if there is none.
func integrityAt(m *stun.Message) int {
	for i, a := range m.Attributes {
		if a.Type == stun.AttrMessageIntegrity {
			return i
		}
	}
	return -1
}

// replayed reports whether the same check came from elsewhere: who has seen it on its way sends it again, to draw the
// media to itself. A check that the peer repeats is not meant.
func (l *lite) replayed(id [stun.TransactionIDSize]byte, from netip.AddrPort) bool {
	for i := range l.checks {
		if c := &l.checks[i]; c.id == id && c.from.IsValid() {
			return c.from != from
		}
	}
	l.checks[l.check%maxChecks] = iceCheck{id, from}
	l.check++
	return false
}

// unknownAttributes are those that we would have to know to go on; nil if there are none.
func unknownAttributes(list stun.Attributes) (unknown stun.UnknownAttributes) {
	for _, a := range list {
		switch a.Type {
		case stun.AttrUsername, stun.AttrPriority, stun.AttrUseCandidate:
		default:
			if a.Type < stunRequired && len(unknown) < 4 {
				unknown = append(unknown, a.Type)
			}
		}
	}
	return unknown
}

// priorityIn is that of the peer's candidate.
func priorityIn(list stun.Attributes) uint32 {
	a, ok := list.Get(stun.AttrPriority)
	if !ok || len(a.Value) != 4 {
		return noPriority
	}
	return uint32(a.Value[0])<<24 | uint32(a.Value[1])<<16 | uint32(a.Value[2])<<8 | uint32(a.Value[3])
}

// reply builds a response, signed with our password.
func (l *lite) reply(m *stun.Message, parts ...stun.Setter) []byte {
	parts = append([]stun.Setter{stun.NewTransactionIDSetter(m.TransactionID)}, parts...)
	out, err := stun.Build(append(parts, l.integrity, stun.Fingerprint)...)
	if err != nil {
		return nil
	}
	return out.Raw
}

// note takes a valid check. What is nominated becomes the peer: the last one, as phones move from one network to
// another; but at first the one with the highest priority, as some phones nominate all that they have (RFC 5245 §8.1.1.2).
func (l *lite) note(from netip.AddrPort, priority uint32, nominates bool, now moment) {
	l.keep(from, now)
	switch {
	case from == l.selected:
		l.heard, l.priority = now, max(l.priority, priority)
		if !nominates || l.nominated {
			return
		}
	case nominates && l.nominated && priority < l.priority && now-l.since < settleTime:
		return
	case !nominates && l.selected.IsValid():
		return
	}
	if nominates && !l.nominated {
		l.nominated, l.since = true, now
	}
	l.selected, l.priority, l.heard = from, priority, now
}

// keep enters a path, in the place of the oldest if there are too many.
func (l *lite) keep(from netip.AddrPort, now moment) {
	oldest := &l.paths[0]
	for i := range l.paths {
		p := &l.paths[i]
		if p.addr == from || !p.addr.IsValid() {
			oldest = p
			break
		}
		if p.last < oldest.last {
			oldest = p
		}
	}
	*oldest = icePath{from, now}
}

// valid reports whether a source is the peer's, by its own checks.
func (l *lite) valid(from netip.AddrPort, now moment) bool {
	for i := range l.paths {
		if p := &l.paths[i]; p.addr == from {
			return from.IsValid() && now-p.last < consentTime
		}
	}
	return false
}

// consents reports whether the peer still wants packets.
func (l *lite) consents(now moment) bool { return l.selected.IsValid() && now-l.heard < consentTime }
