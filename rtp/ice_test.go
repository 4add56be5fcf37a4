package rtp

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v3"

	"reveille/rtp/rtptest"
	"reveille/rtp/sdp"
)

// Credentials of tests.
var (
	oursICE   = sdp.ICE{Ufrag: "ours", Pwd: "0123456789abcdefghijkl", Lite: true}
	theirsICE = sdp.ICE{Ufrag: "them", Pwd: "zyxwvutsrqponmlkjihgfe"}

	phoneAt    = netip.MustParseAddrPort("203.0.113.9:5000")
	elsewhere  = netip.MustParseAddrPort("203.0.113.9:5002")
	strangerAt = netip.MustParseAddrPort("198.51.100.66:6000")
)

// check builds a check with the right credentials; the parts follow those of every check.
func check(t *testing.T, parts ...stun.Setter) []byte {
	t.Helper()
	all := append([]stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername("ours:them")}, parts...)
	return built(t, append(all, stun.NewShortTermIntegrity(string(oursICE.Pwd)), stun.Fingerprint)...)
}

func built(t *testing.T, parts ...stun.Setter) []byte {
	t.Helper()
	m, err := stun.Build(parts...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func priority(n byte) stun.Setter {
	return stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{n, 0, 0, 0}}
}

func nominate() stun.Setter { return stun.RawAttribute{Type: stun.AttrUseCandidate} }

func TestChecksWithThePasswordAreAnswered(t *testing.T) {
	for _, from := range []netip.AddrPort{phoneAt, netip.MustParseAddrPort("[2001:db8::9]:5000")} {
		l := newLite(oursICE, theirsICE)
		request := check(t, priority(1), nominate())
		m := &stun.Message{Raw: l.answer(request, from, time.Second)}
		var at stun.XORMappedAddress
		if err := m.Decode(); err != nil || m.Type != stun.BindingSuccess || at.GetFrom(m) != nil ||
			!at.IP.Equal(net.IP(from.Addr().AsSlice())) || at.Port != int(from.Port()) {
			t.Fatalf("%v, %v, %v", m, at, err)
		}
		if stun.NewShortTermIntegrity(string(oursICE.Pwd)).Check(m) != nil || stun.Fingerprint.Check(m) != nil || !bytes.Equal(m.TransactionID[:], request[8:20]) {
			t.Errorf("%v", m)
		}
		if l.selected != from || !l.nominated || !l.valid(from, time.Second) {
			t.Errorf("%v is the peer", l.selected)
		}
	}
}

func TestOtherSTUNIsNotAnswered(t *testing.T) {
	right := stun.NewShortTermIntegrity(string(oursICE.Pwd))
	user := stun.NewUsername("ours:them")
	good := check(t, nominate())
	for name, packet := range map[string][]byte{
		"nothing":          {},
		"a header's start": good[:10],
		"cut":              good[:len(good)-1],
		"longer":           append(bytes.Clone(good), 0, 0, 0, 0),
		"no attributes":    built(t, stun.TransactionID, stun.BindingRequest),
		"fingerprint only": built(t, stun.TransactionID, stun.BindingRequest, stun.Fingerprint),
		"no fingerprint":   built(t, stun.TransactionID, stun.BindingRequest, user, nominate(), right),
		"no integrity":     built(t, stun.TransactionID, stun.BindingRequest, user, nominate(), stun.Fingerprint),
		"no user":          built(t, stun.TransactionID, stun.BindingRequest, nominate(), right, stun.Fingerprint),
		"a late user":      built(t, stun.TransactionID, stun.BindingRequest, right, user, stun.Fingerprint),
		"the other way":    built(t, stun.TransactionID, stun.BindingRequest, stun.NewUsername("them:ours"), nominate(), right, stun.Fingerprint),
		"their password":   built(t, stun.TransactionID, stun.BindingRequest, user, nominate(), stun.NewShortTermIntegrity(string(theirsICE.Pwd)), stun.Fingerprint),
		"short integrity":  built(t, stun.TransactionID, stun.BindingRequest, user, stun.RawAttribute{Type: stun.AttrMessageIntegrity, Value: []byte("1234")}, stun.Fingerprint),
		"an indication":    built(t, stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication), user, right, stun.Fingerprint),
		"a response":       built(t, stun.TransactionID, stun.BindingSuccess, user, right, stun.Fingerprint),
		"an allocation":    built(t, stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), user, right, stun.Fingerprint),
		"no cookie":        append(append(bytes.Clone(good[:4]), 1, 2, 3, 4), good[8:]...),
	} {
		l := newLite(oursICE, theirsICE)
		if reply := l.answer(packet, phoneAt, time.Second); reply != nil || l.selected.IsValid() || l.valid(phoneAt, time.Second) {
			t.Errorf("%s: %x, and the peer is %v", name, reply, l.selected)
		}
	}
}

