package sip

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// nonces mints and checks the server's nonces. A nonce carries its own time and
// a seal over it and over the sender's network, so that challenges cost no
// memory. Only a nonce that an authenticated request has used is remembered,
// for its count.
type nonces struct {
	secret   [32]byte
	lifetime time.Duration

	mu      sync.Mutex // guards the following
	floor   time.Time  // older nonces are stale
	rotated time.Time
	young   map[string]*replayWindow // used since rotated
	old     map[string]*replayWindow // used in the lifetime before
}

// maxNonces bounds the nonces that are remembered: about 10 MB. They are spent
// by authenticated requests alone.
const maxNonces = 100_000

const (
	nonceTime = 8 // bytes of Unix nanoseconds
	nonceSalt = 8 // random: two devices behind one NAT must not share a count
	nonceSeal = 16
)

func newNonces(lifetime time.Duration) *nonces {
	n := &nonces{lifetime: lifetime, rotated: time.Now(), young: map[string]*replayWindow{}}
	rand.Read(n.secret[:])
	return n
}

// mint returns a nonce for a sender.
func (n *nonces) mint(source netip.Addr) string {
	b := make([]byte, nonceTime+nonceSalt, nonceTime+nonceSalt+nonceSeal)
	binary.BigEndian.PutUint64(b, uint64(time.Now().UnixNano()))
	rand.Read(b[nonceTime:])
	return base64.RawURLEncoding.EncodeToString(append(b, n.seal(b, source)...))
}

func (n *nonces) seal(b []byte, source netip.Addr) []byte {
	mac := hmac.New(sha256.New, n.secret[:])
	mac.Write(b)
	network := sourceNetwork(source)
	mac.Write([]byte(network.String()))
	return mac.Sum(nil)[:nonceSeal]
}

// sourceNetwork is what of an address a nonce is bound to. A phone may hop
// between the addresses of a carrier's NAT, not between networks.
func sourceNetwork(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits)
	return p
}

// minted returns when the nonce was made; false if it is not one of ours for
// this sender.
func (n *nonces) minted(nonce string, source netip.Addr) (time.Time, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != nonceTime+nonceSalt+nonceSeal {
		return time.Time{}, false
	}
	body := b[:nonceTime+nonceSalt]
	if !hmac.Equal(b[len(body):], n.seal(body, source)) {
		return time.Time{}, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(body))), true
}

// fresh reports whether a nonce is one of ours for this sender, and not too old.
func (n *nonces) fresh(nonce string, source netip.Addr) bool {
	at, ours := n.minted(nonce, source)
	return ours && time.Since(at) < n.lifetime
}

// spend accepts a nonce and count once. It is to be called after the response
// has been found right; false means that the nonce is stale.
func (n *nonces) spend(nonce string, nc uint32, source netip.Addr) bool {
	at, ours := n.minted(nonce, source)
	now := time.Now()
	if !ours || now.Sub(at) >= n.lifetime {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Before(n.floor) {
		return false
	}
	n.rotate(now)
	w := n.young[nonce]
	if w == nil {
		w = n.old[nonce]
	}
	if w == nil {
		w = &replayWindow{}
		n.young[nonce] = w
	}
	return w.accept(nc)
}

// rotate forgets nonces that are stale by age: what was used before the last
// rotation is older than a lifetime at the next. If too many are in use within
// one lifetime all are declared stale, which costs each device one more
// challenge and opens no replay. mu is held.
func (n *nonces) rotate(now time.Time) {
	if now.Sub(n.rotated) >= n.lifetime {
		n.old, n.young, n.rotated = n.young, map[string]*replayWindow{}, now
	}
	if len(n.young)+len(n.old) >= maxNonces {
		n.old, n.young, n.rotated, n.floor = nil, map[string]*replayWindow{}, now, now
	}
}

// replayWindow remembers which counts of one nonce have been used. Counts may
// overtake each other by up to 64, over UDP and among our own goroutines; each
// is accepted once.
type replayWindow struct {
	last uint32
	seen uint64 // bit i: last-i was used
}

func (w *replayWindow) accept(nc uint32) bool {
	switch {
	case nc == 0:
		return false
	case nc > w.last:
		w.seen = w.seen<<min(nc-w.last, 64) | 1
		w.last = nc
		return true
	case w.last-nc >= 64:
		return false
	}
	bit := uint64(1) << (w.last - nc)
	fresh := w.seen&bit == 0
	w.seen |= bit
	return fresh
}
