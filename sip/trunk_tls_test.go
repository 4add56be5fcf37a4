package sip

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// issued makes a self-signed certificate for the names, and its PEM files.
func issued(t *testing.T, dns []string, uris ...string) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "carrier"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		DNSNames: dns, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, parsed)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	os.WriteFile(certFile, certPEM, 0o600)
	os.WriteFile(keyFile, keyPEM, 0o600)
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return pair, certFile, keyFile
}

// The certificate is held against the domain of the SRV look-up, never against
// the host that the DNS named.
func TestRFC5922CertificateIsCheckedAgainstTheSRVDomain(t *testing.T) {
	for name, c := range map[string]struct {
		dns, uris []string
		trusted   bool
		problem   string
	}{
		"the domain":                          {[]string{"carrier.example"}, nil, true, ""},
		"a wildcard of it does not cover it":  {[]string{"*.carrier.example"}, nil, true, "*.carrier.example, not for carrier.example"},
		"the SRV host alone":                  {[]string{"a.carrier.example"}, nil, true, "is for a.carrier.example, not for carrier.example"},
		"a sip URI":                           {nil, []string{"sip:carrier.example"}, true, ""},
		"a sip URI wins over DNS names":       {[]string{"carrier.example"}, []string{"sip:other.example"}, true, "sip:other.example"},
		"no name at all":                      {nil, nil, true, "nobody"},
		"an authority that nobody has set up": {[]string{"carrier.example"}, nil, false, "root_ca"},
	} {
		t.Run(name, func(t *testing.T) {
			pair, file, _ := issued(t, c.dns, c.uris...)
			trunk := loginAt("tls")
			if c.trusted {
				trunk.RootCA = file
			}
			overTLS(t, trunk, &tls.Config{Certificates: []tls.Certificate{pair}}, func(a *carrier, hello *tls.ConnectionState) {
				if c.problem == "" {
					a.state("registered", true, 200)
					a.by("tls://192.0.2.9:5061")
					if hello.ServerName != "carrier.example" {
						t.Errorf("SNI %q", hello.ServerName)
					}
					return
				}
				if s := a.state("failed", false, 0); !strings.Contains(s.LastError, c.problem) {
					t.Errorf("%q, want %q", s.LastError, c.problem)
				}
			})
		})
	}
}

func TestTrunkShowsItsClientCertificate(t *testing.T) {
	server, file, _ := issued(t, []string{"carrier.example"})
	_, ourFile, ourKey := issued(t, []string{"reveille.example"})
	pem, _ := os.ReadFile(ourFile)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	config := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	trunk := loginAt("tls")
	trunk.RootCA = file
	overTLS(t, trunk, config, func(a *carrier, _ *tls.ConnectionState) {
		if a.b.srv.Trunks()[0].State().Up {
			t.Error("registered without the certificate that is asked for")
		}
	})
	trunk.ClientCertificate, trunk.ClientKey = ourFile, ourKey
	overTLS(t, trunk, config, func(a *carrier, hello *tls.ConnectionState) {
		a.state("registered", true, 200)
		if len(hello.PeerCertificates) != 1 || hello.PeerCertificates[0].DNSNames[0] != "reveille.example" {
			t.Error("it did not show its certificate")
		}
	})
}

// overTLS runs a test with a carrier that speaks TLS at the SRV host
// a.carrier.example; hello is what its last connection showed.
func overTLS(t *testing.T, trunk TrunkConfig, config *tls.Config, test func(a *carrier, hello *tls.ConnectionState)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		bed := &serverBed{t: t, net: siptest.NewNetwork(), calls: make(chan *Inbound, 10), over: make(chan struct{})}
		z := &zone{records: []string{"_sips._tcp.carrier.example. 300 IN SRV 1 1 5061 a.carrier.example.", "a.carrier.example. 300 IN A 192.0.2.9"}}
		z.serve(t, bed.net.Host("192.0.2.53"), "192.0.2.53:53")
		a := &carrier{b: bed, script: grant600, ip: "192.0.2.9"}
		plain, err := bed.net.Host(a.ip).Listen(t.Context(), "tcp", a.ip+":5061")
		if err != nil {
			t.Fatal(err)
		}
		a.listen = plain
		hello := &tls.ConnectionState{}
		go func() {
			for {
				conn, err := plain.Accept()
				if err != nil {
					return
				}
				go a.secure(conn, config, hello)
			}
		}()
		trunk.Registrar = "sip:carrier.example"
		bed.start(bedOptions{trunks: []TrunkConfig{trunk}, config: func(c *Config) { c.Resolvers = []string{"192.0.2.53"} }})
		defer func() { close(bed.over); bed.end(); a.restart(nil) }()
		test(a, hello)
	})
}

func (c *carrier) secure(conn net.Conn, config *tls.Config, hello *tls.ConnectionState) {
	secure := tls.Server(conn, config)
	if secure.Handshake() != nil {
		conn.Close()
		return
	}
	*hello = secure.ConnectionState()
	c.mu.Lock()
	c.conns = append(c.conns, conn)
	c.mu.Unlock()
	c.serve(secure)
}
