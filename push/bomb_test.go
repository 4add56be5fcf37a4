package push

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"reveille/push/pushtest"
)

// TestFilesThatAreNone: a named pipe or a device in the place of a file is a
// fault at once, and holds no reload.
func TestFilesThatAreNone(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(t.TempDir(), "large")
	put(t, large, "")
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{pipe: "no regular file", "/dev/zero": "no regular file", large: "bytes"} {
		for what, read := range map[string]func() error{
			"key":         func() error { _, err := loadKey(file, ""); return err },
			"certificate": func() error { _, err := loadCertificate(file, "", ""); return err },
			"root_ca":     func() error { _, err := loadRoots(file); return err },
			"master key":  func() error { _, err := masterKeyFrom(file); return err },
			"end of root": func() error { rootsEnd(file); _, err := readPublic(file); return err },
		} {
			done := make(chan error, 1)
			go func() { done <- read() }()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s from %s: %v, want %q", what, file, err, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s from %s: not read within 10 s", what, file)
			}
		}
	}
}

// TestCertificateThatTakesForEver: a .p12 that wants millions of rounds of key
// derivation, in whichever of its places, is refused before the first.
func TestCertificateThatTakesForEver(t *testing.T) {
	service, err := pushtest.NewAPNs(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	f := certificateFiles{t, service, t.TempDir()}
	open := []byte(contentOf(t, f.p12("open", "", pushtest.CertificateOptions{Topics: voipTopics()})))
	key, leaf, _, err := pkcs12.DecodeChain(open, "")
	if err != nil {
		t.Fatal(err)
	}
	stated, many := []byte{2, 3, 0, 0xff, 0xff}, []byte{2, 3, 0x7f, 0xff, 0xff} // 65,535 and 8,388,607, INTEGERs in DER
	for name, encoder := range map[string]*pkcs12.Encoder{"modern": pkcs12.Modern2023, "modern with PBMAC1": pkcs12.Modern2026, "old": pkcs12.LegacyDES} {
		raw, err := encoder.WithIterations(65535).Encode(key, leaf, nil, "secret")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fromPKCS12(raw, "secret"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		places := bytes.Count(raw, stated)
		if places < 3 { // of the MAC, of the certificate and of the key
			t.Errorf("%s: the count is in %d places", name, places)
		}
		for i, at := 0, 0; i < places; i++ {
			at += bytes.Index(raw[at:], stated)
			bad := bytes.Clone(raw)
			copy(bad[at:], many)
			if _, err := fromPKCS12(bad, "secret"); err == nil || !strings.Contains(err.Error(), "rounds") {
				t.Errorf("%s, place %d: %v", name, i, err)
			}
			at += len(stated)
		}
	}
}
