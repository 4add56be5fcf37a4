package location

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// someKey is a device's public key: nearly any 32 bytes are one.
func someKey(n byte) string {
	return base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{n, 7}, 16))
}

func TestCheckKey(t *testing.T) {
	good := base64.RawURLEncoding.EncodeToString(append(bytes.Repeat([]byte{0xfb, 0xff}, 15), 1, 2))
	if !strings.ContainsAny(good, "-_") {
		t.Fatal("the key tells nothing of the alphabet")
	}
	for name, tt := range map[string]struct {
		key string
		ok  bool
	}{
		"none":           {"", true},
		"a key":          {good, true},
		"padded":         {good + "=", false},
		"plain base64":   {strings.NewReplacer("-", "+", "_", "/").Replace(good), false},
		"cut":            {good[:42], false},
		"longer":         {good + "AA", false},
		"loose bits":     {good[:42] + "B", false},
		"a line break":   {good[:20] + "\n" + good[20:], false},
		"hex":            {strings.Repeat("0a", 32), false},
		"all zero":       {base64.RawURLEncoding.EncodeToString(make([]byte, 32)), false},
		"one":            {base64.RawURLEncoding.EncodeToString(append([]byte{1}, make([]byte, 31)...)), false},
		"of order eight": {"4Ot6fDtBuK4WVuP68Z_EatoJjeucMrH9hmIFFl9JuAA", false}, // RFC 7748's curve, as in libsodium's list
	} {
		err := CheckKey(tt.key)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && tt.key != "" && strings.Contains(err.Error(), tt.key) {
			t.Errorf("%s: the error repeats the key", name)
		}
	}
}

// The list of small orders says what ECDH would say, with either top bit.
func TestKeysOfSmallOrderAreThoseThatECDHRefuses(t *testing.T) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	check := func(raw []byte) {
		t.Helper()
		public, err := ecdh.X25519().NewPublicKey(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = private.ECDH(public); (err != nil) != smallOrder(raw) {
			t.Errorf("%x: ECDH says %v, the list %v", raw, err, smallOrder(raw))
		}
		if err != nil {
			refused++
		}
	}
	for _, u := range []string{
		strings.Repeat("00", 32), "01" + strings.Repeat("00", 31), "02" + strings.Repeat("00", 31), "ea" + strings.Repeat("ff", 30) + "7f",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"eb" + strings.Repeat("ff", 30) + "7f", "ec" + strings.Repeat("ff", 30) + "7f", "ed" + strings.Repeat("ff", 30) + "7f",
		"ee" + strings.Repeat("ff", 30) + "7f", "ef" + strings.Repeat("ff", 30) + "7f", strings.Repeat("42", 32),
	} {
		raw, err := hex.DecodeString(u)
		if err != nil {
			t.Fatal(err)
		}
		check(raw)
		raw[31] |= 0x80
		check(raw)
	}
	if refused != 14 {
		t.Errorf("%d are refused, want seven with each top bit", refused)
	}
}

func FuzzCheckKey(f *testing.F) {
	f.Add(someKey(1))
	f.Add(someKey(1) + "=")
	f.Add("\n")
	f.Fuzz(func(t *testing.T, key string) {
		if CheckKey(key) != nil || key == "" {
			return
		}
		raw, err := base64.RawURLEncoding.DecodeString(key)
		if err != nil || len(raw) != 32 || base64.RawURLEncoding.EncodeToString(raw) != key {
			t.Errorf("%q is taken: %d bytes, %v", key, len(raw), err)
		}
	})
}

// A REGISTER or PUT states the whole target: a new key replaces the old one, no
// key takes it away. Both are durable, and what was learned of the token stays.
func TestKeyIsStatedWithItsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		p := ada()
		for _, key := range []string{someKey(1), someKey(2), "", someKey(3)} {
			p.key = key
			p.register(t, l, time.Hour)
			l.SetEnvironment(l.Devices("1001")[0], "sandbox")
			s, _ := store.Load()
			if d := l.Devices("1001"); len(d) != 1 || d[0].Target.Key != key || len(s.Devices) != 1 || s.Devices[0].Target.Key != key {
				t.Errorf("devices %v, stored %v: want key %q", d, s.Devices, key)
			}
			time.Sleep(time.Second)
		}
		first := l.Devices("1001")[0]
		if first.Target.Environment != "sandbox" || time.Since(first.Registered) < 4*time.Second {
			t.Errorf("environment %q, registered %v ago", first.Target.Environment, time.Since(first.Registered))
		}
		p.prid, p.key = "", ""
		p.register(t, l, time.Hour) // it says nothing of pushes
		if got := l.Devices("1001")[0].Target; got != first.Target {
			t.Errorf("target became %v, key %q", got, got.Key)
		}
		by := provisionOf("1001", p.instance, "tokenA")
		by.Target.Key = someKey(4)
		provision(t, l, by)
		if s, _ := store.Load(); s.Devices[0].Target.Key != someKey(4) {
			t.Errorf("stored %q after Provision", s.Devices[0].Target.Key)
		}
	})
}

// A database of a version that knew no keys and no wake times.
func TestBoltReadsDevicesWithoutKey(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenBolt(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := someDevice(1)
	row := map[string]any{"ID": d.ID, "AOR": d.AOR, "Instance": d.Instance, "UserAgent": d.UserAgent, "Provider": "apns", "Param": d.Target.Param,
		"PRID": d.Target.PRID, "Environment": "sandbox", "Registered": d.Registered, "Seen": d.Seen}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		text, err := json.Marshal(row)
		if err != nil {
			return err
		}
		return tx.Bucket(deviceBucket).Put(joinKey(d.AOR, d.ID), text)
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err = OpenBolt(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d.Target.Key, d.Confirmed, d.Wakes = "", d.Registered, Wakes{}
	if got := load(t, s).Devices; len(got) != 1 || got[0] != d {
		t.Errorf("loaded %+v, want %+v", got, d)
	}
}
