package rtp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"reveille/rtp/ng"
	"reveille/rtp/rtptest"
)

// These tests have whole calls through real rtpengine daemons, on loopback and in real time.

func TestDaemonPlain(t *testing.T) {
	url, _ := startDaemon(t)
	s := newSite(t, url)
	s.must(s.session.SetOffer(Trunk, s.trunk.sdp()))
	s.trunk.learn(s.session.Answer(Trunk))
	s.must(s.session.Ringback())
	s.rings()
	offer, err := s.session.Offer(Device)
	s.device.learn(offer, err)
	if err := s.session.SetAnswerTo(Device, offer, s.device.sdp()); err != nil {
		t.Fatal(err)
	}
	s.deaf(s.device, s.trunk) // not before it has answered
	s.session.Connect()
	s.trunk.heard(100 * time.Millisecond)
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	final := s.session.Close()
	if final.Trunk.Packets < 10 || final.Device.Packets < 10 || final.Trunk.FirstPacket.IsZero() {
		t.Errorf("figures %+v", final)
	}
	s.gone(url)
}

// rings waits for a tone that is not silence.
func (s *site) rings() {
	s.t.Helper()
	loud := 0
	for range 150 {
		for _, packet := range s.trunk.heard(20 * time.Millisecond) {
			if !bytes.Equal(packet[12:], bytes.Repeat([]byte{0xd5}, len(packet)-12)) {
				loud++
			}
		}
		if loud > 20 {
			return
		}
	}
	s.t.Fatalf("%d packets of a ringback heard", loud)
}

// gone checks that the daemon has no call left.
func (s *site) gone(url string) {
	s.t.Helper()
	host, _ := ng.HostPort(url)
	client := ng.NewClient(host, nil)
	defer client.Close()
	if got, err := client.Do(s.t.Context(), "list", ng.Dict{"limit": 9}); err != nil || len(got["calls"].([]any)) > 0 {
		s.t.Errorf("the daemon has %v, %v", got, err)
	}
}

func TestDaemonSDES(t *testing.T) {
	url, _ := startDaemon(t)
	for _, suite := range []string{"AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"} {
		s := newSite(t, url)
		s.device.srtp = &rtptest.SRTP{Suite: suite}
		s.connect()
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		if got := s.session.Encrypted(Device); got != suite {
			t.Errorf("encrypted with %q, want %q", got, suite)
		}
		s.device.srtp = &rtptest.SRTP{Suite: "AES_CM_128_HMAC_SHA1_80", Seed: 5} // a key that it brings in mid-call
		s.reoffer(s.device, Device, "sendrecv")
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		s.reoffer(s.trunk, Trunk, "sendonly")
		s.reoffer(s.trunk, Trunk, "sendrecv")
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		s.session.Close()
	}
}

// Two phones ring with keys of their own; the second answers, and the first hears nothing and is heard by nobody.
func TestDaemonFork(t *testing.T) {
	url, _ := startDaemon(t)
	s := newSite(t, url)
	s.must(s.session.SetOffer(Trunk, s.trunk.sdp()))
	s.trunk.learn(s.session.Answer(Trunk))
	s.session.Secret(Device, true)
	other := newHandset(t, 0x3333)
	s.device.srtp, other.srtp = &rtptest.SRTP{Seed: 1}, &rtptest.SRTP{Seed: 2}
	first, err := s.session.Offer(Device)
	s.device.learn(first, err)
	second, err := s.session.Offer(Device)
	other.learn(second, err)
	if s.device.ours.Addr == other.ours.Addr || bytes.Equal(s.device.ours.Crypto[0].Key, other.ours.Crypto[0].Key) {
		t.Error("two phones have the same address or key")
	}
	s.must(s.session.SetAnswerTo(Device, first, s.device.sdp()))
	s.session.Connect()
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	other.sdp() // makes its key
	s.deaf(other, s.trunk)
	if got := other.heard(50 * time.Millisecond); len(got) > 0 {
		t.Errorf("a phone that has not answered hears %d packets", len(got))
	}
	s.session.Close()
	s.gone(url)
}

