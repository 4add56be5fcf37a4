package push

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// WebhookConfig is one receiver of signed HTTP requests: a push service of
// one's own, or a relay to any other.
type WebhookConfig struct {
	// Provider is the pn-provider value of the devices that are woken through
	// it. It compares without case, and is also a metric label.
	Provider   string `yaml:"provider"`
	URL        string `yaml:"url"`         // https, or http on loopback
	SecretFile string `yaml:"secret_file"` // what requests are signed with
	RootCA     string `yaml:"root_ca"`     // PEM file of further trust anchors

	PayloadConfig `yaml:",inline"`

	masterKeyFile string // push.master_key_file: see Config.complete
}

// maxProvider bounds a pn-provider value of ours; sip and metrics carry it.
const maxProvider = 32

// Validate reports every fault with its path below `push.webhook[i]`.
func (w WebhookConfig) Validate(report func(path, problem string)) {
	if problem := w.nameProblem(); problem != "" {
		report("provider", problem)
	}
	if _, err := w.parseURL(); err != nil {
		report("url", err.Error())
	}
	if _, err := w.signer(); err != nil {
		report("secret_file", err.Error())
	}
	if _, err := loadRoots(w.RootCA); err != nil {
		report("root_ca", err.Error())
	}
	w.PayloadConfig.validate(report, formWebhook)
}

// files are the files that are read again when they change.
func (w WebhookConfig) files() []string { return []string{w.SecretFile, w.RootCA} }

// name is what devices are served under.
func (w WebhookConfig) name() string { return strings.ToLower(w.Provider) }

func (w WebhookConfig) nameProblem() string {
	switch {
	case !isProviderName(w.Provider):
		return fmt.Sprintf("%q is no name: write what the app sends as pn-provider, up to %d letters, digits, dots, hyphens and underscores", w.Provider, maxProvider)
	case slices.Contains([]string{apnsName, apnsDevName, "fcm", logName, "none"}, w.name()):
		return fmt.Sprintf("%q means something else already: choose another pn-provider value for this service, and have the app send that", w.Provider)
	}
	return ""
}

func isProviderName(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxProvider
}

// parseURL checks the receiver's address. It comes from the configuration
// alone, so that no device can have requests sent to a place of its choice.
// Errors do not show more of it than its host.
func (w WebhookConfig) parseURL() (*url.URL, error) {
	u, err := url.Parse(w.URL)
	switch {
	case w.URL == "":
		return nil, errors.New("is missing: give the address of the receiver, such as https://push.example.com/voip")
	case err != nil:
		return nil, errors.New("is no URL: write it as https://HOST/PATH")
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "", u.Opaque != "":
		return nil, fmt.Errorf("%q is no address of a receiver: write it as https://HOST/PATH", u.Scheme+"://"+u.Host)
	case u.User != nil:
		return nil, errors.New("holds a user name or password: leave them out, requests are signed with secret_file")
	case u.Fragment != "":
		return nil, errors.New("holds a #: it is never sent, leave it out")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("%q: push tokens would cross the network in the clear: use https://, or http:// on loopback only", "http://"+u.Host)
	}
	return u, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// signer is nil where nothing is to be signed.
func (w WebhookConfig) signer() (*signer, error) {
	if w.SecretFile == "" {
		if w.isAcrobits() {
			return nil, nil
		}
		return nil, errors.New("is missing: make one with (umask 077; echo whsec_$(openssl rand -base64 32) > FILE) and give it to the receiver too")
	}
	return loadSigner(w.SecretFile, w.masterKeyFile)
}

// webhookForm is what the receiver wants to read.
func (w WebhookConfig) webhookForm() (webhookForm, error) {
	l, err := newLayout(w.PayloadConfig, formWebhook)
	if w.isAcrobits() {
		return acrobitsForm{l}, err
	}
	return standardForm{l}, err
}

func (w WebhookConfig) isAcrobits() bool { return w.Payload == presetAcrobits }