// What stands behind MESSAGE-INTEGRITY is anybody's.
func TestNominationBehindTheIntegrityDoesNotCount(t *testing.T) {
	l := newLite(oursICE, theirsICE)
	l.answer(check(t, nominate()), phoneAt, time.Second)
	forged := built(t, stun.TransactionID, stun.BindingRequest, stun.NewUsername("ours:them"),
		stun.NewShortTermIntegrity(string(oursICE.Pwd)), nominate(), stun.Fingerprint)
	if l.answer(forged, elsewhere, 2*time.Second); l.selected != phoneAt {
		t.Errorf("%v is the peer", l.selected)
	}
}

func TestCheckSeenOnItsWayDrawsNoMedia(t *testing.T) {
	l := newLite(oursICE, theirsICE)
	request := check(t, nominate())
	first := l.answer(request, phoneAt, time.Second)
	if l.answer(request, strangerAt, time.Second) != nil || l.selected != phoneAt || l.valid(strangerAt, time.Second) {
		t.Errorf("%v is the peer", l.selected)
	}
	if again := l.answer(request, phoneAt, time.Second); !bytes.Equal(first, again) {
		t.Errorf("repeated: %x, first %x", again, first)
	}
}

func TestRoleConflictAndUnknownAttributes(t *testing.T) {
	for code, part := range map[stun.ErrorCode]stun.Setter{
		stun.CodeRoleConflict:     stun.RawAttribute{Type: stun.AttrICEControlled, Value: make([]byte, 8)},
		stun.CodeUnknownAttribute: stun.RawAttribute{Type: 0x7777, Value: []byte("what")},
	} {
		l := newLite(oursICE, theirsICE)
		m := &stun.Message{Raw: l.answer(check(t, part, nominate()), phoneAt, time.Second)}
		var got stun.ErrorCodeAttribute
		if m.Decode() != nil || m.Type != stun.BindingError || got.GetFrom(m) != nil || got.Code != code || l.selected.IsValid() ||
			stun.NewShortTermIntegrity(string(oursICE.Pwd)).Check(m) != nil {
			t.Errorf("%v: %v", code, m)
		}
	}
}

// Nominations: the last one counts, but among the first ones that with the highest priority.
func TestWhoIsNominatedIsThePeer(t *testing.T) {
	type step struct {
		from      netip.AddrPort
		at        moment
		priority  byte
		nominates bool
		want      netip.AddrPort
	}
	third := netip.MustParseAddrPort("203.0.113.9:5004")
	for name, steps := range map[string][]step{
		"regular":    {{phoneAt, 1, 9, false, phoneAt}, {elsewhere, 2, 5, false, phoneAt}, {elsewhere, 3, 5, true, elsewhere}, {phoneAt, 4, 9, false, elsewhere}},
		"aggressive": {{phoneAt, 1, 5, true, phoneAt}, {elsewhere, 2, 9, true, elsewhere}, {third, 3, 7, true, elsewhere}},
		"moves":      {{phoneAt, 1, 9, true, phoneAt}, {elsewhere, 2 + moment(settleTime), 5, true, elsewhere}, {phoneAt, 3 + moment(settleTime), 9, true, phoneAt}},
	} {
		l := newLite(oursICE, theirsICE)
		for i, s := range steps {
			parts := []stun.Setter{priority(s.priority)}
			if s.nominates {
				parts = append(parts, nominate())
			}
			if l.answer(check(t, parts...), s.from, s.at); l.selected != s.want {
				t.Errorf("%s, step %d: %v is the peer, want %v", name, i, l.selected, s.want)
			}
		}
	}
}

func TestPathsHaveABound(t *testing.T) {
	l := newLite(oursICE, theirsICE)
	l.answer(check(t, nominate()), phoneAt, time.Second)
	for i := range uint16(3 * maxPaths) {
		now := time.Second + moment(i)
		l.answer(check(t), phoneAt, now)
		from := netip.AddrPortFrom(strangerAt.Addr(), 7000+i)
		if l.answer(check(t), from, now); !l.valid(from, now) || !l.valid(phoneAt, now) || l.selected != phoneAt {
			t.Fatalf("path %d: %v is the peer", i, l.selected)
		}
	}
}

