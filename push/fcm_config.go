package push

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2/google"
	"golang.org/x/oauth2/jwt"
)

// FCMConfig is one Firebase project.
type FCMConfig struct {
	Project string `yaml:"project"` // project id
	// SenderID is the project's number, for phones whose pn-param is that
	// (Linphone); "": none are.
	SenderID string `yaml:"sender_id"`
	// ServiceAccountFile is the JSON key of a service account that may send
	// messages for the project, plain or sealed. It may be of another project.
	ServiceAccountFile string `yaml:"service_account_file"`
	// TTL is how long Google may keep a push for a phone that it cannot reach
	// now: whole seconds, at most 30 s, and never beyond the call; 0: not at all.
	TTL time.Duration `yaml:"ttl"`
	// Endpoint is where to push instead of Google's host: https://HOST:PORT.
	// The token endpoint is the file's token_uri.
	Endpoint string `yaml:"endpoint"`
	RootCA   string `yaml:"root_ca"` // PEM file of further trust anchors, for both

	PayloadConfig `yaml:",inline"`

	masterKeyFile string // push.master_key_file: see Config.complete
}

const (
	hostFCM        = "https://fcm.googleapis.com"
	messagingScope = "https://www.googleapis.com/auth/firebase.messaging"
	maxTTL         = maxExpiration
	maxProject     = 63
)

// validateFCM reports every fault with its path below `push`.
func validateFCM(all []FCMConfig, report func(path, problem string)) {
	validateEach("fcm", "project", all, func(c FCMConfig) string { return c.Project }, report)
	numbers := map[string]int{}
	for i, c := range all {
		if first, twice := numbers[c.SenderID]; twice && c.SenderID != "" {
			report(fmt.Sprintf("fcm[%d].sender_id", i), fmt.Sprintf("%q is that of fcm[%d]: each project has its own", c.SenderID, first))
			continue
		}
		numbers[c.SenderID] = i
	}
}

// Validate reports every fault with its path below `push.fcm[i]`.
func (c FCMConfig) Validate(report func(path, problem string)) {
	switch {
	case c.Project != "" && isNumber(c.Project):
		report("project", fmt.Sprintf("%q is the project's number: write its id, as in the Firebase console's address, and the number under sender_id", c.Project))
	case !isProject(c.Project):
		report("project", fmt.Sprintf("%q is no project id: take project_id from the service account file, such as example-phone", c.Project))
	}
	if c.SenderID != "" && !isNumber(c.SenderID) {
		report("sender_id", fmt.Sprintf("%q is no project number: it is the Sender ID under Cloud Messaging in the Firebase console", c.SenderID))
	}
	if _, err := c.account(); err != nil {
		report("service_account_file", err.Error())
	}
	if c.TTL < 0 || c.TTL > maxTTL || c.TTL%time.Second != 0 {
		report("ttl", fmt.Sprintf("%v is not within 0s and %v in whole seconds: a push that comes later rings a dead call", c.TTL, maxTTL))
	}
	c.validate(report, formFCM)
	if _, err := c.endpoint(); err != nil {
		report("endpoint", err.Error())
	}
	if _, err := loadRoots(c.RootCA); err != nil {
		report("root_ca", err.Error())
	}
}

// endpoint is the base URL without a trailing slash.
func (c FCMConfig) endpoint() (string, error) {
	if c.Endpoint == "" {
		return hostFCM, nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || !isHTTPS(u) || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", fmt.Errorf("%q is no endpoint: use https://HOST or https://HOST:PORT", c.Endpoint)
	}
	return "https://" + u.Host, nil
}

func isHTTPS(u *url.URL) bool {
	return u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

// files are the files that the configuration names; some may be "".
func (c FCMConfig) files() []string { return []string{c.ServiceAccountFile, c.RootCA} }

const howToGetAccount = "make a key in the Firebase console under Project settings, Service accounts"

// serviceAccount is what a service account's file holds.
type serviceAccount struct {
	conf *jwt.Config
	// project is where the account was made. It may send for another one too,
	// which has given it the role: that is for Google to say, see refusal.
	project string
}

// account reads the service account's key. Errors say how to mend it and hold
// nothing of the file's content.
func (c FCMConfig) account() (a serviceAccount, err error) {
	file := c.ServiceAccountFile
	if file == "" {
		return a, errors.New("is empty: " + howToGetAccount + ", and give the path of the JSON file")
	}
	raw, err := readCredential(file, c.masterKeyFile)
	if err != nil {
		return a, err
	}
	defer clear(raw)
	var said struct {
		Type      string `json:"type"`
		ProjectID string `json:"project_id"`
		Email     string `json:"client_email"`
		Key       string `json:"private_key"`
		TokenURI  string `json:"token_uri"`
	}
	// The library's error may hold a piece of the file.
	if json.Unmarshal(raw, &said) != nil {
		return a, fmt.Errorf("%s is no JSON: %s", file, howToGetAccount)
	}
	if said.Type != "service_account" {
		return a, fmt.Errorf("%s is no service account's key (its type is not service_account; google-services.json is for the app): %s", file, howToGetAccount)
	}
	if said.Email == "" || !isRSAKey(said.Key) {
		return a, fmt.Errorf("%s has no client_email, or no private_key that can be read: download it again or copy it whole", file)
	}
	if u, err := url.Parse(said.TokenURI); said.TokenURI != "" && (err != nil || !isHTTPS(u)) {
		return a, fmt.Errorf("%s has a token_uri that is no https URL: Google's is https://oauth2.googleapis.com/token", file)
	}
	if a.conf, err = google.JWTConfigFromJSON(raw, messagingScope); err != nil {
		return a, fmt.Errorf("%s cannot be used: %s", file, howToGetAccount)
	}
	a.project = clean(said.ProjectID, maxProject)
	return a, nil
}

// isRSAKey says whether the library will be able to sign with the key.
func isRSAKey(text string) bool {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return false
	}
	defer clear(block.Bytes)
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		_, ok := key.(*rsa.PrivateKey)
		return ok
	}
	_, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	return err == nil
}

// isProject: lower-case letters, digits and hyphens; old ones have a domain
// before a colon. It goes into a URL, so nothing else may pass.
func isProject(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != ':' {
			return false
		}
	}
	return s != "" && len(s) <= maxProject && s[0] >= 'a'
}

func isNumber(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != "" && len(s) <= maxProject
}
