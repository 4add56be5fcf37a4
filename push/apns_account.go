package push

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sideshow/apns2"
)

// digest names credentials by their content, so that a file that was written
// anew with the same content is no change.
type digest [sha256.Size]byte

func digestOf(parts ...[]byte) digest {
	var b bytes.Buffer
	for _, p := range parts {
		b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		b.Write(p)
	}
	return sha256.Sum256(b.Bytes())
}

// Bound of the tokens that are tried in both environments, for each account: a
// fleet of phones learns its environments within minutes all the same, since
// production is tried first.
const (
	flipEvery = time.Second
	flipBurst = 20
)

// account is one key, or one certificate, at one endpoint. Apple binds a
// connection to the first key it sees, so connections and tokens are shared by
// all apps of the key, and by those alone.
type account struct {
	id      digest
	minter  *minter                  // nil: a certificate speaks for us
	clients map[string]*apns2.Client // by environment
	pools   map[string]*connPool
	foreign atomic.Bool // the key is for one environment only: no token need be tried in the other

	// guarded by accounts.mu
	users int    // apps that have it, those of a set that drains included
	flips bucket // tokens tried in the other environment
}

// accounts are the APNs accounts in use. They outlive reloads: a new
// configuration finds those that it shares with the old one, with their warm
// connections and their provider tokens.
type accounts struct {
	log     *slog.Logger
	dial    DialFunc
	backOff *backOffs

	mu      sync.Mutex // guards the following
	inUse   map[digest]*account
	minters map[digest]*minter
}

func newAccounts(dial DialFunc, log *slog.Logger) *accounts {
	return &accounts{log: log, dial: dial, backOff: newBackOffs(), inUse: map[digest]*account{}, minters: map[digest]*minter{}}
}

// acquire gives the account that a configuration asks for, made if need be.
// Who acquires must release.
func (a *accounts) acquire(cfg APNsConfig) (*account, error) {
	creds, err := cfg.load()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := creds.id(cfg)
	acc := a.inUse[id]
	if acc == nil {
		if acc, err = a.open(cfg, creds); err != nil {
			return nil, err
		}
		a.inUse[id] = acc
	}
	acc.users++
	return acc, nil
}

// open makes an account. The mutex is held.
func (a *accounts) open(cfg APNsConfig, creds credentials) (acc *account, err error) {
	acc = &account{id: creds.id(cfg), flips: bucket{every: flipEvery, burst: flipBurst}, clients: map[string]*apns2.Client{}, pools: map[string]*connPool{}}
	if creds.key != nil {
		if acc.minter, err = a.minter(cfg, creds); err != nil {
			return nil, err
		}
	}
	hosts, err := cfg.endpoints()
	if err != nil {
		return nil, err
	}
	shared := map[string]*connPool{}
	for env, host := range hosts {
		pool := shared[host]
		if pool == nil {
			if pool, err = newConnPool(host, creds.roots, a.dial, a.log); err != nil {
				return nil, err
			}
			if creds.certificate != nil {
				pool.tr.TLSClientConfig.Certificates = []tls.Certificate{creds.certificate.Certificate}
			}
			shared[host] = pool
		}
		acc.pools[env] = pool
		acc.clients[env] = &apns2.Client{Host: host, HTTPClient: &http.Client{
			Transport:     apnsTransport{pool},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
	}
	return acc, nil
}

// minter gives the one minter of a key. Those of keys that have left the
// configuration are kept while their tokens live: the key may come back, and
// must not sign another token within 20 minutes.
func (a *accounts) minter(cfg APNsConfig, creds credentials) (*minter, error) {
	for id, m := range a.minters {
		if m.dead() {
			delete(a.minters, id)
		}
	}
	id := creds.keyID(cfg)
	if m := a.minters[id]; m != nil {
		return m, nil
	}
	m, err := newMinter(creds.key, cfg.KeyID, cfg.TeamID)
	if err != nil {
		return nil, err
	}
	a.minters[id] = m
	return m, nil
}

// release closes an account that nobody has any more.
func (a *accounts) release(acc *account) {
	a.mu.Lock()
	acc.users--
	last := acc.users == 0
	if last {
		delete(a.inUse, acc.id)
	}
	a.mu.Unlock()
	if !last {
		return
	}
	for _, pool := range acc.pools {
		pool.close() // a pool that both environments share is closed twice, which does no harm
	}
}

// mayFlip says whether a token that is bad in one environment may be tried in
// the other now: Apple cuts off who sends many bad tokens.
func (a *accounts) mayFlip(acc *account) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return acc.flips.take(time.Now())
}
