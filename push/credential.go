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
	issued time.Time // wall clock: a suspended machine ages its tokens too
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
	now := time.Now().Round(0)
	age := now.Sub(m.current.issued)
	if m.current.jwt != "" && age >= 0 && age < mintEvery {
		return m.current.jwt, nil
	}
	if now.Before(m.held) && age >= 0 && age < bearerLife {
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
	m.previous, m.current = m.current, bearer{t.Bearer, now}
	return nil
}

// expired is told that the provider calls jwt expired. It says whether another
// try can do better: false when the token is younger than 20 minutes, and then
// it is one of the two clocks that is wrong.
func (m *minter) expired(jwt string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if jwt != m.current.jwt {
		return true // another push has had a new one made in the meantime
	}
	now := time.Now().Round(0)
	if now.Sub(m.current.issued) < mintAtMost {
		return false
	}
	return m.mint(now) == nil
}

// tooMany is told that tokens change too often (several nodes with one key, or
// a clock that jumps): go back to the one before, while it lives, and make no
// other for 20 minutes.
func (m *minter) tooMany() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().Round(0)
	m.held = now.Add(mintAtMost)
	if m.previous.jwt != "" && now.Sub(m.previous.issued) < bearerLife-5*time.Minute {
		m.current, m.previous = m.previous, bearer{}
	}
}
