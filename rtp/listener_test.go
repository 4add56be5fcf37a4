package rtp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/sdp"
)

// infoWorld is an answered call whose device knows no telephone-event, and takes INFO.
func infoWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, nil)
	w.ring("8 101")
	w.session.TakesInfo(Device)
	w.must(w.session.SetAnswer(Device, w.device.sdp("8")))
	w.session.Connect()
	return w
}

// press sends the packets of a key as phones do: 20 ms apart, the last one three times. skip says which are lost.
func (p *peer) press(event uint8, packets int, skip func(i int) bool) {
	start := p.talker.Timestamp
	for i := range packets + 2 {
		n := min(i+1, packets)
		b := p.talker.Next(make([]byte, 4))
		b[1] = 101
		if i == 0 {
			b[1] |= 0x80
		}
		binary.BigEndian.PutUint32(b[4:], start)
		writeEvent(b[12:], event, i >= packets-1, uint16(n*160))
		if skip == nil || !skip(i) {
			p.send(b)
		}
		if i < packets {
			time.Sleep(20 * time.Millisecond)
		}
	}
	synctest.Wait()
}

// digits are those that have been heard.
func (w *world) digits() (list []HeardDigit) {
	synctest.Wait()
	for {
		select {
		case d := <-w.session.Digits():
			list = append(list, d)
		default:
			return list
		}
	}
}

// A key is told once, with its length, whichever of its packets are lost; events do not reach the device, and speech is
// as it was.
func TestEventsBecomeDigits(t *testing.T) {
	for name, skip := range map[string]func(int) bool{
		"whole":          nil,
		"no beginning":   func(i int) bool { return i < 3 },
		"one end":        func(i int) bool { return i == 7 || i == 9 },
		"no end":         func(i int) bool { return i >= 7 },
		"every second":   func(i int) bool { return i%2 == 0 },
		"one packet":     func(i int) bool { return i != 4 },
		"last end alone": func(i int) bool { return i < 9 },
	} {
		bubble(t, func(t *testing.T) {
			w := infoWorld(t)
			sent := w.trunk.talk(5)
			w.trunk.press(9, 8, skip)
			time.Sleep(eventLost)
			sent = append(sent, w.trunk.talk(20)...)
			got := w.digits()
			if len(got) != 1 || got[0].From != Trunk || got[0].Event != 9 || got[0].Duration > 160*time.Millisecond || got[0].Duration < 100*time.Millisecond {
				t.Errorf("%s: %d digits, %v", name, len(got), got)
			}
			w.same(name, w.device.heard(), sent)
			stats := w.session.Stats().Trunk
			if stats.Digits != 1 || stats.Held != 0 || stats.JitterMS > 5 {
				t.Errorf("%s: %+v", name, stats)
			}
			if w.relay.ringers.running {
				t.Error("the scheduler runs for nobody")
			}
		})
	}
}

// Keys one after the other, the same one twice among them, and one whose end was lost, are each told, in order.
func TestKeysInARow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := infoWorld(t)
		for i, event := range []uint8{1, 1, 10, 15, 0} {
			var skip func(int) bool
			if i == 1 || i == 3 {
				skip = func(i int) bool { return i >= 4 }
			}
			w.trunk.press(event, 5, skip)
			w.trunk.talk(1)
		}
		time.Sleep(time.Second)
		var got []uint8
		for _, d := range w.digits() {
			got = append(got, d.Event)
		}
		if !slices.Equal(got, []uint8{1, 1, 10, 15, 0}) {
			t.Errorf("%v", got)
		}
	})
}

// report is an event packet.
func report(ssrc, stamp uint32, event uint8, end bool, duration uint16) ([]byte, header) {
	p := make([]byte, eventSize)
	p[0] = 0x80
	binary.BigEndian.PutUint32(p[4:], stamp)
	binary.BigEndian.PutUint32(p[8:], ssrc)
	writeEvent(p[12:], event, end, duration)
	return p, header{ssrc: ssrc, timestamp: stamp}
}

