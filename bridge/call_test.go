package bridge_test

import (
	"strings"
	"testing"
	"time"

	"reveille/sip"
	"reveille/sip/siptest"
)

func TestSleepingPhoneAnswers(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
		c := w.invite(siptest.Invitation{FromName: "Ada"})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		r := w.ended("caller_hung_up", 200)
		w.notTaken(p)
		equal(t, "push states", pushStates(c), "sent accepted awake")
		equal(t, "UUID in the INVITE", taken.UUID(), r.Call)
		equal(t, "UUID in the push", w.sentPushes()[0].Payload["uuid"], any(r.Call))
		equal(t, "Call-ID in the push", w.sentPushes()[0].Payload["call_id"], any(taken.ID))
		equal(t, "caller in the push", w.sentPushes()[0].Payload["caller_name"], any("Ada"))
		equal(t, "SDP of 180 and 200", string(c.Got("180")[0].Body), string(c.Got("200")[0].Body))
		for _, side := range []string{"trunk", "device"} {
			if m := r.Media[side]; m.Packets != 100 || m.Lost != 0 {
				t.Errorf("media of the %s on record: %+v", side, m)
			}
		}
		w.golden("sleeping_answered")
	})
}

func TestAwakePhoneAnswersWithoutAPush(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: siptest.AnswerAfter(time.Second)})
		time.Sleep(5 * time.Second)
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		taken.Bye()
		w.await(c, time.Second, "BYE")
		r := w.ended("callee_hung_up", 200)
		equal(t, "pushes", len(w.sentPushes()), 0)
		equal(t, "pushes on record", len(r.Pushes), 0)
		w.golden("awake")
	})
}

func TestAnsweredInCallKitFirst(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(0)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		taken.Bye()
		w.await(c, time.Second, "BYE")
		w.ended("callee_hung_up", 200)
		w.golden("answered_in_callkit_first")
	})
}

func TestOfferlessInvite(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{NoOffer: true})
		ok := w.await(c, 5*time.Second, "200")
		for _, m := range c.Got("180") {
			if m.Body != nil {
				t.Error("a 180 to an INVITE without an offer has SDP")
			}
		}
		if ok.Body == nil {
			t.Fatal("the 200 has no offer")
		}
		taken := w.taken(p)
		time.Sleep(50 * time.Millisecond) // the bridge has the answer only when the ACK is there
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("offerless")
	})
}

func TestPlainRingingWithoutEarlyMedia(t *testing.T) {
	call(t, func(s *setup) { s.trunk.EarlyMedia = new(bool) }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		for _, m := range c.Got("180") {
			if m.Body != nil {
				t.Error("a 180 has SDP although early_media is false")
			}
		}
		taken := w.taken(p)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("no_early_media")
	})
}

func TestRingbackUntilTheAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(4 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		answered := time.Now()
		taken := w.taken(p)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
		tone, late := 0, 0
		for _, packet := range c.Audio.Received() {
			switch speech := string(packet.Data) == string(siptest.Frame(packet.SSRC, int(packet.Seq))); {
			case !speech && packet.At.After(answered.Add(trunkDelay)):
				late++
			case !speech:
				tone++
			}
		}
		if tone < 45 || late > 0 { // one second of tone in five: the European cadence
			t.Errorf("%d packets of ringback before the answer, %d after it", tone, late)
		}
	})
}

// A trunk's own tone goes before that of all others: two seconds of an American one, in place of one of the European.
func TestSoundOfTheTrunk(t *testing.T) {
	call(t, func(s *setup) { s.trunk.Tone = "us" }, func(w *world) {
		w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Minute)})
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Second, "180")
		time.Sleep(3 * time.Second)
		if n := len(c.Audio.Received()); n != 100 {
			t.Errorf("%d packets of the tone", n)
		}
		w.trunk.Cancel(c)
		w.ended("cancelled", 487)
	})
}

func TestUDPPhone(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second),
			change: func(o *siptest.PhoneOptions) { o.Transport, o.Algorithm = "udp", "MD5" }})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		taken.Bye()
		w.await(c, time.Second, "BYE")
		w.ended("callee_hung_up", 200)
		w.golden("udp_phone")
	})
}

func TestRepeatedRingingEveryMinute(t *testing.T) {
	call(t, func(s *setup) { s.calls.RingTimeout = 3 * time.Minute }, func(w *world) {
		w.recalls = 1 // its connection is closed when it was silent for 150 s
		w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		w.await(c, 4*time.Minute, "480")
		w.ended("no_answer", 480)
		plain := 0
		for _, m := range c.Got("180") {
			if m.Get("X-Reveille-Push") == "" {
				plain++
			}
		}
		if plain < 3 { // at once, and after each minute of three
			t.Errorf("%d plain 180s in three minutes of ringing", plain)
		}
	})
}

func TestUnknownNumber(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		c := w.invite(siptest.Invitation{To: "+49309999"})
		m := w.await(c, time.Second, "404")
		equal(t, "Reason", m.Get("Reason"), `Q.850;cause=1;text="Unallocated number"`)
		w.ended("unknown_number", 404)
		w.golden("unknown_number")
	})
}

