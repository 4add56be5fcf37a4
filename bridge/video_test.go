package bridge_test

import (
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

const camera = "m=video 9090 RTP/AVPF 99\r\na=rtpmap:99 H264/90000\r\na=rtcp-fb:99 nack pli\r\n"

// videoLine is that of an SDP.
func videoLine(sdp []byte) string {
	_, line, _ := strings.Cut(string(sdp), "m=video ")
	port, _, _ := strings.Cut(line, " ")
	switch port {
	case "", "0":
		return port
	}
	return "port"
}

func TestVideoFromEndToEnd(t *testing.T) {
	for name, test := range map[string]struct {
		device   string // its m= line
		offered  string // to the trunk after the answer
		withheld bool   // by the configuration
	}{
		"both have it":              {device: camera},
		"the device declines":       {device: "m=video 0 RTP/AVPF 99\r\n", offered: "0"},
		"the configuration says no": {withheld: true},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, func(s *setup) { s.media.Video = !test.withheld }, func(w *world) {
				p := w.awake(phoneOptions{script: siptest.AnswerAfter(time.Second), change: func(o *siptest.PhoneOptions) {
					o.Audio = func(a *siptest.Audio) { a.Beside(test.device) }
				}})
				c := w.invite(siptest.Invitation{Audio: func(a *siptest.Audio) { a.Beside(camera) }})
				early := w.await(c, time.Second, "180")
				w.await(c, 10*time.Second, "200")
				taken := w.taken(p)
				want := map[bool][2]string{false: {"port", "port"}, true: {"0", ""}}[test.withheld]
				equal(t, "video answered to the trunk", videoLine(early.Body), want[0])
				equal(t, "video offered to the device", videoLine(taken.Invite.Body), want[1])
				if test.offered != "" {
					again := w.await(c, time.Second, "INVITE")
					equal(t, "video offered to the trunk again", videoLine(again.Body), test.offered)
				}
				w.talk(c, taken)
				c.Bye()
				w.await(taken, time.Second, "BYE")
				w.ended("caller_hung_up", 200)
				if n := len(c.Got("INVITE")); n > 0 && test.offered == "" {
					t.Errorf("the trunk is asked %d times to change the call", n)
				}
			})
		})
	}
}

// The push says that the caller has video: the app's screen may show so.
func TestPushTellsOfVideo(t *testing.T) {
	for name, test := range map[string]struct {
		lines string
		want  bool
		early bool
	}{"with video": {camera, true, true}, "without early media": {camera, true, false}, "without": {"", false, true}} {
		t.Run(name, func(t *testing.T) {
			call(t, func(s *setup) { s.trunk.EarlyMedia = &test.early }, func(w *world) {
				w.sleeping(phoneOptions{script: siptest.AnswerAfter(0)})
				c := w.invite(siptest.Invitation{Audio: func(a *siptest.Audio) { a.Beside(test.lines) }})
				w.await(c, 10*time.Second, "200")
				for _, p := range w.sentPushes() {
					if p.Payload["has_video"] != test.want {
						t.Errorf("pushed %s", p.Payload)
					}
				}
				c.Bye()
				w.ended("caller_hung_up", 200)
			})
		})
	}
}