// RFC 4733 §2.5.1.3: an event longer than 16 bits goes on under another timestamp. What is late counts no more, another
// source may begin anywhere, and what is no digit is none.
func TestListenerByTheRFC(t *testing.T) {
	l := &listener{}
	step := func(ssrc, stamp uint32, event uint8, end bool, duration uint16) {
		p, h := report(ssrc, stamp, event, end, duration)
		l.take(p, h, 8000, 0)
	}
	step(1, 1000, 5, false, 0xffff)
	step(1, 1000+0xffff, 5, false, 160)
	step(1, 1000+0xffff, 5, true, 320)
	step(1, 1000+0xffff, 5, true, 320) // again
	step(1, 1000, 5, false, 0xffff)    // late
	step(2, 10, 6, true, 160)          // another source
	step(2, 2000, 40, true, 160)       // a tone that is no digit
	step(2, 3000, 7, true, 800)
	want := []Digit{{5, MaxDigit}, {6, MinDigit}, {7, 100 * time.Millisecond}}
	if !slices.Equal(l.heard[:l.count], want) {
		t.Errorf("%d digits: %+v", l.count, [heardRoom]Digit(l.heard))
	}
	step(2, 0xfffffff0, 8, true, 160) // 3000 before by the clock's wrap, which is within 10 s
	if l.count != 3 {
		t.Error("what is late is told")
	}
}

// The description to the side that sends the events offers them, or accepts them, though the other side has none.
func TestEventsAreAgreedForADeviceThatTakesInfo(t *testing.T) {
	has := func(list []sdp.Codec, rate int) bool {
		return slices.ContainsFunc(list, func(c sdp.Codec) bool { return c.Event() && c.Rate == rate })
	}
	bubble(t, func(t *testing.T) {
		for _, info := range []bool{false, true} { // a late answer to the trunk
			w := newWorld(t, nil)
			w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
			w.device.learn(w.session.Offer(Device))
			if info {
				w.session.TakesInfo(Device)
			}
			w.must(w.session.SetAnswer(Device, w.device.sdp("8")))
			w.trunk.learn(w.session.Answer(Trunk))
			if has(w.trunk.ours.Codecs, 8000) != info {
				t.Errorf("INFO %v: the trunk is answered %v", info, w.trunk.ours.Codecs)
			}
			w.session.Connect()
			w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101")))
			if has(w.trunk.ours.Codecs, 8000) != info {
				t.Errorf("INFO %v: a re-INVITE is answered %v", info, w.trunk.ours.Codecs)
			}
			w.session.Close()
			w.trunk.conn.Close()
			w.device.conn.Close()
			w.relay.Close()
		}
	})
	bubble(t, func(t *testing.T) { // the device is offered what its trunk takes by INFO, at the clock of its speech
		w := newWorld(t, nil)
		w.session.TakesInfo(Trunk)
		w.ring("96 97", "rtpmap:96 opus/48000/2", "rtpmap:97 PCMA/8000")
		if !has(w.device.ours.Codecs, 8000) {
			t.Errorf("the device is offered %v", w.device.ours.Codecs)
		}
		w.must(w.session.SetAnswer(Device, w.device.sdp("97 101", "rtpmap:97 PCMA/8000")))
		w.session.Connect()
		w.device.talker.Payload = 97
		w.device.press(3, 5, nil)
		if got := w.digits(); len(got) != 1 || got[0].From != Device || got[0].Event != 3 {
			t.Errorf("%v", got)
		}
		w.same("the trunk", w.trunk.heard(), nil)
	})
}

// Where both sides know events, they pass as they are, repetitions and all, on hold not; nobody is told.
func TestEventsThatPassAreNotTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.session.TakesInfo(Device)
		w.session.TakesInfo(Trunk)
		w.connect()
		w.device.press(1, 5, nil)
		if n := len(w.readEvents(w.trunk.heard(), 101)); n != 7 {
			t.Errorf("%d packets of 7 pass", n)
		}
		w.hold("inactive")
		w.device.press(2, 5, nil)
		w.same("on hold", w.trunk.heard(), nil)
		if got := w.digits(); got != nil {
			t.Errorf("%v", got)
		}
		if err := w.session.Dial(Device, digit(1)); err != ErrDoubled {
			t.Errorf("a digit of a side that sends events: %v", err)
		}
		if s := w.session.Stats().Device; s.Digits != 0 || s.JitterMS != 0 || s.Lost != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestTakesEvent(t *testing.T) {
	for fmtp, want := range map[string][2]bool{ // of 5 and 16
		"": {true, false}, "0-15": {true, false}, "0-16": {true, true}, "0-11,16": {true, true}, "16": {false, true},
		"0-4, 6-20": {false, true}, "x": {}, "5": {true, false}, "-": {}, "0-": {}, "9-1": {},
	} {
		c := sdp.Codec{Fmtp: fmtp}
		if got := [2]bool{takesEvent(c, 5), takesEvent(c, 16)}; got != want {
			t.Errorf("%q takes 5 and 16: %v", fmtp, got)
		}
	}
}

