package bridge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"reveille/sip/siptest"
)

const canary = "canary"

// oddHeaders are what a far end may put into any message.
func oddHeaders() []siptest.Field {
	odd := header("Server: canary/1.0", "User-Agent: canary", "Warning: 399 canary \"x\"", "Organization: canary", "Subject: canary",
		"P-Asserted-Identity: <sip:canary@a.b>", "P-Preferred-Identity: <sip:canary@a.b>", "Remote-Party-ID: <sip:canary@a.b>", "Alert-Info: <http://canary/r.wav>",
		"Call-Info: <http://canary/p.png>;purpose=icon", "Error-Info: <sip:canary@a.b>", "Reply-To: <sip:canary@a.b>", "Priority: canary",
		"P-Charging-Vector: icid-value=canary", "P-Charging-Function-Addresses: ccf=canary", "P-Access-Network-Info: canary", "P-Visited-Network-ID: canary",
		"P-Called-Party-ID: <sip:canary@a.b>", "P-Early-Media: canary", "Geolocation: <sip:canary@a.b>", "Session-ID: canary", "User-to-User: canary",
		"History-Info: <sip:canary@a.b>;index=1", "Diversion: <sip:canary@a.b>", "Identity: canary", "Feature-Caps: *;+g.canary", "Accept-Language: canary",
		"Date: canary", "Authentication-Info: nextnonce=\"canary\"", "Content-Language: canary", "Allow-Events: canary", "P-Answer-State: canary",
		"Authorization: Digest username=\"canary\"", "Proxy-Authorization: Digest username=\"canary\"", "Service-Route: <sip:canary;lr>", "Path: <sip:canary;lr>")
	for i := range 10 {
		odd = append(odd, siptest.Field{Name: fmt.Sprintf("X-Odd-%d", i), Value: canary})
	}
	return odd
}

// leaks collects the SIP that the bridge sends to a host with something in it
// that must not be there.
func (w *world) leaks(to string, words ...string) func() []string {
	var mu sync.Mutex
	var found []string
	host := netip.MustParseAddr(to)
	w.net.Tap(func(p siptest.Packet) {
		if p.From.Addr().String() != bridgeIP || p.To.Addr() != host || !bytes.Contains(p.Data, []byte("SIP/2.0")) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, word := range words {
			if bytes.Contains(bytes.ToLower(p.Data), []byte(word)) {
				found = append(found, fmt.Sprintf("%s in\n%s", word, p.Data))
			}
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return found
	}
}

// Each leg has Call-ID, tags, Contact, Via and headers of its own: nothing that
// one far end puts into its answers and requests, nor its address, gets to the other.
func TestNothingOfOneLegsMessagesReachesTheOther(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{})
		toTrunk, toPhone := w.leaks(trunkIP, canary, "192.0.2.11"), w.leaks("192.0.2.11", canary, trunkIP)
		c := w.invite(siptest.Invitation{})
		taken := w.taken(p)
		taken.Respond(180, nil, oddHeaders()...)
		time.Sleep(time.Second)
		sdp, err := taken.Audio.Answer(taken.Invite.Body)
		w.must(err)
		taken.Respond(200, sdp, oddHeaders()...)
		w.await(c, time.Second, "200")
		time.Sleep(time.Second)
		for _, side := range []*siptest.Call{taken, c} {
			odd := append(oddHeaders(), siptest.Field{Name: "Info-Package", Value: "x"})
			for _, method := range []string{"INFO", "MESSAGE", "UPDATE", "OPTIONS", "NOTIFY", "PUBLISH", "SUBSCRIBE"} {
				side.Request(method, nil, odd...)
				time.Sleep(time.Second)
			}
			side.Request("INFO", []byte("Signal=1\r\nDuration=160\r\n"), append(oddHeaders(), siptest.Field{Name: "Content-Disposition", Value: canary})...)
			side.Request("INVITE", side.Audio.SDP("sendrecv"), oddHeaders()...)
			time.Sleep(5 * time.Second)
		}
		taken.Bye(oddHeaders()...)
		w.await(c, time.Second, "BYE")
		time.Sleep(time.Minute)
		for side, found := range map[string][]string{"trunk": toTrunk(), "phone": toPhone()} {
			for _, f := range found {
				t.Errorf("the %s got %s", side, f)
			}
		}
	})
}

func TestNothingOfADevicesRefusalReachesTheTrunk(t *testing.T) {
	for _, code := range []int{480, 486, 488, 500, 603} {
		call(t, nil, func(w *world) {
			p := w.awake(phoneOptions{})
			found := w.leaks(trunkIP, canary, "192.0.2.11")
			w.invite(siptest.Invitation{})
			w.taken(p).Respond(code, nil, oddHeaders()...)
			time.Sleep(time.Minute)
			for _, f := range found() {
				t.Errorf("the trunk got %s", f)
			}
		})
	}
}

// What is said of a REGISTER, a login, a push and a call, even at debug level,
// holds no password, no token, no credentials.
func TestLogsHoldNoSecrets(t *testing.T) {
	const password = "correct-horse-battery"
	var log bytes.Buffer
	var mu sync.Mutex
	synced := writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(b)
	})
	call(t, func(s *setup) {
		s.extension.Password = password
		s.log = slog.NewTextHandler(synced, &slog.HandlerOptions{Level: slog.LevelDebug - 8})
	}, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second),
			change: func(o *siptest.PhoneOptions) { o.Password = password }})
		c := w.invite(siptest.Invitation{Header: header(`Proxy-Authorization: Digest username="x", realm="y", nonce="z", response="0123456789abcdef"`)})
		w.await(c, 5*time.Second, "200")
		w.taken(p)
		c.Bye()
		stranger, err := w.net.Host("198.51.100.9").DialContext(context.Background(), "tcp", bridgeSIP)
		w.must(err)
		for _, cseq := range []string{"1 REGISTER", "1 NOTHING", "x"} { // fine, wrong, malformed
			_, err = io.WriteString(stranger, "REGISTER sip:reveille SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1"+cseq[:1]+"\r\nFrom: <sip:1001@reveille>;tag=1\r\n"+
				"To: <sip:1001@reveille>\r\nCall-ID: "+strings.ReplaceAll(cseq, " ", "")+"\r\nCSeq: "+cseq+"\r\n"+
				"Contact: <sip:1001@h;pn-provider=apns;pn-param=other;pn-prid="+p.token+">\r\n"+
				"Authorization: Digest username=\"1001\", realm=\"reveille\", nonce=\"0123456789abcdef\", uri=\"sip:reveille\", response=\"0123456789abcdef\", algorithm=MD5, cnonce=\"c\", qop=auth, nc=00000001\r\n"+
				"Content-Length: 0\r\n\r\n")
			w.must(err)
			time.Sleep(time.Second)
		}
		_ = stranger.Close()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(log.String(), "call is over") || !strings.Contains(log.String(), "malformed message") {
			t.Fatal("the log is not there")
		}
		for _, line := range strings.Split(log.String(), "\n") {
			for _, secret := range []string{password, p.token, p.token[:16], "Digest", "0123456789abcdef", "pn-prid=", "response="} {
				if strings.Contains(line, secret) {
					t.Errorf("%s is in the log: %s", secret, line)
				}
			}
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
