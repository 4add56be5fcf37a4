package rtp

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/rtptest"
)

// ssrcOf is a packet's source, and stampOf its timestamp.
func ssrcOf(p []byte) uint32  { return binary.BigEndian.Uint32(p[8:]) }
func stampOf(p []byte) uint32 { return binary.BigEndian.Uint32(p[4:]) }
func seqOf(p []byte) uint16   { return binary.BigEndian.Uint16(p[2:]) }

// wire notes what goes to the trunk's address, in the order of its leaving.
func wire(w *world) *[][]byte {
	var seen [][]byte
	w.net.Drop = func(_, to netip.AddrPort, p []byte) bool {
		if to == w.trunk.conn.Addr() && !isRTCP(p) {
			seen = append(seen, append([]byte(nil), p...))
		}
		return false
	}
	return &seen
}

// However the answer falls between two packets: none of the tone leaves after Connect, and the phone's next one leaves
// at once, as the phone made it. What it has sent before the answer is not the caller's to hear.
func TestCleanCutOnTheWire(t *testing.T) {
	for at := range 20 {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, nil)
			seen := wire(w)
			w.ring("8 101")
			w.must(w.session.Ringback())
			w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
			w.device.talk(10) // early packets
			time.Sleep(time.Duration(at)*time.Millisecond + 500*time.Microsecond)
			synctest.Wait()
			w.session.Connect()
			tone := len(*seen)
			first := w.device.talker.Next(make([]byte, 160))
			first[1] |= 0x80 // its talkspurt
			w.device.send(first)
			synctest.Wait()
			if tone < 10 || len(*seen) != tone+1 {
				t.Fatalf("%d packets of tone, %d in the moment of the answer", tone, len(*seen)-tone)
			}
			w.same("the first of the phone", (*seen)[tone:], [][]byte{first})
			sent := w.device.talk(50)
			w.same("the phone", (*seen)[tone+1:], sent)
		})
	}
}

// A transfer rings the trunk again: the cut to the second phone is as clean, and so is the way back to the first.
func TestCleanCutOfATransfer(t *testing.T) {
	for _, back := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.connect()
			w.device.talk(5)
			seen := wire(w)
			undo := w.session.Handover()
			w.must(w.session.Ringback())
			w.device.talk(10) // goes on until it hears that it is out
			talker := w.device
			if back {
				undo()
			} else {
				talker = w.peer(netip.AddrPortFrom(deviceIP, 5002), 0x3333)
				talker.learn(w.session.Offer(Device))
				w.must(w.session.SetAnswer(Device, talker.sdp("8 101")))
				w.session.Connect()
			}
			tone := len(*seen)
			for _, p := range *seen {
				if ssrcOf(p) != ssrcOf((*seen)[0]) || ssrcOf(p) == 0x2222 {
					t.Fatalf("the trunk hears %x of the phone while it waits", ssrcOf(p))
				}
			}
			sent := talker.talk(20)
			if tone < 10 {
				t.Errorf("%d packets of tone", tone)
			}
			w.same("after the transfer", (*seen)[tone:], sent)
		})
	}
}

// After an hour of ringing the tone is where it was to be: no drift, no gap in its timestamps, no packet too many.
func TestRingbackDoesNotDrift(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		began := time.Now()
		n, first := 0, uint32(0)
		w.net.Drop = func(_, to netip.AddrPort, p []byte) bool {
			if to != w.trunk.conn.Addr() {
				return false
			}
			if n == 0 {
				first = stampOf(p)
			}
			at := time.Duration(stampOf(p)-first) * time.Second / sampleRate
			if late := time.Since(began) - at; late != 0 || at != time.Duration(n/50)*5*time.Second+time.Duration(n%50)*frameTime {
				t.Fatalf("packet %d is of %v, and %v late", n, at, late)
			}
			n++
			return true
		}
		w.ring("8 101")
		w.must(w.session.Ringback())
		time.Sleep(time.Hour - time.Millisecond)
		synctest.Wait()
		if n != 720*50 {
			t.Errorf("%d packets in an hour", n)
		}
	})
}

