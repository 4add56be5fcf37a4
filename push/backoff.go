package push

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	backOffDefault = 5 * time.Second // when a 429 comes without Retry-After
	backOffMost    = 5 * time.Minute
	backOffTokens  = 4096 // remembered at most
)

// backOffs remembers the device tokens that the provider has had too many
// pushes for. Tokens are kept as hashes.
type backOffs struct {
	mu    sync.Mutex // guards the following
	until map[[sha256.Size]byte]time.Time
}

func newBackOffs() *backOffs { return &backOffs{until: map[[sha256.Size]byte]time.Time{}} }

// left is how long the token is still to be left alone.
func (b *backOffs) left(token string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.until) == 0 {
		return 0
	}
	return max(0, time.Until(b.until[sha256.Sum256([]byte(token))]))
}

// add leaves the token alone for d. Beyond the bound of memory a token is not
// remembered: the provider will say so again.
func (b *backOffs) add(token string, d time.Duration) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.until) >= backOffTokens {
		for key, until := range b.until {
			if !until.After(now) {
				delete(b.until, key)
			}
		}
	}
	if len(b.until) < backOffTokens {
		b.until[sha256.Sum256([]byte(token))] = now.Add(min(d, backOffMost))
	}
}
