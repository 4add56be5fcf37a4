package peertest

import (
	"strings"
	"testing"
)

// TestCarrierHolds has a carrier hold the phone by re-INVITE and resume by UPDATE, with a session timer: the phone
// is offered both, and takes them.
func TestCarrierHolds(t *testing.T) {
	t.Parallel()
	sent := source(131, long)
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "held", To: b.SIP, Number: b.Number, Audio: sent}).start(t)
	push := b.pushed(t)
	p := b.wake(t, "tcp", &phone{Audio: source(132, long)}).answer(t)
	waitUntil(t, "the 200s to INVITE, re-INVITE and both UPDATEs", func() bool { return len(c.received(t, "SIP/2.0 200")) == 4 })
	c.proceed(t)
	c.finish(t)
	for _, direction := range []string{"sendonly", "sendrecv"} {
		if p.process.count(`^\S+ a=`+direction+`$`) == 0 {
			t.Errorf("the phone was not offered %s", direction)
		}
	}
	ok := c.received(t, "SIP/2.0 200")
	if !strings.Contains(ok[0], "Session-Expires: 90;refresher=uac") || !strings.Contains(ok[0], "Require: timer") {
		t.Errorf("the session timer is not granted:\n%s", ok[0])
	}
	checkRecord(t, b, push)
	b.stop(t)
}
