package sip

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

// writers are the ways in which phones write a value into a URI parameter.
var writers = map[string]func(string) string{
	"RFC 3261": func(s string) string { return escapeBut(s, "-_.!~*'()[]/:&+$", "%%%02X") },
	"Linphone": func(s string) string { return escapeBut(s, "-_.!~*'()[]/&+$", "%%%02X") }, // ':' as %3A
	"URL":      func(s string) string { return escapeBut(s, "-_.~", "%%%02x") },            // as libraries for URLs do
	"all":      func(s string) string { return escapeBut(s, "", "%%%02X") },
}

func escapeBut(s, plain, format string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if isAlnum(c) || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, format, c)
		}
	}
	return b.String()
}

// roundTrip registers a target that a phone wrote in some way, and reads it
// back from what is stored, from what the 200 lists, and from the Request-URI
// of an INVITE to that phone.
func roundTrip(t *testing.T, r *registrar, f *flow, target [3]string, write func(string) string) {
	t.Helper()
	for _, user := range []string{"1001@", ""} { // a host alone may be taken for more
		uri := fmt.Sprintf("sip:%s10.0.0.9:4000;transport=tcp;pn-provider=%s;pn-param=%s;pn-prid=%s;ob",
			user, write(target[0]), write(target[1]), write(target[2]))
		text := message("REGISTER sip:h SIP/2.0", "", "To: <sip:1001@h>", "Contact: <"+uri+`>;+sip.instance="<urn:uuid:x>"`)
		m, _, err := parseDatagram([]byte(text), 16384)
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		req := m.(*sipgo.Request)
		x := &registration{f: f, req: req, aor: "1001"}
		u, refused := r.update(x)
		if refused != nil {
			t.Fatalf("%s: %v", uri, refused)
		}
		got := u.Contacts[0].Target
		if got.Provider != strings.ToLower(target[0]) || got.Param != target[1] || got.PRID != target[2] {
			t.Errorf("%s: read %q %q %q", uri, got.Provider, got.Param, got.PRID)
		}
		change, err := r.o.Location.Put(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := parseDatagram([]byte(r.accepted(x, change.Bindings).String()), 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		listed := back.(*sipgo.Response).Contact().Address
		dialled, err := parseURI(change.Bindings[0].Contact)
		if err != nil {
			t.Fatal(err)
		}
		change.Drop()
		written := strings.Replace(uri, "pn-param=;", "pn-param;", 1) // an empty value has no = (RFC 3261 §25.1)
		for where, u := range map[string]sipgo.Uri{"listed": listed, "dialled": dialled} {
			if v, _ := paramOf(u.UriParams, "pn-prid"); unescapeURI(v) != target[2] || u.String() != written {
				t.Errorf("%s: %s as %s", uri, where, u.String())
			}
		}
	}
}

const fcmAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_-"

// A token of Google's is 11 to 22 characters, a colon, and some 140 more.
func fcmToken(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = fcmAlphabet[r.IntN(len(fcmAlphabet))]
	}
	b[min(n/2, 22)] = ':'
	return string(b)
}

func TestPushParametersKeepTheirValueHoweverTheyAreEscaped(t *testing.T) {
	r, f := fuzzRegistrar(t)
	random := rand.New(rand.NewPCG(1, 2))
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			for _, target := range [][3]string{
				{"fcm", "example-phone", fcmToken(random, 163)},
				{"fcm", "", fcmToken(random, 1024)},
				{"fcm", "example.com:phone", "::-_:"},
				{"apns", "T.com.example.phone.remote&voip", "aa:remote&bb:voip"},
				{"My-Push", "", "https://push.example.com/a?b=c;d&e=%41"},
				{"apns", `x"\y`, `<">@[::1]?;,%%41\`},
			} {
				roundTrip(t, r, f, target, write)
			}
			for range 200 {
				roundTrip(t, r, f, [3]string{"fcm", "example-phone", fcmToken(random, 1+random.IntN(300))}, write)
			}
		})
	}
}

// FuzzPushEscaping is the same for whatever ASCII there is.
func FuzzPushEscaping(f *testing.F) {
	f.Add("example-phone", "dQw4w9WgXcQ:APA91bF_x-Y")
	f.Add("", `%3A%%:;@[]<>"\`)
	r, flow := fuzzRegistrar(f)
	f.Fuzz(func(t *testing.T, param, prid string) {
		if prid == "" || len(prid)+len(param) > 500 || !visible(prid) || !visible(param) {
			return
		}
		for _, write := range writers {
			roundTrip(t, r, flow, [3]string{"fcm", param, prid}, write)
		}
	})
}
