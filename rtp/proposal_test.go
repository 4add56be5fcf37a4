package rtp

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"reveille/rtp/sdp"
)

// offerOf reads what a proposal asks of the other side.
func (w *world) offerOf(p *Proposal) *sdp.Description {
	w.t.Helper()
	body, err := p.Offer()
	w.must(err)
	d, err := sdp.Parse(body)
	w.must(err)
	return d
}

func (w *world) propose(side Side, body []byte) *Proposal {
	w.t.Helper()
	p, err := w.session.Propose(side, body)
	w.must(err)
	return p
}

// Only another direction, or codecs that are not in use, concern the other side.
func TestWhatIsCarried(t *testing.T) {
	for _, c := range []struct {
		what, formats string
		attributes    []string
		carry         bool
	}{
		{"a refresh", "8 0 101", nil, false},
		{"the codec in use alone", "8 101", nil, false},
		{"the same in another order", "0 8 101", nil, true}, // it prefers another one, and the device may know it
		{"a hold", "8 0 101", []string{"sendonly"}, true},
		{"no more of the codec in use", "0 101", nil, true},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.connect()
			if p := w.propose(Trunk, w.trunk.sdp(c.formats, c.attributes...)); p.Carry() != c.carry {
				t.Errorf("%s: carried %v", c.what, p.Carry())
			}
		})
	}
}

// A phone lists all that it knows, of which the trunk knows nothing more.
func TestCodecsThatTheOtherSideDoesNotKnowAreNotCarried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect() // the trunk has offered 8 and 0
		if p := w.propose(Device, w.device.sdp("9 18 8 101")); p.Carry() {
			t.Error("carried")
		}
		if p := w.propose(Device, w.device.sdp("0 8 101")); !p.Carry() || !slices.Equal(names(w.offerOf(p)), []string{"PCMU", "PCMA", "telephone-event"}) {
			t.Errorf("%v", names(w.offerOf(p)))
		}
		if p := w.propose(Device, w.device.sdp("9 0 101")); !p.Carry() || !slices.Equal(names(w.offerOf(p)), []string{"PCMU", "telephone-event"}) {
			t.Errorf("offered %v: the trunk cannot do G722", names(w.offerOf(p)))
		}
	})
}

// Until it is accepted a proposal has changed nothing.
func TestProposalThatIsNotAccepted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		p := w.propose(Trunk, w.trunk.sdp("0 101", "sendonly"))
		w.offerOf(p)
		for _, answer := range []string{"18", "9 101"} {
			if _, err := p.Accept(w.device.sdp(answer)); !errors.Is(err, ErrNotAcceptable) {
				t.Errorf("%s: %v", answer, err)
			}
		}
		if _, err := p.Accept([]byte("rubbish")); !errors.Is(err, ErrBadSDP) {
			t.Error(err)
		}
		if _, err := p.Locally(); !errors.Is(err, ErrNotAcceptable) {
			t.Errorf("answered without the codec in use: %v", err)
		}
		sent := w.trunk.talk(3)
		w.same("to the device", w.device.heard(), sent)
		sent = w.device.talk(3)
		w.same("to the trunk", w.trunk.heard(), sent)
	})
}

// Numbers keep their meaning (RFC 3264 §8.3.2): a dynamic one that is taken
// for another codec on the other side is exchanged there.
func TestNumbersOfACarriedOffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		p := w.propose(Trunk, body(w.trunk.conn.Addr(), "101 96", "rtpmap:101 opus/48000/2", "rtpmap:96 telephone-event/8000"))
		offer := w.offerOf(p)
		var got []string
		for _, c := range offer.Codecs {
			got = append(got, c.Name)
		}
		if !slices.Equal(got, []string{"opus", "telephone-event"}) || offer.Codecs[0].PT == 101 || offer.Codecs[1].PT != 101 {
			t.Errorf("offered %+v", offer.Codecs)
		}
		pt := offer.Codecs[0].PT
		answer := body(w.device.conn.Addr(), "96 101", "rtpmap:96 opus/48000/2")
		ours, err := p.Accept(answer)
		w.must(err)
		if pt != 96 || !strings.Contains(string(ours), "RTP/AVP 101 96\r\n") {
			t.Errorf("opus is %d for the device; the trunk is answered\n%s", pt, ours)
		}
		w.trunk.talker.Payload = 101
		sent := w.trunk.talk(2)
		for i, heard := range w.device.heard() {
			if heard[1]&0x7f != 96 || string(heard[12:]) != string(sent[i][12:]) {
				t.Errorf("packet %d comes as %d", i, heard[1]&0x7f)
			}
		}
	})
}

