package sip

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/location"
	"reveille/sip/siptest"
)

const ada = "Contact: <sip:1001@10.0.0.9:4000;transport=tcp>"

// RFC 3261 §10.3: challenge, login, list, refresh without another challenge.
func TestRegister(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				u := b.phoneAt(network, "192.0.2.50")
				res := u.exchange(ada)
				if res.StatusCode != 401 || len(res.GetHeaders("WWW-Authenticate")) != 2 {
					t.Fatalf("unauthenticated: %s", res)
				}
				b.wantBindings("1001")
				if _, err := u.creds.challenged(res); err != nil {
					t.Fatal(err)
				}
				res = u.exchange(ada, "Expires: 600", "User-Agent: Phone/1")
				if res.StatusCode != 200 {
					t.Fatalf("authenticated: %s", res)
				}
				got := contactsIn(res)
				if len(got) != 1 || got[0] != "<sip:1001@10.0.0.9:4000;transport=tcp>;expires=600" {
					t.Errorf("lists %q", got)
				}
				if at, err := http.ParseTime(headerValue(res, "Date")); err != nil || !at.Equal(time.Now().UTC().Truncate(time.Second)) {
					t.Errorf("Date %q", headerValue(res, "Date"))
				}
				for _, absent := range []string{"Require", "Flow-Timer", "Feature-Caps"} {
					if v := headerValue(res, absent); v != "" {
						t.Errorf("%s: %s for a phone that asked for none of it", absent, v)
					}
				}
				bindings := b.loc.Lookup("1001")
				if len(bindings) != 1 {
					t.Fatalf("bindings %v", bindings)
				}
				own := bindings[0]
				if own.Remote != u.conn.LocalAddr().String() || own.Transport != strings.ToUpper(network) || own.UserAgent != "Phone/1" {
					t.Errorf("binding %+v", own)
				}
				if f := b.srv.transport.flowByID(own.FlowID); f == nil || f.remote().String() != own.Remote {
					t.Errorf("no flow %q", own.FlowID)
				}
				time.Sleep(30 * time.Second)
				if res := u.exchange(); res.StatusCode != 200 || !strings.HasSuffix(contactsIn(res)[0], ";expires=570") {
					t.Errorf("a query: %s", res)
				}
				if res := u.exchange(ada); res.StatusCode != 200 || !strings.HasSuffix(contactsIn(res)[0], ";expires=3600") {
					t.Errorf("refreshed with the same nonce: %s", res)
				}
			})
		})
	}
}

func TestRegisterRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		code    int
		headers []string
		answer  string // a header that the answer must have
	}{
		"another's AOR":             {403, []string{"To: <sip:1002@example.com>", ada}, ""},
		"case of the AOR":           {403, []string{"To: <sip:1001A@example.com>", ada}, ""},
		"not our domain":            {404, []string{"To: <sip:1001@elsewhere.example>", ada}, ""},
		"our other domain":          {200, []string{"To: <sip:1001@OTHER.example>", ada}, ""},
		"escaped AOR":               {200, []string{"To: <sip:%31001@example.com>", ada}, ""},
		"tel AOR":                   {200, []string{"To: <tel:1001;phone-context=x>", ada}, ""},
		"unknown extension tag":     {420, []string{ada, "Require: gruu, outbound, path"}, "Unsupported: gruu"},
		"too brief":                 {423, []string{ada, "Expires: 59"}, "Min-Expires: 60"},
		"too brief by parameter":    {423, []string{ada + ";expires=1", "Expires: 600"}, "Min-Expires: 60"},
		"star with another":         {400, []string{"Contact: *", ada, "Expires: 0"}, ""},
		"star with a list":          {400, []string{"Contact: *, <sip:1001@10.0.0.9>", "Expires: 0"}, ""},
		"star without Expires":      {400, []string{"Contact: *"}, ""},
		"star with Expires 60":      {400, []string{"Contact: *", "Expires: 60"}, ""},
		"no SIP URI":                {400, []string{"Contact: <mailto:ada@example.com>"}, ""},
		"headers in the URI":        {400, []string{"Contact: <sip:1001@h?Route=x>"}, ""},
		"empty host":                {400, []string{"Contact: <sip:1001@>"}, ""},
		"two flows in one":          {400, []string{ada + `;+sip.instance="<urn:x:1>";reg-id=1`, `Contact: <sip:b@h>;+sip.instance="<urn:x:1>";reg-id=2`}, ""},
		"huge URI":                  {400, []string{"Contact: <sip:1001@h;x=" + strings.Repeat("y", 3000) + ">"}, ""},
		"huge instance":             {400, []string{ada + `;+sip.instance="<` + strings.Repeat("y", 300) + `>"`}, ""},
		"eleven contacts":           {403, contactList(11), ""},
		"ten contacts":              {200, contactList(10), ""},
		"push service not ours":     {555, []string{"Contact: <sip:1001@h;pn-provider=hms;pn-param=x;pn-prid=t>"}, ""},
		"push topic not ours":       {555, []string{"Contact: <sip:1001@h;pn-provider=apns;pn-param=T.com.other.voip;pn-prid=t>"}, ""},
		"huge token":                {400, []string{"Contact: <sip:1001@h;pn-provider=apns;pn-param=com.example.phone;pn-prid=" + strings.Repeat("f", 1025) + ">"}, ""},
		"leaves a lost service":     {200, []string{"Contact: <sip:1001@h;pn-provider=hms;pn-param=x;pn-prid=t>;expires=0"}, ""},
		"removes what is not there": {200, []string{ada, "Expires: 0"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				res := b.phoneAt("tcp", "192.0.2.50").want(tt.code, tt.headers...)
				if name, value, ok := strings.Cut(tt.answer, ": "); ok && headerValue(res, name) != value {
					t.Errorf("%s: %q, want %q", name, headerValue(res, name), value)
				}
				if tt.code != 200 && len(b.loc.Lookup("1001"))+len(b.loc.Devices("1001")) != 0 {
					t.Error("a refused REGISTER changed something")
				}
			})
		})
	}
}

func contactList(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("Contact: <sip:1001@h%d>", i))
	}
	return out
}

func TestRegisterExpiry(t *testing.T) {
	for name, tt := range map[string]struct {
		headers []string
		granted string
	}{
		"parameter before header": {[]string{ada + ";expires=120", "Expires: 600"}, "120"},
		"header":                  {[]string{ada, "Expires: 600"}, "600"},
		"default":                 {[]string{ada}, "3600"},
		"clamped":                 {[]string{ada + ";expires=999999"}, "86400"},
		"beyond 32 bits":          {[]string{ada + ";expires=99999999999999999999"}, "86400"},
		"malformed":               {[]string{ada + ";expires=soon"}, "3600"},
		"malformed sign":          {[]string{ada + ";expires=-1"}, "3600"},
		"malformed header":        {[]string{ada, "Expires: 1.5"}, "3600"},
		"quoted":                  {[]string{ada + `;expires="300"`}, "300"},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				got := contactsIn(b.phoneAt("tcp", "192.0.2.50").want(200, tt.headers...))
				if len(got) != 1 || !strings.HasSuffix(got[0], ";expires="+tt.granted) {
					t.Errorf("lists %q, want expires=%s", got, tt.granted)
				}
			})
		})
	}
	t.Run("a minimum above an hour is no 423", func(t *testing.T) {
		inBed(t, func(c *Config) { c.Registration.Min, c.Registration.Default = 2*time.Hour, 3*time.Hour }, func(b *registerBed) {
			got := contactsIn(b.phoneAt("tcp", "192.0.2.50").want(200, ada+";expires=3600"))
			if !strings.HasSuffix(got[0], ";expires=7200") {
				t.Errorf("lists %q", got)
			}
		})
	})
}

