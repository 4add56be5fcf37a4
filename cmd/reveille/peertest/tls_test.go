package peertest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

// authority is a certificate authority of one test, with one server certificate for the bridge's address.
type authority struct{ CAFile, CertFile, KeyFile string }

func newAuthority(t testing.TB) authority {
	t.Helper()
	dir := t.TempDir()
	a := authority{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	caKey, ca := newKey(t), certificate(1, "Reveille test CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	writePEM(t, a.CAFile, "CERTIFICATE", sign(t, ca, ca, &caKey.PublicKey, caKey))
	key, leaf := newKey(t), certificate(2, bridgeIP)
	leaf.IPAddresses, leaf.DNSNames = []net.IP{net.ParseIP(bridgeIP)}, []string{"localhost"}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	writePEM(t, a.CertFile, "CERTIFICATE", sign(t, leaf, ca, &key.PublicKey, caKey))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	writePEM(t, a.KeyFile, "PRIVATE KEY", der)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func certificate(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
}

func sign(t testing.TB, cert, by *x509.Certificate, key *ecdsa.PublicKey, with *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, by, key, with)
	must(t, err)
	return der
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPeersBaresipOverTLS shows that baresip registers over TLS. It would do so with anybody: baresip 1.0.0 loads
// sip_cafile and never looks at it, so the bridge's certificate is checked by the REGISTER made by hand.
func TestPeersBaresipOverTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
	must(t, err)
	l, err := tls.Listen("tcp", bridgeIP+":0", &tls.Config{Certificates: []tls.Certificate{pair}})
	must(t, err)
	defer l.Close()
	(&phone{User: "1001", Password: "x", Registrar: "sip:" + l.Addr().String() + ";transport=tls", CAFile: a.CAFile,
		Instance: newInstance(), Audio: source(31, time.Second)}).start(t)
	c, err := l.Accept()
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if line, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(line, "REGISTER ") {
		t.Errorf("read %q, %v; want a REGISTER", line, err)
	}
}
