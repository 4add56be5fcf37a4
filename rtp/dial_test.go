package rtp

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/rtptest"
)

// deaf is an answered call in PCMA whose device knows no telephone-event; the trunk has it as 101.
func deaf(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, nil)
	w.ring("8 101")
	w.must(w.session.SetAnswer(Device, w.device.sdp("8")))
	w.session.Connect()
	return w
}

// digit is one of 160 ms.
func digit(event uint8) Digit { return Digit{Event: event, Duration: DefaultDigit} }

// heardEvent is what an event packet says.
type heardEvent struct {
	eventReport
	pt    uint8
	seq   uint16
	stamp uint32
	ssrc  uint32
}

// events reads packets that are all events of that payload type.
func (w *world) readEvents(packets [][]byte, pt uint8) (list []heardEvent) {
	w.t.Helper()
	for i, p := range packets {
		r, ok := readEvent(p)
		if !ok || len(p) != eventSize || p[0] != 0x80 || p[1]&0x7f != pt {
			w.t.Fatalf("packet %d is no event of type %d: % x", i, pt, p)
		}
		list = append(list, heardEvent{r, p[1] & 0x7f, seqOf(p), stampOf(p), ssrcOf(p)})
	}
	return list
}

// whole holds the packets of one digit against RFC 4733 §2.5.1: one timestamp, a marker on the first, a duration that
// grows, and three times the end with the last one.
func (w *world) whole(list []heardEvent, event uint8, step, length uint16) {
	w.t.Helper()
	n := len(list)
	if want := int((length+step-1)/step) + 2; n != want {
		w.t.Fatalf("%d packets of the digit, want %d", n, want)
	}
	for i, r := range list {
		duration := min(uint16(i+1)*step, length)
		if r.event != event || r.marker != (i == 0) || r.end != (i >= n-3) || r.duration != duration ||
			r.stamp != list[0].stamp || r.ssrc != list[0].ssrc || r.seq != list[0].seq+uint16(i) {
			w.t.Errorf("packet %d of %d: %+v, want a duration of %d", i, n, r, duration)
		}
	}
}

// A digit takes the place of the packets of speech, which keep their numbers; what is before and after goes untouched.
func TestDigitTakesThePlaceOfSpeech(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := deaf(t)
		before := w.device.talk(10)
		w.same("before", w.trunk.heard(), before)
		w.must(w.session.Dial(Device, digit(5)))
		sent := w.device.talk(30)
		heard := w.trunk.heard()
		if len(heard) != 30 {
			t.Fatalf("%d packets of 30 are heard", len(heard))
		}
		list := w.readEvents(heard[:10], 101)
		w.whole(list, 5, 160, 1280)
		for i, r := range list {
			if r.seq != seqOf(sent[i]) || r.ssrc != 0x2222 || r.stamp != stampOf(sent[0]) {
				t.Errorf("packet %d: %+v in the place of % x", i, r, sent[i][:12])
			}
		}
		w.same("after", heard[10:], sent[10:])
		time.Sleep(time.Second)
		w.same("later", w.trunk.heard(), nil)
		if w.session.audio.path.ends[Device].keypad != nil || w.relay.ringers.running || w.session.Stats().Device.Digits != 1 {
			t.Error("the keypad is still in use")
		}
	})
}

// Where nothing flows, the digit is a source of its own, 20 ms by 20 ms; a second one is of the same source. Speech that
// begins within a digit waits for its end and then goes on as it is.
func TestDigitsWithoutSpeech(t *testing.T) {
	for _, spoken := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			w := deaf(t)
			if spoken {
				w.device.talk(5)
				w.trunk.heard()
				time.Sleep(time.Second) // silence suppression
			}
			began := time.Now()
			w.must(w.session.Dial(Device, digit(11)))
			w.must(w.session.Dial(Device, Digit{Event: 0, Duration: time.Nanosecond}))
			time.Sleep(199 * time.Millisecond)
			first := w.readEvents(w.trunk.heard(), 101)
			w.whole(first, 11, 160, 1280)
			time.Sleep(52 * time.Millisecond)
			if n := len(w.trunk.heard()); n > 1 {
				t.Errorf("the next begins %v after the first did", time.Since(began))
			}
			time.Sleep(10 * time.Millisecond)
			w.trunk.heard()
			sent := w.device.talk(20)
			heard := w.trunk.heard()
			if len(heard) < 10 || ssrcOf(heard[0]) != first[0].ssrc || ssrcOf(heard[len(heard)-1]) != 0x2222 || first[0].ssrc == 0x2222 {
				t.Fatalf("%d packets are heard", len(heard))
			}
			i := slices.IndexFunc(heard, func(p []byte) bool { return ssrcOf(p) == 0x2222 })
			second := w.readEvents(heard[:i], 101)
			if last := second[len(second)-1]; !last.end || last.duration != 320 || int16(last.seq-first[9].seq) <= 0 || int32(last.stamp-first[0].stamp) <= 0 {
				t.Errorf("the second ends with %+v after %+v", last, first[9])
			}
			w.same("speech", heard[i:], sent[len(sent)-(len(heard)-i):])
		})
	}
}

