package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sideshow/apns2/token"
)

// loadKey reads an APNs signing key (.p8: PKCS #8 in PEM, ECDSA on P-256),
// plain or sealed. Errors say how to mend it and hold nothing of the file's
// content.
func loadKey(file, masterKeyFile string) (*ecdsa.PrivateKey, error) {
	if file == "" {
		return nil, errors.New("is empty: give the path of the AuthKey_….p8 that Apple let you download once")
	}
	raw, err := readCredential(file, masterKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	key, err := token.AuthKeyFromBytes(raw)
	switch {
	case errors.Is(err, token.ErrAuthKeyNotPem):
		return nil, fmt.Errorf("%s is no .p8 key: need PEM (-----BEGIN PRIVATE KEY-----) as downloaded from Apple", file)
	case errors.Is(err, token.ErrAuthKeyNotECDSA):
		return nil, fmt.Errorf("%s is no APNs key: need an ECDSA key on P-256, as in AuthKey_….p8", file)
	case err != nil:
		return nil, fmt.Errorf("%s: not a PKCS #8 private key: download the .p8 again or copy it whole", file)
	case key.Curve != elliptic.P256():
		return nil, fmt.Errorf("%s is on curve %s: APNs signs with P-256 (ES256); use the .p8 from Apple", file, key.Curve.Params().Name)
	}
	return key, nil
}

// Life of a provider token. Apple takes one for 60 minutes and answers 429 to
// a connection that changes it more often than every 20.
const (
	mintEvery  = 40 * time.Minute
	mintAtMost = 20 * time.Minute
	bearerLife = 60 * time.Minute
)

// minter makes the provider tokens (JWT, ES256) of one key. One minter serves
// every connection of the key.
//
// Apple knows a token's age by Apple's clock. Setting ours neither ages a token
// that Apple has taken nor makes it younger, so that its life is measured by
// the monotonic clock. The wall clock counts where that stands still, while the
// machine sleeps, and for a token that Apple has not taken yet: its time of
// issue may have been wrong.
type minter struct {
	key           *ecdsa.PrivateKey
	keyID, teamID string

	mu       sync.Mutex // guards the following
	current  bearer
	previous bearer
	held     time.Time // no new token before this: the provider told us so
}

type bearer struct {
	jwt    string
	issued time.Time // wall clock alone: what stands in the token
	made   time.Time // with the monotonic clock
	taken  bool      // the provider has accepted a push with it
}

// age by the monotonic clock, and by the wall clock; that may be negative.
func (b bearer) age(now time.Time) (mono, wall time.Duration) {
	return now.Sub(b.made), now.Round(0).Sub(b.issued)
}

// over says that the token cannot be of use any more, by either clock.
func (b bearer) over(now time.Time) bool {
	mono, wall := b.age(now)
	return mono >= bearerLife || wall >= bearerLife
}

// due says that another token should take its place.
func (b bearer) due(now time.Time) bool {
	mono, wall := b.age(now)
	switch {
	case b.jwt == "", mono >= mintEvery:
		return true
	case wall >= 0 && wall < mintEvery:
		return false
	}
	// The clock was set, or the machine has slept.
	return !b.taken || mono >= mintAtMost
}

// newMinter mints once, so that a key that cannot sign is found at start-up.
func newMinter(key *ecdsa.PrivateKey, keyID, teamID string) (*minter, error) {
	m := &minter{key: key, keyID: keyID, teamID: teamID}
	if _, err := m.bearer(); err != nil {
		return nil, err
	}
	return m, nil
}

// bearer gives the token to send now.
func (m *minter) bearer() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !m.current.due(now) || (now.Before(m.held) && !m.current.over(now)) {
		return m.current.jwt, nil
	}
	if err := m.mint(now); err != nil {
		return "", err
	}
	return m.current.jwt, nil
}

func (m *minter) mint(now time.Time) error {
	t := token.Token{AuthKey: m.key, KeyID: m.keyID, TeamID: m.teamID}
	if ok, err := t.Generate(); err != nil || !ok {
		return fmt.Errorf("signing a provider token with key %s: %w", m.keyID, err)
	}
	m.previous, m.current = m.current, bearer{jwt: t.Bearer, issued: now.Round(0), made: now}
	return nil
}

// dead says that no token of the key lives any more.
func (m *minter) dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current.over(time.Now())
}

// accepted is told that a push with jwt was taken.
func (m *minter) accepted(jwt string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if jwt == m.current.jwt {
		m.current.taken = true
	}
}

// expired is told that the provider calls jwt expired. It says whether another
// try can do better: false when the token is younger than 20 minutes by both
// clocks, and then it is one of the two machines' clock that is wrong.
func (m *minter) expired(jwt string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if jwt != m.current.jwt {
		return true // another push has had a new one made in the meantime
	}
	now := time.Now()
	if mono, _ := m.current.age(now); mono < mintAtMost && !m.current.over(now) {
		return false
	}
	return m.mint(now) == nil
}

// tooMany is told that tokens change too often (several nodes with one key):
// go back to the one before, while it lives, and make no other for 20 minutes.
func (m *minter) tooMany() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.held = now.Add(mintAtMost)
	if mono, _ := m.previous.age(now); m.previous.jwt != "" && mono < bearerLife-5*time.Minute {
		m.current, m.previous = m.previous, bearer{}
	}
}
