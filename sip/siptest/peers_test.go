package siptest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// duo is a trunk and a phone that speak to each other without a bridge between.
func duo(t *testing.T, n *siptest.Network, script func(*siptest.Call), l *siptest.Ladder) (*siptest.Trunk, *siptest.Phone) {
	t.Helper()
	phone := siptest.NewPhone(siptest.PhoneOptions{Sockets: n.Host("192.0.2.2"), Local: "192.0.2.2",
		Transport: "udp", Bridge: "192.0.2.1:5060", Script: script})
	if err := phone.Reconnect(background); err != nil {
		t.Fatal(err)
	}
	trunk, err := siptest.NewTrunk(background, siptest.TrunkOptions{Sockets: n.Host("192.0.2.1"), Local: "192.0.2.1:5060",
		Bridge: "192.0.2.2:49152", Ladder: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trunk.Close(); phone.Close() })
	return trunk, phone
}

const answeredCall = `          trunk           reveille
      0     |-- INVITE +SDP ->|
     20     |<----- 180 ------|
   1020     |<-- 200 +SDP ----|
   1020     |------ ACK ----->|
   3020     |------ BYE ----->|
   3040     |<--- 200 BYE ----|
`

func TestTrunkAndPhoneTalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		n.Link("", "", siptest.Link{Delay: 10 * time.Millisecond})
		ladder := siptest.NewLadder("trunk", siptest.Bridge)
		trunk, phone := duo(t, n, siptest.AnswerAfter(time.Second), ladder)
		call, err := trunk.Invite(siptest.Invitation{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := call.Await(5*time.Second, "200"); err != nil {
			t.Fatal(err)
		}
		other, err := phone.AwaitCall(0)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = other.Talk(background, 100) }()
		if err := call.Talk(background, 100); err != nil {
			t.Fatal(err)
		}
		call.Bye()
		if err := other.AwaitOver(time.Second); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		for _, h := range []siptest.Hearing{call.Audio.Hearing(other.Audio), other.Audio.Hearing(call.Audio)} {
			if h.Sent != 100 || !h.Whole(0) {
				t.Errorf("audio: %+v", h)
			}
		}
		trunk.Close()
		phone.Close()
		if got := ladder.String(); got != answeredCall {
			t.Errorf("ladder:\n%s\nwant\n%s", got, answeredCall)
		}
	})
}

func TestPeersRepeatWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(20) {
			n := siptest.NewNetwork()
			n.Seed(seed)
			n.Link("", "", siptest.Link{Delay: 10 * time.Millisecond, Loss: 0.3, Reorder: 0.2})
			trunk, phone := duo(t, n, siptest.AnswerAfter(time.Second), nil)
			call, err := trunk.Invite(siptest.Invitation{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := call.Await(40*time.Second, "200"); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if _, err := call.Bye().Await(40*time.Second, "200"); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			if n := len(phone.Calls()); n != 1 {
				t.Errorf("seed %d: the phone saw %d calls", seed, n)
			}
			trunk.Close()
			phone.Close()
		}
	})
}

func TestCancelledAndRefusedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		trunk, phone := duo(t, n, siptest.RefuseAfter(3*time.Second, 486), nil)
		defer phone.Close()
		defer trunk.Close()
		first, err := trunk.Invite(siptest.Invitation{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.Await(time.Second, "180"); err != nil {
			t.Fatal(err)
		}
		trunk.Cancel(first, siptest.Field{Name: "Reason", Value: "SIP;cause=487"})
		if _, err := first.Await(time.Second, "487"); err != nil {
			t.Error(err)
		}
		taken, err := phone.AwaitCall(0)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := taken.Await(time.Second, "CANCEL"); err != nil || c.Get("Reason") != "SIP;cause=487" {
			t.Errorf("CANCEL %+v, %v", c, err)
		}
		if _, err := taken.Await(time.Second, "ACK"); err != nil {
			t.Error(err)
		}
		second, err := trunk.Invite(siptest.Invitation{})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := second.Await(10*time.Second, "final"); err != nil || m.Code() != 486 {
			t.Errorf("%v, %v", m, err)
		}
	})
}

func TestHearingNoticesAlteredPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		a, err := siptest.OpenAudio(background, n.Host("192.0.2.1"), "192.0.2.1:4000")
		if err != nil {
			t.Fatal(err)
		}
		b, err := siptest.OpenAudio(background, n.Host("192.0.2.2"), "192.0.2.2:4000")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		defer a.Close()
		if err := a.Hear(b.SDP("sendrecv")); err != nil {
			t.Fatal(err)
		}
		forger := socket(t, n.Host("192.0.2.1"), 5000)
		n.Tap(func(p siptest.Packet) {
			if p.From == a.Addr() {
				p.Data[100] ^= 1
				go func() { _, _ = forger.WriteToUDPAddrPort(p.Data, b.Addr()) }()
			}
		})
		if err := a.SendFrame(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if h := b.Hearing(a); h.Heard != 1 || h.Wrong == 0 || h.Whole(0) {
			t.Errorf("%+v", h)
		}
	})
}

func TestParseMessageRefusesWhatIsNone(t *testing.T) {
	for _, text := range []string{"", "INVITE sip:a SIP/2.0\r\n", "GET / HTTP/1.1\r\n\r\n", "SIP/2.0 200 OK\r\nnonsense\r\n\r\n"} {
		if m, err := siptest.ParseMessage([]byte(text)); err == nil {
			t.Errorf("%q was read as %+v", text, m)
		}
	}
	m, err := siptest.ParseMessage([]byte("SIP/2.0 180 Ringing\r\nCSeq: 7 INVITE\r\nreason: SIP;cause=1\r\n\r\n"))
	if err != nil || m.Code() != 180 || m.Method() != "INVITE" || m.Get("Reason") != "SIP;cause=1" {
		t.Errorf("%+v, %v", m, err)
	}
}