func TestRegisterRemovesAndOrders(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		u.want(200, ada, "Contact: <sip:1001@10.0.0.9:4001>", "Contact: <sip:1001@10.0.0.9:4002>;q=0.5")
		// Equal URIs (RFC 3261 §19.1.4) are one binding.
		got := contactsIn(u.want(200, "Contact: <sip:1001@10.0.0.9:4000;Transport=TCP;ob>, <sip:1001@10.0.0.9:4001>;expires=0"))
		if len(got) != 2 || !strings.Contains(got[1], ";q=0.5") {
			t.Errorf("lists %q: want two, the preferred first", got)
		}
		u.cseq -= 2
		if res := u.register(ada); res.StatusCode != 400 {
			t.Errorf("an old CSeq: %d", res.StatusCode)
		}
		b.wantBindings("1001", "sip:1001@10.0.0.9:4000;Transport=TCP;ob", "sip:1001@10.0.0.9:4002")
		u.cseq += 2
		if got := contactsIn(u.want(200, "Contact: *", "Expires: 0")); len(got) != 0 {
			t.Errorf("lists %q after Contact: *", got)
		}
		b.wantBindings("1001")
	})
}

func TestRegisterExpires(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("udp", "192.0.2.50")
		u.want(200, ada, "Expires: 60")
		flow := b.loc.Lookup("1001")[0].FlowID
		time.Sleep(59 * time.Second)
		b.wantBindings("1001", "sip:1001@10.0.0.9:4000;transport=tcp")
		time.Sleep(2 * time.Second)
		b.wantBindings("1001")
		if b.loc.HasFlow(flow) {
			t.Error("the flow still has a binding")
		}
	})
}

// RFC 5626 §6.
func TestRegisterOutbound(t *testing.T) {
	const instance = `;+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"`
	for name, tt := range map[string]struct {
		headers  []string
		outbound bool
		regID    int
	}{
		"supported":         {[]string{ada + instance + ";reg-id=1", "Supported: path, outbound"}, true, 1},
		"compact form":      {[]string{ada + instance + ";reg-id=2", "k: outbound"}, true, 2},
		"required":          {[]string{ada + instance + ";reg-id=1", "Require: outbound"}, true, 1},
		"not supported":     {[]string{ada + instance + ";reg-id=1"}, false, 1},
		"no reg-id":         {[]string{ada + instance, "Supported: outbound"}, false, 0},
		"no instance":       {[]string{ada + ";reg-id=1", "Supported: outbound"}, false, 0},
		"reg-id no number":  {[]string{ada + instance + ";reg-id=x", "Supported: outbound"}, false, 0},
		"reg-id too large":  {[]string{ada + instance + ";reg-id=2147483648", "Supported: outbound"}, false, 0},
		"leaving":           {[]string{ada + instance + ";reg-id=1;expires=0", "Supported: outbound"}, false, -1},
		"behind some proxy": {[]string{ada + instance + ";reg-id=1", "Via: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKp, SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKq"}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				u := b.phoneAt("tcp", "192.0.2.50")
				headers := tt.headers
				u.exchange(headers...)
				// A Via that is given must differ each time.
				headers = slices.Clone(headers)
				for i, h := range headers {
					headers[i] = strings.Replace(h, "z9hG4bKp", "z9hG4bKp2", 1)
				}
				u = b.phoneAt("tcp", "192.0.2.51")
				u.creds.challenged(u.exchange())
				res := u.exchange(headers...)
				if res.StatusCode != 200 {
					t.Fatalf("answer %s", res)
				}
				if got := headerValue(res, "Require") == "outbound" && headerValue(res, "Flow-Timer") == "120"; got != tt.outbound {
					t.Errorf("Require %q, Flow-Timer %q", headerValue(res, "Require"), headerValue(res, "Flow-Timer"))
				}
				bindings := b.loc.Lookup("1001")
				if tt.regID < 0 {
					if len(bindings) != 0 {
						t.Errorf("bindings %v", bindings)
					}
					return
				}
				if len(bindings) != 1 || bindings[0].RegID != tt.regID {
					t.Errorf("bindings %+v", bindings)
				}
				if bindings[0].Instance != "" && !strings.Contains(contactsIn(res)[0], instance) {
					t.Errorf("lists %q without the instance as it was", contactsIn(res))
				}
			})
		})
	}
}

