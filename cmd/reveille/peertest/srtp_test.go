package peertest

import (
	"fmt"
	"strings"
	"testing"
)

// TestAudioBothWaysBySRTP is TestAudioBothWays with a phone that encrypts: where it can, or always.
func TestAudioBothWaysBySRTP(t *testing.T) {
	t.Parallel()
	for i, kind := range []string{"srtp", "srtp-mand"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			played := source(uint64(191+i), long)
			b := (&bridge{Silent: true}).start(t)
			b.install(t, "tls")
			c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Echo: true}).start(t)
			push := b.pushed(t)
			p := b.wake(t, "tls", &phone{Audio: played, Auto: true, SRTP: kind}).established(t).hears(t, played)
			c.proceed(t)
			c.finish(t)
			checkAudio(t, "the phone's echo", p.recording(t), played)
			if n := len(p.traced("INVITE sip:")); n != 1+2*i { // srtp-mand wants RTP/SAVP, which comes after RTP/AVP and DTLS
				t.Errorf("the phone got %d INVITEs", n)
			}
			if record := fmt.Sprint(checkRecord(t, b, push)); !strings.Contains(record, "detail:AES_CM_128_HMAC_SHA1_80 device:") || strings.Contains(record, "inline:") {
				t.Error("the record does not say that the phone's media was encrypted, or says too much")
			}
			b.stop(t)
		})
	}
}
