package rtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/rtptest"
)

// secret makes a world whose sides may have SRTP, over signalling that nobody else can read.
func secret(t *testing.T, trunk Security, device string) *world {
	t.Helper()
	w := newWorld(t, func(c *Config, _ *Options) { c.DeviceSRTP = device })
	w.session.exchanges[Trunk].security = trunk
	w.session.Secret(Trunk, true)
	w.session.Secret(Device, true)
	return w
}

// secure is a peer's description with keys.
func (p *peer) secure(k *rtptest.SRTP, proto, formats string) []byte {
	return []byte(strings.Replace(string(p.sdp(formats, k.Line())), "RTP/AVP", proto, 1))
}

// keyedCall is an answered call: SRTP on each side whose keys are given. The trunk's come with its offer.
func keyedCall(t *testing.T, trunk, device *rtptest.SRTP) *world {
	t.Helper()
	w := secret(t, SRTPOptional, "optional")
	offer := w.trunk.sdp("8 101")
	if trunk != nil {
		offer = w.trunk.secure(trunk, "RTP/SAVP", "8 101")
	}
	w.must(w.session.SetOffer(Trunk, offer))
	answer, err := w.session.Answer(Trunk)
	w.trunk.learn(plainly(answer), err)
	if trunk != nil {
		w.must(trunk.Hear(answer))
	}
	body, err := w.session.Offer(Device)
	w.device.learn(body, err)
	answer = w.device.sdp("8 101")
	if device != nil {
		w.must(device.Hear(body))
		answer = w.device.secure(device, "RTP/AVP", "8 101")
	}
	w.must(w.session.SetAnswerTo(Device, body, answer))
	w.session.Connect()
	return w
}

// plainly is a body as a peer reads it that is after the address alone.
func plainly(body []byte) []byte {
	return regexp.MustCompile(`(UDP/TLS/)?RTP/SAVPF?`).ReplaceAll(body, []byte("RTP/AVP"))
}

// say sends n packets of speech by SRTP, if there are keys, and gives the plain ones.
func (p *peer) say(k *rtptest.SRTP, n int) [][]byte {
	p.w.t.Helper()
	var plain [][]byte
	for range n {
		packet := p.talker.Next(bytes.Repeat([]byte{byte(p.talker.Seq)}, 160))
		plain = append(plain, packet)
		p.send(p.seal(k, packet))
		time.Sleep(20 * time.Millisecond)
	}
	synctest.Wait()
	return plain
}

func (p *peer) seal(k *rtptest.SRTP, packet []byte) []byte {
	p.w.t.Helper()
	if k == nil {
		return packet
	}
	sealed, err := k.Seal(packet)
	p.w.must(err)
	return sealed
}

// understood is what has come to a peer, decrypted.
func (p *peer) understood(k *rtptest.SRTP) (packets [][]byte) {
	p.w.t.Helper()
	for _, packet := range p.heard() {
		if k != nil {
			plain, err := k.Open(packet)
			if err != nil || bytes.Contains(packet, plain[12:]) {
				p.w.t.Fatalf("%x cannot be opened, or is not encrypted: %v", packet, err)
			}
			packet = plain
		}
		packets = append(packets, packet)
	}
	return packets
}

// both holds that speech crosses the call both ways, bit for bit.
func (w *world) both(trunk, device *rtptest.SRTP) {
	w.t.Helper()
	sent := w.trunk.say(trunk, 20)
	w.same("trunk to device", w.device.understood(device), sent)
	sent = w.device.say(device, 20)
	w.same("device to trunk", w.trunk.understood(trunk), sent)
}

