package sip

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/sip/siptest"
)

func TestAThousandExtensionsRegisterUpstreamWithoutABurst(t *testing.T) {
	byBoth(t, func(t *testing.T, transport string) {
		inOffice(t, transport, func(o *office) {
			start := time.Now()
			o.set(accounts(1000, 2000))
			time.Sleep(10 * time.Second)
			if n := o.bound(); n < 450 || n > 510 {
				t.Errorf("%d are registered after 10 s, want about 500", n)
			}
			time.Sleep(12 * time.Second)
			o.counts(1000, 0, 0)
			o.steady(start, upstreamRate+4) // a challenge or two beside
			if n := o.requests(); n > 1060 {
				t.Errorf("%d REGISTERs for 1000 registrations: the nonce is not shared", n)
			}
			o.mu.Lock()
			if slices.IsSorted(o.users) {
				t.Error("they came in the order of their names")
			}
			o.mu.Unlock()
			if n := len(o.conns); transport == "tcp" && n != 1 {
				t.Errorf("%d connections, want one", n)
			}
			o.state("reachable", true, 0)
		})
	})
}

func TestUpstreamRefreshesAreSpread(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(accounts(1000, 2000))
		time.Sleep(time.Hour)
		o.counts(1000, 0, 0)
		before := o.requests()
		start := time.Now()
		time.Sleep(time.Hour)
		if n := o.requests() - before; n < 7*1000 || n > 9*1000 { // each 480 s
			t.Errorf("%d refreshes in an hour, want about 7500", n)
		}
		o.steady(start, 24) // 2 a second would be even, by chance it is up to 17 once in some thousand runs
		o.mu.Lock()
		defer o.mu.Unlock()
		last := map[string]time.Time{}
		for i, user := range o.users {
			if gap := o.at[i].Sub(last[user]); !last[user].IsZero() && (gap < 415*time.Second || gap > 545*time.Second) {
				t.Fatalf("%s was refreshed after %v of 600 s", user, gap)
			}
			last[user] = o.at[i]
		}
	})
}

func TestShortUpstreamRegistrationsAreKeptUp(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.change(func() { o.grant = 15 }) // 1000 of them need 83 a second
		o.set(accounts(1000, 2000))
		time.Sleep(time.Minute)
		for range 10 {
			o.counts(1000, 0, 0)
			time.Sleep(10 * time.Second)
		}
	})
}

func TestUpstreamRegisterIsTheExtensionsOwn(t *testing.T) {
	inOffice(t, "tcp", func(o *office) {
		one := account(1001)
		one.AuthUsername = "1001"
		o.set([]Upstream{one})
		time.Sleep(time.Second)
		m, _ := o.last()
		for header, want := range map[string]string{"To": "<sip:1001@192.0.2.9>", "CSeq": "2 REGISTER", "Expires": "600"} {
			if m.Get(header) != want {
				t.Errorf("%s: %q, want %q", header, m.Get(header), want)
			}
		}
		token := o.contactUser("1001")
		if len(token) != 24 || strings.Contains(token, "1001") || !strings.Contains(m.Get("Contact"), token+"@192.0.2.1:") || !strings.Contains(m.Get("Contact"), ";transport=tcp") {
			t.Errorf("Contact: %s", m.Get("Contact"))
		}
		s := o.b.srv.Upstreams()["ext1001"]
		if s.State != "registered" || s.Trunk != "office" || s.Username != "1001" || s.LastCode != 200 || time.Until(s.Expires) < 598*time.Second {
			t.Errorf("the state is %+v", s)
		}
	})
}

func TestAPickyPBXGetsEachNonceBackFromWhomItGaveItTo(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.change(func() { o.picky = true })
		o.set(accounts(1000, 1100))
		time.Sleep(10 * time.Second)
		o.counts(100, 0, 0)
	})
}

func TestAWrongUpstreamPasswordStopsNobodyElse(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(append(accounts(1000, 1100), account(1100, "wrong"), account(1101)))
		o.change(func() { o.refuse["1101"] = 403 })
		start := time.Now()
		time.Sleep(30 * time.Second)
		o.counts(100, 0, 2)
		s := o.b.srv.Upstreams()
		if got := s["ext1100"]; got.State != "failed" || got.LastCode != 401 || !strings.Contains(got.Problem, "check username and password") {
			t.Errorf("the wrong password gives %+v", got)
		}
		if got := s["ext1101"]; got.State != "failed" || got.LastCode != 403 || got.NextTry.Before(start.Add(45*time.Second)) {
			t.Errorf("the refused account gives %+v", got)
		}
		o.state("reachable", true, 0)
		tries := func() (n int) {
			o.mu.Lock()
			defer o.mu.Unlock()
			for _, m := range o.got {
				if m.Get("To") == "<sip:1101@192.0.2.9>" {
					n++
				}
			}
			return n
		}
		time.Sleep(6 * time.Hour)
		if n := tries(); n < 7 || n > 16 { // 1, 2, 4 … 32 min, then each hour
			t.Errorf("an account that is refused was tried %d times in 6 h", n)
		}
		o.counts(100, 0, 2)
	})
}

