package push

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// certificate is an app's client certificate, by which Apple knows us in place
// of a provider token. Apple makes them for 13 months.
type certificate struct{ tls.Certificate }

const exportAnew = "export certificate and key together from the keychain as .p12, or make one with: openssl pkcs12 -export"

// loadCertificate reads a .p12 (PKCS #12, RFC 7292), or PEM with a certificate
// and its key, plain or sealed. Errors say how to mend it and hold nothing of
// the files' content.
func loadCertificate(file, passwordFile, masterKeyFile string) (*certificate, error) {
	raw, err := readCredential(file, masterKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	password := []byte(nil)
	if passwordFile != "" {
		if password, err = readCredential(passwordFile, masterKeyFile); err != nil {
			return nil, err
		}
		defer clear(password)
	}
	var c tls.Certificate
	if bytes.Contains(raw, []byte("-----BEGIN ")) {
		c, err = fromPEM(raw)
	} else {
		c, err = fromPKCS12(raw, strings.TrimRight(string(password), "\r\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	return &certificate{c}, nil
}

func fromPKCS12(raw []byte, password string) (c tls.Certificate, err error) {
	defer func() {
		if recover() != nil { // a damaged file must not end the bridge
			err = fmt.Errorf("is damaged: %s", exportAnew)
		}
	}()
	if n := kdfRounds(raw, 0); n > maxKDFRounds {
		return c, fmt.Errorf("wants %d rounds of key derivation, more than the %d that are worth waiting for: %s", n, maxKDFRounds, exportAnew)
	}
	key, leaf, chain, err := pkcs12.DecodeChain(raw, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && password == "":
		return c, errors.New("has a password: write it into a file and name that in certificate_password_file")
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return c, errors.New("does not open with the password in certificate_password_file: correct it")
	case err != nil:
		return c, fmt.Errorf("cannot be used as a .p12 with one certificate and its key: %s", exportAnew)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || !samePublicKey(signer.Public(), leaf.PublicKey) {
		return c, fmt.Errorf("holds a key and a certificate that do not belong together: %s", exportAnew)
	}
	c = tls.Certificate{PrivateKey: signer, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, more := range chain {
		c.Certificate = append(c.Certificate, more.Raw)
	}
	return c, nil
}

// How much a .p12 may ask for before it opens. Those of the keychain and of
// openssl have 2048 for each of two or three keys, the most cautious some
// 600,000; a file that was made to may say two thousand million, which is
// half an hour for each.
const (
	maxKDFRounds = 5_000_000 // a few seconds
	maxKDFDepth  = 32        // of DER; a .p12 has under 20
)

// kdfRounds adds up the rounds that a .p12 states in the clear: the INTEGERs
// behind the OCTET STRING of a salt, in MacData (RFC 7292 §4), PBE parameters
// (appendix C) and PBKDF2-params (RFC 8018 appendix A.2).
func kdfRounds(der []byte, depth int) (total int) {
	salted := false
	for rest := der; len(rest) > 0 && depth < maxKDFDepth; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			break // no DER, but an octet string's own
		}
		octets := v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOctetString
		if salted && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagInteger {
			total += roundsOf(v.FullBytes)
		}
		if salted = octets; octets || v.IsCompound {
			total += kdfRounds(v.Bytes, depth+1)
		}
		if total > maxKDFRounds {
			break
		}
	}
	return total
}

// roundsOf is an INTEGER; one that has no place in 32 bits is too many.
func roundsOf(der []byte) int {
	var n int32
	if _, err := asn1.Unmarshal(der, &n); err != nil {
		return math.MaxInt32
	}
	return int(max(n, 0))
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

func fromPEM(raw []byte) (tls.Certificate, error) {
	c, err := tls.X509KeyPair(raw, raw)
	if err == nil {
		return c, nil
	}
	var has []string
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		has = append(has, block.Type)
	}
	isKey := func(s string) bool { return strings.HasSuffix(s, "PRIVATE KEY") }
	switch {
	case !slices.Contains(has, "CERTIFICATE"):
		return c, errors.New("holds no certificate: PEM needs the certificate and its key in one file (-----BEGIN CERTIFICATE-----)")
	case !slices.ContainsFunc(has, isKey):
		return c, errors.New("holds no private key: PEM needs the certificate and its key in one file (-----BEGIN PRIVATE KEY-----)")
	case slices.Contains(has, "ENCRYPTED PRIVATE KEY"):
		return c, errors.New("holds an encrypted key: decrypt it (openssl pkey), and seal the whole file with reveille seal, or use a .p12")
	}
	return c, fmt.Errorf("holds a key and a certificate that do not belong together, or are damaged: %s", exportAnew)
}

// Apple's extensions of push certificates, and the subject's fields that hold
// the bundle id (UID, RFC 4519 §2.39) and the team (OU).
func oidTopics() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}
}
func oidSandbox() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 1}
}
func oidProduction() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 2}
}
func oidUID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
}

