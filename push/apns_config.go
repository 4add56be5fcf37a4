package push

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
)

// APNsConfig is one app at Apple's push service.
type APNsConfig struct {
	Topic   string `yaml:"topic"`    // bundle id; ".voip" is added
	TeamID  string `yaml:"team_id"`  // 10 characters
	KeyID   string `yaml:"key_id"`   // 10 characters
	KeyFile string `yaml:"key_file"` // AuthKey_….p8
	// Certificate is a .p12, or a PEM file with certificate and key, in place
	// of key_id and key_file.
	Certificate             string `yaml:"certificate"`
	CertificatePasswordFile string `yaml:"certificate_password_file"` // of a .p12; "": it has none
	// PushType is voip, or alert: every device that has a token for alerts gets
	// one in place of a VoIP push. "" is voip.
	PushType    string `yaml:"push_type"`
	Environment string `yaml:"environment"` // production, sandbox or auto; "" is auto
	// Endpoint is where to push instead of Apple's hosts: one https URL for
	// both environments (an on-site relay), or two with a comma between them,
	// production first. With one, a token is never tried a second time in the
	// other environment, since that would be the same place.
	Endpoint string `yaml:"endpoint"`
	RootCA   string `yaml:"root_ca"` // PEM file of further trust anchors

	PayloadConfig `yaml:",inline"`

	masterKeyFile string // push.master_key_file: see Config.complete
}

// What push_type may be.
const (
	pushTypeVoIP  = "voip"
	pushTypeAlert = "alert"
)

// environmentAuto: the environment of each token is found out and remembered.
const environmentAuto = "auto"

// Apple's hosts (port 443; 2197 works too, by Endpoint).
const (
	hostProduction = "https://api.push.apple.com"
	hostSandbox    = "https://api.sandbox.push.apple.com"
)

// Validate reports every fault with its path below `push.apns[i]`.
func (a APNsConfig) Validate(report func(path, problem string)) {
	if strings.HasSuffix(a.Topic, voipSuffix) {
		report("topic", fmt.Sprintf("%q: write the bundle id alone (%q); %q is added", a.Topic, strings.TrimSuffix(a.Topic, voipSuffix), voipSuffix))
	} else if !isBundle(a.Topic) {
		report("topic", fmt.Sprintf("%q is no bundle id: take it from the app's target in Xcode, such as com.example.phone", a.Topic))
	}
	a.validateCredentials(report)
	switch a.Environment {
	case "", environmentAuto, Production, Sandbox:
	default:
		report("environment", fmt.Sprintf("%q is unknown: use production, sandbox or auto", a.Environment))
	}
	switch a.PushType {
	case "", pushTypeVoIP:
		a.validate(report, formVoIP, formAlert)
	case pushTypeAlert:
		a.validate(report, formAlert, formVoIP)
	default:
		report("push_type", fmt.Sprintf("%q is unknown: use voip, or alert for an app without CallKit", a.PushType))
	}
	if _, err := a.endpoints(); err != nil {
		report("endpoint", err.Error())
	}
	if _, err := loadRoots(a.RootCA); err != nil {
		report("root_ca", err.Error())
	}
}

// validateAPNs validates the list. A topic may stand in it twice: for two
// teams, or once for each environment.
func validateAPNs(list []APNsConfig, report func(path, problem string)) {
	for i, a := range list {
		at := fmt.Sprintf("apns[%d].", i)
		a.Validate(func(path, problem string) { report(at+path, problem) })
		for j, b := range list[:i] {
			if a.Topic == b.Topic && a.TeamID == b.TeamID && len(a.environments())+len(b.environments()) != 2 {
				report(at+"topic", fmt.Sprintf("%q is already configured in apns[%d]: keep one of the two; with a key for each environment, set environment to production in one and to sandbox in the other", a.Topic, j))
				break
			} else if a.Topic == b.Topic && a.TeamID == b.TeamID && a.environments()[0] == b.environments()[0] {
				report(at+"topic", fmt.Sprintf("%q is already configured in apns[%d] for the environment %s: keep one of the two", a.Topic, j, a.Environment))
				break
			}
		}
	}
}

// validateCredentials wants a key or a certificate, and what goes with it.
func (a APNsConfig) validateCredentials(report func(path, problem string)) {
	switch {
	case a.Certificate == "":
		a.validateKey(report)
	case a.KeyFile != "" || a.KeyID != "":
		report("certificate", "a certificate and a key (key_id, key_file) are both set: keep one of the two; the key is good for all apps and does not end")
	default:
		a.validateCertificate(report)
	}
	if a.Certificate == "" && a.CertificatePasswordFile != "" {
		report("certificate_password_file", "is of no use without certificate: name the .p12 there, or remove the line")
	}
}

