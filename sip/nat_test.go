package sip

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// granting answers a REGISTER or OPTIONS as a carrier does that sees us at an
// address: by what it adds to our Via (RFC 3581 §4).
func granting(request, seen string, expires int) string {
	lines := []string{"SIP/2.0 200 OK", "Via: " + strings.Replace(headerOf(request, "Via"), ";rport", ";"+seen, 1)}
	for _, name := range []string{"From", "To", "Call-ID", "CSeq"} {
		lines = append(lines, name+": "+headerOf(request, name))
	}
	if expires > 0 {
		lines = append(lines, fmt.Sprintf("Contact: %s;expires=%d", headerOf(request, "Contact"), expires))
	}
	return strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n")
}

// atCarrier runs a test with a trunk that registers by UDP at the raw socket w,
// after its first REGISTER has come.
func atCarrier(t *testing.T, external string, log slog.Handler, test func(b *serverBed, w *wire, register string)) {
	t.Helper()
	inServer(t, bedOptions{
		trunks: []TrunkConfig{{Name: "carrier", Registrar: "sip:192.0.2.2", Username: "4930", Password: "secret", Expires: 10 * time.Minute}},
		config: func(c *Config) { c.ExternalAddress = external },
		log:    log,
	}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		time.Sleep(3 * time.Second) // the first was before the socket
		register := ""
		for m := w.next(time.Second); m != ""; m = w.next(time.Millisecond) {
			register = m
		}
		if !strings.HasPrefix(register, "REGISTER") {
			b.t.Fatalf("got %q", register)
		}
		test(b, w, register)
	})
}

func TestNATBindingTowardsARegistrarIsKeptOpen(t *testing.T) {
	atCarrier(t, "", nil, func(b *serverBed, w *wire, register string) {
		w.send(granting(register, "received=192.0.2.1;rport=5060", 600))
		start := time.Now()
		for i := 1; i < 19; i++ { // until the refresh at 80 %
			if m := w.next(26 * time.Second); m != "\r\n\r\n" || time.Since(start) != time.Duration(i)*25*time.Second {
				t.Fatalf("got %q after %v", m, time.Since(start))
			}
		}
		var m string
		for m = w.next(time.Minute); !strings.HasPrefix(m, "REGISTER"); m = w.next(time.Minute) {
		}
		w.send(granting(m, "received=192.0.2.1;rport=5060", 0)) // no binding: not registered any more
		for !strings.HasPrefix(w.next(time.Minute), "REGISTER") {
		}
		w.drain(25 * time.Minute)
		b.srv.transport.holes.mu.Lock()
		defer b.srv.transport.holes.mu.Unlock()
		if n := len(b.srv.transport.holes.open); n != 0 {
			t.Errorf("%d holes are kept open", n)
		}
	})
}

func TestTrunkShowsTheAddressThatRFC3581TellsUs(t *testing.T) {
	var log bytes.Buffer
	atCarrier(t, "", slog.NewTextHandler(&log, nil), func(b *serverBed, w *wire, register string) {
		if via := headerOf(register, "Via"); !strings.HasPrefix(via, "SIP/2.0/UDP 192.0.2.1:5060;") || !strings.HasSuffix(via, ";rport") {
			t.Errorf("Via %s: rport is not asked for (RFC 3581 §3)", via)
		}
		w.send(granting(register, "received=203.0.113.5;rport=40123", 600))
		synctest.Wait()
		if got := b.srv.Trunks()[0].State().SeenAs; got != "203.0.113.5:40123" {
			t.Errorf("seen as %q", got)
		}
		if got := log.String(); strings.Count(got, "set sip.external_address") != 1 || !strings.Contains(got, "seen=203.0.113.5 named=192.0.2.1") {
			t.Errorf("the log says %s", got)
		}
	})
}

func TestTrunkSeesTheAddressThatIsConfigured(t *testing.T) {
	for seen, want := range map[string]string{"received=203.0.113.5;rport=40123": "", "received=203.0.113.6;rport=5060": "203.0.113.6:5060", "rport=5060": "", "received=nonsense;rport=x": ""} {
		atCarrier(t, "203.0.113.5", nil, func(b *serverBed, w *wire, register string) {
			w.send(granting(register, seen, 600))
			synctest.Wait()
			if got := b.srv.Trunks()[0].State().SeenAs; got != want {
				t.Errorf("%s: seen as %q, want %q", seen, got, want)
			}
		})
	}
}

func TestAnswersGoToTheSourceWithItsPort(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		// RFC 3581 §4: a private sent-by, and no matter whether rport is asked for.
		for i, param := range []string{";rport", ""} {
			w.send(request("OPTIONS", fmt.Sprintf("Via: SIP/2.0/UDP 10.0.0.9:9999;branch=z9hG4bK%d%s", i, param), fmt.Sprintf("Call-ID: %d", i)))
			via := headerOf(w.expect("SIP/2.0 200"), "Via")
			if !strings.Contains(via, "received=192.0.2.2") || !strings.Contains(via, "rport=5060") || !strings.Contains(via, "10.0.0.9:9999") {
				t.Errorf("Via %s", via)
			}
		}
	})
}

func TestSeenFromIPv6WithAndWithoutBrackets(t *testing.T) {
	for _, host := range []string{"[2001:db8::9:255]", "2001:db8::9:255"} {
		m, _, err := parseDatagram([]byte(message("SIP/2.0 200 OK", "", "CSeq: 1 REGISTER",
			"Via: SIP/2.0/UDP [2001:db8::9:1];received="+host+";rport=5070;branch=z9hG4bKx")), 1<<14)
		if err != nil {
			t.Fatal(err)
		}
		if got := seenFrom(m.(*sipgo.Response)); got.String() != "[2001:db8::9:255]:5070" {
			t.Errorf("%s: %v", host, got)
		}
	}
}