// A stream that stops within a digit leaves that to be ended by a source of its own (RFC 4733 §2.5.1.4), under the same
// timestamp and once; it may go on with its own numbers afterwards.
func TestDigitIsEndedWhereItsSpeechStops(t *testing.T) {
	for _, frames := range []int{1, 3, 7, 8, 9, 10} {
		bubble(t, func(t *testing.T) {
			w := deaf(t)
			w.device.talk(10)
			w.trunk.heard()
			w.must(w.session.Dial(Device, digit(5)))
			w.device.talk(frames)
			list := w.readEvents(w.trunk.heard(), 101)
			within := len(list)
			time.Sleep(time.Second)
			list = append(list, w.readEvents(w.trunk.heard(), 101)...)
			last := list[len(list)-1]
			if !last.end || last.duration != 1280 || last.event != 5 || last.stamp != list[0].stamp {
				t.Errorf("after %d packets the digit ends with %+v; it began with %+v", frames, last, list[0])
			}
			for i, r := range list {
				if r.marker != (i == 0) || (r.ssrc == 0x2222) != (i < within) || i >= within && !r.end {
					t.Errorf("packet %d after %d of the stream: %+v", i, within, r)
				}
			}
			if ends := len(list) - within; frames < 8 && ends != endings || frames >= 8 && ends > 0 {
				t.Errorf("the end is sent %d times after %d packets", ends, frames)
			}
			sent := w.device.talk(5)
			w.same("speech after it", w.trunk.heard(), sent)
		})
	}
}

// Digits keep their order, with pauses in which speech is heard; their number is bounded.
func TestDigitsWaitForEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := deaf(t)
		w.device.talk(5)
		w.trunk.heard()
		for i := range maxDigits {
			w.must(w.session.Dial(Device, Digit{Event: uint8(i % 16), Duration: 60 * time.Millisecond}))
		}
		if err := w.session.Dial(Device, digit(1)); !errors.Is(err, ErrDigits) {
			t.Errorf("one more: %v", err)
		}
		w.device.talk(maxDigits * 10)
		var order []uint8
		speech := 0
		for _, p := range w.trunk.heard() {
			if p[1]&0x7f != 101 {
				speech++
				continue
			}
			if r, _ := readEvent(p); r.marker {
				if len(order) > 0 && speech < 2 {
					t.Errorf("%d packets of speech between two digits", speech)
				}
				order, speech = append(order, r.event), 0
			}
		}
		for i, e := range order {
			if e != uint8(i%16) {
				t.Errorf("digit %d is %d", i, e)
			}
		}
		if len(order) != maxDigits {
			t.Errorf("%d digits", len(order))
		}
	})
}

// A digit is refused where nobody would hear it, and forgotten when the trunk holds before it is played.
func TestDigitsThatCannotBePlayed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := deaf(t)
		w.device.talk(5)
		w.trunk.heard()
		for _, err := range []error{
			w.session.Dial(Trunk, digit(1)),          // the device knows no events
			w.session.Dial(Device, Digit{Event: 16}), // the trunk said 0-15
			func() error { w.hold("sendonly"); return w.session.Dial(Device, digit(1)) }(),
		} {
			if !errors.Is(err, ErrNoEvents) {
				t.Errorf("%v", err)
			}
		}
		w.hold("sendrecv")
		w.must(w.session.Dial(Device, digit(1)))
		w.must(w.session.Dial(Device, digit(2)))
		w.device.talk(3)
		w.hold("inactive")
		w.device.talk(10)
		w.hold("sendrecv")
		w.trunk.heard()
		sent := w.device.talk(30)
		w.same("after the hold", w.trunk.heard(), sent)
	})
}

// hold has the trunk re-INVITE with a direction.
func (w *world) hold(direction string) {
	w.t.Helper()
	_, err := w.session.Reoffer(Trunk, w.trunk.sdp("8 101", direction))
	w.must(err)
}

