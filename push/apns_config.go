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
	Topic       string `yaml:"topic"`       // bundle id; ".voip" is added
	TeamID      string `yaml:"team_id"`     // 10 characters
	KeyID       string `yaml:"key_id"`      // 10 characters
	KeyFile     string `yaml:"key_file"`    // AuthKey_….p8
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
	if !isTeam(a.TeamID) {
		report("team_id", fmt.Sprintf("%q is no team id: it is the ten capitals and digits under Membership at developer.apple.com", a.TeamID))
	}
	if !isTeam(a.KeyID) {
		report("key_id", fmt.Sprintf("%q is no key id: it is the ten capitals and digits in the name of AuthKey_….p8", a.KeyID))
	}
	if _, err := loadKey(a.KeyFile, a.masterKeyFile); err != nil {
		report("key_file", err.Error())
	}
	switch a.Environment {
	case "", environmentAuto, Production, Sandbox:
	default:
		report("environment", fmt.Sprintf("%q is unknown: use production, sandbox or auto", a.Environment))
	}
	a.validate(report, formVoIP, formAlert)
	if _, err := a.endpoints(); err != nil {
		report("endpoint", err.Error())
	}
	if _, err := loadRoots(a.RootCA); err != nil {
		report("root_ca", err.Error())
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

// firstEnvironment is where a token goes of which nothing is known.
func (a APNsConfig) firstEnvironment() string {
	if a.Environment == Sandbox {
		return Sandbox
	}
	return Production
}

// learns says whether the environment is found out per token.
func (a APNsConfig) learns() bool {
	if a.Environment != "" && a.Environment != environmentAuto {
		return false
	}
	hosts, err := a.endpoints()
	return err == nil && hosts[Production] != hosts[Sandbox]
}

// credentials are what all apps of one key share.
type credentials struct {
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

func (a APNsConfig) load() (credentials, error) {
	key, err := loadKey(a.KeyFile, a.masterKeyFile)
	if err != nil {
		return credentials{}, fmt.Errorf("push.apns.key_file: %w", err)
	}
	roots, err := loadRoots(a.RootCA)
	if err != nil {
		return credentials{}, fmt.Errorf("push.apns.root_ca: %w", err)
	}
	return credentials{key, roots}, nil
}
