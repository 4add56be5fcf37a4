package rtp

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/rtptest"
)

// unheard is a phone that lends its name only.
func unheard(w *world) *rtptest.DTLS {
	return (&rtptest.DTLS{Conn: w.peer(netip.AddrPortFrom(deviceIP, 9999), 0).conn}).Begin()
}

// Who is not the one of the SDP gets no keys, whoever begins, and the cause is on record.
func TestAnotherCertificateThanInTheSDPGetsNoKeys(t *testing.T) {
	for _, setup := range []string{"active", "passive"} {
		for _, ufrag := range []string{"EsAw", ""} {
			bubble(t, func(t *testing.T) {
				w, p := webCall(t, func(d *rtptest.DTLS) { d.Setup, d.Ufrag = setup, ufrag })
				p.Other = unheard(w)
				w.answerWeb(p)
				err := p.Shake()
				synctest.Wait()
				if w.session.Encrypted(Device) != "" || err == nil && setup == "active" {
					t.Errorf("%s: %v, %s", setup, err, w.session.Encrypted(Device))
				}
				w.trunk.say(nil, 3)
				w.must(p.Raw(p.talker.Next([]byte("plain"))))
				w.same("to the trunk", w.trunk.heard(), nil)
				if n := len(p.media()); n != 0 {
					t.Errorf("%d packets to the phone", n)
				}
				time.Sleep(6 * time.Second)
				if e := w.last(NoMedia); !strings.Contains(e.Cause, "fingerprint") {
					t.Errorf("%s: %+v", setup, e)
				}
			})
		}
	}
}

// media is all that has come as RTP, opened or not.
func (p *phone) media() [][]byte {
	synctest.Wait()
	packets, err := p.Heard()
	if err != nil {
		return [][]byte{[]byte(err.Error())}
	}
	return packets
}

func TestAnswersToAnOfferOfDTLSAreChecked(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"plain":          func(s string) string { return strings.Replace(s, "UDP/TLS/RTP/SAVPF", "RTP/AVP", 1) },
		"leaves it open": func(s string) string { return strings.Replace(s, "setup:active", "setup:actpass", 1) },
		"no setup":       func(s string) string { return strings.Replace(s, "a=setup:active\r\n", "", 1) },
		"no mux":         func(s string) string { return strings.Replace(s, "a=rtcp-mux\r\n", "", 1) },
		"no fingerprint": func(s string) string { return strings.Replace(s, "a=fingerprint", "a=x", 1) },
	} {
		bubble(t, func(t *testing.T) {
			w, p := webCall(t, func(d *rtptest.DTLS) { d.Setup = "active" })
			w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
			offer, err := w.session.OfferWebRTC(Device)
			w.must(err)
			answer := change(string(p.SDP(p.sdp("8 101"))))
			if err := w.session.SetAnswerTo(Device, offer, []byte(answer)); !errors.Is(err, ErrNotAcceptable) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// Handshakes get through a third of loss, at random, both ways; whoever begins.
func TestHandshakeGetsThroughLoss(t *testing.T) {
	for seed := range uint64(24) {
		bubble(t, func(t *testing.T) {
			w, p := webCall(t, func(d *rtptest.DTLS) {
				d.Setup = []string{"active", "passive"}[seed%2]
				if seed%4 > 1 {
					d.Ufrag = ""
				}
			})
			var mu sync.Mutex
			random := rand.New(rand.NewPCG(seed, 1))
			w.net.Drop = func(_, _ netip.AddrPort, packet []byte) bool {
				mu.Lock()
				defer mu.Unlock()
				return packet[0] < 64 && random.IntN(10) < 3
			}
			w.answerWeb(p)
			if err := p.Shake(); err != nil {
				t.Errorf("seed %d: %v", seed, err)
				return
			}
			time.Sleep(10 * time.Second)
			if w.session.Encrypted(Device) == "" {
				t.Errorf("seed %d: no keys", seed)
				return
			}
			w.trunk.say(nil, 5)
			if got := p.listened(); len(got) != 5 {
				t.Errorf("seed %d: %d packets of 5", seed, len(got))
			}
		})
	}
}

// Our last flight is lost, after which nothing of the handshake runs any more: the phone repeats its own, and gets it.
func TestLastFlightIsRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		var lost atomic.Int32
		w.net.Drop = func(from, _ netip.AddrPort, packet []byte) bool {
			return from.Addr() == relayIP && packet[0] == recordChange && lost.Add(1) <= 3
		}
		w.answerWeb(p)
		w.must(p.Shake())
		synctest.Wait()
		if n := lost.Load(); n != 4 {
			t.Errorf("%d flights were sent", n)
		}
		w.crosses(p)
	})
}

// hello is a ClientHello as the phone's stack makes it.
func hello(w *world) []byte {
	conn := w.peer(netip.AddrPortFrom(deviceIP, 9998), 0).conn
	d := (&rtptest.DTLS{Conn: conn, Setup: "active"}).Begin()
	sink := w.peer(netip.AddrPortFrom(deviceIP, 9997), 0)
	w.must(d.Hear(append(sink.sdp("8"), "a=setup:passive\r\na=fingerprint:sha-256 00\r\n"...)))
	go func() { _ = d.Shake() }()
	time.Sleep(10 * time.Millisecond)
	defer d.Stop()
	return sink.heard()[0]
}