// A phone that has gone gets nothing any more, and the call is told; when it is back it is heard again.
func TestPhoneThatDoesNotConsentGetsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		var away atomic.Bool
		w.net.Drop = func(from, _ netip.AddrPort, packet []byte) bool {
			return away.Load() && from == p.conn.Addr() && packet[0] < 4
		}
		w.answerWeb(p)
		w.must(p.Shake())
		synctest.Wait()
		w.crosses(p)
		away.Store(true)
		time.Sleep(consentTime - 5*time.Second)
		w.trunk.say(nil, 5)
		if got := p.listened(); len(got) != 5 {
			t.Errorf("%d packets before the consent ends", len(got))
		}
		time.Sleep(6 * time.Second)
		w.trunk.say(nil, 5)
		w.same("after that", p.listened(), nil)
		if e := w.last(NoMedia); e.Side != Device || !strings.Contains(e.Cause, "no ICE check of the device's for 30s") {
			t.Errorf("%+v", e)
		}
		away.Store(false)
		time.Sleep(3 * time.Second)
		w.crosses(p)
	})
}

// An ICE restart changes the way, not the keys (RFC 8842 §3.1): the phone goes to another network.
func TestICERestartMovesThePhone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		w.answerWeb(p)
		w.must(p.Shake())
		synctest.Wait()
		keys := w.session.audio.path.ends[Device].crypt
		moved := w.phone(w.peer(netip.AddrPortFrom(deviceIP, 7000), 0x2222), func(d *rtptest.DTLS) { d.Ufrag, d.Pwd = "anew", "anewanewanewanewanewan" })
		moved.Other, moved.Setup = p.DTLS, "actpass"
		answer, err := w.session.Reoffer(Device, moved.SDP(moved.sdp("8 101")))
		w.must(err)
		w.must(moved.Hear(answer))
		w.trunk.say(nil, 3)
		if got := p.listened(); len(got) != 3 {
			t.Errorf("%d packets before the new way is found", len(got))
		}
		moved.Check(true)
		synctest.Wait()
		if got := moved.Replies(); len(got) != 1 || got[0].Type != stun.BindingSuccess {
			t.Fatalf("%v", got)
		}
		if w.session.audio.path.ends[Device].crypt != keys || !strings.Contains(string(answer), "a=setup:passive") {
			t.Errorf("other keys, by\n%s", answer)
		}
		moved.Adopt(p.DTLS)
		sent := w.trunk.say(nil, 10)
		w.same("to the new way", moved.listened(), sent)
		moved.talker = p.talker
		sent = moved.say(10)
		w.same("from the new way", w.trunk.heard(), sent)
		w.must(p.Send(p.talker.Next([]byte("from the old way"))))
		w.same("from the old way", w.trunk.heard(), nil)
	})
}

func TestFloodOfSTUNGetsNoAnswerAndLeavesNoState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		w.answerWeb(p)
		stranger := w.peer(strangerAt, 1)
		good := built(t, stun.TransactionID, stun.BindingRequest, stun.NewUsername("x:EsAw"), stun.NewShortTermIntegrity("wrong"), stun.Fingerprint)
		for i := range 1000 {
			packet := bytes.Clone(good)
			packet[i%len(packet)] ^= byte(i)
			stranger.sendTo(w.device.ours.Addr, packet)
			if i%50 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		w.same("to a stranger", stranger.heard(), nil)
		g := w.session.audio.path.ends[Device].agent.(*guard)
		if s := w.session.Stats().Device; s.Invalid < 900 || g.ice.selected.IsValid() || g.ice.check != 0 {
			t.Errorf("%+v, %+v", s, g.ice.selected)
		}
		w.must(p.Shake())
		synctest.Wait()
		w.crosses(p)
	})
}

func FuzzSTUN(f *testing.F) {
	t := &testing.T{}
	f.Add(check(t, priority(1), nominate()))
	f.Add(built(t, stun.TransactionID, stun.BindingRequest, stun.Fingerprint))
	f.Add([]byte{0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, packet []byte) {
		l := newLite(oursICE, theirsICE)
		reply := l.answer(packet, phoneAt, time.Second)
		if m := (&stun.Message{Raw: bytes.Clone(packet)}); reply != nil && (m.Decode() != nil || l.integrity.Check(m) != nil) {
			t.Fatalf("%x is answered by %x", packet, reply)
		}
	})
}