func TestSRTPAndPlainSidesHearEachOtherBitForBit(t *testing.T) {
	for _, suite := range append([]string{"plain"}, suites...) {
		for _, to := range append([]string{"plain"}, suites...) {
			t.Run(suite+" to "+to, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					var trunk, device *rtptest.SRTP
					if suite != "plain" {
						trunk = &rtptest.SRTP{Suite: suite, Seed: 1}
					}
					if to == suites[1] {
						return // taken, but not offered
					}
					if to != "plain" {
						device = &rtptest.SRTP{Suite: to, Seed: 2}
					}
					w := keyedCall(t, trunk, device)
					w.both(trunk, device)
					s := w.session.Stats()
					if s.Trunk.Packets != 20 || s.Device.Packets != 20 || s.Trunk.Bytes != 20*172 || s.Trunk.Dropped+s.Device.Dropped+s.Trunk.Invalid+s.Device.Invalid != 0 {
						t.Errorf("%+v", s)
					}
					if got := w.session.Encrypted(Trunk); trunk != nil && got != suite || trunk == nil && got != "" {
						t.Errorf("the trunk has %q", got)
					}
				})
			})
		}
	}
}

func TestSRTCPCrossesAndItsReportsAreRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		device := &rtptest.SRTP{}
		w := keyedCall(t, nil, device)
		w.both(nil, device)
		up := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }
		trunkRTCP, deviceRTCP := w.peer(up(w.trunk.conn.Addr()), 0), w.peer(up(w.device.conn.Addr()), 0)
		report := sr(0x1111, 0x0000aaaabbbb0000)
		trunkRTCP.sendTo(w.trunk.ours.RTCP, report)
		w.same("sender report", deviceRTCP.understood(device), [][]byte{report})
		time.Sleep(80 * time.Millisecond)
		reply := rr(0x2222, 0x1111, 0xaaaabbbb, 65536/50)
		sealed := deviceRTCP.seal(device, reply)
		deviceRTCP.sendTo(w.device.ours.RTCP, sealed)
		deviceRTCP.sendTo(w.device.ours.RTCP, sealed) // replayed
		deviceRTCP.sendTo(w.device.ours.RTCP, reply)  // not encrypted
		w.same("receiver report", trunkRTCP.heard(), [][]byte{reply})
		if s := w.session.Stats().Device; s.RTTMS < 59.9 || s.RTTMS > 60.1 || s.FarLost != 9 || s.Dropped != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// What does not prove to be the peer's is dropped and counted, and latches nowhere.
func TestSRTPWithoutTheKeyIsDroppedAndDoesNotLatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		trunk := &rtptest.SRTP{Seed: 1}
		w := keyedCall(t, trunk, nil)
		wrong := &rtptest.SRTP{Seed: 99}
		wrong.Line()
		stranger := w.peer(netip.AddrPortFrom(trunkIP, 6000), 0x3333)
		stranger.ours = w.trunk.ours
		stranger.say(wrong, 10)
		stranger.say(nil, 10) // plain RTP
		w.trunk.say(wrong, 10)
		w.trunk.say(nil, 10)
		w.same("wrong key, and no key", w.device.heard(), nil)
		if s := w.session.Stats().Trunk; s.Packets != 0 || s.Dropped != 40 {
			t.Errorf("%+v", s)
		}
		sealed := w.trunk.seal(trunk, w.trunk.talker.Next([]byte("once")))
		w.trunk.send(sealed)
		w.trunk.send(sealed)
		stranger.send(sealed)
		if got := w.device.heard(); len(got) != 1 {
			t.Errorf("a replayed packet came %d times", len(got))
		}
		w.both(trunk, nil)
		if at := w.session.audio.path.ends[Trunk].latch.locked; at != w.trunk.conn.Addr() {
			t.Errorf("latched onto %v", at)
		}
	})
}

func TestSRTPSilenceHasTheKeyAsItsCause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := keyedCall(t, &rtptest.SRTP{Seed: 1}, nil)
		w.trunk.say(nil, 10)
		time.Sleep(6 * time.Second)
		var cause string
		for _, e := range w.events() {
			if e.Kind == NoMedia && e.Side == Trunk {
				cause = e.Cause
			}
		}
		if !strings.Contains(cause, "not SRTP with the key of the trunk's SDP") {
			t.Errorf("%q", cause)
		}
	})
}