func (a APNsConfig) validateKey(report func(path, problem string)) {
	if !isTeam(a.TeamID) {
		report("team_id", fmt.Sprintf("%q is no team id: it is the ten capitals and digits under Membership at developer.apple.com", a.TeamID))
	}
	if !isTeam(a.KeyID) {
		report("key_id", fmt.Sprintf("%q is no key id: it is the ten capitals and digits in the name of AuthKey_….p8", a.KeyID))
	}
	if _, err := loadKey(a.KeyFile, a.masterKeyFile); err != nil {
		report("key_file", err.Error())
	}
}

func (a APNsConfig) validateCertificate(report func(path, problem string)) {
	if a.TeamID != "" && !isTeam(a.TeamID) {
		report("team_id", fmt.Sprintf("%q is no team id: it is the ten capitals and digits under Membership at developer.apple.com; with a certificate it may be left out", a.TeamID))
	}
	c, err := loadCertificate(a.Certificate, a.CertificatePasswordFile, a.masterKeyFile)
	if err == nil {
		err = c.fits(a)
	}
	if err != nil {
		report("certificate", err.Error())
	}
}

// endpoints are the base URLs by environment, without a trailing slash.
func (a APNsConfig) endpoints() (map[string]string, error) {
	if a.Endpoint == "" {
		return map[string]string{Production: hostProduction, Sandbox: hostSandbox}, nil
	}
	production, sandbox, two := strings.Cut(a.Endpoint, ",")
	if !two {
		sandbox = production
	}
	out := map[string]string{}
	for env, s := range map[string]string{Production: production, Sandbox: sandbox} {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" ||
			u.RawQuery != "" || u.User != nil || u.Fragment != "" {
			return nil, fmt.Errorf("%q is no endpoint: use https://HOST or https://HOST:PORT, or two of them with a comma, production first", a.Endpoint)
		}
		out[env] = "https://" + u.Host
	}
	return out, nil
}

// environments are those that the app is pushed in.
func (a APNsConfig) environments() []string {
	if a.Environment == Production || a.Environment == Sandbox {
		return []string{a.Environment}
	}
	return []string{Production, Sandbox}
}

// files are the files that are read again when they change.
func (a APNsConfig) files() []string {
	return []string{a.KeyFile, a.Certificate, a.CertificatePasswordFile, a.RootCA}
}

// alert says whether devices with a token for alerts get one instead of a VoIP push.
func (a APNsConfig) alert() bool { return a.PushType == pushTypeAlert }

// credentials are what all apps of one key, or of one certificate, share.
type credentials struct {
	key         *ecdsa.PrivateKey
	certificate *certificate // instead of key
	roots       *x509.CertPool
	identity    []byte // what names key or certificate
	anchors     []byte // content of root_ca
}

func (a APNsConfig) load() (c credentials, err error) {
	if a.Certificate != "" {
		if c.certificate, err = loadCertificate(a.Certificate, a.CertificatePasswordFile, a.masterKeyFile); err != nil {
			return c, fmt.Errorf("push.apns.certificate: %w", err)
		}
		c.identity = c.certificate.Leaf.Raw
	} else {
		if c.key, err = loadKey(a.KeyFile, a.masterKeyFile); err != nil {
			return c, fmt.Errorf("push.apns.key_file: %w", err)
		}
		if c.identity, err = c.key.PublicKey.Bytes(); err != nil {
			return c, fmt.Errorf("push.apns.key_file: %w", err)
		}
	}
	if c.roots, err = loadRoots(a.RootCA); err == nil && a.RootCA != "" {
		c.anchors, err = readPublic(a.RootCA)
	}
	if err != nil {
		return c, fmt.Errorf("push.apns.root_ca: %w", err)
	}
	return c, nil
}

// keyID names what signs; id what it signs for as well, and how the peer is known.
func (c credentials) keyID(cfg APNsConfig) digest {
	return digestOf(c.identity, []byte(cfg.TeamID), []byte(cfg.KeyID))
}

func (c credentials) id(cfg APNsConfig) digest {
	key := c.keyID(cfg)
	return digestOf(key[:], []byte(cfg.Endpoint), c.anchors)
}

// expiries are the ends of the certificates that the app's configuration names.
func (a APNsConfig) expiries() (all []Expiry) {
	if a.Certificate != "" {
		if c, err := loadCertificate(a.Certificate, a.CertificatePasswordFile, a.masterKeyFile); err == nil {
			all = append(all, Expiry{Path: "certificate", Provider: apnsName, Name: a.Topic, File: a.Certificate, NotAfter: c.Leaf.NotAfter,
				Mend: "make a new one at developer.apple.com under Certificates and put it in the place of the file, or use a .p8 key, which does not end"})
		}
	}
	if end, ok := rootsEnd(a.RootCA); ok {
		all = append(all, Expiry{Path: "root_ca", Provider: apnsName, Name: a.Topic + " root_ca", File: a.RootCA, NotAfter: end,
			Mend: "put the endpoint's new authority into the file beside the old one"})
	}
	return all
}
