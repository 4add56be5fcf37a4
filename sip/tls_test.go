package sip

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/siptest"
)

// certificate makes a self-signed one for 192.0.2.1, in PEM files and a pool.
func certificate(t testing.TB) (TLSConfig, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bed"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1), net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := TLSConfig{Certificate: dir + "/cert.pem", Key: dir + "/key.pem"}
	pemCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, data := range map[string][]byte{
		cfg.Certificate: pemCert,
		cfg.Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pemCert)
	return cfg, pool
}

func TestSilentTLSClientsHoldNobodyUp(t *testing.T) {
	cert, pool := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), func(c *Config) { c.TLS = cert }, "tls://192.0.2.1:5061")
		var silent []net.Conn
		for range 10 {
			c, err := n.Host("198.51.100.1").DialContext(context.Background(), "tcp", "192.0.2.1:5061")
			if err != nil {
				t.Fatal(err)
			}
			silent = append(silent, c)
		}
		start := time.Now()
		c, err := n.Host("192.0.2.2").DialContext(context.Background(), "tcp", "192.0.2.1:5061")
		if err != nil {
			t.Fatal(err)
		}
		secure := tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "192.0.2.1"})
		defer secure.Close()
		w := &wire{t: t, conn: secure}
		w.send(request("OPTIONS"))
		synctest.Wait()
		b.reply(t, b.last(t), 200)
		w.expect("SIP/2.0 200")
		if took := time.Since(start); took != 0 {
			t.Errorf("served after %v", took)
		}
		if f := b.last(t).flow(); f.transport() != "TLS" || f.remote().Addr().String() != "192.0.2.2" {
			t.Errorf("flow %s", f)
		}
		for _, c := range silent { // nothing ever comes; the bed closes them
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a byte for a silent client")
			}
		}
		synctest.Wait()
		if took := time.Since(start); took != 10*time.Second || b.rejectedFor(rejectedHandshake) != 10 {
			t.Errorf("closed after %v, rejected %s", took, b.rejections())
		}
	})
}