func TestDaemonHold(t *testing.T) {
	url, _ := startDaemon(t)
	for _, keyed := range []bool{false, true} {
		s := newSite(t, url)
		if keyed {
			s.device.srtp = &rtptest.SRTP{}
		}
		s.connect()
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		s.reoffer(s.device, Device, "sendonly")
		s.deaf(s.trunk, s.device)
		s.talks(s.device, s.trunk) // music
		s.reoffer(s.device, Device, "sendrecv")
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		s.reoffer(s.trunk, Trunk, "inactive")
		s.deaf(s.device, s.trunk)
		s.reoffer(s.trunk, Trunk, "sendrecv")
		s.talks(s.device, s.trunk)
		s.talks(s.trunk, s.device)
		s.session.Close()
	}
}

// reoffer has a side change its direction, and the other agree.
func (s *site) reoffer(p *handset, side Side, direction string) {
	s.t.Helper()
	proposal, err := s.session.Propose(side, p.sdp(direction))
	s.must(err)
	other, mirrored := s.device, map[string]string{"sendonly": "recvonly", "inactive": "inactive", "sendrecv": "sendrecv"}[direction]
	if side == Device {
		other = s.trunk
	}
	offer, err := proposal.Offer()
	s.must(err)
	answer, err := proposal.Accept(other.sdp(mirrored))
	s.must(err)
	other.learn(offer, nil)
	p.learn(answer, nil)
}

// The call is handed to another phone, and back.
func TestDaemonHandover(t *testing.T) {
	url, _ := startDaemon(t)
	s := newSite(t, url)
	s.connect()
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	former := s.device
	undo := s.session.Handover()
	s.deaf(former, s.trunk)
	s.device = newHandset(t, 0x4444)
	offer, err := s.session.Offer(Device)
	s.device.learn(offer, err)
	undo()
	s.talks(s.trunk, former)
	s.talks(former, s.trunk)
	s.session.Handover()
	offer, err = s.session.Offer(Device)
	s.device.learn(offer, err)
	s.must(s.session.SetAnswerTo(Device, offer, s.device.sdp()))
	s.session.Connect()
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	s.deaf(former, s.trunk)
	s.session.Close()
	s.gone(url)
}

// One of two daemons is killed: new calls have the other at once, one of its calls moves there with a re-INVITE, another
// ends with the cause.
func TestDaemonKilled(t *testing.T) {
	first, process := startDaemon(t)
	second, _ := startDaemon(t)
	s := newSite(t, first, second)
	for s.session.remote.engine.URL() != first {
		s.open()
	}
	s.connect()
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	doomed := newSession(t, s.relay, first)
	doomed.connect()
	doomed.talks(doomed.trunk, doomed.device)
	s.must(process.Kill())
	for range 5 {
		next := &site{t: t, relay: s.relay}
		next.open()
		next.connect()
		next.talks(next.trunk, next.device)
		next.talks(next.device, next.trunk)
		next.session.Close()
	}
	s.reoffer(s.trunk, Trunk, "sendrecv")
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	for deadline := time.After(10 * time.Second); ; {
		select {
		case e := <-doomed.session.Events():
			if e.Kind == EngineLost && strings.Contains(e.Cause, first+" does not answer") {
				return
			}
			if e.Kind == Idle {
				t.Fatal("idle, and nothing of the daemon")
			}
		case <-deadline:
			t.Fatal("the call on the daemon that was killed does not end")
		}
	}
}

// newSession is a call on that daemon.
func newSession(t *testing.T, relay *Relay, url string) *site {
	s := &site{t: t, relay: relay}
	for s.open(); s.session.remote.engine.URL() != url; s.open() {
	}
	return s
}

// No daemon is there: the call is refused, and why is said.
func TestDaemonNone(t *testing.T) {
	s := newSite(t, fmt.Sprintf("udp://127.0.0.1:%d", freePort(t)))
	s.must(s.session.SetOffer(Trunk, s.trunk.sdp()))
	if _, err := s.session.Answer(Trunk); !errors.Is(err, ErrNoEngine) {
		t.Errorf("err %v, want ErrNoEngine", err)
	}
	if _, err := s.relay.Open(SessionOptions{}); !errors.Is(err, ErrNoEngine) {
		t.Errorf("err %v, want ErrNoEngine", err)
	}
}
