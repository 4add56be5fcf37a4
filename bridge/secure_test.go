package bridge_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/rtp/rtptest"
	"reveille/sip/siptest"
)

// overTLS is a setup in which phones, and the trunk if it is to, come by TLS.
func overTLS(t *testing.T, trunk string, change func(*setup)) (func(*setup), *tls.Config) {
	t.Helper()
	mine, pool := certificate(t)
	theirs := &tls.Config{RootCAs: pool, ServerName: bridgeIP}
	return func(s *setup) {
		s.tls = &tls.Config{Certificates: []tls.Certificate{mine}}
		if trunk != "" {
			s.trunk.SRTP, s.trunkTLS = trunk, theirs
		}
		if change != nil {
			change(s)
		}
	}, theirs
}

// secure is a phone that is awake, by TLS if there is a configuration for it, with keys unless seed is 0.
func (w *world) secure(theirs *tls.Config, seed byte, script func(*siptest.Call)) *phone {
	w.t.Helper()
	return w.awake(phoneOptions{script: script, change: func(o *siptest.PhoneOptions) {
		if theirs != nil {
			o.Transport, o.Bridge, o.TLS = "tls", bridgeTLS, theirs
		}
		o.Audio = func(a *siptest.Audio) {
			if seed != 0 {
				a.Protect(&rtptest.SRTP{Seed: seed}, "")
			}
		}
	}})
}

// keysIn are the keys in an SDP.
func keysIn(sdp []byte) (keys []string) {
	for _, m := range regexp.MustCompile(`inline:([^\s|]+)`).FindAllSubmatch(sdp, -1) {
		keys = append(keys, string(m[1]))
	}
	return keys
}

// steps are the events of a timeline of one name.
func steps(r bridge.Record, event string) (list []string) {
	for _, s := range r.Timeline {
		if s.Event == event {
			list = append(list, s.Detail)
		}
	}
	return list
}

// quoted is a log that is kept, for one goroutine at a time.
type quoted struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (q *quoted) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.text.Write(p)
}

func TestSRTPWithADeviceByTLS(t *testing.T) {
	kept := &quoted{}
	change, theirs := overTLS(t, "", func(s *setup) { s.log = slog.NewTextHandler(kept, &slog.HandlerOptions{Level: slog.LevelDebug}) })
	call(t, change, func(w *world) {
		p := w.secure(theirs, 4, siptest.AnswerAfter(time.Second))
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		offer := string(taken.Invite.Body)
		if !taken.Audio.Protected() || !strings.Contains(offer, " RTP/AVP ") || strings.Count(offer, "a=crypto:") != 3 {
			t.Errorf("offered\n%s", offer)
		}
		w.talk(c, taken)
		keys := append(keysIn(taken.Invite.Body), keysIn(taken.Audio.SDP("sendrecv"))...)
		taken.Bye()
		w.await(c, time.Second, "BYE")
		r := w.ended("callee_hung_up", 200)
		if got := steps(r, "SRTP"); len(got) != 1 || got[0] != "AES_CM_128_HMAC_SHA1_80" {
			t.Errorf("timeline %v", got)
		}
		record, err := json.Marshal(r)
		w.must(err)
		cdr, err := os.ReadFile(w.cdr)
		w.must(err)
		for where, text := range map[string]string{"record": string(record), "CDR": string(cdr), "log": kept.text.String(), "the trunk's answer": string(c.Got("200")[0].Body)} {
			for _, key := range keys {
				if len(keys) != 4 || len(text) < 100 || strings.Contains(text, key) {
					t.Errorf("a key of %d is in the %s", len(keys), where)
				}
			}
		}
	})
}

