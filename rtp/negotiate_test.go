package rtp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"reveille/rtp/sdp"
)

// names lists codecs for comparison.
func names(d *sdp.Description) (out []string) {
	for _, c := range d.Codecs {
		out = append(out, c.Name)
	}
	return out
}

func TestEarlyAnswerIsFrozen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.must(w.session.SetOffer(Trunk, w.trunk.sdp("18 0 8 101", "ptime:30")))
		first, err := w.session.Answer(Trunk)
		w.trunk.learn(first, err)
		if got := names(w.trunk.ours); !slices.Equal(got, []string{"PCMU", "telephone-event"}) {
			t.Errorf("answered %v", got)
		}
		if w.trunk.ours.Ptime != 30 || w.trunk.ours.Codecs[1].Fmtp != "0-15" {
			t.Errorf("%+v", w.trunk.ours)
		}
		w.device.learn(w.session.Offer(Device))
		if got := names(w.device.ours); !slices.Equal(got, []string{"PCMU", "telephone-event"}) {
			t.Errorf("offered %v", got)
		}
		again, err := w.session.Offer(Device) // for the second device
		w.must(err)
		other, err := w.session.Offer(Device)
		w.must(err)
		if string(again) != string(other) {
			t.Error("two devices are offered different bytes")
		}
		if err := w.session.SetAnswer(Device, w.device.sdp("8")); !errors.Is(err, ErrNotAcceptable) {
			t.Errorf("an answer outside the offer gives %v", err)
		}
		w.must(w.session.SetAnswer(Device, w.device.sdp("0 101", "recvonly")))
		w.session.Connect()
		last, err := w.session.Answer(Trunk)
		w.must(err)
		if string(first) != string(last) {
			t.Errorf("180 has\n%s200 has\n%s", first, last)
		}
	})
}

func TestAnswerWithoutG711(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("101 18 9")
		if got := names(w.trunk.ours); !slices.Equal(got, []string{"G729", "telephone-event"}) {
			t.Errorf("answered %v", got)
		}
		w.must(w.session.Ringback())
		w.same("no tone in G.729", w.trunk.heard(), nil)
	})
}

func TestLateAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.must(w.session.SetOffer(Trunk, w.trunk.sdp("96 9 8 0 101", "rtpmap:96 opus/48000/2", "ptime:20")))
		w.device.learn(w.session.Offer(Device))
		if got := names(w.device.ours); !slices.Equal(got, []string{"opus", "G722", "PCMA", "PCMU", "telephone-event"}) || w.device.ours.Ptime != 20 {
			t.Errorf("offered %v", got)
		}
		w.must(w.session.SetAnswer(Device, w.device.sdp("9 101", "ptime:40")))
		w.trunk.learn(w.session.Answer(Trunk))
		if got := names(w.trunk.ours); !slices.Equal(got, []string{"G722", "telephone-event"}) || w.trunk.ours.Ptime != 40 {
			t.Errorf("answered %v", got)
		}
	})
}

func TestOfferless(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.device.learn(w.session.Offer(Device))
		if got := names(w.device.ours); !slices.Equal(got, []string{"PCMA", "PCMU", "telephone-event"}) {
			t.Errorf("offered %v", got)
		}
		w.must(w.session.SetAnswer(Device, w.device.sdp("0 101")))
		w.trunk.learn(w.session.Offer(Trunk))
		if got := names(w.trunk.ours); !slices.Equal(got, []string{"PCMU", "telephone-event"}) {
			t.Errorf("offered %v", got)
		}
		w.must(w.session.SetAnswer(Trunk, w.trunk.sdp("0 101")))
		w.session.Connect()
		w.trunk.talker.Payload, w.device.talker.Payload = 0, 0
		sent := w.trunk.talk(3)
		w.same("to the device", w.device.heard(), sent)
		sent = w.device.talk(3)
		w.same("to the trunk", w.trunk.heard(), sent)
	})
}

func TestOtherMediaDeclined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *Options) { c.Video = false })
		offer := "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n" +
			"m=video 4002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\nm=audio 4000 RTP/AVP 8\r\nm=image 4004 udptl t38\r\n"
		w.must(w.session.SetOffer(Trunk, []byte(offer)))
		out, err := w.session.Answer(Trunk)
		w.must(err)
		lines := mediaLines(out)
		if len(lines) != 3 || lines[0] != "m=video 0 RTP/AVP 99" || !strings.HasPrefix(lines[1], "m=audio 2") || lines[2] != "m=image 0 udptl t38" {
			t.Errorf("%q", lines)
		}
		dev, err := w.session.Offer(Device)
		w.must(err)
		if lines := mediaLines(dev); len(lines) != 1 {
			t.Errorf("the device is offered %q", lines)
		}
	})
}

