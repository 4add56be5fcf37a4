package bridge_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// says holds that a message has a description with this direction.
func (w *world) says(m *siptest.Message, direction string) {
	w.t.Helper()
	if !bytes.Contains(m.Body, []byte("a="+direction+"\r\n")) {
		w.t.Errorf("%s has the description\n%swant a=%s", m.Start, m.Body, direction)
	}
}

// asked is the nth request of a method that the bridge has sent in a call, and
// which must be there by now.
func (w *world) asked(c *siptest.Call, method string, n int) *siptest.Message {
	w.t.Helper()
	got := c.Got(method)
	if len(got) < n {
		w.t.Fatalf("the bridge has sent %d %s, want %d", len(got), method, n)
	}
	return got[n-1]
}

// notAsked holds that the bridge has sent no re-INVITE and no UPDATE in a call.
func (w *world) notAsked(c *siptest.Call) {
	w.t.Helper()
	if n := len(c.Got("INVITE")) + len(c.Got("UPDATE")); n > 0 {
		w.t.Errorf("the bridge has asked the other side %d times", n)
	}
}

// origin is session id and version of a description.
func origin(m *siptest.Message) string {
	_, rest, _ := strings.Cut(string(m.Body), "o=- ")
	id, rest, _ := strings.Cut(rest, " ")
	version, _, _ := strings.Cut(rest, " ")
	return id + " " + version
}

// codecs exchanges the formats of a description's audio line.
func codecs(sdp []byte, formats string) []byte {
	before, rest, _ := bytes.Cut(sdp, []byte("RTP/AVP "))
	_, after, _ := bytes.Cut(rest, []byte("\r\n"))
	return []byte(string(before) + "RTP/AVP " + formats + "\r\n" + string(after))
}

// RFC 3264 §8.4: the hold of one side reaches the other, and its end too.
func TestHoldAndResumeFromTheTrunkReachTheDevice(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		w.talk(c, taken)
		held := w.await(c.Reinvite(c.Audio.SDP("sendonly")), time.Second, "200")
		w.says(held, "recvonly")
		w.says(w.asked(taken, "INVITE", 1), "sendonly")
		time.Sleep(90 * time.Second) // longer than media.timeout
		resumed := w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "200")
		w.says(resumed, "sendrecv")
		w.says(w.asked(taken, "INVITE", 2), "sendrecv")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("hold")
	})
}

func TestHoldAndResumeFromTheDeviceReachTheTrunk(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		first := w.await(c, time.Second, "200")
		w.says(w.await(taken.Reinvite(taken.Audio.SDP("inactive")), time.Second, "200"), "inactive")
		asked := w.asked(c, "INVITE", 1)
		w.says(asked, "inactive")
		if was, is := origin(first), origin(asked); is != strings.TrimSuffix(was, "0")+"1" {
			t.Errorf("o= had %q, has %q: want the same id, and the version one higher (RFC 3264 §8)", was, is)
		}
		time.Sleep(90 * time.Second)
		w.says(w.await(taken.Reinvite(taken.Audio.SDP("sendrecv")), time.Second, "200"), "sendrecv")
		w.says(w.asked(c, "INVITE", 2), "sendrecv")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, taken)
		taken.Bye()
		w.ended("callee_hung_up", 200)
		w.golden("hold_by_the_device")
	})
}

// RFC 3264 §8.4 still takes c=0.0.0.0, the hold of RFC 2543.
func TestHoldByUnspecifiedAddress(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		zero := bytes.ReplaceAll(c.Audio.SDP("sendrecv"), []byte("c=IN IP4 "+trunkIP), []byte("c=IN IP4 0.0.0.0"))
		w.says(w.await(c.Reinvite(zero), time.Second, "200"), "recvonly")
		w.says(w.asked(taken, "INVITE", 1), "sendonly")
		w.says(w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "200"), "sendrecv")
		w.says(w.asked(taken, "INVITE", 2), "sendrecv")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Each side holds the other; only when both have resumed do they talk.
func TestBothHold(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		wants := "sendonly"
		taken.Script(func(m *siptest.Message) *siptest.Reply { // a device that holds says so in its answers too
			if m.Method() != "INVITE" || wants == "sendrecv" {
				return nil
			}
			d := "sendonly"
			if bytes.Contains(m.Body, []byte("a=inactive")) {
				d = "inactive"
			}
			return &siptest.Reply{Code: 200, SDP: taken.Audio.SDP(d)}
		})
		w.says(w.await(taken.Reinvite(taken.Audio.SDP("sendonly")), time.Second, "200"), "recvonly")
		w.says(w.await(c.Reinvite(c.Audio.SDP("inactive")), time.Second, "200"), "inactive")
		w.says(w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "200"), "sendonly")
		wants = "sendrecv"
		w.says(w.await(taken.Reinvite(taken.Audio.SDP("sendrecv")), time.Second, "200"), "sendrecv")
		w.says(w.asked(c, "INVITE", 2), "sendrecv")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

