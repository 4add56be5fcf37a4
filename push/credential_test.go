package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

func pemKey(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestLoadKey(t *testing.T) {
	good, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	text := pemKey(t, good)

	for _, mode := range []os.FileMode{0o600, 0o640, 0o400} {
		if _, err := loadKey(writeFile(t, "good.p8", text, mode), ""); err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for name, tt := range map[string]struct{ content, want string }{
		"empty":   {"", "PEM"},
		"no PEM":  {"hello", "PEM"},
		"garbage": {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("not DER")})), "copy it whole"},
		"RSA":     {pemKey(t, rsaKey), "ECDSA"},
		"P-384":   {pemKey(t, p384), "P-256"},
		"huge":    {strings.Repeat("x", maxCredential+1), "bytes"},
	} {
		file := writeFile(t, "key.p8", tt.content, 0o600)
		if _, err := loadKey(file, ""); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	open := writeFile(t, "open.p8", text, 0o644)
	if _, err := loadKey(open, ""); err == nil || !strings.Contains(err.Error(), "chmod o= "+open) {
		t.Errorf("readable by others: %v", err)
	}
	if _, err := loadKey(t.TempDir(), ""); err == nil {
		t.Error("a directory: no error")
	}
	if _, err := loadKey("/does/not/exist.p8", ""); err == nil || !strings.Contains(err.Error(), "/does/not/exist.p8") {
		t.Errorf("missing: %v", err)
	}
}

// TestProviderTokenIsRenewed: over a day of pushes a token lives 40 minutes,
// and the service, which checks its age, never refuses one.
func TestProviderTokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		for minute := range 24 * 60 {
			if out := w.send(testMessage(time.Duration(minute).String())); out.Verdict != Sent {
				t.Fatalf("minute %d: %+v", minute, out)
			}
			time.Sleep(time.Minute)
		}
		if c := w.service.Counts(); c.Bearers != 24*60/40 {
			t.Errorf("%d provider tokens in a day, want one each 40 minutes", c.Bearers)
		}
	})
}

// TestExpiredProviderToken: a token that the service calls expired is made
// anew when it is over 20 minutes old, and the push arrives.
func TestExpiredProviderToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		time.Sleep(mintAtMost)
		w.service.Answer(testToken, pushtest.Reject(403, "ExpiredProviderToken"))
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Attempts != 2 {
			t.Errorf("outcome %+v", out)
		}
		w.service.Answer(testToken, pushtest.Reject(403, "ExpiredProviderToken"))
		out := w.send(testMessage("u2"))
		if out.Verdict != Refused || out.Attempts != 1 || !strings.Contains(out.Err.Error(), "clock") {
			t.Errorf("a fresh one: %+v", out)
		}
	})
}

// TestTooManyProviderTokens: told so, the one before comes back while it
// lives, and no new one is made for 20 minutes.
func TestTooManyProviderTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		m, err := newMinter(key, "KEY", "TEAM")
		if err != nil {
			t.Fatal(err)
		}
		first, _ := m.bearer()
		time.Sleep(mintEvery)
		second, _ := m.bearer()
		if second == first {
			t.Fatal("not renewed")
		}
		m.tooMany()
		if got, _ := m.bearer(); got != first {
			t.Error("the one before is not back")
		}
		time.Sleep(bearerLife - mintEvery)
		if got, _ := m.bearer(); got == first {
			t.Error("a token is in use past its life")
		}
	})
}

// TestClockSetBack: after the clock was set back the token is from the future,
// which the service refuses: it is made anew.
func TestClockSetBack(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	m, err := newMinter(key, "KEY", "TEAM")
	if err != nil {
		t.Fatal(err)
	}
	m.current.issued = time.Now().Add(time.Hour)
	before := m.current.jwt
	if got, err := m.bearer(); err != nil || got == before {
		t.Errorf("not renewed, %v", err)
	}
}

func TestUnknownKey(t *testing.T) {
	w := newSocketWorld(t)
	w.service.Revoke(w.cfg.APNs[0].KeyID)
	if out := w.send(testMessage("u1")); out.Verdict != Refused || !out.Alarm || out.Reason != "InvalidProviderToken" {
		t.Errorf("outcome %+v", out)
	}
}