func TestUnreadableOffer(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		c := w.invite(siptest.Invitation{SDP: []byte("this is no SDP")})
		w.await(c, time.Second, "400")
		w.ended("bad_offer", 400)
		equal(t, "pushes", len(w.sentPushes()), 0)
	})
}

func TestExtensionWithoutDevices(t *testing.T) {
	call(t, nil, func(w *world) {
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Second, "480")
		w.ended("no_device", 480)
	})
}

func TestMaxCalls(t *testing.T) {
	call(t, func(s *setup) { s.trunk.MaxCalls = 1 }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		second, err := w.trunk.Invite(siptest.Invitation{To: number})
		w.must(err)
		m := w.await(second, time.Second, "486")
		equal(t, "Reason", m.Get("Reason"), `Q.850;cause=34;text="No circuit available"`)
		c.Bye()
		w.await(w.taken(p), time.Second, "BYE")
		third, err := w.trunk.Invite(siptest.Invitation{To: number})
		w.must(err)
		w.await(third, 5*time.Second, "200")
		third.Bye()
		time.Sleep(40 * time.Second)
		w.golden("max_calls")
	})
}

func TestTwoCallsAtOnce(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		a := w.invite(siptest.Invitation{From: "+49301"})
		b, err := w.trunk.Invite(siptest.Invitation{From: "+49302", To: number})
		w.must(err)
		w.await(a, 5*time.Second, "200")
		w.await(b, 5*time.Second, "200")
		first, second := w.taken(p), w.taken(p)
		if first.UUID() == second.UUID() {
			t.Error("both INVITEs have the same call UUID")
		}
		if first.Invite.Get("From") == second.Invite.Get("From") {
			t.Error("both calls show the same caller")
		}
		a.Bye()
		b.Bye()
		w.must(first.AwaitOver(time.Second))
		w.must(second.AwaitOver(time.Second))
		time.Sleep(40 * time.Second)
		w.notTaken(p)
	})
}

func TestAdministratorHangsUp(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		taken := w.taken(p)
		w.must(w.bridge.Hangup(taken.UUID()))
		w.await(c, time.Second, "BYE")
		w.await(taken, time.Second, "BYE")
		w.ended("hung_up_by_admin", 200)
	})
}

func TestLongestCall(t *testing.T) {
	call(t, func(s *setup) { s.calls.MaxDuration = time.Hour; s.media.Timeout = 2 * time.Hour }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second),
			change: func(o *siptest.PhoneOptions) { o.Expires = 7200 }})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		for range 36 {
			time.Sleep(100 * time.Second)
			w.must(p.Ping())
		}
		w.await(c, 3*time.Second, "BYE")
		w.await(w.taken(p), time.Second, "BYE")
		w.ended("max_duration", 200)
	})
}

func TestSilenceEndsTheCall(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		bye := w.await(c, 2*time.Minute, "BYE")
		equal(t, "Reason", strings.Join(bye.All("Reason"), ", "), `SIP;cause=503;text="Service Unavailable", Q.850;cause=41;text="No media"`)
		w.await(w.taken(p), time.Second, "BYE")
		w.ended("media_timeout", 200)
	})
}

func TestTrunkByTCPVanishesWhileRinging(t *testing.T) {
	call(t, func(s *setup) { s.tcpTrunk = true }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		w.invite(siptest.Invitation{})
		taken := w.taken(p)
		time.Sleep(time.Second)
		w.trunk.Drop()
		w.await(taken, time.Second, "CANCEL")
		w.ended("caller_lost", 480)
		w.golden("trunk_vanishes")
	})
}

func TestDrainRefusesNewCalls(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		w.sip.Drain(30 * time.Second)
		second, err := w.trunk.Invite(siptest.Invitation{To: number})
		w.must(err)
		m := w.await(second, time.Second, "503")
		equal(t, "Retry-After", m.Get("Retry-After"), "30")
		taken := w.taken(p)
		w.talk(c, taken) // the live call goes on
		c.Bye()
		w.must(taken.AwaitOver(time.Second))
		w.ended("caller_hung_up", 200)
		w.golden("drain")
	})
}

func TestShutdownEndsCalls(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		ringing, err := w.trunk.Invite(siptest.Invitation{To: number})
		w.must(err)
		w.await(ringing, time.Second, "180")
		w.stopBridge()
		time.Sleep(time.Second)
		w.await(c, 0, "BYE")
		w.await(ringing, 0, "503")
		w.await(w.taken(p), 0, "BYE")
		for _, r := range w.records() {
			equal(t, "ending", r.Ending, "shutdown")
		}
		equal(t, "CDRs", len(w.records()), 2)
		w.start()
	})
}

func TestCallerIsTold(t *testing.T) {
	call(t, func(s *setup) { s.trunk.CallerID = []string{sip.CallerFromPAI} }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{From: "anonymous", Header: []siptest.Field{{Name: "P-Asserted-Identity", Value: `"Grace" <sip:+44201@carrier>`}}})
		w.await(c, 5*time.Second, "200")
		equal(t, "handle in the push", w.sentPushes()[0].Payload["handle"], any("+44201"))
		from := w.taken(p).Invite.Get("From")
		if want := `"Grace" <sip:+44201@`; len(from) < len(want) || from[:len(want)] != want {
			t.Errorf("From of the INVITE to the device: %s", from)
		}
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}
