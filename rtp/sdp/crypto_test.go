package sdp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Keys of tests, in base64: of 30 bytes, as the first suite has them, and of 28 and 44.
var (
	key30 = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcd"))
	key28 = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789ab"))
	key44 = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef0123456789ab"))
)

func TestCryptoIsRead(t *testing.T) {
	for value, want := range map[string]Crypto{
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30:                      {1, AES128CM80, Key("0123456789abcdef0123456789abcd")},
		"999999999 AES_CM_128_HMAC_SHA1_32 inline:" + key30 + "|2^20":    {999999999, AES128CM32, Key("0123456789abcdef0123456789abcd")},
		"7 AEAD_AES_128_GCM INLINE:" + key28 + "|281474976710656":        {7, AES128GCM, Key("0123456789abcdef0123456789ab")},
		"0 AEAD_AES_256_GCM  inline:" + key44 + "|2^48 WSH=128 KDR=0 -X": {0, AES256GCM, Key("0123456789abcdef0123456789abcdef0123456789ab")},
	} {
		got, err := ParseCrypto(value)
		if err != nil || got.Tag != want.Tag || got.Suite != want.Suite || string(got.Key) != string(want.Key) {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
}

func TestCryptoIsRefused(t *testing.T) {
	good := "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30
	for _, value := range []string{
		"", "1", "1 AES_CM_128_HMAC_SHA1_80", "x AES_CM_128_HMAC_SHA1_80 inline:" + key30, "+1 AES_CM_128_HMAC_SHA1_80 inline:" + key30,
		"1234567890 AES_CM_128_HMAC_SHA1_80 inline:" + key30,
		"1 F8_128_HMAC_SHA1_80 inline:" + key30, "1 aes_cm_128_hmac_sha1_80 inline:" + key30, "1 NULL_HMAC_SHA1_80 inline:" + key30,
		"1 AES_CM_128_HMAC_SHA1_80 " + key30, "1 AES_CM_128_HMAC_SHA1_80 uri:" + key30,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key28, "1 AEAD_AES_128_GCM inline:" + key30, good[:len(good)-1], good + "=", good + "==",
		"1 AEAD_AES_128_GCM inline:" + key28[:len(key28)-3] + "j==", // bits beyond the key
		good + ";inline:" + key30, good + "|1:4", good + "|2^20|1:4", good + "|2^20|2^20", good + "|", good + "|2^", good + "|2^49",
		good + "|2^4", good + "|100", good + "|-1", good + "|2^20|",
		good + " UNENCRYPTED_SRTP", good + " UNENCRYPTED_SRTCP", good + " UNAUTHENTICATED_SRTP", good + " KDR=1",
		good + " FEC_ORDER=FEC_SRTP", good + " FEC_KEY=inline:" + key30, good + " WSH=63", good + " WSH=x", good + " NEW=1", good + " -",
	} {
		_, err := ParseCrypto(value)
		if err == nil {
			t.Errorf("%s: taken", value)
		} else if strings.Contains(err.Error(), key30[:8]) || strings.Contains(err.Error(), key28[:8]) {
			t.Errorf("%s: the error shows the key: %v", value, err)
		}
	}
}

func TestKeysDoNotShow(t *testing.T) {
	d := &Description{Stream: Stream{Crypto: []Crypto{{1, AES128CM80, Key("0123456789abcdef")}}}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{d.Crypto[0].Key, d.Crypto[0], *d} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, "0123") || strings.Contains(text, "3031") || strings.Contains(text, "48 49") || !strings.Contains(text, "[key]") {
				t.Errorf("%s of %T: %s", verb, v, text)
			}
		}
	}
	if out, err := json.Marshal(d); err != nil || strings.Contains(string(out), "MDEy") || strings.Contains(string(out), "0123") {
		t.Errorf("%s, %v", out, err)
	}
}

// stream is a description with audio lines of the given profiles, each with the given lines behind it.
func stream(lines ...string) []byte {
	return text(append([]string{"v=0", "o=- 1 2 IN IP4 192.0.2.9", "s=-", "c=IN IP4 192.0.2.1", "t=0 0"}, lines...)...)
}