func TestDialedFlow(t *testing.T) {
	cert, pool := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		peer := newBed(t, n.Host("192.0.2.1"), func(c *Config) { c.TLS = cert }, "tls://192.0.2.1:5061", "tcp://192.0.2.1:5060")
		b := newBed(t, n.Host("192.0.2.2"), nil, "udp://192.0.2.2:5060")
		_, err := b.transport.dial(context.Background(), "tls", "192.0.2.1:5061", "wrong.example.com", &tls.Config{RootCAs: pool})
		if err == nil || !strings.Contains(err.Error(), "wrong.example.com") {
			t.Errorf("dial under another name: %v", err)
		}
		f, err := b.transport.dial(context.Background(), "tls", "192.0.2.1:5061", "192.0.2.1", &tls.Config{RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		peer.takes = func(_ *flow, _ *sipgo.Request, tx *serverTx) { peer.reply(t, tx, 200) }
		r := &reports{}
		if _, err := b.request(f, outgoingBy(f, sipgo.OPTIONS), r.on); err != nil || r.String() != "200" {
			t.Errorf("heard %s, %v", r, err)
		}
		for range 4 { // no idle limit on our side; pings keep the peer's off
			time.Sleep(100 * time.Second)
			if err := f.ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.transport.flowByID(f.id()); got != f {
			t.Error("the dialled flow is gone")
		}
		n.CutStreams("", "")
		synctest.Wait()
		if !f.isDead() || b.gone != 1 || peer.gone != 1 {
			t.Errorf("after the cut: dead %v, closed %d and %d", f.isDead(), b.gone, peer.gone)
		}
	})
}

// replace puts another certificate in the place of one, as a renewal does.
func replace(t *testing.T, old, fresh string) {
	t.Helper()
	data, err := os.ReadFile(fresh)
	if err == nil {
		err = os.WriteFile(old, data, 0o600)
	}
	if err == nil {
		err = os.Chtimes(old, time.Time{}, time.Unix(2e9, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// handshake connects to a port of the bed's, and says who answered it.
func handshake(n *siptest.Network, port string, config *tls.Config) (*x509.Certificate, error) {
	c, err := n.Host("192.0.2.2").DialContext(context.Background(), "tcp", "192.0.2.1:"+port)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	secure := tls.Client(c, config)
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	// With TLS 1.3 the verdict on a client's certificate comes behind the handshake.
	c.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := secure.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, err
	}
	return secure.ConnectionState().PeerCertificates[0], nil
}

func TestRenewedCertificateIsServed(t *testing.T) {
	cfg, _ := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		newBed(t, n.Host("192.0.2.1"), func(c *Config) { c.TLS = cfg }, "tls://192.0.2.1:5061", "wss://192.0.2.1:8443")
		served := func() *x509.Certificate {
			t.Helper()
			byTLS, err := handshake(n, "5061", &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			if byWSS, err := handshake(n, "8443", &tls.Config{InsecureSkipVerify: true}); err != nil || !byWSS.Equal(byTLS) {
				t.Errorf("wss:// serves another certificate than tls:// (%v)", err)
			}
			return byTLS
		}
		first := served()
		renewed, _ := certificate(t)
		replace(t, cfg.Certificate, renewed.Certificate)
		replace(t, cfg.Key, renewed.Key)
		if !served().Equal(first) {
			t.Error("files are read on every handshake")
		}
		time.Sleep(certificateAge)
		second := served()
		if second.Equal(first) {
			t.Error("the renewed certificate is not served")
		}
		os.WriteFile(cfg.Key, []byte("half"), 0o600)
		time.Sleep(certificateAge)
		if !served().Equal(second) {
			t.Error("a half-written key changes what is served")
		}
	})
	if _, err := newServerTLS(TLSConfig{Certificate: "none", Key: "none"}); err == nil || !strings.Contains(err.Error(), "sip.tls.certificate") {
		t.Errorf("missing files: %v", err)
	}
}

func TestTLSIsOfTodayOnly(t *testing.T) {
	cert, pool := certificate(t)
	for name, c := range map[string]struct {
		config *tls.Config
		well   bool
	}{
		"1.3":                 {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"1.2, ECDHE and GCM":  {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"1.2, ECDHE and CBC":  {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}}, false},
		"1.2, no ECDHE":       {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		"1.1":                 {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"another host's name": {&tls.Config{ServerName: "other.example.com"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := siptest.NewNetwork()
				newBed(t, n.Host("192.0.2.1"), func(c *Config) { c.TLS = cert }, "tls://192.0.2.1:5061")
				c.config.RootCAs = pool
				if c.config.ServerName == "" {
					c.config.ServerName = "192.0.2.1"
				}
				if _, err := handshake(n, "5061", c.config); (err == nil) != c.well {
					t.Errorf("handshake: %v", err)
				}
			})
		})
	}
}

func TestClientCertificateIsDemandedAndItsAuthorityRenewed(t *testing.T) {
	cert, _ := certificate(t)
	mine, _ := certificate(t)
	other, _ := certificate(t)
	pair := func(c TLSConfig) *tls.Config {
		p, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{p}}
	}
	cert.ClientCA = t.TempDir() + "/ca.pem"
	replace(t, cert.ClientCA, mine.Certificate)
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		newBed(t, n.Host("192.0.2.1"), func(c *Config) { c.TLS = cert }, "tls://192.0.2.1:5061")
		holds := func(who string, config *tls.Config, well bool) {
			t.Helper()
			if _, err := handshake(n, "5061", config); (err == nil) != well {
				t.Errorf("%s: %v", who, err)
			}
		}
		holds("no certificate", &tls.Config{InsecureSkipVerify: true}, false)
		holds("another authority's", pair(other), false)
		holds("ours", pair(mine), true)
		replace(t, cert.ClientCA, other.Certificate)
		os.Chtimes(cert.ClientCA, time.Time{}, time.Unix(2e9+1, 0))
		time.Sleep(certificateAge)
		holds("the new authority's", pair(other), true)
		holds("the old authority's", pair(mine), false)
	})
}
