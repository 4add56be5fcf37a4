package push

import (
	"bytes"
	"crypto/hpke"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// sealVectors are the test vectors that docs/encryption.md gives to app
// developers: sealed once by seal, with random enc, and recorded.
type sealVectors struct {
	Suite struct {
		KEM  uint16 `json:"kem"`
		KDF  uint16 `json:"kdf"`
		AEAD uint16 `json:"aead"`
	} `json:"suite"`
	PrivateKey string       `json:"private_key"` // Alice's of RFC 7748 §6.1, base64url
	PublicKey  string       `json:"public_key"`  // what the device hands over
	Vectors    []sealVector `json:"vectors"`
}

type sealVector struct {
	Name       string `json:"name"`
	UUID       string `json:"uuid"`
	Info       string `json:"info"`
	AAD        string `json:"aad"` // always empty
	Sealed     string `json:"sealed"`
	Enc        string `json:"enc"`        // hex
	Ciphertext string `json:"ciphertext"` // hex, with its tag
	Plaintext  string `json:"plaintext"`
}

func readSealVectors(t testing.TB) sealVectors {
	t.Helper()
	var v sealVectors
	raw, err := os.ReadFile("testdata/hpke.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Vectors) == 0 {
		t.Fatal("no vectors in testdata/hpke.json")
	}
	return v
}

// devicePrivate is the vectors' device.
func devicePrivate(t testing.TB, encoded string) hpke.PrivateKey {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	kem, _, _ := hpkeSuite()
	k, err := kem.NewPrivateKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hpkeOpen does what the documents tell an app to do, in the same steps.
func hpkeOpen(k hpke.PrivateKey, uuid, sealed string) ([]byte, error) {
	blob, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || len(blob) < 32 {
		return nil, errors.New("no sealed data")
	}
	enc, ciphertext := blob[:32], blob[32:]
	_, kdf, aead := hpkeSuite()
	r, err := hpke.NewRecipient(enc, k, kdf, aead, []byte("reveille push v1 "+uuid))
	if err != nil {
		return nil, err
	}
	return r.Open(nil, ciphertext)
}

func TestSealVectors(t *testing.T) {
	v := readSealVectors(t)
	kem, kdf, aead := hpkeSuite()
	if v.Suite.KEM != kem.ID() || v.Suite.KDF != kdf.ID() || v.Suite.AEAD != aead.ID() {
		t.Errorf("the vectors' suite %v is not the one used", v.Suite)
	}
	k := devicePrivate(t, v.PrivateKey)
	if got := base64.RawURLEncoding.EncodeToString(k.PublicKey().Bytes()); got != v.PublicKey {
		t.Errorf("public key %s, want %s", v.PublicKey, got)
	}
	for _, c := range v.Vectors {
		got, err := hpkeOpen(k, c.UUID, c.Sealed)
		if err != nil || string(got) != c.Plaintext {
			t.Errorf("%s: %q, %v", c.Name, got, err)
		}
		blob, _ := base64.RawURLEncoding.DecodeString(c.Sealed)
		if hex.EncodeToString(blob[:32]) != c.Enc || hex.EncodeToString(blob[32:]) != c.Ciphertext || c.Info != sealInfo+c.UUID || c.AAD != "" {
			t.Errorf("%s: enc, ciphertext, info and aad are not those of sealed", c.Name)
		}
		if len(c.Plaintext)%sealBucket != 0 || !json.Valid([]byte(c.Plaintext)) {
			t.Errorf("%s: the plaintext has %d bytes or is no JSON", c.Name, len(c.Plaintext))
		}
		// What is sealed now is read by the same steps, and differs each time.
		again, err := hpkeSeal(v.PublicKey, c.UUID, bytes.TrimRight([]byte(c.Plaintext), " "))
		if err != nil || again == c.Sealed {
			t.Fatal(err, "sealed twice to the same")
		}
		if got, err := hpkeOpen(k, c.UUID, again); err != nil || string(got) != c.Plaintext {
			t.Errorf("%s, sealed now: %q, %v", c.Name, got, err)
		}
	}
}

// TestSealSuiteRFC9180 is the first message of RFC 9180's appendix A.2.1.
func TestSealSuiteRFC9180(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kem, kdf, aead := hpkeSuite()
	k, err := kem.NewPrivateKey(unhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := hpke.NewRecipient(unhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"), k, kdf, aead,
		unhex("4f6465206f6e2061204772656369616e2055726e"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Open(unhex("436f756e742d30"),
		unhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"))
	if err != nil || string(got) != "Beauty is truth, truth beauty" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSealIsBoundToTheCall(t *testing.T) {
	v := readSealVectors(t)
	k := devicePrivate(t, v.PrivateKey)
	sealed, err := hpkeSeal(v.PublicKey, "a", []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := hpkeOpen(k, "b", sealed); err == nil {
		t.Errorf("opened under another call's UUID: %q", got)
	}
	blob, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range blob {
		other := bytes.Clone(blob)
		other[i] ^= 1
		if got, err := hpkeOpen(k, "a", base64.RawURLEncoding.EncodeToString(other)); err == nil {
			t.Errorf("byte %d changed, and it opens: %q", i, got)
		}
	}
	kem, _, _ := hpkeSuite()
	stranger, err := kem.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := hpkeOpen(stranger, "a", sealed); err == nil {
		t.Errorf("opened with another device's key: %q", got)
	}
}

// The sealed size tells which multiple of 128 bytes, and no more; the three
// length functions agree with what is made.
func TestSealLengths(t *testing.T) {
	key := readSealVectors(t).PublicKey
	for n := range 3*sealBucket + 2 {
		sealed, err := hpkeSeal(key, "u", bytes.Repeat([]byte{'1'}, n))
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) != sealedLen(n) || len(sealed) != sealedLen(paddedLen(n)) {
			t.Errorf("%d bytes are sealed in %d characters, sealedLen says %d", n, len(sealed), sealedLen(n))
		}
		room := sealable(len(sealed))
		if room != paddedLen(n) || sealedLen(room) > len(sealed) || sealedLen(room+1) <= len(sealed) {
			t.Errorf("%d characters hold %d bytes", len(sealed), room)
		}
	}
	for _, few := range []int{-1, 0, 1, sealedExtra, sealedLen(1) - 1} {
		if got := sealable(few); got > 0 {
			t.Errorf("%d characters hold %d bytes", few, got)
		}
	}
}

// TestSealNeedsAKey: what is no key seals nothing, and is not in the error. The
// key of small order is the one that RFC 9180 §7.1.4 warns of.
func TestSealNeedsAKey(t *testing.T) {
	good := readSealVectors(t).PublicKey
	for name, key := range map[string]string{
		"empty": "", "short": good[:42], "long": good + "A", "padded": good + "=", "standard alphabet": strings.Repeat("+", 42) + "A",
		"line end": good[:20] + "\n" + good[21:], "stray bits": good[:42] + "_", "hex": strings.Repeat("0", 64),
		"small order": base64.RawURLEncoding.EncodeToString(make([]byte, 32)),
	} {
		sealed, err := hpkeSeal(key, "u", []byte("{}"))
		if err == nil || sealed != "" || (key != "" && strings.Contains(err.Error(), key)) {
			t.Errorf("%s: %q, %v", name, sealed, err)
		}
	}
}

// FuzzSeal takes any key that an app may hand over, and opens what is sealed
// to a good one.
func FuzzSeal(f *testing.F) {
	v := readSealVectors(f)
	f.Add("", "7d444840-9dc0-11d1-b245-5ffdce74fad2", []byte(`{"handle":"+4930123456"}`))
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 32)), "", []byte{})
	f.Add(v.PublicKey+"\n", "u", []byte("{}"))
	k := devicePrivate(f, v.PrivateKey)
	f.Fuzz(func(t *testing.T, key, uuid string, object []byte) {
		if sealed, err := hpkeSeal(key, uuid, object); err == nil && len(sealed) != sealedLen(len(object)) {
			t.Fatalf("%d characters, want %d", len(sealed), sealedLen(len(object)))
		}
		sealed, err := hpkeSeal(v.PublicKey, uuid, object)
		if err != nil {
			t.Fatal(err)
		}
		got, err := hpkeOpen(k, uuid, sealed)
		if err != nil || !bytes.HasPrefix(got, object) || len(got)%sealBucket != 0 || strings.Trim(string(got[len(object):]), " ") != "" {
			t.Fatalf("%q is opened as %q, %v", object, got, err)
		}
	})
}

// BenchmarkSeal is what `encrypt` adds to a push.
func BenchmarkSeal(b *testing.B) {
	key := readSealVectors(b).PublicKey
	body, _, err := mustLayout(b, PayloadConfig{}, formVoIP).build(testMessage("7d444840-9dc0-11d1-b245-5ffdce74fad2"), Target{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := hpkeSeal(key, "7d444840-9dc0-11d1-b245-5ffdce74fad2", body); err != nil {
			b.Fatal(err)
		}
	}
}

// sealedLen is how many characters n bytes of JSON have once sealed.
func sealedLen(n int) int {
	return base64.RawURLEncoding.EncodedLen(paddedLen(n) + sealedExtra)
}
