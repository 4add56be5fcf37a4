package bridge_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"reveille/rtp/rtptest"
	"reveille/sip/siptest"
)

func TestPhoneBySecureWebSocket(t *testing.T) {
	mine, pool := certificate(t)
	call(t, func(s *setup) { s.tls = &tls.Config{Certificates: []tls.Certificate{mine}} }, func(w *world) {
		var web *rtptest.Web
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second),
			change: func(o *siptest.PhoneOptions) {
				o.Transport, o.Bridge, o.TLS = "wss", bridgeWSS, &tls.Config{RootCAs: pool, ServerName: bridgeIP}
				o.Audio = func(a *siptest.Audio) {
					web = rtptest.NewWeb(a.Write)
					a.Protect(web, "")
				}
			}})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		if via := taken.Invite.Get("Via"); !strings.HasPrefix(via, "SIP/2.0/WSS "+bridgeWSS+";") {
			t.Errorf("Via %s", via)
		}
		if contact := taken.Invite.Get("Contact"); contact != "<sip:"+bridgeWSS+";transport=ws>" {
			t.Errorf("Contact %s", contact)
		}
		if !strings.Contains(taken.Invite.Start, ".invalid") {
			t.Errorf("the INVITE does not name the phone's Contact: %s", taken.Invite.Start)
		}
		if n := w.location.BindingCounts()["WSS"]; n != 1 {
			t.Errorf("%d bindings by WSS", n)
		}
		time.Sleep(time.Second) // the handshake
		w.talk(c, taken)
		web.Stop()
		taken.Bye()
		w.await(c, time.Second, "BYE")
		r := w.ended("callee_hung_up", 200)
		if got := steps(r, "SRTP"); len(got) != 1 || got[0] != "device DTLS AES_CM_128_HMAC_SHA1_80" {
			t.Errorf("timeline %v", got)
		}
		w.golden("websocket")
	})
}
