package location

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Two tokens of Apple's, as a device has them.
var (
	hexCall  = strings.Repeat("0a1B", 16)
	hexAlert = strings.Repeat("c0Ff", 16)
)

func TestTokensInCanonicalForm(t *testing.T) {
	low, alert := strings.ToLower(hexCall), strings.ToLower(hexAlert)
	for name, tt := range map[string]struct {
		target Target
		want   tokens
		kinds  []string
	}{
		"hex alone":        {Target{Provider: "apns", PRID: hexCall}, tokens{"apns", low, ""}, []string{"voip"}},
		"sandbox":          {Target{Provider: "APNS.dev", PRID: low}, tokens{"apns", low, ""}, []string{"voip"}},
		"voip":             {Target{Provider: "apns", PRID: hexCall + ":voip"}, tokens{"apns", low, ""}, []string{"voip"}},
		"both":             {Target{Provider: "apns", PRID: hexCall + ":voip&" + hexAlert + ":remote"}, tokens{"apns", low, alert}, []string{"voip", "alert"}},
		"the other order":  {Target{Provider: "apns", PRID: alert + ":remote&" + low + ":VoIP"}, tokens{"apns", low, alert}, []string{"voip", "alert"}},
		"remote alone":     {Target{Provider: "apns", PRID: hexAlert + ":remote"}, tokens{"apns", "", alert}, []string{"alert"}},
		"remote by param":  {Target{Provider: "apns", Param: "T.com.example.phone.remote", PRID: hexAlert}, tokens{"apns", "", alert}, []string{"alert"}},
		"a third":          {Target{Provider: "apns", PRID: "aa:voip&bb:voip&cc:other&dd:remote&ee:remote"}, tokens{"apns", "aa", "dd"}, []string{"voip", "alert"}},
		"of no known form": {Target{Provider: "apns", PRID: "AA:other"}, tokens{"apns", "aa:other", ""}, []string{"voip"}},
		"fcm keeps case":   {Target{Provider: "FCM", PRID: "dA:APA91b_x-Y&z:remote"}, tokens{"fcm", "dA:APA91b_x-Y&z:remote", ""}, nil},
		"none":             {Target{}, tokens{}, nil},
	} {
		if got := tt.target.tokens(); got != tt.want || !slices.Equal(tt.target.Kinds(), tt.kinds) {
			t.Errorf("%s: %+v, kinds %q", name, got, tt.target.Kinds())
		}
	}
}

// Whatever way a token is written, it is the same one: its former owner loses it.
func TestTokenMovesHoweverItIsWritten(t *testing.T) {
	both := hexCall + ":voip&" + hexAlert + ":remote"
	for name, tt := range map[string]struct{ first, second Target }{
		"case":            {Target{Provider: "apns", PRID: hexCall}, Target{Provider: "apns", PRID: strings.ToUpper(hexCall)}},
		"order":           {Target{Provider: "apns", PRID: both}, Target{Provider: "apns", PRID: hexAlert + ":remote&" + hexCall + ":voip"}},
		"labelled":        {Target{Provider: "apns", PRID: hexCall}, Target{Provider: "apns", PRID: hexCall + ":voip"}},
		"of the two":      {Target{Provider: "apns", PRID: both}, Target{Provider: "apns", PRID: hexCall}},
		"the alert alone": {Target{Provider: "apns", PRID: both}, Target{Provider: "apns", PRID: hexAlert + ":remote"}},
		"environment":     {Target{Provider: "apns", PRID: hexCall}, Target{Provider: "apns.dev", PRID: hexCall}},
		"provider's case": {Target{Provider: "fcm", PRID: "tok:en"}, Target{Provider: "FCM", PRID: "tok:en"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewMemory()
				l := open(t, store)
				first, second := provisionOf("1001", "urn:uuid:1", ""), provisionOf("1002", "urn:uuid:2", "")
				first.Target, second.Target = tt.first, tt.second
				provision(t, l, first)
				provision(t, l, second)
				s, _ := store.Load()
				if len(l.Devices("1001")) != 0 || len(s.Devices) != 1 || s.Devices[0].AOR != "1002" {
					t.Errorf("devices %v, stored %v", l.AllDevices(), s.Devices)
				}
				for k, r := range l.tokens {
					if r.AOR != "1002" {
						t.Errorf("%s is still %s's", k.provider, r.AOR)
					}
				}
			})
		})
	}
	t.Run("fcm tokens differ by case", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := open(t, NewMemory())
			first, second := provisionOf("1001", "urn:uuid:1", ""), provisionOf("1002", "urn:uuid:2", "")
			first.Target, second.Target = Target{Provider: "fcm", PRID: "tok"}, Target{Provider: "fcm", PRID: "TOK"}
			provision(t, l, first)
			provision(t, l, second)
			if len(l.AllDevices()) != 2 {
				t.Errorf("devices %v", l.AllDevices())
			}
		})
	})
}

