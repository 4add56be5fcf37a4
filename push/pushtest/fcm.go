package pushtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
)

// The hosts of an FCM service, as Push.Environment and Counts.ByEnvironment
// name them.
const (
	SendHost  = "send"
	TokenHost = "token"
)

// FCMOptions are those of an FCM service. All may be zero.
type FCMOptions struct {
	// Send and Token are where the two endpoints listen; nil: loopback, on
	// ports of the system's choice. The service closes them.
	Send, Token net.Listener
	// SendHost and TokenHost ("host:port") go into the URLs and the certificate
	// when the listener's own address is not what clients dial.
	SendHost, TokenHost string
	// AnyToken accepts every well-formed registration token.
	AnyToken bool
	// Key is that of all service accounts, since making one takes a while;
	// nil: each has its own.
	Key *rsa.PrivateKey
	// AccessLife is how long an access token is good; 0: an hour, as Google's.
	AccessLife time.Duration
	MaxStreams uint32             // limit of concurrent streams; 0: 1000
	ResetEvery int                // as in Options
	Seen       func(Push, Answer) // as in Options
}

// FCM is Google's Firebase Cloud Messaging, HTTP v1, with the OAuth 2.0 token
// endpoint that it wants access tokens of. Make one with NewFCM.
//
// It takes a call's push and nothing else: data only, of high priority, with
// a ttl of seconds. There it is stricter than Google.
type FCM struct {
	*Service
	anyToken   bool
	key        *rsa.PrivateKey
	accessLife time.Duration
	serial     atomic.Int64

	// guarded by Service.mu
	accounts map[string]*serviceAccount // by client_email
	access   map[string]grant           // by access token
	roles    map[[2]string]bool         // the service accounts of one project may push for another
	tokens   map[string]registration    // by registration token
}

// serviceAccount may push for its project, and for those of FCM.roles.
type serviceAccount struct {
	project string
	keyID   string
	public  *rsa.PublicKey // nil: the key was deleted
}

// grant is what an access token stands for.
type grant struct {
	project string
	expires time.Time
}

// registration is a registered app installation.
type registration struct {
	project string // "" any
	gone    bool
}

// oauthScript is the script key of the token endpoint's answers; no
// registration token has a space.
const oauthScript = "token endpoint"

// NewFCM starts the service on its two hosts.
func NewFCM(o FCMOptions) (*FCM, error) {
	f := &FCM{
		anyToken: o.AnyToken, key: o.Key, accessLife: o.AccessLife,
		accounts: map[string]*serviceAccount{}, access: map[string]grant{}, tokens: map[string]registration{}, roles: map[[2]string]bool{},
	}
	if f.accessLife == 0 {
		f.accessLife = time.Hour
	}
	var err error
	f.Service, err = newService(f, settings{o.MaxStreams, o.ResetEvery, o.Seen},
		&host{name: SendHost, addr: o.SendHost, ln: o.Send},
		&host{name: TokenHost, addr: o.TokenHost, ln: o.Token, aside: true})
	if err != nil {
		return nil, err
	}
	f.start()
	return f, nil
}

// URL is the base URL of the send endpoint, as the configuration key
// push.fcm.endpoint takes it.
func (f *FCM) URL() string { return f.url(SendHost) }

// TokenURL is the token endpoint, which service account files name.
func (f *FCM) TokenURL() string { return f.url(TokenHost) + "/token" }

// ServiceAccount makes a service account of a project, as the Firebase console
// does, and writes its key to dir as <project>.json.
func (f *FCM) ServiceAccount(dir, project string) (file string, err error) {
	key := f.key
	if key == nil {
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return "", err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	keyID := "pushtest" + strconv.Itoa(len(f.accounts))
	email := "push" + strconv.Itoa(len(f.accounts)) + "@" + project + ".iam.gserviceaccount.com"
	f.accounts[email] = &serviceAccount{project: project, keyID: keyID, public: &key.PublicKey}
	f.mu.Unlock()
	file = filepath.Join(dir, project+".json")
	return file, os.WriteFile(file, encode(map[string]string{
		"type":           "service_account",
		"project_id":     project,
		"private_key_id": keyID,
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":   email,
		"client_id":      "100000000000000000001",
		"token_uri":      f.TokenURL(),
	}), 0o600)
}

// DeleteKeys deletes the keys of a project's service accounts: no new access
// token is given for them, while the old ones live on.
func (f *FCM) DeleteKeys(project string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.accounts {
		if a.project == project {
			a.public = nil
		}
	}
}

// GiveRole lets the service accounts of one project push for another too.
func (f *FCM) GiveRole(of, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roles[[2]string{of, to}] = true
}

// RevokeAccess makes all access tokens given so far worthless.
func (f *FCM) RevokeAccess() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.access)
}

// AddToken registers an app installation of a project; "" for any project.
func (f *FCM) AddToken(project, token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[token] = registration{project: project}
}

// Unregister makes a token one that answers 404 UNREGISTERED, as after the app
// was uninstalled.
func (f *FCM) Unregister(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[token] = registration{gone: true}
}

// AnswerToken scripts what the next requests for access tokens get, one answer
// each; Reason is the "error" of RFC 6749 §5.2.
func (f *FCM) AnswerToken(answers ...Answer) { f.Answer(oauthScript, answers...) }

func (f *FCM) judge(r *request) Answer {
	if r.Environment == TokenHost {
		r.Token = oauthScript
		return f.judgeGrant(r)
	}
	return f.judgeSend(r)
}

// newAccess hands out an access token.
func (f *FCM) newAccess(project string, now time.Time) string {
	var random [24]byte
	rand.Read(random[:])
	token := "ya29." + hex.EncodeToString(random[:])
	f.mu.Lock()
	defer f.mu.Unlock()
	f.access[token] = grant{project, now.Add(f.accessLife)}
	f.counts.Bearers++
	return token
}
