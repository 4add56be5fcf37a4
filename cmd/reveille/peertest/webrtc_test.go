package peertest

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip"
	"reveille/sip/siptest"
)

// webCall is a bridge with a phone in a browser, which sleeps, and a carrier that calls it.
type webCall struct {
	*bridge
	page    *webPhone
	hook    *pushtest.Webhook
	carrier *siptest.Trunk
	account map[string]any // what the page registers with
	signal  uint32         // SSRC of the carrier's audio
}

func newWebCall(t testing.TB) *webCall {
	t.Helper()
	hook, err := pushtest.NewWebhook(pushtest.WebhookOptions{})
	must(t, err)
	t.Cleanup(hook.Close)
	secret, err := hook.SecretFile(t.TempDir())
	must(t, err)
	hookCA, err := hook.CAFile(t.TempDir())
	must(t, err)
	ca := newAuthority(t)
	w := &webCall{hook: hook, page: newWebPhone(t, ca, source(301, long))}
	w.bridge = (&bridge{CA: ca, Origin: w.page.server.URL, Webhook: hook.URL(), WebhookSecret: secret, WebhookCA: hookCA}).start(t)
	w.account = map[string]any{
		"url": "wss://" + w.WSS, "user": w.User, "host": bridgeIP, "password": w.Password, "instance": w.instance,
		"push": map[string]string{"provider": "webpush", "param": "phone.example.com", "prid": w.token + "/=+"},
	}
	hook.AddToken(w.token + "/=+")
	w.carrier, err = siptest.NewTrunk(context.Background(), siptest.TrunkOptions{Sockets: sip.SystemNetwork(), Local: hostPort(carrierIP, 0), Bridge: w.SIP})
	must(t, err)
	t.Cleanup(w.carrier.Close)
	w.page.order("wake", map[string]any{"account": w.account}) // its first start
	w.page.await(t, "registered")
	w.sleeps(t)
	return w
}

// sleeps has the page go away, as a browser does that is put to sleep.
func (w *webCall) sleeps(t testing.TB) {
	t.Helper()
	w.page.order("sleep", nil)
	w.page.await(t, "loaded")
	waitUntil(t, "the binding to go with the WebSocket", func() bool {
		n := w.metric(t, "reveille_bindings", `transport="wss"`)
		return n == "0" || n == ""
	})
}

// rings calls: the push wakes the page, and the page rings.
func (w *webCall) rings(t testing.TB) *siptest.Call {
	t.Helper()
	call, err := w.carrier.Invite(siptest.Invitation{To: w.Number, From: "+4940123456"})
	must(t, err)
	push := w.pushedTo(t)
	w.page.order("wake", map[string]any{"account": w.account})
	got := w.page.await(t, "ringing")
	if got.UUID == "" || got.UUID != push.Payload["uuid"] || got.From != push.Payload["handle"] {
		t.Errorf("the page rings for call %q of %s; the push was %s", got.UUID, got.From, push.Body)
	}
	_, err = call.Await(patience, "180")
	must(t, err)
	w.signal = call.Audio.SSRC()
	return call
}

func (w *webCall) pushedTo(t testing.TB) pushtest.Push {
	t.Helper()
	select {
	case p := <-w.hook.Pushes():
		return p
	case <-time.After(patience):
		t.Fatalf("no push came within %v", patience)
		return pushtest.Push{}
	}
}

// TestWebPhone: a phone in a browser is woken, rings, answers and has the audio bit for bit, both ways.
func TestWebPhone(t *testing.T) {
	t.Parallel()
	w := newWebCall(t)
	call := w.answered(t)
	w.checkBothWays(t, call)
	missed := w.missed(t)
	_, err := call.Bye().Await(patience, "200")
	must(t, err)
	w.page.await(t, "over")
	record := w.record(t)
	media := record["media"].(map[string]any)
	for side, figures := range media {
		if f := figures.(map[string]any); f["lost"].(float64) > float64(missed) {
			t.Errorf("the %s lost packets, and nobody else did: %v", side, f)
		}
	}
	w.stop(t)
}

// answered calls, has the page answer, and both talk.
func (w *webCall) answered(t testing.TB) *siptest.Call {
	t.Helper()
	call := w.rings(t)
	w.page.order("answer", nil)
	w.page.await(t, "talking")
	talk(t, call)
	return call
}

// checkBothWays holds what either side has got against what the other has sent, packet by packet.
func (w *webCall) checkBothWays(t testing.TB, call *siptest.Call) {
	t.Helper()
	from := len(call.Audio.Received())
	waitUntil(t, "two seconds of sound at the carrier", func() bool { return len(call.Audio.Received()) >= from+2*second })
	checkWhole(t, "page", w.bridge, heard(t, "page", 2*second, w.heard))
	w.checkSent(t, call)
}

// heard is what the page has got of the carrier's signal.
func (w *webCall) heard() hearing {
	var packets []siptest.RTP
	for _, f := range w.page.got("received") {
		packets = append(packets, siptest.RTP{Seq: f.Seq, Timestamp: f.Time, SSRC: w.signal, Data: f.Data})
	}
	return hearingOf(packets)
}

// checkSent fails the test unless each of the page's packets that the carrier got is a frame that the page has sent,
// and none is missing between the first and the last, but those that the bridge had no time for.
func (w *webCall) checkSent(t testing.TB, call *siptest.Call) {
	t.Helper()
	got := call.Audio.Received()
	source := got[len(got)-1].SSRC
	got = slices.DeleteFunc(got, func(p siptest.RTP) bool { return p.SSRC != source || p.Payload != 8 })
	sent := map[uint32][]byte{} // by time: the packets have no numbers yet
	frames := w.page.got("sent")
	for _, f := range frames {
		sent[f.Time] = f.Data
	}
	compared, missed := 0, w.missed(t)
	for i, p := range got {
		data, known := sent[p.Timestamp]
		if i > 0 {
			missed -= int(p.Seq - got[i-1].Seq - 1) // which wraps where it is out of order
		}
		switch {
		case missed < 0:
			t.Errorf("packet %d came after %d", p.Seq, got[i-1].Seq)
		case known && !bytes.Equal(data, p.Data):
			t.Errorf("packet %d is not what the page sent", p.Seq)
		case known:
			compared++
		}
	}
	t.Logf("the page sent %d frames; of %d packets at the carrier %d are those, bit for bit", len(frames), len(got), compared)
	if compared < 2*second-20 { // the page tells of ten at a time
		t.Errorf("%d packets at the carrier are frames of the page, bit for bit; want two seconds", compared)
	}
}