func TestKeysAreTakenOnlyWhereTheyMay(t *testing.T) {
	good := "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key30
	bad := "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1:4"
	for name, test := range map[string]struct {
		lines []string
		want  [3]string // with off, optional and required: the audio line's number and the count of keys, or "refused"
	}{
		"plain":                   {[]string{"m=audio 4000 RTP/AVP 0"}, [3]string{"0 0", "0 0", "refused"}},
		"SAVP":                    {[]string{"m=audio 4000 RTP/SAVP 0", good}, [3]string{"refused", "0 1", "0 1"}},
		"SAVPF":                   {[]string{"m=audio 4000 RTP/SAVPF 0", bad, good}, [3]string{"refused", "0 1", "0 1"}},
		"SAVP with a bad key":     {[]string{"m=audio 4000 RTP/SAVP 0", bad}, [3]string{"refused", "refused", "refused"}},
		"SAVP without a key":      {[]string{"m=audio 4000 RTP/SAVP 0"}, [3]string{"refused", "refused", "refused"}},
		"AVP with a key":          {[]string{"m=audio 4000 RTP/AVP 0", good}, [3]string{"0 0", "0 1", "0 1"}},
		"AVP with a bad key":      {[]string{"m=audio 4000 RTP/AVP 0", bad}, [3]string{"0 0", "0 0", "refused"}},
		"SAVP and AVP":            {[]string{"m=audio 4000 RTP/SAVP 0", good, "m=audio 4000 RTP/AVP 0"}, [3]string{"1 0", "0 1", "0 1"}},
		"AVP and SAVP":            {[]string{"m=audio 4000 RTP/AVP 0", "m=audio 4000 RTP/SAVP 0", good}, [3]string{"0 0", "1 1", "1 1"}},
		"AVP and SAVP declined":   {[]string{"m=audio 4000 RTP/AVP 0", "m=audio 0 RTP/SAVP 0", good}, [3]string{"0 0", "0 0", "refused"}},
		"DTLS":                    {[]string{"m=audio 4000 UDP/TLS/RTP/SAVPF 0", good}, [3]string{"refused", "refused", "refused"}},
		"a key for the video":     {[]string{"m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/SAVP 99", good}, [3]string{"0 0", "0 0", "refused"}},
		"a key for the session":   {[]string{good, "m=audio 4000 RTP/AVP 0"}, [3]string{"0 0", "0 0", "refused"}},
		"suites, one of them new": {[]string{"m=audio 4000 RTP/SAVP 0", "a=crypto:4 NEW inline:" + key30, good, good}, [3]string{"refused", "0 2", "0 2"}},
	} {
		for security, want := range test.want {
			d, err := ParseSecure(stream(test.lines...), Security(security))
			got := "refused"
			if err == nil {
				got = fmt.Sprint(d.Index, " ", len(d.Crypto))
			} else if !errors.Is(err, ErrNotAcceptable) || strings.Contains(err.Error(), key30[:8]) {
				t.Errorf("%s, %d: %v", name, security, err)
			}
			if got != want {
				t.Errorf("%s with %d: %s, want %s (%v)", name, security, got, want, err)
			}
		}
	}
}

func TestKeysAreWrittenAndReadBack(t *testing.T) {
	d := ours()
	d.Crypto = []Crypto{{3, AES128GCM, Key("0123456789abcdef0123456789ab")}, {4, AES128CM80, Key("0123456789abcdef0123456789abcd")}}
	d.Lines[1].Proto = "RTP/SAVP"
	w := Writer{ID: 5, version: 3}
	body, err := w.Write(d)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), "\r\na=crypto:3 AEAD_AES_128_GCM inline:"+key28+"\r\na=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:"+key30+"\r\n") {
		t.Errorf("%s", body)
	}
	back, err := ParseSecure(body, Required)
	if err != nil || !slices.EqualFunc(back.Crypto, d.Crypto, func(a, b Crypto) bool {
		return a.Tag == b.Tag && a.Suite == b.Suite && string(a.Key) == string(b.Key)
	}) {
		t.Errorf("%+v, %v", back, err)
	}
	again, err := Resume(body)
	if err != nil || again.ID != 5 || again.version != 3 {
		t.Fatalf("%+v, %v", again, err)
	}
	if same, _ := again.Write(d); string(same) != string(body) {
		t.Errorf("written again as\n%s", same)
	}
	d.Addr = netip.MustParseAddrPort("203.0.113.5:20010")
	if more, _ := again.Write(d); !strings.Contains(string(more), "o=- 5 4 IN") {
		t.Errorf("%s", more)
	}
	if _, err := Resume([]byte("v=0\r\n")); err == nil {
		t.Error("nothing of ours was resumed")
	}
}

func FuzzCrypto(f *testing.F) {
	f.Add("1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:4 KDR=0")
	f.Add("7 AEAD_AES_256_GCM inline:" + key44 + "|2^48 WSH=64 -X=1")
	f.Add("7 AEAD_AES_128_GCM inline:" + key28 + ";inline:" + key28)
	f.Fuzz(func(t *testing.T, value string) {
		c, err := ParseCrypto(value)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "a=crypto: ") || len(err.Error()) > 100 {
				t.Fatal(err)
			}
			return
		}
		if key, salt := c.Suite.Lengths(); key == 0 || len(c.Key) != key+salt {
			t.Fatalf("a key of %d bytes for %s", len(c.Key), c.Suite)
		}
		back, err := ParseCrypto(c.attribute())
		if err != nil || back.Tag != c.Tag || back.Suite != c.Suite || string(back.Key) != string(c.Key) {
			t.Fatalf("%q became %q: %v", value, c.attribute(), err)
		}
	})
}