func TestCodecChangeReachesTheOtherLeg(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		ok := w.await(c.Reinvite(codecs(c.Audio.SDP("sendrecv"), "0 101")), time.Second, "200")
		if asked := w.asked(taken, "INVITE", 1); !strings.Contains(string(asked.Body), "RTP/AVP 0 101\r\n") {
			t.Errorf("the device is offered\n%s", asked.Body)
		}
		if !strings.Contains(string(ok.Body), "RTP/AVP 0 101\r\n") {
			t.Errorf("the trunk is answered\n%s", ok.Body)
		}
		w.must(c.Audio.Hear(ok.Body))
		time.Sleep(100 * time.Millisecond)
		w.talk(c, taken)
		for _, call := range []*siptest.Call{c, taken} {
			heard := call.Audio.Received()
			equal(t, "payload type heard last", heard[len(heard)-1].Payload, 0)
		}
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("codec_change")
	})
}

// A phone that lists all its codecs again, in whatever order, keeps the one in
// use: nobody else is bothered.
func TestRefreshWithMoreCodecsIsAnsweredLocally(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		ok := w.await(taken.Reinvite(codecs(taken.Audio.SDP("sendrecv"), "18 9 8 0 101")), time.Second, "200")
		if !strings.Contains(string(ok.Body), "RTP/AVP 8 101\r\n") {
			t.Errorf("answered\n%s", ok.Body)
		}
		w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "200")
		w.notAsked(c)
		w.notAsked(taken)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 3261 §14.2: after a refusal the session is as it was, on both sides.
func TestRefusalOfTheOtherLegLeavesMediaAsItWas(t *testing.T) {
	for code, sdp := range map[int]func(c *siptest.Call) []byte{
		488: func(c *siptest.Call) []byte { return codecs(c.Audio.SDP("sendrecv"), "0 101") },
		603: func(c *siptest.Call) []byte { return c.Audio.SDP("sendonly") },
	} {
		call(t, nil, func(w *world) {
			c, taken, _ := established(w, siptest.Invitation{})
			taken.Script(refusing("INVITE", code))
			if m := w.await(c.Reinvite(sdp(c)), time.Second, "final"); m.Code() != code {
				t.Errorf("the trunk got %q, want %d", m.Start, code)
			}
			time.Sleep(100 * time.Millisecond)
			w.talk(c, taken)
			c.Bye()
			w.ended("caller_hung_up", 200)
			if code == 488 {
				w.golden("change_refused")
			}
		})
	}
}

// refusing answers one method so.
func refusing(method string, code int, extra ...siptest.Field) func(*siptest.Message) *siptest.Reply {
	return func(m *siptest.Message) *siptest.Reply {
		if m.Method() != method {
			return nil
		}
		return &siptest.Reply{Code: code, Header: extra}
	}
}

// A far end that does not know re-INVITE can be held all the same, and the
// call goes on.
func TestLegThatTakesNoReinviteKeepsItsCall(t *testing.T) {
	for _, code := range []int{405, 501, 500} {
		call(t, nil, func(w *world) {
			c, taken, _ := established(w, siptest.Invitation{})
			taken.Script(refusing("INVITE", code))
			w.says(w.await(c.Reinvite(c.Audio.SDP("sendonly")), time.Second, "200"), "recvonly")
			w.await(c.Reinvite(codecs(c.Audio.SDP("sendrecv"), "0 101")), time.Second, "488")
			w.says(w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "200"), "sendrecv")
			time.Sleep(100 * time.Millisecond)
			w.talk(c, taken)
			c.Bye()
			w.ended("caller_hung_up", 200)
		})
	}
}

func TestOfferlessReinviteFromTheTrunk(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		w.await(c.Reinvite(c.Audio.SDP("sendonly")), time.Second, "200")
		w.says(w.await(c.Reinvite(nil), time.Second, "200"), "sendrecv")
		time.Sleep(200 * time.Millisecond) // the answer in the ACK ends the hold
		w.says(w.asked(taken, "INVITE", 2), "sendrecv")
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("offerless_reinvite")
	})
}

func TestOfferlessReinviteFromTheDevice(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		offer := w.await(taken.Reinvite(nil), time.Second, "200")
		if !strings.Contains(string(offer.Body), "RTP/AVP 8 0 101\r\n") { // all that the trunk has offered
			t.Errorf("the device is offered\n%s", offer.Body)
		}
		time.Sleep(200 * time.Millisecond)
		w.notAsked(c)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

func TestReinviteWithUselessSDP(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		w.await(c.Reinvite([]byte("nonsense")), time.Second, "400")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, taken) // the session stays as it was (RFC 3261 §14.2)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Only the address changes: the media is anchored here, so the other side is
// not asked, and the audio follows.
func TestAddressChangeIsAnsweredLocallyAndLatchesAgain(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		w.talk(c, taken)
		moved, err := siptest.OpenAudio(context.Background(), w.net.Host(trunkIP), trunkIP+":0")
		w.must(err)
		w.work.Go(c.Audio.Close)
		c.Audio = moved
		ok := w.await(c.Reinvite(moved.SDP("sendrecv")), time.Second, "200")
		w.must(moved.Hear(ok.Body))
		time.Sleep(100 * time.Millisecond)
		w.notAsked(taken)
		before := taken.Audio.Hearing(taken.Audio).Sent
		w.must(c.Talk(context.Background(), 10))
		w.must(taken.Talk(context.Background(), 10))
		time.Sleep(200 * time.Millisecond)
		equal(t, "first of the device's packets at the new address", moved.Hearing(taken.Audio).First, before)
		equal(t, "packets from the new address", taken.Audio.Hearing(moved).Heard, 10)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}
