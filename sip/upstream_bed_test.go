package sip

import (
	"context"
	"crypto/md5"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// office is a PBX at 192.0.2.9 with an account for each extension: user N, at
// least 1000, has the password "pN".
type office struct {
	*carrier
	down     bool // guarded by carrier.mu, as all that follows
	grant    int  // seconds
	nonce    int
	picky    bool              // takes a nonce only from whom it was given to
	given    map[string]string // nonce -> Call-ID
	contacts map[string]string // user -> Contact
	refuse   map[string]int    // user -> status
	expires  []int             // asked for, in order
	users    []string          // that were registered, in order
	at       []time.Time
}

func inOffice(t *testing.T, transport string, test func(o *office)) {
	t.Helper()
	o := &office{grant: 600, given: map[string]string{}, contacts: map[string]string{}, refuse: map[string]int{}}
	withCarrier(t, officeTrunk(transport), o.answer, func(c *carrier) {
		o.carrier = c
		test(o)
	})
}

func officeTrunk(transport string) TrunkConfig {
	return TrunkConfig{Name: "office", Registrar: "sip:192.0.2.9", Transport: transport, Expires: 10 * time.Minute}
}

// answer is the carrier's script; it holds the lock.
func (o *office) answer(m *siptest.Message) reply {
	if o.down {
		return reply{}
	}
	user, _, _ := strings.Cut(strings.TrimPrefix(m.Get("To"), "<sip:"), "@")
	if code := o.refuse[user]; code != 0 {
		return reply{code: code}
	}
	nonce := nonceOf(m, "Authorization")
	if by := o.given[nonce]; by == "" || o.picky && by != m.Get("Call-ID") || !digestIs(m, user, "p"+user) {
		o.nonce++
		o.given[fmt.Sprint("n", o.nonce)] = m.Get("Call-ID")
		return asks(fmt.Sprint("n", o.nonce), "")
	}
	o.expires = append(o.expires, expiresOf(m))
	if o.expires[len(o.expires)-1] == 0 {
		delete(o.contacts, user)
		return reply{code: 200, headers: []string{"Subject: without any Contact: it is gone"}}
	}
	o.contacts[user], o.users, o.at = m.Get("Contact"), append(o.users, user), append(o.at, time.Now())
	return grants(o.grant)
}

// digestIs reckons the response as RFC 2617 has it, apart from our own code.
func digestIs(m *siptest.Message, user, password string) bool {
	p := map[string]string{}
	for _, kv := range strings.Split(strings.TrimPrefix(m.Get("Authorization"), "Digest "), ", ") {
		k, v, _ := strings.Cut(kv, "=")
		p[k] = strings.Trim(v, `"`)
	}
	sum := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	want := sum(strings.Join([]string{sum(user + ":carrier:" + password), p["nonce"], p["nc"], p["cnonce"], p["qop"], sum("REGISTER:" + p["uri"])}, ":"))
	return p["username"] == user && p["response"] == want
}

// account is the extension N of the office, with another password if one is given.
func account(n int, password ...string) Upstream {
	user := fmt.Sprint(n)
	return Upstream{"ext" + user, UpstreamConfig{Trunk: "office", Username: user, Password: Secret(strings.Join(append(password, "p"+user)[:1], ""))}}
}

func accounts(from, to int) (list []Upstream) {
	for n := from; n < to; n++ {
		list = append(list, account(n))
	}
	return list
}

func (o *office) set(list []Upstream) {
	o.b.t.Helper()
	if err := o.b.srv.SetUpstreams(list); err != nil {
		o.b.t.Fatal(err)
	}
}

// counts holds how many registrations are in each state.
func (o *office) counts(registered, registering, failed int) {
	o.b.t.Helper()
	synctest.Wait()
	got := UpstreamCounts{}
	if c := o.b.srv.Trunks()[0].State().Upstreams; c != nil {
		got = *c
	}
	if want := (UpstreamCounts{registered, registering, failed}); got != want {
		o.b.t.Errorf("the registrations are %+v, want %+v", got, want)
	}
}

// bound is how many accounts have a Contact at the office.
func (o *office) bound() int {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.contacts)
}

// made is how many REGISTERs have been accepted.
func (o *office) made() int {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.users)
}

func (o *office) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// contactUser is the user part of an account's Contact.
func (o *office) contactUser(user string) string {
	o.b.t.Helper()
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	_, rest, _ := strings.Cut(o.contacts[user], "sip:")
	token, _, ok := strings.Cut(rest, "@")
	if !ok {
		o.b.t.Fatalf("%s has Contact %q", user, o.contacts[user])
	}
	return token
}

// steady holds that no second since a time saw more REGISTERs than that.
func (o *office) steady(since time.Time, most int) {
	o.b.t.Helper()
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	perSecond := map[int]int{}
	for _, at := range o.carrier.at {
		if !at.Before(since) {
			perSecond[int(at.Sub(since)/time.Second)]++
		}
	}
	for second, n := range perSecond {
		if n > most {
			o.b.t.Errorf("%d REGISTERs in second %d, want at most %d", n, second, most)
			return
		}
	}
}

// wire is a socket of the PBX's, for its calls.
func (o *office) wire() *wire {
	o.b.t.Helper()
	c, err := o.b.net.Host("192.0.2.9").ListenPacket(context.Background(), "udp", "192.0.2.9:5070")
	if err != nil {
		o.b.t.Fatal(err)
	}
	o.b.t.Cleanup(func() { c.Close() })
	return &wire{t: o.b.t, udp: c, to: net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5060"))}
}
