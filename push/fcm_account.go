package push

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
)

// fcmAccount is one service account at one endpoint: its access tokens and its
// warm connections.
type fcmAccount struct {
	id     digest
	access *accessSource
	pool   *connPool
	home   string // project that the service account was made in
	users  int    // projects that have it, those of a set that drains included; guarded by fcmAccounts.mu
}

// fcmAccounts are the service accounts in use. They outlive reloads: a new
// configuration finds those that it shares with the old one, with their
// connections and their access tokens.
type fcmAccounts struct {
	log     *slog.Logger
	dial    DialFunc
	backOff *backOffs

	mu    sync.Mutex // guards the following
	inUse map[digest]*fcmAccount
}

func newFCMAccounts(dial DialFunc, log *slog.Logger) *fcmAccounts {
	return &fcmAccounts{log: log, dial: dial, backOff: newBackOffs(), inUse: map[digest]*fcmAccount{}}
}

// fcmCredentials are what a project's files hold.
type fcmCredentials struct {
	serviceAccount
	roots   *x509.CertPool
	anchors []byte // content of root_ca
	base    string // URL of the send endpoint
}

func (c FCMConfig) load() (creds fcmCredentials, err error) {
	if creds.serviceAccount, err = c.account(); err != nil {
		return creds, fmt.Errorf("push.fcm.service_account_file: %w", err)
	}
	if creds.roots, err = loadRoots(c.RootCA); err == nil && c.RootCA != "" {
		creds.anchors, err = readPublic(c.RootCA)
	}
	if err != nil {
		return creds, fmt.Errorf("push.fcm.root_ca: %w", err)
	}
	if creds.base, err = c.endpoint(); err != nil {
		return creds, fmt.Errorf("push.fcm.endpoint: %w", err)
	}
	return creds, nil
}

// id names the account and how its peers are known.
func (c fcmCredentials) id() digest {
	return digestOf(c.conf.PrivateKey, []byte(c.conf.Email), []byte(c.conf.PrivateKeyID), []byte(c.conf.TokenURL), []byte(c.base), c.anchors)
}

// acquire gives the account that a configuration asks for, made if need be: it
// is connecting and fetching its access token then. Who acquires must release.
func (a *fcmAccounts) acquire(cfg FCMConfig) (*fcmAccount, error) {
	creds, err := cfg.load()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := creds.id()
	acc := a.inUse[id]
	if acc == nil {
		pool, err := newConnPool(creds.base, creds.roots, a.dial, a.log)
		if err != nil {
			return nil, err
		}
		acc = &fcmAccount{id: id, pool: pool, home: creds.project, access: newAccessSource(cfg.Project, creds, a.dial, a.log)}
		pool.warm()
		a.inUse[id] = acc
	}
	acc.users++
	return acc, nil
}

// release closes an account that nobody has any more.
func (a *fcmAccounts) release(acc *fcmAccount) {
	a.mu.Lock()
	acc.users--
	last := acc.users == 0
	if last {
		delete(a.inUse, acc.id)
	}
	a.mu.Unlock()
	if last {
		acc.access.close()
		acc.pool.close()
	}
}