// The event has the number and clock that the trunk wants; a clock other than that of the speech is converted.
func TestDigitsByNumberAndClock(t *testing.T) {
	for _, c := range []struct {
		formats, device string
		attributes      []string
		pt              uint8
		rate, samples   uint32
	}{
		{"96 110", "96", []string{"rtpmap:96 opus/48000/2", "rtpmap:110 telephone-event/48000"}, 110, 48000, 960},
		{"96 101 110", "96", []string{"rtpmap:96 opus/48000/2", "rtpmap:110 telephone-event/48000"}, 110, 48000, 960},
		{"9 101", "9", nil, 101, 8000, 160}, // G.722, whose clock is 8 kHz
		{"97 98 101", "97", []string{"rtpmap:97 speex/16000", "rtpmap:98 telephone-event/16000", "fmtp:98 0-16"}, 98, 16000, 320},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.ring(c.formats, c.attributes...)
			w.must(w.session.SetAnswer(Device, w.device.sdp(c.device, c.attributes...)))
			w.session.Connect()
			w.device.talker.Payload, w.device.talker.Samples = w.device.ours.Codecs[0].PT, c.samples
			w.device.talk(5)
			w.trunk.heard()
			w.must(w.session.Dial(Device, digit(7)))
			w.device.talk(10)
			list := w.readEvents(w.trunk.heard(), c.pt)
			w.whole(list, 7, uint16(c.samples), uint16(c.rate*160/1000))
			w.must(w.session.Dial(Device, Digit{Event: 8, Duration: time.Hour}))
			w.device.talk(120)
			longest := uint16(0)
			for _, p := range w.trunk.heard() {
				if r, ok := readEvent(p); ok && p[1]&0x7f == c.pt {
					longest = max(longest, r.duration)
				}
			}
			if want := uint16(min(2*c.rate, 0xffff)); longest != want {
				t.Errorf("a long digit of %d Hz has %d units, want %d", c.rate, longest, want)
			}
		})
	}
}

// With SRTP on either side the trunk decrypts digits as anything else, those that have a stream of their own too.
func TestDigitsWithSRTP(t *testing.T) {
	for _, suites := range [][2]string{{"", "AEAD_AES_128_GCM"}, {"AES_CM_128_HMAC_SHA1_80", ""}, {"AEAD_AES_256_GCM", "AES_CM_128_HMAC_SHA1_80"}} {
		bubble(t, func(t *testing.T) {
			var keys [2]*rtptest.SRTP
			for i, suite := range suites {
				if suite != "" {
					keys[i] = &rtptest.SRTP{Suite: suite, Seed: byte(i)}
				}
			}
			w := keyedCall(t, keys[0], keys[1])
			w.device.say(keys[1], 5)
			w.trunk.understood(keys[0])
			w.must(w.session.Dial(Device, digit(4)))
			sent := w.device.say(keys[1], 20)
			heard := w.trunk.understood(keys[0])
			w.whole(w.readEvents(heard[:10], 101), 4, 160, 1280)
			w.same("after", heard[10:], sent[10:])
			time.Sleep(time.Second)
			w.must(w.session.Dial(Device, digit(6)))
			time.Sleep(300 * time.Millisecond)
			w.whole(w.readEvents(w.trunk.understood(keys[0]), 101), 6, 160, 1280)
			w.both(keys[0], keys[1])
		})
	}
}

// A transfer ends the digits that the former phone had begun.
func TestDigitsEndWithTheDevice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := deaf(t)
		w.device.talk(5)
		w.must(w.session.Dial(Device, digit(1)))
		w.must(w.session.Dial(Device, digit(2)))
		w.device.talk(3)
		undo := w.session.Handover()
		time.Sleep(100 * time.Millisecond)
		undo()
		w.trunk.heard()
		sent := w.device.talk(30)
		w.same("back", w.trunk.heard(), sent)
		synctest.Wait()
		if w.relay.ringers.running {
			t.Error("the scheduler runs for nobody")
		}
	})
}

// Replacing speech costs no memory.
func TestDigitsDoNotAllocate(t *testing.T) {
	w := newWorld(t, nil)
	w.ring("8 101")
	w.must(w.session.SetAnswer(Device, w.device.sdp("8")))
	w.session.Connect()
	talker, now := w.device.talker, moment(0)
	buf := make([]byte, 172, maxPacket)
	from := origin{side: Device, addr: w.device.conn.Addr()}
	st := w.session.audio
	digits := 0
	allocs := testing.AllocsPerRun(2000, func() {
		now += moment(frameTime)
		binary.BigEndian.PutUint16(buf[2:], talker.Seq)
		binary.BigEndian.PutUint32(buf[4:], talker.Timestamp)
		talker.Seq, talker.Timestamp = talker.Seq+1, talker.Timestamp+160
		buf = buf[:172]
		buf[0], buf[1], buf[11] = 0x80, 8, 0x22
		if out, _ := st.path.forward(from, buf, now); len(out) == eventSize {
			digits++
		}
		if e := &st.path.ends[Device]; e.keypad == nil {
			k := st.diallerLocked().keypads[Device]
			if k == nil {
				k = &keypad{number: 101, rate: 8000}
				st.dialler.keypads[Device] = k
			}
			k.push(digit(3))
			e.keypad = k
		}
	})
	if allocs > 0 || digits < 500 {
		t.Errorf("%v allocations a packet, %d packets of digits", allocs, digits)
	}
}