func (c *certificate) extension(oid asn1.ObjectIdentifier) (value []byte, ok bool) {
	for _, e := range c.Leaf.Extensions {
		if e.Id.Equal(oid) {
			return e.Value, true
		}
	}
	return nil, false
}

// topics are what the certificate may push to, and where that was read; none
// where it does not say.
func (c *certificate) topics() (topics []string, from string) {
	if value, ok := c.extension(oidTopics()); ok {
		if topics := parseTopics(value); len(topics) > 0 {
			return topics, "its list of topics"
		}
	}
	for _, n := range c.Leaf.Subject.Names {
		if text, ok := n.Value.(string); ok && n.Type.Equal(oidUID()) {
			return []string{text}, "its subject's UID"
		}
	}
	return nil, ""
}

// parseTopics reads Apple's list: a SEQUENCE of pairs, a topic as UTF8String
// and a SEQUENCE of the kinds of push that it is for.
func parseTopics(der []byte) (topics []string) {
	var list asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 || list.Tag != asn1.TagSequence || !list.IsCompound {
		return nil
	}
	for rest := list.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			return nil
		}
		if v.Class == asn1.ClassUniversal && v.Tag == asn1.TagUTF8String {
			topics = append(topics, string(v.Bytes))
		}
	}
	return topics
}

// team is the developer team's id, "" where the certificate does not say.
func (c *certificate) team() string {
	for _, unit := range c.Leaf.Subject.OrganizationalUnit {
		if isTeam(unit) {
			return unit
		}
	}
	return ""
}

// fits says what keeps the certificate from being used for the app. That it
// has ended is an alarm and no fault: a bridge that restarts with it still
// rings the phones that are awake.
func (c *certificate) fits(a APNsConfig) error {
	if team := c.team(); team != "" && a.TeamID != "" && team != a.TeamID {
		return fmt.Errorf("%s is a certificate of team %s, and team_id is %s: leave team_id out, or name the app's own certificate", a.Certificate, team, a.TeamID)
	}
	_, sandbox := c.extension(oidSandbox())
	_, production := c.extension(oidProduction())
	if sandbox && !production && a.Environment != Sandbox {
		return fmt.Errorf("%s is a certificate for the sandbox alone: set environment to sandbox, or make one for production", a.Certificate)
	}
	topics, from := c.topics()
	if len(topics) == 0 {
		return nil // of an on-site relay's own making
	}
	for _, topic := range a.topics() {
		if !slices.Contains(topics, topic) {
			return fmt.Errorf("%s is not for %s: by %s it is for %s; use the app's VoIP Services certificate", a.Certificate, topic, from, strings.Join(topics, ", "))
		}
	}
	return nil
}

// topics are those that the app cannot do without.
func (a APNsConfig) topics() []string {
	if a.alert() {
		return []string{a.Topic}
	}
	return []string{a.Topic + voipSuffix}
}

// rootsEnd is when the last of a file's trust anchors ends: which one the
// endpoint uses is not known here.
func rootsEnd(file string) (end time.Time, ok bool) {
	if file == "" {
		return end, false
	}
	rest, err := readPublic(file)
	if err != nil {
		return end, false
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return end, ok
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil && (!ok || c.NotAfter.After(end)) {
			end, ok = c.NotAfter, true
		}
	}
}
