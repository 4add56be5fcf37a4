package pushtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// CertificateOptions are what a client certificate says. All may be zero.
type CertificateOptions struct {
	Team      string   // TESTTEAM01 where empty
	Topics    []string // com.example.phone and com.example.phone.voip, say; the first is the subject's UID
	OnlyUID   bool     // the topic is in the subject alone, as in VoIP Services certificates of old
	Sandbox   bool     // for the sandbox alone
	NotBefore time.Time
	NotAfter  time.Time // zero: as long as all else here
	Stranger  bool      // made by nobody whom the service trusts
}

// Apple's extensions: the environments, and the list of topics.
func appleExtension(last ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3}, last...)
}

// topicList is Apple's extension: pairs of a topic and the kinds of push for it.
func topicList(topics []string) ([]byte, error) {
	var list asn1.RawValue
	list.Tag, list.IsCompound = asn1.TagSequence, true
	for _, topic := range topics {
		kind := "app"
		if strings.HasSuffix(topic, ".voip") {
			kind = "voip"
		}
		name, err := asn1.MarshalWithParams(topic, "utf8")
		if err != nil {
			return nil, err
		}
		word, err := asn1.MarshalWithParams(kind, "utf8")
		if err != nil {
			return nil, err
		}
		kinds, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: word})
		if err != nil {
			return nil, err
		}
		list.Bytes = slices.Concat(list.Bytes, name, kinds)
	}
	return asn1.Marshal(list)
}

// clientCertificate makes the certificate and its key, signed by the service
// unless it is a stranger's.
func (a *APNs) clientCertificate(o CertificateOptions) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if o.Team == "" {
		o.Team = "TESTTEAM01"
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: o.NotBefore, NotAfter: o.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Subject: pkix.Name{CommonName: "Apple Push Services", OrganizationalUnit: []string{o.Team}},
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = notBefore
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = notAfter
	}
	if len(o.Topics) > 0 {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: o.Topics[0]}}
		if !o.OnlyUID {
			list, err := topicList(o.Topics)
			if err != nil {
				return nil, nil, err
			}
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: appleExtension(6), Value: list})
		}
	}
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: appleExtension(1), Value: []byte{5, 0}})
	if !o.Sandbox {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: appleExtension(2), Value: []byte{5, 0}})
	}
	issuer, signer := a.ca.issuer, crypto.Signer(a.ca.key)
	if o.Stranger {
		issuer, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return leaf, key, err
}

// NewCertificate makes a client certificate as Apple's portal and the keychain
// do, and writes it to dir as NAME.p12, closed with the password; "" is none.
func (a *APNs) NewCertificate(dir, name, password string, o CertificateOptions) (file string, err error) {
	leaf, key, err := a.clientCertificate(o)
	if err != nil {
		return "", err
	}
	encoder := pkcs12.Modern2023
	if password == "" {
		encoder = pkcs12.Passwordless
	}
	p12, err := encoder.Encode(key, leaf, []*x509.Certificate{a.ca.issuer}, password)
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, name+".p12")
	return file, os.WriteFile(file, p12, 0o600)
}

// checkCertificate judges a request without a provider token by the
// connection's client certificate.
func (a *APNs) checkCertificate(r *request) Answer {
	peer := r.conn.nc.ConnectionState().PeerCertificates
	if len(peer) == 0 {
		return Reject(403, "MissingProviderToken")
	}
	leaf := peer[0]
	has := func(oid asn1.ObjectIdentifier) bool {
		return slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oid) })
	}
	switch {
	case leaf.CheckSignatureFrom(a.ca.issuer) != nil, r.At.Before(leaf.NotBefore), r.At.After(leaf.NotAfter):
		return Reject(403, "BadCertificate")
	case r.Environment == Production && !has(appleExtension(2)):
		return Reject(403, "BadCertificateEnvironment")
	}
	if topic := r.Header.Get("apns-topic"); topic != "" && !strings.Contains(rawSubject(leaf), topic) {
		return Reject(400, "TopicDisallowed")
	}
	return Answer{}
}

// rawSubject is where the topics are, as text that can be searched.
func rawSubject(c *x509.Certificate) string {
	text := string(c.RawSubject)
	for _, e := range c.Extensions {
		if e.Id.Equal(appleExtension(6)) {
			text += string(e.Value)
		}
	}
	return text
}