func TestOneUpstreamAsksForAPBXThatIsDown(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.change(func() { o.down = true })
		o.set(accounts(1000, 2000))
		time.Sleep(40 * time.Second) // Timer F is 32 s
		o.state("unreachable", false, 0)
		o.counts(0, 0, 1000)
		if s := o.b.srv.Upstreams()["ext1500"]; !strings.Contains(s.Problem, "no answer from the registrar") {
			t.Errorf("an extension says %+v", s)
		}
		if n := callIDs(o, time.Time{}); n > upstreamFlying+1 {
			t.Errorf("%d registrations were tried at a PBX that is silent, want %d", n, upstreamFlying)
		}
		if n := tries(o, time.Time{}); n != upstreamFlying+1 {
			t.Errorf("%d REGISTERs by now, want %d and, 2 s later, one: all that failed together count once", n, upstreamFlying)
		}
		since := time.Now()
		time.Sleep(time.Hour)
		if n := tries(o, since); n < 8 || n > 25 {
			t.Errorf("it was asked for %d times in an hour", n)
		}
		o.change(func() { o.down = false })
		since = time.Now()
		time.Sleep(7 * time.Minute)
		o.counts(1000, 0, 0)
		o.steady(since, upstreamRate+4)
		o.state("reachable", true, 0)
	})
}

// callIDs is how many registrations have asked since; tries is how often.
func callIDs(o *office, since time.Time) int {
	seen := map[string]bool{}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, m := range o.got {
		if o.carrier.at[i].After(since) {
			seen[m.Get("Call-ID")] = true
		}
	}
	return len(seen)
}

func tries(o *office, since time.Time) int {
	seen := map[string]bool{}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, m := range o.got {
		if o.carrier.at[i].After(since) {
			seen[m.Get("Call-ID")+m.Get("CSeq")] = true
		}
	}
	return len(seen)
}

func TestUpstreamsComeBackAfterThePBXRestarts(t *testing.T) {
	inOffice(t, "tcp", func(o *office) {
		o.set(accounts(1000, 2000))
		time.Sleep(30 * time.Second)
		o.counts(1000, 0, 0)
		since := time.Now()
		o.restart(func() {
			o.change(func() { clear(o.contacts); clear(o.given) })
			time.Sleep(5 * time.Second) // nobody listens
		})
		o.counts(1000, 0, 0) // as far as anybody knows
		time.Sleep(40 * time.Second)
		if n := o.bound(); n != 1000 {
			t.Errorf("%d of 1000 are back", n)
		}
		o.steady(since, upstreamRate+4)
		o.counts(1000, 0, 0)
	})
}

func TestUpstreamsUnregisterInTimeAtTheEnd(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(accounts(1000, 2000))
		time.Sleep(30 * time.Second)
		start := time.Now()
		o.b.end()
		if took := time.Since(start); took > upstreamLeave+lastWords+time.Second {
			t.Errorf("the end took %v", took)
		}
		if n := o.bound(); n != 0 {
			t.Errorf("%d Contacts are left at the PBX", n)
		}
		o.steady(start, 260) // paced: 1000 in 8 s
	})
}

func TestUpstreamsAreNotUnregisteredAtAPBXThatIsSilent(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(accounts(1000, 1100))
		time.Sleep(10 * time.Second)
		o.change(func() { o.down = true })
		start := time.Now()
		o.b.end()
		if took := time.Since(start); took > upstreamLeave+lastWords+time.Second {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestReloadOfUpstreamsTouchesOnlyWhatChanged(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(append(accounts(1000, 1010), account(1010, "wrong")))
		time.Sleep(5 * time.Second)
		o.counts(10, 0, 1)
		token, before := o.contactUser("1003"), o.requests()
		next := append(accounts(1001, 1010), account(1010), account(1011)) // one went, one is mended, one is new
		next[4].Username, next[4].Password = "1050", "p1050"               // ext1005 has another account
		o.set(next)
		o.set(next) // once more changes nothing
		time.Sleep(5 * time.Second)
		o.counts(11+1-1, 0, 0)
		o.mu.Lock()
		var touched []string
		for _, m := range o.got[before:] {
			touched = append(touched, fmt.Sprint(m.Get("To")[5:9], "/", m.Get("Expires")))
		}
		o.mu.Unlock()
		slices.Sort(touched)
		if got, want := strings.Join(slices.Compact(touched), " "), "1000/0 1005/0 1010/600 1011/600 1050/600"; got != want {
			t.Errorf("the reload brought %s, want %s", got, want)
		}
		if got := o.contactUser("1003"); got != token {
			t.Error("an account that did not change has another Contact")
		}
		o.set(nil)
		time.Sleep(5 * time.Second)
		o.counts(0, 0, 0)
		if n := o.bound(); n != 0 {
			t.Errorf("%d Contacts are left", n)
		}
		o.set(accounts(1000, 1001)) // and back again
		time.Sleep(5 * time.Second)
		o.counts(1, 0, 0)
	})
}