// mediaLines are the m= lines of a description.
func mediaLines(body []byte) (lines []string) {
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "m=") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func TestInitialHoldIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for offered, want := range map[string][2]string{
			"sendonly": {"recvonly", "sendonly"}, "recvonly": {"sendonly", "recvonly"}, "inactive": {"inactive", "inactive"},
		} {
			w := newWorld(t, nil)
			w.ring("8", offered)
			got := [2]string{w.trunk.ours.Direction.String(), w.device.ours.Direction.String()}
			if got != want {
				t.Errorf("%s: trunk is answered, device offered %v, want %v", offered, got, want)
			}
			w.trunk.conn.Close()
			w.device.conn.Close()
		}
	})
}

// The version of our o= line moves by one with each change, and only then.
func TestVersion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		origin := func(side Side, offer []byte) string {
			t.Helper()
			out, err := w.session.Reoffer(side, offer)
			w.must(err)
			return strings.Fields(string(out))[3] // v=0 o=- id version
		}
		for i, step := range []struct{ direction, version string }{
			{"sendrecv", "0"}, {"sendonly", "1"}, {"sendonly", "1"}, {"sendrecv", "2"},
		} {
			if got := origin(Trunk, w.trunk.sdp("8 101", step.direction)); got != step.version {
				t.Errorf("step %d: version %s, want %s", i, got, step.version)
			}
		}
		if got := origin(Trunk, nil); got != "2" {
			t.Errorf("offerless: version %s", got)
		}
	})
}

func TestReofferRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		before := w.session.audio.path
		for _, offer := range [][]byte{w.trunk.sdp("18"), []byte("rubbish"), w.trunk.sdp("9 101"),
			[]byte(strings.Replace(string(w.trunk.sdp("8")), "audio 4000", "audio 0", 1))} {
			if _, err := w.session.Reoffer(Trunk, offer); !errors.Is(err, ErrNotAcceptable) && !errors.Is(err, ErrBadSDP) {
				t.Errorf("%q gives %v", offer, err)
			}
		}
		if w.session.audio.path.ends[Trunk].latch != before.ends[Trunk].latch {
			t.Error("a refused offer has changed the call")
		}
		sent := w.trunk.talk(2)
		w.same("after refused offers", w.device.heard(), sent)
	})
}

func TestOfferlessReinvite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "sendonly")))
		w.trunk.learn(w.session.Reoffer(Trunk, nil))
		if d := w.trunk.ours.Direction.String(); d != "sendrecv" {
			t.Errorf("offered %s", d)
		}
		if err := w.session.ReofferAnswer(Trunk, w.trunk.sdp("18")); !errors.Is(err, ErrNotAcceptable) {
			t.Errorf("%v", err)
		}
		w.must(w.session.ReofferAnswer(Trunk, w.trunk.sdp("8 101")))
		w.device.heard()
		sent := w.device.talk(3)
		w.same("resumed", w.trunk.heard(), sent)
		if err := w.session.ReofferAnswer(Trunk, w.trunk.sdp("8")); !errors.Is(err, ErrOrder) {
			t.Errorf("a second answer gives %v", err)
		}
	})
}

func TestOutOfOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		s := w.session
		fails := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrOrder) {
				t.Errorf("%s gives %v", what, err)
			}
		}
		_, err := s.Answer(Trunk)
		fails("an answer without an offer", err)
		fails("an answer to nothing", s.SetAnswer(Device, w.device.sdp("8")))
		fails("ringback before the answer", s.Ringback())
		_, err = s.Reoffer(Trunk, nil)
		fails("a re-INVITE at the start", err)
		w.connect()
		fails("a second first offer", s.SetOffer(Trunk, w.trunk.sdp("8")))
		_, err = s.Offer(Trunk)
		fails("an offer to who has offered", err)
	})
}

func TestUnreachableDescriptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		six := body(netip.MustParseAddrPort("[2001:db8::9]:4000"), "8")
		if err := w.session.SetOffer(Trunk, six); !errors.Is(err, ErrNotAcceptable) || !strings.Contains(err.Error(), "IP version") {
			t.Errorf("%v", err)
		}
		own := body(netip.AddrPortFrom(relayIP, w.session.audio.sockets[Device].port), "8")
		if err := w.session.SetOffer(Trunk, own); !errors.Is(err, ErrNotAcceptable) || !strings.Contains(err.Error(), "our own") {
			t.Errorf("%v", err)
		}
		port := w.session.audio.sockets[Device].port
		elsewhere := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.77"), port) // which this machine has, too
		for what, offer := range map[string][]byte{
			"RTCP":            w.trunk.sdp("8", fmt.Sprintf("rtcp:%d IN IP4 %v", port+1, relayIP)),
			"another address": body(elsewhere, "8"),
		} {
			if err := w.session.SetOffer(Trunk, offer); !errors.Is(err, ErrNotAcceptable) || !strings.Contains(err.Error(), "our own") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := w.session.SetOffer(Trunk, []byte("v=0")); !errors.Is(err, ErrBadSDP) {
			t.Errorf("%v", err)
		}
	})
}