func TestRegisterFlowMoves(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		contact := `Contact: <sip:1001@10.0.0.9:4000>;+sip.instance="<urn:uuid:x>";reg-id=1`
		wifi := b.phoneAt("tcp", "192.0.2.50")
		wifi.want(200, contact, "Supported: outbound")
		first := b.loc.Lookup("1001")[0].FlowID
		watch := b.loc.Watch("1001")
		registered(watch)
		lte := b.phoneAt("tcp", "198.51.100.7")
		lte.want(200, contact, "Supported: outbound")
		if now := registered(watch).FlowID; now == first {
			t.Errorf("still on %s", now)
		}
		wifi.conn.Close() // the old connection dies late
		synctest.Wait()
		time.Sleep(time.Second)
		if got := b.loc.Lookup("1001"); len(got) != 1 || got[0].FlowID == first {
			t.Errorf("bindings %v", got)
		}
		lte.conn.Close()
		time.Sleep(time.Second)
		b.wantBindings("1001")
	})
}

func TestRegisterWatchersHearAfterTheAnswer(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		u.creds.challenged(u.exchange())
		watch := b.loc.Watch("1001")
		var answered atomic.Bool
		b.net.Tap(func(p siptest.Packet) {
			if bytes.HasPrefix(p.Data, []byte("SIP/2.0 200 ")) {
				answered.Store(true)
			}
		})
		for i := range 20 {
			answered.Store(false)
			told := make(chan bool)
			go func() {
				registered(watch)
				told <- answered.Load()
			}()
			token := fmt.Sprint("tok", i) // a new token each time: it must reach the disk
			res := u.exchange("Contact: <sip:1001@10.0.0.9:4000;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=" + token + ">")
			if res.StatusCode != 200 {
				t.Fatal(res)
			}
			if !<-told {
				t.Error("told before the 200 was on the wire")
			}
		}
		b.store.delay = 3 * time.Second
		begin := time.Now()
		go func() {
			registered(watch)
			if took := time.Since(begin); took < 3*time.Second {
				t.Errorf("told after %s, before the target was durable", took)
			}
		}()
		u.want(200, "Contact: <sip:1001@10.0.0.9:4000;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=last>")
		if took := time.Since(begin); took < 3*time.Second {
			t.Errorf("answered after %s, before the target was durable", took)
		}
		synctest.Wait()
	})
}

func TestRegisterFlowDiesBeforeTheAnswer(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		u.creds.challenged(u.exchange())
		watch := b.loc.Watch("1001")
		b.store.delay = 3 * time.Second
		go func() {
			time.Sleep(time.Second)
			u.conn.Close()
		}()
		u.send("Contact: <sip:1001@10.0.0.9:4000;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=x>")
		time.Sleep(10 * time.Second)
		b.wantBindings("1001")
		select {
		case <-watch.Ready():
			binding, _ := watch.Next()
			t.Errorf("told of %v on a dead flow", binding.FlowID)
		default:
		}
		if d := b.loc.Devices("1001"); len(d) != 1 {
			t.Errorf("devices %v: the target is known all the same", d)
		}
	})
}

func TestRegisterStoreFails(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		push := "Contact: <sip:1001@10.0.0.9:4000;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=x>"
		b.store.err = errDisk
		u.want(500, push)
		b.wantBindings("1001")
		b.store.err = nil
		u.want(200, push)
	})
}

func TestRegisterUnknownLooksLikeWrongPassword(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		answer := func(user, password string) string {
			u := b.phoneAt("tcp", "192.0.2.50")
			u.aor, u.creds, u.callID = user, newDigestClient(user, Secret(password)), "same"
			res := u.register(ada)
			var lines []string
			for line := range strings.SplitSeq(res.String(), "\r\n") {
				if name, _, _ := strings.Cut(line, ":"); name == "Via" || name == "To" || name == "From" {
					continue
				}
				if i := strings.Index(line, "nonce="); i >= 0 {
					line = line[:i] + line[i+51:]
				}
				lines = append(lines, line)
			}
			return strings.Join(lines, "\n")
		}
		wrong, unknown := answer("1001", "guess"), answer("9999", "guess")
		if wrong != unknown || !strings.Contains(wrong, "401 Unauthorized") {
			t.Errorf("wrong password:\n%s\nunknown extension:\n%s", wrong, unknown)
		}
	})
}

// registered waits for the next binding of a watch.
func registered(w *location.Watcher) location.Binding {
	for {
		if b, ok := w.Next(); ok {
			return b
		}
		<-w.Ready()
	}
}