func TestAnAccountThatComesBackWhileItLeavesStays(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(accounts(1000, 1010))
		time.Sleep(5 * time.Second)
		o.set(nil)
		o.set(accounts(1000, 1010))
		time.Sleep(5 * time.Second)
		o.counts(10, 0, 0)
		if n := o.bound(); n != 10 {
			t.Errorf("%d are registered", n)
		}
	})
}

func TestSetUpstreamsRefusesATrunkThatIsNone(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(accounts(1000, 1001))
		time.Sleep(time.Second)
		other := account(1001)
		other.Trunk = "nowhere"
		if err := o.b.srv.SetUpstreams([]Upstream{other}); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("the error is %v", err)
		}
		o.counts(1, 0, 0)
	})
}

func TestIntervalTooBriefUpstreamGoesForAll(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		script := o.answer
		o.follow(func(m *siptest.Message) reply {
			if e := expiresOf(m); e > 0 && e < 1800 {
				return reply{code: 423, headers: []string{"Min-Expires: 1800"}}
			}
			return script(m)
		})
		o.change(func() { o.grant = 1800 })
		o.set(accounts(1000, 1100))
		time.Sleep(10 * time.Second)
		o.counts(100, 0, 0)
		if n := o.requests(); n > 110 {
			t.Errorf("%d REGISTERs for 100 registrations", n)
		}
	})
}

func TestInviteToAnUpstreamContactIsForThatExtension(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(accounts(1000, 1010))
		time.Sleep(5 * time.Second)
		w := o.wire()
		invite := func(user, to string) *Inbound {
			w.send(strings.NewReplacer("\n", "\r\n").Replace(fmt.Sprintf("INVITE sip:%[1]s@192.0.2.1:5060 SIP/2.0\n"+
				"Via: SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bK%[1]s%[2]s\nMax-Forwards: 70\nFrom: <sip:+4940111@192.0.2.9>;tag=1\nTo: <sip:%[2]s@192.0.2.9>\n"+
				"Call-ID: %[1]s%[2]s\nCSeq: 1 INVITE\nContact: <sip:192.0.2.9:5070>\nContent-Length: 0\n\n", user, to)))
			time.Sleep(10 * time.Millisecond)
			return o.b.taken()
		}
		for _, c := range []struct{ user, to, extension, dialled string }{
			{o.contactUser("1003"), "1003", "ext1003", "1003"},
			{o.contactUser("1007"), "+4930123", "ext1007", "+4930123"},
			{"1003", "1003", "", "1003"}, // a number like any other
			{"nobody", "nobody", "", "nobody"},
		} {
			in := invite(c.user, c.to)
			if in.Extension() != c.extension || in.Dialled()[0] != c.dialled {
				t.Errorf("INVITE to %s is for %q and dialled %q, want %q and %q", c.user, in.Extension(), in.Dialled(), c.extension, c.dialled)
			}
			in.Refuse(&Refused{Code: 480})
		}
		gone := o.contactUser("1003")
		o.set(accounts(1004, 1010))
		if in := invite(gone, "x"); in.Extension() != "" {
			t.Error("a Contact that has gone still leads to its extension")
		} else {
			in.Refuse(&Refused{Code: 480})
		}
	})
}

func TestUpstreamContactsCannotBeGuessedAndOutliveARestart(t *testing.T) {
	seen := map[string]bool{}
	for _, up := range append(accounts(1000, 1100), account(1000, "other"), Upstream{"ext1000", UpstreamConfig{Trunk: "second", Username: "1000", Password: "p1000"}}) {
		token := contactToken(up)
		if len(token) != 24 || seen[token] || escapeUser(token) != token {
			t.Errorf("%+v has Contact %q", up, token)
		}
		seen[token] = true
		if contactToken(up) != token {
			t.Error("it changes")
		}
	}
}

func TestUpstreamRegistrationsAreCounted(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(append(accounts(1000, 1010), account(1010, "wrong")))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		reg := prometheus.NewRegistry()
		reg.MustRegister(o.b.srv.metrics.upstreams)
		families, err := reg.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "reveille_upstream_registrations" {
			t.Fatalf("%v, %v", families, err)
		}
		for _, m := range families[0].GetMetric() {
			labels := m.GetLabel() // state, trunk
			if want := map[string]float64{"registered": 10, "failed": 1}[labels[0].GetValue()]; m.GetGauge().GetValue() != want || labels[1].GetValue() != "office" {
				t.Errorf("%v", m)
			}
		}
	})
}