// A peer that gives another key in a re-INVITE gets another one of ours; its former one counts for two seconds. A
// refresh with the same key changes nothing.
func TestSRTPKeyChangesAtAReinvite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		trunk, device := &rtptest.SRTP{Seed: 1}, &rtptest.SRTP{Seed: 2}
		w := keyedCall(t, trunk, device)
		w.trunk.talker.Seq = 65530 // the rollover counter becomes 1
		w.both(trunk, device)
		key := regexp.MustCompile(`a=crypto:.*`)
		reinvite := func(k *rtptest.SRTP) string {
			t.Helper()
			line := k.Line()
			answer, err := w.session.Reoffer(Trunk, []byte(strings.Replace(string(w.trunk.sdp("8 101", line)), "RTP/AVP", "RTP/SAVP", 1)))
			w.must(err)
			w.must(k.Hear(answer))
			return string(key.Find(answer))
		}
		before := w.session.audio.path.ends[Trunk].crypt
		first := reinvite(&rtptest.SRTP{Seed: 1})
		if after := w.session.audio.path.ends[Trunk].crypt; after.in != before.in || after.out != before.out {
			t.Error("a refresh has changed keys")
		}
		fresh := &rtptest.SRTP{Seed: 50}
		second := reinvite(fresh)
		if first == second || first == "" || second == "" {
			t.Errorf("our keys: %q and %q", first, second)
		}
		sent := w.trunk.say(trunk, 20) // it has not seen our answer yet
		w.same("with the former key", w.device.understood(device), sent)
		w.trunk.talker.Seq, w.trunk.talker.SSRC = 100, 0x7777
		sent = w.trunk.say(fresh, 20)
		w.same("with the new key", w.device.understood(device), sent)
		sent = w.device.say(device, 20)
		w.same("from the device", w.trunk.understood(fresh), sent)
		time.Sleep(oldKey)
		w.trunk.say(trunk, 5)
		w.same("with the former key, too late", w.device.heard(), nil)
	})
}

// A stream keeps its rollover counter when its key changes, or begins anew: both are about (RFC 3711 §3.3.1).
func TestSRTPRolloverCounterOutlivesTheKeyOrNot(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		in, _, other := ends(t, suites[0])
		theirs, _, _ := ends(t, suites[2])
		c := &crypt{in: in, out: in}
		talker := rtptest.Talker{SSRC: 9, Payload: 8, Seq: 65530}
		for range 10 {
			sealed, _ := other.Seal(talker.Next([]byte("speech")))
			if _, err := c.open(roomy(sealed), 0); err != nil {
				t.Fatal(err)
			}
		}
		c.in, c.former, c.until, c.known = theirs, in, moment(oldKey), in.sources
		k := &keyed{rtp: theirs.rtp, rtcp: theirs.rtcp}
		if keeps {
			k.sources = append(k.sources, in.sources...)
		}
		for i := range 80 {
			sealed, err := k.seal(roomy(talker.Next([]byte("speech"))))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.open(sealed, moment(i)*moment(frameTime)*10); err != nil {
				t.Fatalf("keeps: %v, packet %d: %v", keeps, i, err)
			}
		}
		if got := theirs.source(9).rtp.highest >> 16; (got == 1) != keeps {
			t.Errorf("keeps: %v, and the counter is %d", keeps, got)
		}
	}
}

func TestRingbackIsEncrypted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		trunk := &rtptest.SRTP{Seed: 1}
		w := secret(t, SRTPRequired, "off")
		w.must(w.session.SetOffer(Trunk, w.trunk.secure(trunk, "RTP/SAVP", "8 101")))
		answer, err := w.session.Answer(Trunk)
		w.must(err)
		w.must(trunk.Hear(answer))
		w.must(w.session.Ringback())
		time.Sleep(990 * time.Millisecond)
		if got := w.trunk.understood(trunk); len(got) != 50 || len(got[0]) != 172 {
			t.Errorf("%d packets of ringback", len(got))
		}
	})
}