func FuzzListener(f *testing.F) {
	a, _ := report(1, 1000, 5, false, 160)
	b, _ := report(1, 1000, 5, true, 320)
	f.Add(append(append([]byte{}, a...), b...), uint32(8000))
	f.Add([]byte{0xb1, 101, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 8, 0, 4}, uint32(0))
	f.Fuzz(func(t *testing.T, data []byte, rate uint32) {
		l, now, told, packets := &listener{}, moment(0), 0, 0
		for len(data) > 0 {
			n := min(len(data), eventSize)
			p := data[:n]
			data = data[n:]
			packets++
			now += moment(frameTime)
			if !wellFormed(p) {
				continue
			}
			h, err := parse(p)
			if err != nil {
				t.Fatal(err)
			}
			l.take(p, h, rate, now)
			l.expire(now)
			for _, d := range l.heard[:l.count] {
				if d.Event > flash || d.Duration < MinDigit || d.Duration > MaxDigit {
					t.Fatalf("%d of %v", d.Event, d.Duration)
				}
				told++
			}
			l.count = 0
		}
		if told > packets {
			t.Fatal("more digits than packets")
		}
	})
}

// Two clocks of telephone-event, and numbers that the two sides use the other way round: each packet goes on as what it
// is, and each side is told the events that the other understands.
func TestEventNumbersThatCross(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		offer := strings.Replace(string(w.trunk.sdp("96 101 110", "rtpmap:96 opus/48000/2", "rtpmap:110 telephone-event/48000", "fmtp:110 0-16")), "0-15", "0-16", 1)
		w.must(w.session.SetOffer(Trunk, []byte(offer)))
		w.device.learn(w.session.Offer(Device))
		answer := w.device.sdp("110 96 101", "rtpmap:110 opus/48000/2", "rtpmap:96 telephone-event/8000", "fmtp:96 0-15")
		answer = []byte(strings.Replace(string(answer), "101 telephone-event/8000\r\na=fmtp:101 0-15", "101 telephone-event/48000\r\na=fmtp:101 0-11,16", 1))
		w.must(w.session.SetAnswer(Device, answer))
		w.trunk.learn(w.session.Answer(Trunk))
		var told []string
		for _, c := range w.trunk.ours.Codecs {
			told = append(told, fmt.Sprintf("%d %s/%d %s", c.PT, c.Name, c.Rate, c.Fmtp))
		}
		if !slices.Equal(told, []string{"96 opus/48000 ", "101 telephone-event/8000 0-15", "110 telephone-event/48000 0-11,16"}) {
			t.Errorf("the trunk is told %q", told)
		}
		w.session.Connect()
		for _, c := range []struct {
			from, to   *peer
			sent, want byte
		}{
			{w.trunk, w.device, 96, 110}, {w.trunk, w.device, 101, 96}, {w.trunk, w.device, 110, 101},
			{w.device, w.trunk, 96, 96}, {w.device, w.trunk, 101, 101}, {w.device, w.trunk, 110, 110}, // our numbers, as it must
		} {
			packet := c.from.talker.Next([]byte{5, 0x8a, 4, 0})
			packet[1] = c.sent | 0x80
			c.from.send(packet)
			got := c.to.heard()
			if len(got) != 1 || got[0][1] != c.want|0x80 || !bytes.Equal(got[0][2:], packet[2:]) {
				t.Errorf("%d arrived as %x, want %d", c.sent, got, c.want)
			}
		}
		if s := w.session.Stats(); s.Trunk.JitterMS != 0 || s.Device.JitterMS != 0 || s.Trunk.Packets != 3 || s.Device.Packets != 3 {
			t.Errorf("%+v", s)
		}
	})
}