func TestNoKeysGoByPlainSIP(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.secure(nil, 4, siptest.AnswerAfter(time.Second))
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		if strings.Contains(string(taken.Invite.Body), "crypto") {
			t.Errorf("offered\n%s", taken.Invite.Body)
		}
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

// A phone that refuses keys with RTP/AVP is offered RTP/SAVP, and then none: each once.
func TestPhoneThatRefusesOneKindOfKeysIsOfferedTheOther(t *testing.T) {
	for name, takes := range map[string]func(offer string) bool{
		"insists on SAVP": func(offer string) bool { return strings.Contains(offer, " RTP/SAVP ") },
		"knows no keys": func(offer string) bool {
			return !strings.Contains(offer, "crypto") && !strings.Contains(offer, "UDP/TLS")
		},
	} {
		change, theirs := overTLS(t, "", nil)
		call(t, change, func(w *world) {
			p := w.secure(theirs, 4, func(c *siptest.Call) {
				if !takes(string(c.Invite.Body)) {
					c.Respond(488, nil)
					return
				}
				siptest.AnswerAfter(time.Second)(c)
			})
			c := w.invite(siptest.Invitation{})
			w.await(c, 10*time.Second, "200")
			taken := w.taken(p)
			for !takes(string(taken.Invite.Body)) {
				taken = w.taken(p)
			}
			w.notTaken(p)
			if taken.Audio.Protected() != (name == "insists on SAVP") {
				t.Errorf("%s: encrypted: %v", name, taken.Audio.Protected())
			}
			w.talk(c, taken)
			c.Bye()
			w.await(taken, time.Second, "BYE")
			w.ended("caller_hung_up", 200)

			again := w.invite(siptest.Invitation{}) // which is remembered
			w.await(again, 10*time.Second, "200")
			if offer := string(w.taken(p).Invite.Body); !takes(offer) {
				t.Errorf("%s: the next call began with\n%s", name, offer)
			}
			w.notTaken(p)
			w.await(again.Bye(), time.Second, "200")
			time.Sleep(time.Second)
		})
	}
}

func TestSRTPRequiredOfDevices(t *testing.T) {
	change, theirs := overTLS(t, "", func(s *setup) { s.media.DeviceSRTP = "required" })
	call(t, change, func(w *world) { // by TCP it is not called
		p := w.secure(nil, 4, siptest.AnswerAfter(time.Second))
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "488")
		w.notTaken(p)
		if got := steps(w.ended("no_codec", 488), "device not called"); len(got) != 1 || !strings.Contains(got[0], "not by TLS or WSS") {
			t.Errorf("timeline %v", got)
		}
	})
	call(t, change, func(w *world) { // it cannot encrypt
		p := w.secure(theirs, 0, siptest.AnswerAfter(time.Second))
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "488")
		if offer := string(w.taken(p).Invite.Body); !strings.Contains(offer, " RTP/SAVP ") {
			t.Errorf("offered\n%s", offer)
		}
		w.ended("no_codec", 488)
	})
	call(t, change, func(w *world) {
		p := w.secure(theirs, 4, siptest.AnswerAfter(time.Second))
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

// protect gives a trunk's call SRTP.
func protect(a *siptest.Audio) { a.Protect(&rtptest.SRTP{Seed: 8}, "RTP/SAVP") }

// The trunk's ringback and speech are encrypted, the phone's are not; then the trunk changes its key.
func TestSRTPWithATrunkByTLS(t *testing.T) {
	change, _ := overTLS(t, "required", nil)
	call(t, change, func(w *world) {
		p := w.secure(nil, 0, siptest.AnswerAfter(3*time.Second))
		c := w.invite(siptest.Invitation{Audio: protect})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		if h := c.Audio.Hearing(taken.Audio); h.Other < 40 {
			t.Errorf("ringback: %d packets", h.Other)
		}
		first := keysIn(c.Got("200")[0].Body)
		c.Audio.Protect(&rtptest.SRTP{Seed: 99}, "RTP/SAVP")
		x := c.Reinvite(c.Audio.SDP("sendrecv"))
		answer := w.await(x, 10*time.Second, "200").Body
		w.must(c.Audio.Hear(answer))
		second := keysIn(answer)
		if len(first) != 1 || len(second) != 1 || first[0] == second[0] {
			t.Errorf("our keys are %d and %d, and the same: %v", len(first), len(second), len(first) > 0 && first[0] == second[0])
		}
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

func TestTrunkWithoutTheSRTPThatIsRequiredIsRefused(t *testing.T) {
	change, _ := overTLS(t, "required", nil)
	for _, early := range []bool{true, false} {
		call(t, func(s *setup) { change(s); s.trunk.EarlyMedia = &early }, func(w *world) { // by TLS, without keys
			p := w.secure(nil, 0, nil)
			c := w.invite(siptest.Invitation{})
			w.await(c, 10*time.Second, "488")
			w.notTaken(p)
			w.ended("no_codec", 488)
		})
		for _, offerless := range []bool{false, true} {
			call(t, func(s *setup) { s.trunk.SRTP = "required"; s.trunk.EarlyMedia = &early }, func(w *world) { // by UDP, with keys
				p := w.secure(nil, 0, nil)
				c := w.invite(siptest.Invitation{Audio: protect, NoOffer: offerless})
				w.await(c, 10*time.Second, "488")
				w.notTaken(p)
				w.ended("no_codec", 488)
			})
		}
	}
}
