package push

import (
	"strings"
	"sync"
)

// set is the providers of one configuration. A reload replaces it as a whole;
// the old one lives on until the pushes that hold it are over.
type set struct {
	cfg       Config
	stamps    map[string]fileStamp // of the credential files, taken before they were read
	expiries  []Expiry
	headers   []string // see Sender.Headers
	providers []Provider
	kept      *kept
	closing   sync.Once

	// guarded by Sender.mu
	busy    int           // pushes that hold it
	retired bool          // another has taken its place
	idle    chan struct{} // closed when it is retired and nobody holds it
}

// newSet makes the providers of a configuration, or nothing.
func newSet(cfg Config, o Options) (*set, error) {
	cfg = cfg.complete()
	if err := cfg.first(); err != nil {
		return nil, err
	}
	s := &set{cfg: cfg, stamps: stampsOf(cfg.files()), expiries: cfg.Expiries(), headers: cfg.headers(), kept: o.kept, idle: make(chan struct{})}
	var err error
	if s.providers, err = newProviders(cfg, o); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *set) close() {
	s.closing.Do(func() {
		for _, p := range s.providers {
			s.kept.release(p)
		}
	})
}

func (s *set) names() []string {
	names := make([]string, len(s.providers))
	for i, p := range s.providers {
		names[i] = p.Name()
	}
	return names
}

// provider finds who serves a pn-provider value; values compare without case
// (RFC 3261 §7.3.1).
func (s *set) provider(name string) Provider {
	name = strings.ToLower(name)
	if name == apnsDevName {
		name = apnsName
	}
	for _, p := range s.providers {
		if p.Name() == name || p.Name() == logName {
			return p
		}
	}
	return nil
}

// current is the set in force.
func (s *Sender) current() *set {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// hold is current, kept open until release.
func (s *Sender) hold() *set {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.busy++
	return s.now
}

func (s *Sender) release(held *set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held.busy--; held.busy == 0 && held.retired {
		close(held.idle)
	}
}