// A device that writes its token in another way, or brings an alert token
// beside it, is the same device: what was learned of the token stays.
func TestTokenWrittenAnotherWayIsNoNews(t *testing.T) {
	for _, instance := range []string{"urn:uuid:ADA", ""} {
		synctest.Test(t, func(t *testing.T) {
			l := open(t, NewMemory())
			p := ada()
			p.instance, p.prid = instance, hexCall
			p.register(t, l, time.Hour)
			first := l.Devices("1001")[0]
			l.SetEnvironment(first, "sandbox")
			for _, prid := range []string{strings.ToUpper(hexCall), hexCall + ":voip", hexAlert + ":remote&" + hexCall + ":voip"} {
				time.Sleep(time.Second)
				p.prid = prid
				p.register(t, l, time.Hour)
				d := l.Devices("1001")
				if len(d) != 1 || d[0].ID != first.ID || d[0].Target.Environment != "sandbox" || len(l.Lookup("1001")) != 1 {
					t.Errorf("instance %q: devices %+v", instance, d)
				}
			}
			if kinds := l.Devices("1001")[0].Target.Kinds(); len(kinds) != 2 {
				t.Errorf("kinds %q", kinds)
			}
			p.prid = strings.Repeat("99", 32) // a new token: nothing is known of it
			p.register(t, l, time.Hour)
			if d := l.Devices("1001"); len(d) != 1 || d[0].Target.Environment != "" {
				t.Errorf("instance %q: devices %+v", instance, d)
			}
			for _, digits := range []string{"aa", "bb"} { // alert tokens alone
				p.prid = strings.Repeat(digits, 32) + ":remote"
				p.register(t, l, time.Hour)
				if d := l.Devices("1001"); d[0].Target.Environment != "" {
					t.Errorf("instance %q: another alert token is taken for %s's", instance, d[0].Target.Environment)
				}
				l.SetEnvironment(l.Devices("1001")[0], "production")
			}
			if n := len(l.tokens); n != 1 {
				t.Errorf("%d tokens are known, the device has one", n)
			}
		})
	}
}

// A database in which two accounts have one token, as a version could write
// that did not know its spellings: who has confirmed it last keeps it.
func TestRestoreGivesATokenToOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		b := newBatch()
		for i, prid := range []string{strings.ToUpper(hexCall), hexCall, "x:" + hexCall} {
			d := someDevice(i)
			d.Target.PRID, d.Seen = prid, time.Now()
			d.Confirmed = time.Now().Add(-time.Duration(i) * time.Hour)
			b.Devices[d.key()] = &d
		}
		if err := store.Apply(b); err != nil {
			t.Fatal(err)
		}
		l := open(t, store)
		synctest.Wait()
		s, _ := store.Load()
		if got := l.AllDevices(); len(got) != 2 || got[0].AOR != someDevice(0).AOR || len(s.Devices) != 2 {
			t.Errorf("devices %v, stored %v", got, s.Devices)
		}
	})
}

func FuzzTokens(f *testing.F) {
	f.Add("apns", hexCall+":voip&"+hexAlert+":remote")
	f.Add("apns.dev", ":voip&:remote&&")
	f.Add("fcm", "a:b&c")
	f.Fuzz(func(t *testing.T, provider, prid string) {
		target := Target{Provider: provider, PRID: prid}
		ts, n := target.tokens(), 0
		for k := range ts.each {
			if n++; k.value == "" {
				t.Errorf("%q has an empty token", prid)
			}
		}
		if (n == 0) != target.IsZero() || n > 2 {
			t.Errorf("%q has %d tokens", prid, n)
		}
		parts := strings.Split(prid, "&")
		ascii := !strings.ContainsFunc(prid, func(r rune) bool { return r > '~' })
		if ascii && len(parts) == 2 && ts.call != "" && ts.alert != "" {
			target.PRID = strings.ToUpper(parts[1] + "&" + parts[0])
			if ts.provider == "apns" && target.tokens() != ts {
				t.Errorf("%q and %q differ", prid, target.PRID)
			}
		}
	})
}

// A service is counted by its name if it is one that is configured: a device
// must not be able to invent labels.
func TestDevicesAreCountedByConfiguredServicesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := New(NewMemory(), Options{Providers: func() []string { return []string{"apns", "mypush"} }})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i, provider := range []string{"apns", "fcm", "MyPush", "mypush", "former"} {
			p := provisionOf("1001", "urn:uuid:"+strings.Repeat("x", i), strings.Repeat("t", i+1))
			p.Target.Provider = provider
			provision(t, l, p)
		}
		counts := l.DeviceCounts()
		if len(counts) != 4 || counts["apns"] != 1 || counts["fcm"] != 1 || counts["mypush"] != 2 || counts["other"] != 1 {
			t.Errorf("counts %v", counts)
		}
	})
}