func TestSRTPOffers(t *testing.T) {
	crypto := regexp.MustCompile(`a=crypto:(\d) (\S+) inline:\S+\r`)
	for name, test := range map[string]struct {
		device string
		secret bool
		want   string
	}{
		"off":                    {"off", true, "RTP/AVP"},
		"optional":               {"optional", true, "RTP/AVP 1 AES_CM_128_HMAC_SHA1_80 2 AEAD_AES_128_GCM 3 AEAD_AES_256_GCM"},
		"required":               {"required", true, "RTP/SAVP 1 AES_CM_128_HMAC_SHA1_80 2 AEAD_AES_128_GCM 3 AEAD_AES_256_GCM"},
		"optional, by plain SIP": {"optional", false, "RTP/AVP"},
		"required, by plain SIP": {"required", false, "refused"},
	} {
		bubble(t, func(t *testing.T) {
			w := secret(t, SRTPOff, test.device)
			w.session.Secret(Device, test.secret)
			w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
			body, err := w.session.Offer(Device)
			got := "refused"
			if err == nil {
				got = strings.Fields(regexp.MustCompile(`m=audio \d+ (\S+)`).FindString(string(body)))[2]
				for _, m := range crypto.FindAllStringSubmatch(string(body), -1) {
					got += " " + m[1] + " " + m[2]
				}
			} else if !errors.Is(err, ErrNotAcceptable) {
				t.Error(err)
			}
			if got != test.want {
				t.Errorf("%s: %s, want %s", name, got, test.want)
			}
			again, _ := w.session.Offer(Device)
			if strings.Contains(test.want, "AES") == bytes.Equal(body, again) {
				t.Errorf("%s: two legs are offered\n%s\nand\n%s", name, body, again)
			}
		})
	}
}

func TestSRTPAnswersAreChecked(t *testing.T) {
	mine := rtptest.SRTP{Seed: 3}
	line := strings.Replace(mine.Line(), "crypto:7", "crypto:%d", 1)
	right, wrong := fmt.Sprintf(line, 1), fmt.Sprintf(line, 2)
	for name, test := range map[string]struct {
		device, proto string
		lines         []string
		ok            bool
	}{
		"plain":                   {"optional", "RTP/AVP", nil, true},
		"plain, where required":   {"required", "RTP/AVP", nil, false},
		"a key":                   {"optional", "RTP/AVP", []string{right}, true},
		"a key, and SAVP":         {"optional", "RTP/SAVP", []string{right}, true},
		"a key of another offer":  {"optional", "RTP/SAVP", []string{wrong}, false},
		"two keys":                {"required", "RTP/SAVP", []string{right, right}, false},
		"SAVP without a key":      {"optional", "RTP/SAVP", nil, false},
		"a key, where it is off":  {"off", "RTP/AVP", []string{right}, true},
		"SAVP, where it is off":   {"off", "RTP/SAVP", []string{right}, false},
		"a key, where it must be": {"required", "RTP/SAVP", []string{right}, true},
	} {
		bubble(t, func(t *testing.T) {
			w := secret(t, SRTPOff, test.device)
			w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
			_, err := w.session.Offer(Device)
			w.must(err)
			answer := strings.Replace(string(w.device.sdp("8 101", test.lines...)), "RTP/AVP", test.proto, 1)
			if err := w.session.SetAnswer(Device, []byte(answer)); (err == nil) != test.ok || err != nil && !errors.Is(err, ErrNotAcceptable) {
				t.Errorf("%s: %v", name, err)
			} else if encrypted := w.session.Encrypted(Device) != ""; encrypted != (test.ok && test.lines != nil && test.device != "off") {
				t.Errorf("%s: encrypted: %v", name, encrypted)
			}
		})
	}
}

func TestSRTPPathDoesNotAllocate(t *testing.T) {
	p, from, packet := latched()
	_, out, _ := ends(t, suites[0])
	p.ends[Device].crypt = &crypt{out: out}
	packet = roomy(packet)
	binary.BigEndian.PutUint32(packet[8:], 1)
	now := moment(time.Second)
	if n := testing.AllocsPerRun(1000, func() {
		next(packet)
		now += moment(frameTime)
		if out, _ := p.forward(from, packet, now); len(out) != 182 {
			t.Fatalf("%d bytes forwarded", len(out))
		}
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}
