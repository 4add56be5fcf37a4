package rtp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"reveille/rtp/rtptest"
)

// eventsOf gives those of the given kinds that have come.
func (w *world) eventsOf(kinds ...EventKind) (list []Event) {
	for _, e := range w.events() {
		if slices.Contains(kinds, e.Kind) {
			list = append(list, e)
		}
	}
	return list
}

// A side that falls silent is told of once, with the cause, and is let in from a new address; so is the end of it.
func TestSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.converse(30*time.Second, w.trunk, w.device)
		if e := w.eventsOf(NoMedia, Idle, Silence, SilenceOver, Unheard); e != nil {
			t.Fatalf("%+v", e)
		}
		began := w.session.Stats().Device.LastPacket
		w.converse(19*time.Second, w.trunk)
		if e := w.events(); e != nil {
			t.Fatalf("after 19 s: %+v", e)
		}
		w.converse(30*time.Second, w.trunk)
		e := w.events()
		if len(e) != 1 || e[0].Kind != Silence || e[0].Side != Device || e[0].At.Sub(began) != 20*time.Second || !strings.Contains(e[0].Cause, "nothing at all comes from 203.0.113.9:5000") {
			t.Fatalf("%+v", e)
		}
		moved := w.peer(netip.MustParseAddrPort("203.0.113.77:6000"), 0x2222)
		moved.ours = w.device.ours
		moved.talk(10)
		w.trunk.heard()
		w.same("from its new address", w.trunk.heard(), nil)
		sent := moved.talk(3)
		w.same("from its new address", w.trunk.heard(), sent)
		w.converse(2*time.Second, w.trunk, moved)
		e = w.events()
		if len(e) != 1 || e[0].Kind != SilenceOver || e[0].Side != Device || e[0].Cause != "after 50s" {
			t.Fatalf("%+v", e)
		}
		w.converse(25*time.Second, moved)
		if e := w.events(); len(e) != 1 || e[0].Kind != Silence || e[0].Side != Trunk {
			t.Fatalf("of the other side: %+v", e)
		}
	})
}

// Silence on hold is no fault, and one that lasts beyond it begins with its end.
func TestNotSilentOnHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.converse(6*time.Second, w.trunk, w.device)
		w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "sendonly")))
		w.converse(2*time.Minute, w.trunk)
		w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101")))
		w.events()
		w.converse(19*time.Second, w.trunk)
		if e := w.events(); e != nil {
			t.Fatalf("%+v", e)
		}
		w.converse(2*time.Second, w.trunk)
		if e := w.events(); len(e) != 1 || e[0].Kind != Silence || e[0].Side != Device {
			t.Fatalf("%+v", e)
		}
	})
}

// The likely causes of a silence.
func TestSilenceCauses(t *testing.T) {
	report := func(w *world, control *peer, packets uint32) {
		for range 5 {
			w.converse(5*time.Second, w.trunk)
			control.tell(&rtcp.SenderReport{SSRC: 0x2222, PacketCount: packets}, rtcp.NewCNAMESourceDescription(0x2222, "phone"))
			packets += packets / 10
		}
	}
	for name, test := range map[string]struct {
		cause string
		meant func(w *world)
	}{
		"another codec": {"payload type 77", func(w *world) {
			w.device.talker.Payload = 77
			w.converse(25*time.Second, w.trunk, w.device)
		}},
		"from elsewhere": {"from elsewhere than 203.0.113.9:5000", func(w *world) {
			moved := w.peer(netip.MustParseAddrPort("203.0.113.77:6000"), 0x2222)
			moved.ours = w.device.ours
			w.converse(25*time.Second, w.trunk, moved)
		}},
		"lost on the way": {"goes on sending", func(w *world) {
			_, control := w.control()
			report(w, control, 1000)
		}},
		"muted": {"muted", func(w *world) {
			_, control := w.control()
			report(w, control, 5)
		}},
		"gone": {"network is gone", func(w *world) { w.converse(25*time.Second, w.trunk) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.connect()
				w.converse(12*time.Second, w.trunk, w.device)
				w.events()
				test.meant(w)
				if e := w.eventsOf(Silence); len(e) != 1 || !strings.Contains(e[0].Cause, test.cause) {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

// A side that goes on with a key nobody knows is silent, and told why.
func TestSilenceByAnotherKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key, wrong := &rtptest.SRTP{Seed: 1}, &rtptest.SRTP{Seed: 9}
		wrong.Line()
		w := keyedCall(t, nil, key)
		for range 8 {
			w.device.say(key, 50)
			w.heardAll()
		}
		w.events()
		for range 25 {
			w.device.say(wrong, 50)
			w.heardAll()
		}
		if e := w.eventsOf(Silence); len(e) != 1 || !strings.Contains(e[0].Cause, "not SRTP with the key of the device's SDP") {
			t.Errorf("%+v", e)
		}
	})
}

// The far end hears nothing, by its own account: of no stream at all, or of no more of it.
func TestUnheard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		_, device := w.control()
		tell := func(blocks ...rtcp.ReceptionReport) []Event {
			for range 8 {
				w.converse(5*time.Second, w.trunk, w.device)
				device.tell(&rtcp.SenderReport{SSRC: 0x2222, Reports: blocks}, rtcp.NewCNAMESourceDescription(0x2222, "phone"))
			}
			return w.eventsOf(Unheard)
		}
		block := func() rtcp.ReceptionReport {
			return rtcp.ReceptionReport{SSRC: 0x1111, LastSequenceNumber: uint32(w.trunk.talker.Seq)}
		}
		if e := tell(); len(e) != 1 || e[0].Side != Device || !strings.Contains(e[0].Cause, "nothing comes there") {
			t.Fatalf("%+v", e)
		}
		for range 4 {
			device.tell(&rtcp.ReceiverReport{SSRC: 0x2222, Reports: []rtcp.ReceptionReport{block()}})
			w.converse(5*time.Second, w.trunk, w.device)
		}
		if e := w.eventsOf(Unheard); e != nil {
			t.Fatalf("it hears: %+v", e)
		}
		if e := tell(block()); len(e) != 1 { // always the same: it hears no more
			t.Fatalf("%+v", e)
		}
		if e := tell(rtcp.ReceptionReport{SSRC: 0x7777}); e != nil {
			t.Errorf("a report on another stream says nothing: %+v", e)
		}
	})
}
