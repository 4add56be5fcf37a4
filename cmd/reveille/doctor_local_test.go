package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDoctorNamesTheCauseOfLocalFaults: files, sockets and certificates of
// this machine.
func TestDoctorNamesTheCauseOfLocalFaults(t *testing.T) {
	f := &faulted{t: t}
	for _, tt := range []struct {
		name  string
		fault func(c *clinic, entry map[string]string)
	}{
		{"the signing key can be read by others", func(c *clinic, _ map[string]string) { mode(t, c.keyFile, 0o644) }},
		{"the signing key is sealed, and there is no master key", func(c *clinic, e map[string]string) { sealKey(c, e) }},
		{"the signing key is sealed with another master key", func(c *clinic, e map[string]string) {
			sealKey(c, e)
			reveille(t, "seal", "--new-key", filepath.Join(c.dir, "other")).wants(t, 0, "holds a new master key", "")
			t.Setenv("REVEILLE_MASTER_KEY", read(t, filepath.Join(c.dir, "other")))
		}},
		{"the sealed key is cut off", func(c *clinic, e map[string]string) {
			t.Setenv("REVEILLE_MASTER_KEY", sealKey(c, e))
			if err := os.Truncate(e["key_file"], 200); err != nil {
				t.Fatal(err)
			}
		}},
		{"the signing key is something else", func(c *clinic, e map[string]string) { e["key_file"] = filepath.Join(c.dir, "reveille.yaml") }},
		{"state_dir is a file", func(c *clinic, _ map[string]string) {
			if err := os.WriteFile(filepath.Join(c.dir, "state"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"the certificate ends soon", func(c *clinic, _ map[string]string) { c.serverTLS(10*24*time.Hour, "pbx.example.com") }},
		{"the certificate has ended", func(c *clinic, _ map[string]string) { c.serverTLS(-time.Hour, "pbx.example.com") }},
		{"the certificate is for another name", func(c *clinic, _ map[string]string) { c.serverTLS(90*24*time.Hour, "www.example.com") }},
		{"the certificate is of an authority of one's own", func(c *clinic, _ map[string]string) { c.serverTLS(90*24*time.Hour, "pbx.example.com") }},
		{"the certificate's key is another's", func(c *clinic, _ map[string]string) {
			c.serverTLS(90*24*time.Hour, "pbx.example.com")
			old := read(t, filepath.Join(c.dir, "key.pem"))
			c.serverTLS(90*24*time.Hour, "pbx.example.com")
			if err := os.WriteFile(filepath.Join(c.dir, "key.pem"), []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClinic(t)
			entry := c.apnsEntry()
			tt.fault(c, entry)
			f.add(tt.name, c.lines(c.file(entry), false))
		})
	}
	golden(t, "doctor_local.txt", f.out.String())
}

func mode(t *testing.T, file string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

// sealKey seals the signing key in place of the plain one.
func sealKey(c *clinic, entry map[string]string) (master string) {
	c.t.Helper()
	key := filepath.Join(c.dir, "master")
	sealed := filepath.Join(c.dir, "sealed")
	reveille(c.t, "seal", "--new-key", key, c.keyFile, sealed).wants(c.t, 0, "sealed with the master key", "")
	entry["key_file"] = sealed
	return read(c.t, key)
}

// serverTLS makes a certificate of an authority that nobody knows, and has the
// bridge listen with it.
func (c *clinic) serverTLS(left time.Duration, name string) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Our Own CA"}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-100 * 24 * time.Hour), NotAfter: time.Now().Add(left + time.Minute)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		c.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(c.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	c.listen = `"udp://127.0.0.1:0", "tls://127.0.0.1:0"`
	c.tls = `, domains: [pbx.example.com], tls: {certificate: cert.pem, key: key.pem}`
}

// TestDoctorNamesWhoHasThePort: another program's port is a fault, with its name.
func TestDoctorNamesWhoHasThePort(t *testing.T) {
	c := newClinic(t)
	sip, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sip.Close()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	_, c.port, _ = net.SplitHostPort(sip.LocalAddr().String())
	_, c.web, _ = net.SplitHostPort(web.Addr().String())
	out := c.lines(c.file(c.apnsEntry()), false)
	for _, want := range []string{
		"FAIL  sip.listen udp://127.0.0.1:PORT: the port is in use by reveille.test (process N); stop that, or choose another port\n",
		"FAIL  http.listen 127.0.0.1:PORT: the port is in use by reveille.test (process N); stop that, or choose another port\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	c.port, c.web = "0", "0"
	c.listen = `"udp://192.0.2.77:0"`
	if out := c.lines(c.file(c.apnsEntry()), false); !strings.Contains(out, "this machine does not have the address") {
		t.Errorf("%s", out)
	}
}

// TestDoctorTriesTheFastPath: whether the kernel may relay media, for root and for others.
func TestDoctorTriesTheFastPath(t *testing.T) {
	c := newClinic(t)
	c.media = "18000-18999"
	out := c.lines(c.file(c.apnsEntry()), true)
	if !strings.Contains(out, "ok    media.fast_path auto: the kernel will relay plain RTP") &&
		!strings.Contains(out, "warn  media.fast_path auto: all media will go through sockets") {
		t.Errorf("%s", out)
	}
}

// TestDoctorCountsMediaPorts: room for the calls of the trunks, and ports that
// others have.
func TestDoctorCountsMediaPorts(t *testing.T) {
	c := newClinic(t)
	c.media = "19000-19007"
	c.trunk = strings.Replace(c.trunk, "{", "{max_calls: 3, ", 1)
	if out := c.lines(c.file(c.apnsEntry()), false); !strings.Contains(out, "warn  media.ports 19000-19007: room for 2 calls at a time, and the trunks may bring 3") {
		t.Errorf("%s", out)
	}
	taken, err := net.ListenPacket("udp", ":19003")
	if err != nil {
		t.Skip(err)
	}
	defer taken.Close()
	if out := c.lines(c.file(c.apnsEntry()), false); !strings.Contains(out, "1 of 8 ports that were tried are in use, 19003 by reveille.test (process N)") {
		t.Errorf("%s", out)
	}
}
