package pushtest

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
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// signingKey is a provider's key that the service trusts.
type signingKey struct {
	public *ecdsa.PublicKey
	team   string
	only   string // the one environment that it is for; "": both
}

// authority is the service's CA and the certificate of its hosts.
type authority struct {
	pem    []byte
	config *tls.Config
	issuer *x509.Certificate
	key    *ecdsa.PrivateKey
}

// Validity of the certificates: wide enough for the clock of a synctest
// bubble, which starts in the year 2000.
var (
	notBefore = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)
)

func newAuthority(hosts ...string) (*authority, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pushtest CA"},
		NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "pushtest"},
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"},
	}
	for _, hostport := range hosts {
		host, _, err := net.SplitHostPort(hostport)
		if err != nil {
			host = hostport
		}
		if ip := net.ParseIP(host); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	return &authority{
		pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		config: &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{der, caDER}, PrivateKey: key}},
			NextProtos:   []string{"h2"},
			MinVersion:   tls.VersionTLS12,
			// A ticket is written at the end of the handshake, when the client
			// may not read yet: over an unbuffered net.Pipe that would hang.
			SessionTicketsDisabled: true,
		},
		issuer: ca, key: caKey,
	}, nil
}

// NewKey makes a signing key as Apple's portal does, trusts it, and writes it
// to dir as AuthKey_<id>.p8.
func (a *APNs) NewKey(dir string) (keyFile, keyID, teamID string, err error) {
	const team = "TESTTEAM01"
	keyFile, keyID, err = a.NewKeyOf(dir, team, "")
	return keyFile, keyID, team, err
}

// NewKeyOf is NewKey for a team, and for one environment only unless that is "".
func (a *APNs) NewKeyOf(dir, team, environment string) (keyFile, keyID string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	a.mu.Lock()
	keyID = "PUSHTEST" + strconv.Itoa(10+a.made)
	a.made++
	a.keys[keyID] = signingKey{&key.PublicKey, team, environment}
	a.mu.Unlock()
	keyFile = filepath.Join(dir, "AuthKey_"+keyID+".p8")
	block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return keyFile, keyID, os.WriteFile(keyFile, block, 0o600)
}

// Revoke makes the service distrust a key.
func (a *APNs) Revoke(keyID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.keys, keyID)
	clear(a.bearers)
}
