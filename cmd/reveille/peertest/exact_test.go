package peertest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// TestAudioIsExact has baresip as the phone and a carrier without encryption talk at the same time, and compares
// what each heard with what the other sent, sample by sample: with RTP, keys in the SDP (SDES), and DTLS-SRTP.
func TestAudioIsExact(t *testing.T) {
	t.Parallel()
	for i, c := range []struct{ kind, network, recorded string }{
		{"", "tls", ""}, {"srtp", "tls", "AES_CM_128_HMAC_SHA1_80"}, {"srtp-mand", "tls", "AES_CM_128_HMAC_SHA1_80"}, {"dtls_srtp", "tcp", "DTLS "}, {"dtls_srtp", "tls", "DTLS "},
	} {
		t.Run(strings.TrimPrefix(c.kind+"-"+c.network, "-"), func(t *testing.T) {
			t.Parallel()
			played := source(uint64(401+i), long)
			b := (&bridge{}).start(t)
			b.install(t, c.network)
			call, err := outsideCarrier(t, b).Invite(siptest.Invitation{To: b.Number, From: "+4940123456"})
			must(t, err)
			push := b.pushed(t)
			p := b.wake(t, c.network, &phone{Audio: played, Auto: true, SRTP: c.kind})
			talk(t, call)
			p.established(t)
			signal := signalOf(call.Audio.SSRC(), int(long/(20*time.Millisecond)))
			p.hears(t, signal)
			hears(t, "the carrier to hear the phone", played, func() []int16 { return samples(payloads(t, call, b.missed(t))) })
			missed := b.missed(t)
			_, err = call.Bye().Await(patience, "200")
			must(t, err)
			checkAudio(t, "what the phone heard", p.recording(t), signal)
			checkAudio(t, "what the carrier heard", samples(payloads(t, call, missed)), played)
			if record := fmt.Sprint(checkRecord(t, b, push)); c.recorded != "" && !strings.Contains(record, c.recorded) {
				t.Errorf("the record does not say that the phone's media was encrypted by %s", c.recorded)
			}
			b.stop(t)
		})
	}
}

// signalOf is what siptest's audio of that SSRC says.
func signalOf(ssrc uint32, frames int) (alaw []byte) {
	for k := range frames {
		alaw = append(alaw, siptest.Frame(ssrc, k)...)
	}
	return alaw
}

// payloads is the phone's A-law at the carrier; the ringback before it is another source. No packet may be missing, but
// those that the bridge had no time for, or out of order.
func payloads(t testing.TB, call *siptest.Call, missed int) (alaw []byte) {
	t.Helper()
	got := call.Audio.Received()
	for i, p := range got {
		if source := got[len(got)-1].SSRC; p.SSRC != source || p.Payload != 8 {
			continue
		} else if i > 0 && got[i-1].SSRC == source && p.Seq != got[i-1].Seq+1 {
			if missed -= int(p.Seq - got[i-1].Seq - 1); missed < 0 { // which wraps where it is out of order
				t.Errorf("the phone's packet %d came after %d", p.Seq, got[i-1].Seq)
			}
		}
		alaw = append(alaw, p.Data...)
	}
	return alaw
}