// An UPDATE while it rings may change the codec: the tone follows, and it comes back to what can be played.
func TestRingbackFollowsTheCodec(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.must(w.session.MayOffer(Trunk))
		w.ring("8 0 101")
		w.must(w.session.Ringback())
		time.Sleep(99 * time.Millisecond)
		before := w.trunk.heard()
		_, err := w.session.Reoffer(Trunk, w.trunk.sdp("110 101", "rtpmap:110 PCMA/8000")) // another number for it
		w.must(err)
		time.Sleep(100 * time.Millisecond)
		after := w.trunk.heard()
		if len(before) != 5 || len(after) != 5 || before[4][1]&0x7f != 8 || after[0][1] != 110 {
			t.Fatalf("%d packets of type %d, then %d of type %d", len(before), before[0][1], len(after), after[0][1])
		}
		if seqOf(after[0]) != seqOf(before[4])+1 || stampOf(after[0]) != stampOf(before[4])+160 || ssrcOf(after[0]) != ssrcOf(before[0]) {
			t.Error("it is another stream")
		}
	})
}

// A trunk that holds while it waits hears nothing; then the tone goes on where it would be by now, with a marker.
func TestRingbackThroughAHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.Ringback())
		time.Sleep(99 * time.Millisecond)
		before := w.trunk.heard()
		_, err := w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "sendonly"))
		w.must(err)
		time.Sleep(200 * time.Millisecond)
		w.same("on hold", w.trunk.heard(), nil)
		_, err = w.session.Reoffer(Trunk, w.trunk.sdp("8 101"))
		w.must(err)
		time.Sleep(100 * time.Millisecond)
		after := w.trunk.heard()
		if len(before) != 5 || len(after) != 5 {
			t.Fatalf("%d packets before the hold, %d after it", len(before), len(after))
		}
		if after[0][1]&0x80 == 0 || after[1][1]&0x80 != 0 || seqOf(after[0]) != seqOf(before[4])+1 || stampOf(after[0]) != stampOf(before[4])+11*160 {
			t.Errorf("it goes on with % x after % x", after[0][:12], before[4][:12])
		}
	})
}

// A tick of a thousand ringing calls allocates nothing.
func BenchmarkRinging(b *testing.B) {
	r, err := NewRelay(DefaultConfig(), Options{LocalAddress: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var players []*player
	for range 1000 {
		s, err := r.Open(SessionOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.SetOffer(Trunk, body(netip.MustParseAddrPort("127.0.0.1:9"), "8")); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Answer(Trunk); err != nil {
			b.Fatal(err)
		}
		s.mu.Lock()
		p := &player{session: s, quiet: true}
		s.player = p
		s.tuneLocked()
		s.mu.Unlock()
		players = append(players, p)
	}
	buf := make([]byte, 172, maxPacket)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		for _, p := range players {
			p.tick(moment(i)*moment(frameTime), buf)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/20000*100, "%core")
}

// Whoever is held hears the music that the other side sends, of a PBX or an app, and RTCP crosses both ways: it keeps
// NATs and the far end's own watch alive. The bridge adds nothing.
func TestMusicAndRTCPOnHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.trunk.talk(5)
		w.device.talk(5)
		w.hold("sendonly")
		w.trunk.heard()
		w.device.heard()
		up := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }
		trunk, device := w.peer(up(w.trunk.conn.Addr()), 0), w.peer(up(w.device.conn.Addr()), 0)
		for range 3 {
			music := w.trunk.talk(100)
			w.same("music", w.device.heard(), music)
			there, back := sr(0x1111, 1<<32), rr(0x2222, 0x1111, 0, 0)
			trunk.sendTo(w.trunk.ours.RTCP, there)
			device.sendTo(w.device.ours.RTCP, back)
			w.same("RTCP to who is held", device.heard(), [][]byte{there})
			w.same("RTCP to who holds", trunk.heard(), [][]byte{back})
		}
		w.same("to who holds", w.trunk.heard(), nil)
	})
}

// A call that ends in the moment in which it begins to ring leaves nothing that rings: the relay would wait for it.
func TestRingbackAtTheEnd(t *testing.T) {
	n := &rtptest.Network{}
	r, err := NewRelay(DefaultConfig(), Options{LocalAddress: relayIP, Listen: listenOn(n)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 10 {
		s, err := r.Open(SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetOffer(Trunk, body(netip.AddrPortFrom(trunkIP, 4000), "8 101")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Answer(Trunk); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		s.mu.Lock() // who has waited for it in vain for a millisecond gets it in turn
		both.Go(func() { s.Close() })
		<-time.After(3 * time.Millisecond)
		both.Go(func() { _ = s.Ringback() })
		<-time.After(3 * time.Millisecond)
		s.mu.Unlock()
		s.mu.Lock()
		<-time.After(3 * time.Millisecond)
		s.mu.Unlock()
		both.Wait()
	}
	r.ringers.mu.Lock()
	left := len(r.ringers.jobs)
	r.ringers.jobs = nil
	r.ringers.mu.Unlock()
	if left != 0 {
		t.Errorf("%d players are left", left)
	}
}
