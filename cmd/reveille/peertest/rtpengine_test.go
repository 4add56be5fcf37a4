package peertest

import (
	"fmt"
	"strings"
	"testing"
)

// startEngine runs an rtpengine without its kernel module, and gives its URL.
func startEngine(t testing.TB) string {
	t.Helper()
	control, media := freePort(t, bridgeIP, 1), freePort(t, bridgeIP, 60)
	p := start(t, "rtpengine", t.TempDir(), program(t, "rtpengine"), "--foreground", "--log-stderr", "--log-level=6", "--table=-1",
		"--config-file=none", "--num-threads=2", "--interface="+bridgeIP, "--listen-ng="+hostPort(bridgeIP, control),
		fmt.Sprintf("--port-min=%d", media), fmt.Sprintf("--port-max=%d", media+59))
	p.waitFor(t, "Startup complete")
	return "udp://" + hostPort(bridgeIP, control)
}

// byEngine checks that the audio of a call has gone through the rtpengine.
func byEngine(t testing.TB, b *bridge) {
	t.Helper()
	if got := b.metric(t, "reveille_rtpengine_up", `engine="`+b.Engine+`"`); got != "1" {
		t.Errorf("reveille_rtpengine_up is %q", got)
	}
	if got := b.metric(t, "reveille_rtpengine_requests_total", `engine="`+b.Engine+`",result="ok"`); got == "" {
		t.Error("it was asked for nothing")
	}
	if got := b.metric(t, "reveille_rtpengine_requests_total", `engine="`+b.Engine+`",result="refused"`); got != "" {
		t.Errorf("%s requests were refused", got)
	}
}

// TestEngineBothWays is TestAudioBothWays through rtpengine, with phones that encrypt and one that does not.
func TestEngineBothWays(t *testing.T) {
	t.Parallel()
	for i, kind := range []string{"", "srtp", "srtp-mand"} {
		t.Run("with "+kind, func(t *testing.T) {
			t.Parallel()
			played := source(uint64(301+i), long)
			b := (&bridge{Engine: startEngine(t), Silent: true}).start(t)
			network := "tls"
			if kind == "" {
				network = "tcp"
			}
			b.install(t, network)
			c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Echo: true}).start(t)
			push := b.pushed(t)
			p := b.wake(t, network, &phone{Audio: played, Auto: true, SRTP: kind}).established(t).hears(t, played)
			c.proceed(t)
			c.finish(t)
			checkAudio(t, "the phone's echo", p.recording(t), played)
			record := fmt.Sprint(checkRecord(t, b, push))
			if strings.Contains(record, "detail:AES_CM_128_HMAC_SHA1_80 device:") != (kind != "") {
				t.Error("the record is wrong about the phone's encryption")
			}
			byEngine(t, b)
			b.stop(t)
		})
	}
}

// TestEngineRingback listens at the carrier's media port: first rtpengine's ringback, then what the phone plays.
func TestEngineRingback(t *testing.T) {
	t.Parallel()
	played, e := source(311, long), newEar(t)
	b := (&bridge{Engine: startEngine(t)}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Ear: e}).start(t)
	b.pushed(t)
	waitUntil(t, "ringback while the phone sleeps", func() bool {
		pcm, _ := e.heard()
		return toneSeconds(pcm, 425) >= 0.8
	})
	b.wake(t, "tcp", &phone{Audio: played}).ringing(t).command(t, "accept")
	hears(t, "the caller to hear the phone", played, func() []int16 {
		pcm, _ := e.heard()
		return pcm
	})
	c.proceed(t)
	c.finish(t)
	pcm, _ := e.heard()
	checkAudio(t, "what the caller heard", pcm, played)
	byEngine(t, b)
	b.stop(t)
}

// TestEngineCalls has the calls that go otherwise: the phone hangs up, the INVITE has no offer, the carrier holds.
func TestEngineCalls(t *testing.T) {
	t.Parallel()
	for i, c := range []*carrier{
		{Scenario: "callee_hangs_up"}, {Scenario: "caller_hangs_up", Offerless: true}, {Scenario: "held"},
	} {
		t.Run(c.Scenario, func(t *testing.T) {
			t.Parallel()
			sent := source(uint64(321+i), long)
			b := (&bridge{Engine: startEngine(t)}).start(t)
			b.install(t, "tcp")
			c.To, c.Number, c.Audio = b.SIP, b.Number, sent
			c.start(t)
			push := b.pushed(t)
			p := b.wake(t, "tcp", &phone{Audio: source(331, long)}).answer(t)
			switch c.Scenario {
			case "callee_hangs_up":
				p.hears(t, sent).hangUp(t)
			case "held":
				waitUntil(t, "the 200s to INVITE, re-INVITE and both UPDATEs", func() bool { return len(c.received(t, "SIP/2.0 200")) == 4 })
				c.proceed(t)
			default:
				p.hears(t, sent)
				c.proceed(t)
			}
			c.finish(t)
			if c.Scenario != "held" {
				checkAudio(t, "what the phone heard", p.recording(t), sent)
			}
			checkRecord(t, b, push)
			byEngine(t, b)
			b.stop(t)
		})
	}
}
