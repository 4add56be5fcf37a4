package sip

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/siptest"
)

// manyLogins starts further logins at the carrier, over the trunk's uplink.
func manyLogins(t *testing.T, c *carrier, ctx context.Context, n int) []*login {
	t.Helper()
	up := c.b.srv.Trunks()[0].up
	logins := make([]*login, n)
	for i := range logins {
		user := fmt.Sprint("u", i)
		logins[i] = newLogin(c.b.srv, up, loginConfig{
			registrar: sipgo.Uri{Scheme: "sip", Host: "192.0.2.9"}, aor: sipgo.Uri{Scheme: "sip", User: user, Host: "192.0.2.9"},
			username: user, password: "secret", contact: user, expires: 10 * time.Minute,
		})
		logins[i].start(ctx, time.Duration(i)*time.Second/resendRate)
	}
	return logins
}

func stopAll(logins []*login) {
	var work sync.WaitGroup
	for _, l := range logins {
		work.Go(l.stop)
	}
	work.Wait()
}

// Thousands share one connection; between two REGISTERs each is a timer.
func TestLoginsAreCheapAndComeBackSpreadOut(t *testing.T) {
	const n = 1000
	withCarrier(t, loginAt("tcp"), grant600, func(c *carrier) {
		ctx, cancel := context.WithCancel(context.Background())
		before := runtime.NumGoroutine()
		logins := manyLogins(t, c, ctx, n)
		time.Sleep(n*time.Second/resendRate + time.Second)
		synctest.Wait()
		if more := runtime.NumGoroutine() - before; more > 10 {
			t.Errorf("%d goroutines for %d logins", more, n)
		}
		for i, l := range logins {
			if s := l.status(); !s.Up {
				t.Fatalf("login %d: %+v", i, s)
			}
		}
		seen := c.requests()
		c.restart(func() {}) // all of them were on that connection
		time.Sleep(4 * time.Second)
		if soon := c.requests() - seen; soon > 5*resendRate {
			t.Errorf("%d REGISTERs within 4 s of the loss", soon)
		}
		time.Sleep(n * time.Second / resendRate)
		if all := c.requests() - seen; all < 2*n || all > 2*n+10 { // the old binding goes, the new one comes
			t.Errorf("%d REGISTERs for %d logins", all, n)
		}
		cancel()
		stopAll(logins)
		if m, _ := c.last(); expiresOf(m) != 0 {
			t.Errorf("the last REGISTER has Expires %d", expiresOf(m))
		}
	})
}

// A call on the old connection keeps it open; then it is closed.
func TestRFC3263ConnectionToTheOldTargetStaysForItsCalls(t *testing.T) {
	withZone(t, loginAt("tcp"), twoHosts("tcp"), nil, func(a, b *carrier) {
		up := a.b.srv.Trunks()[0].up
		up.mu.Lock()
		old := up.flow
		up.mu.Unlock()
		a.mu.Lock()
		w := &wire{t: t, conn: a.conns[0]}
		a.mu.Unlock()
		w.send(message("INVITE sip:4930@192.0.2.1 SIP/2.0", "", "Via: SIP/2.0/TCP 192.0.2.9:5060;branch=z9hG4bKone"))
		in := a.b.taken()
		busy := func(*siptest.Message) reply { return reply{code: 503} }
		a.follow(busy)
		time.Sleep(490 * time.Second) // the refresh goes elsewhere
		a.by("tcp://192.0.2.10:5060")
		if old.isDead() {
			t.Fatal("the connection was closed with a call on it")
		}
		if !up.has(old) {
			t.Error("a further call by the old connection would be a stranger's")
		}
		in.Refuse(&Refused{Code: 404})
		time.Sleep(5 * time.Minute)
		if !old.isDead() {
			t.Error("the connection that nobody needs is still open")
		}
	})
}

// What a registrar may write into a 2xx does no harm.
func FuzzRegisterAnswer(f *testing.F) {
	f.Add("Contact: <sip:4930@192.0.2.1:5060>;expires=100, <sip:x@y>;expires=\"9\"", "<sip:p.example;lr>, \"x\" <sip:[2001:db8::1]>", "<tel:+49>;x")
	f.Add("Contact: *", "<", ",,")
	f.Add("Contact: *", "\"<\" x<sip:[2001:db8::1]>", "\"<\" <tel:+49>")
	f.Fuzz(func(t *testing.T, contact, route, associated string) {
		clean := strings.NewReplacer("\r", "", "\n", "")
		text := message("SIP/2.0 200 OK", "", clean.Replace(contact), "Service-Route: "+clean.Replace(route), "P-Associated-URI: "+clean.Replace(associated), "CSeq: 1 REGISTER")
		m, _, err := parseDatagram([]byte(text), 1<<16)
		res, ok := m.(*sipgo.Response)
		if err != nil || !ok {
			return
		}
		g := granted(res, 10*time.Minute, sipgo.Uri{Scheme: "sip", User: "4930", Host: "192.0.2.1", Port: 5060})
		if g.lifetime < 10*time.Second || g.lifetime > 24*time.Hour || len(g.serviceRoute) > 32 || len(g.associated) > 32 {
			t.Errorf("%+v", g)
		}
		for _, uri := range append(g.serviceRoute, g.associated...) {
			if hasControl(uri) || strings.ContainsAny(uri, "<>") {
				t.Errorf("%q would break a Route header", uri)
			}
			uriUser(uri)
		}
	})
}