// Without ICE anyone may send a ClientHello. Few get an answer, none gets keys, and the phone gets through: from the
// described address, and from behind a NAT too.
func TestFloodOfClientHellosHasABound(t *testing.T) {
	for _, where := range []string{"as described", "behind a NAT", "where its SIP is from"} {
		nat := where != "as described"
		bubble(t, func(t *testing.T) {
			w, p := webCall(t, func(d *rtptest.DTLS) { d.Ufrag, d.Setup = "", "active" })
			var bytesSent atomic.Int64
			w.net.Drop = func(from, to netip.AddrPort, packet []byte) bool {
				if from.Addr() == relayIP && to.Addr() == strangerAt.Addr() {
					bytesSent.Add(int64(len(packet)))
				}
				return to.Addr() == strangerAt.Addr()
			}
			packet := hello(w)
			offer := w.offersDTLS(p)
			p.learn(plainly(offer), nil)
			answer := p.SDP(p.sdp("8 101"))
			if nat {
				answer = bytes.ReplaceAll(answer, []byte(deviceIP.String()), []byte("10.0.0.1"))
			}
			if where == "where its SIP is from" {
				w.session.SignalledFrom(Device, deviceIP)
			}
			w.must(w.session.SetAnswerTo(Device, offer, answer))
			w.session.Connect()
			g := w.session.audio.path.ends[Device].agent.(*guard)
			for i := range uint16(500) {
				if !g.stream.session.tryFlood(netip.AddrPortFrom(strangerAt.Addr(), 1000+i), packet) {
					t.Fatalf("%d handshakes at a time", len(g.shakes))
				}
				time.Sleep(time.Millisecond)
			}
			w.session.mu.Lock()
			for _, h := range g.shakes {
				h.replied = true // as if the strangers went on, and then no further
			}
			w.session.mu.Unlock()
			if n := bytesSent.Load(); n > 60_000 { // less than came
				t.Errorf("%d bytes to strangers", n)
			}
			if where == "behind a NAT" {
				time.Sleep(shakeTime) // the flood is over
			}
			w.must(p.Shake())
			synctest.Wait()
			w.crosses(p)
			if len(g.shakes) != 0 {
				t.Errorf("%d handshakes are left", len(g.shakes))
			}
		})
	}
}

// tryFlood brings a datagram to the device's side, and reports whether the handshakes keep their bound.
func (s *Session) tryFlood(from netip.AddrPort, packet []byte) bool {
	s.audio.take(origin{side: Device, addr: from}, bytes.Clone(packet))
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.audio.path.ends[Device].agent.(*guard).shakes) <= maxShakes
}

// With ICE only who has the password may begin.
func TestClientHelloOfAStrangerIsDroppedWithICE(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		packet := hello(w)
		w.answerWeb(p)
		stranger := w.peer(strangerAt, 1)
		for range 20 {
			stranger.sendTo(w.session.audio.sockets[Device].rtp.local(), packet)
		}
		w.same("to the stranger", stranger.heard(), nil)
		if s := w.session.Stats().Device; s.Invalid != 20 {
			t.Errorf("%+v", s)
		}
		w.must(p.Shake())
		synctest.Wait()
		for range 20 { // nor does anyone begin another one
			stranger.sendTo(w.session.audio.sockets[Device].rtp.local(), packet)
			w.must(p.Raw(packet))
		}
		w.same("to the stranger, later", stranger.heard(), nil)
		w.crosses(p)
	})
}

// A phone behind a NAT without ICE describes an address that is of no use; its handshake proves which one is its own.
func TestHandshakeLatches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, func(d *rtptest.DTLS) { d.Ufrag, d.Setup = "", "active" })
		offer := w.offersDTLS(p)
		w.must(w.session.SetAnswerTo(Device, offer, bytes.ReplaceAll(p.SDP(p.sdp("8 101")), []byte(deviceIP.String()), []byte("10.0.0.1"))))
		w.session.Connect()
		w.must(p.Shake())
		synctest.Wait()
		w.crosses(p)
	})
}

// A phone that shakes hands as it answers is not made to wait for its own repetition: its ClientHello may be here before
// its SDP.
func TestClientHelloOvertakesTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, func(d *rtptest.DTLS) { d.Ufrag, d.Setup = "", "active" })
		offer := w.offersDTLS(p)
		p.learn(plainly(offer), nil)
		shaken := make(chan error, 1)
		go func() { shaken <- p.Shake() }()
		time.Sleep(40 * time.Millisecond)
		w.must(w.session.SetAnswerTo(Device, offer, p.SDP(p.sdp("8 101"))))
		w.session.Connect()
		synctest.Wait()
		select {
		case err := <-shaken:
			w.must(err)
		default:
			t.Error("the handshake waits for the ClientHello to be repeated")
			w.must(<-shaken)
		}
		w.crosses(p)
	})
}

func FuzzDTLS(f *testing.F) {
	f.Add([]byte{22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50, 1, 0, 0, 38, 0, 0, 0, 0, 0, 0, 0, 38, 254, 253}, []byte{20, 254, 253})
	f.Add([]byte{21, 254, 253, 0, 1}, []byte{22})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		synctest.Test(t, func(t *testing.T) {
			w, p := webCall(t, func(d *rtptest.DTLS) { d.Ufrag, d.Setup = "", "active" })
			w.answerWeb(p)
			for _, packet := range [][]byte{first, append(hello(w)[:60:60], second...), second} {
				if len(packet) > 0 && len(packet) < maxPacket {
					w.must(p.Raw(packet))
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if w.session.Encrypted(Device) != "" {
				t.Fatal("keys out of nowhere")
			}
		})
	})
}

// What a handshake takes of its peer has a bound: the library keeps fragments that never become a message.
func TestHandshakeTakesNoMoreThanItNeeds(t *testing.T) {
	h, packet, kept := &shake{in: make(chan []byte, 1)}, make([]byte, 1000), 0
	for range 2000 {
		h.take(packet)
		select {
		case p := <-h.in:
			kept += len(p)
		default:
		}
	}
	if kept > shakeBytes || kept < shakeBytes/2 {
		t.Errorf("%d bytes", kept)
	}
}