// Each side's own wish outlives the other's hold.
func TestHoldsOfBothSides(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		step := func(side Side, peer, other *peer, asks, answers, want string) {
			t.Helper()
			p := w.propose(side, peer.sdp("8 101", asks))
			if !p.Carry() {
				t.Fatalf("%s of the %v is not carried", asks, side)
			}
			if got := w.offerOf(p).Direction.String(); got != asks {
				t.Errorf("%s of the %v is carried as %s", asks, side, got)
			}
			out, err := p.Accept(other.sdp("8 101", answers))
			peer.learn(out, err)
			if got := peer.ours.Direction.String(); got != want {
				t.Errorf("%s of the %v is answered %s, want %s", asks, side, got, want)
			}
		}
		step(Trunk, w.trunk, w.device, "sendonly", "recvonly", "recvonly")
		refresh := w.propose(Device, w.device.sdp("8 101", "sendrecv")) // what it wants, whatever holds
		if refresh.Carry() {
			t.Error("a refresh of the held side is carried")
		}
		out, err := refresh.Locally()
		w.device.learn(out, err)
		if got := w.device.ours.Direction.String(); got != "sendonly" {
			t.Errorf("the held side is answered %s", got)
		}
		step(Device, w.device, w.trunk, "inactive", "inactive", "inactive")
		step(Trunk, w.trunk, w.device, "sendrecv", "inactive", "inactive")
		step(Device, w.device, w.trunk, "sendrecv", "sendrecv", "sendrecv")
		sent := w.trunk.talk(3)
		w.same("to the device", w.device.heard(), sent)
		sent = w.device.talk(3)
		w.same("to the trunk", w.trunk.heard(), sent)
	})
}

// What one side has said alone is brought to the other, once.
func TestFollow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		if w.session.Follow(Trunk) != nil || w.session.Follow(Device) != nil {
			t.Error("there is nothing to follow")
		}
		w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "inactive")))
		p := w.session.Follow(Trunk)
		if p == nil {
			t.Fatal("the device does not hear of the hold")
		}
		if got := w.offerOf(p).Direction.String(); got != "inactive" {
			t.Errorf("offered %s", got)
		}
		if out, err := p.Accept(w.device.sdp("8 101", "inactive")); err != nil || out != nil {
			t.Errorf("%q, %v", out, err)
		}
		if w.session.Follow(Trunk) != nil {
			t.Error("followed twice")
		}
	})
}

// Strangers' bytes in any step of a change: no panic, and what is agreed can be passed on.
func FuzzProposal(f *testing.F) {
	plain := "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
	f.Add([]byte(plain), []byte(plain))
	f.Add([]byte(plain+"a=sendonly\r\n"), []byte(plain+"a=inactive\r\n"))
	f.Add([]byte(strings.Replace(plain, "8 101", "96 0", 1)+"a=rtpmap:96 opus/48000/2\r\n"), []byte(plain))
	f.Fuzz(func(t *testing.T, asks, answers []byte) {
		w := newWorld(t, nil)
		w.connect()
		for _, side := range []Side{Trunk, Device} {
			p, err := w.session.Propose(side, asks)
			if err != nil {
				continue
			}
			offer, err := p.Offer()
			if err != nil {
				t.Fatal(err)
			}
			if d, err := sdp.Parse(offer); err != nil || !sdp.HasSpeech(d.Codecs) {
				t.Errorf("offered %q: %v", offer, err)
			}
			ours, err := p.Accept(answers)
			if err != nil {
				ours, err = p.Locally()
			}
			if err == nil {
				if d, err := sdp.Parse(ours); err != nil || !sdp.HasSpeech(d.Codecs) {
					t.Errorf("answered %q: %v", ours, err)
				}
			}
			if next := w.session.Follow(side); next != nil {
				if _, err := next.Offer(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
