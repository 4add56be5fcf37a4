package push

import (
	"crypto/x509"
	"fmt"
	"slices"
)

// Config is the `push` section of the configuration. With no provider in it
// the pushes are printed instead of sent.
type Config struct {
	// Header is the SIP header that carries the call UUID to the device.
	Header string `yaml:"header"`
	// MasterKeyFile opens the credential files that are sealed; "": the key is
	// in the environment or among systemd's credentials, if there is one.
	MasterKeyFile string          `yaml:"master_key_file"`
	APNs          []APNsConfig    `yaml:"apns"`
	FCM           []FCMConfig     `yaml:"fcm"`
	Webhook       []WebhookConfig `yaml:"webhook"`
}

// DefaultConfig has no provider.
func DefaultConfig() Config { return Config{Header: "X-Call-UUID"} }

// Validate reports every fault with its path below `push`, files included.
func (c Config) Validate(report func(path, problem string)) {
	c = c.complete()
	c.validateMasterKey(report)
	if !isHeaderName(c.Header) {
		report("header", fmt.Sprintf("%q is no SIP header name: use letters, digits and hyphens, such as X-Call-UUID", c.Header))
	}
	validateAPNs(c.APNs, report)
	validateFCM(c.FCM, report)
	validateEach("webhook", "provider", c.Webhook, WebhookConfig.name, report)
}

// complete is a copy whose providers know what they need of the rest.
func (c Config) complete() Config {
	c.APNs = slices.Clone(c.APNs)
	for i := range c.APNs {
		c.APNs[i].masterKeyFile = c.MasterKeyFile
	}
	c.FCM = slices.Clone(c.FCM)
	for i := range c.FCM {
		c.FCM[i].masterKeyFile = c.MasterKeyFile
	}
	c.Webhook = slices.Clone(c.Webhook)
	for i := range c.Webhook {
		c.Webhook[i].masterKeyFile = c.MasterKeyFile
	}
	return c
}

// validateMasterKey looks at the configured file only: another source is asked
// when a sealed file is met.
func (c Config) validateMasterKey(report func(path, problem string)) {
	if c.MasterKeyFile == "" {
		return
	}
	m, err := loadMasterKey(c.MasterKeyFile)
	if err != nil {
		report("master_key_file", err.Error())
		return
	}
	m.forget()
}

// validateEach validates the entries of a list, whose names must differ.
func validateEach[C interface {
	Validate(func(path, problem string))
}](list, key string, entries []C, name func(C) string, report func(path, problem string)) {
	seen := map[string]int{}
	for i, e := range entries {
		at := fmt.Sprintf("%s[%d]", list, i)
		e.Validate(func(path, problem string) { report(at+"."+path, problem) })
		if first, twice := seen[name(e)]; twice {
			report(at+"."+key, fmt.Sprintf("%q is already configured in %s[%d]: keep one of the two", name(e), list, first))
			continue
		}
		seen[name(e)] = i
	}
}

// first is the first fault that Validate finds, as an error.
func (c Config) first() (err error) {
	c.Validate(func(path, problem string) {
		if err == nil {
			err = fmt.Errorf("push.%s: %s", path, problem)
		}
	})
	return err
}

// loadRoots are the system's trust anchors and those of file; nil, the
// system's alone, when file is "".
func loadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := readPublic(file)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate: need PEM (-----BEGIN CERTIFICATE-----)", file)
	}
	return roots, nil
}

func isHeaderName(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return s != ""
}
