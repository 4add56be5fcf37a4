package app

import (
	"sync/atomic"

	"reveille/bridge"
	"reveille/sip"
)

// accounts are the logins of the extensions; a reload replaces them all at once.
type accounts struct{ now atomic.Pointer[sip.Accounts] }

func newAccounts(list []bridge.Extension) (*accounts, error) {
	a := &accounts{}
	return a, a.set(list)
}

func (a *accounts) set(list []bridge.Extension) error {
	next, err := bridge.NewAccounts(list)
	if err != nil {
		return err
	}
	a.now.Store(&next)
	return nil
}

// KeepsPush implements sip.Sleepers.
func (a *accounts) KeepsPush(user string) bool {
	s, ok := (*a.now.Load()).(sip.Sleepers)
	return ok && s.KeepsPush(user)
}

// HA1 implements sip.Accounts.
func (a *accounts) HA1(user, realm, algorithm string) (string, bool) {
	return (*a.now.Load()).HA1(user, realm, algorithm)
}
