package sip

import (
	"context"
	"net/netip"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

const (
	// watchInterval is how often our own address and the clock are looked at:
	// a phone that calls meanwhile does not reach us.
	watchInterval = 15 * time.Second
	// clockJump is how much more time the wall clock may show than we have lived
	// through. A machine that slept longer may have lost its registrations.
	clockJump = 30 * time.Second
)

// watch registers everything anew when our own address has changed, or when
// the machine has slept, until ctx ends.
func (u *uplink) watch(ctx context.Context) {
	lived, wall := time.Now(), u.srv.wall()
	for sleep(ctx, watchInterval) {
		slept := u.srv.wall().Sub(wall) - time.Since(lived)
		lived, wall = time.Now(), u.srv.wall()
		switch here, changed := u.newAddress(); {
		case slept > clockJump:
			u.log.Info("the clock has jumped; registering again", "by", slept.Round(time.Second).String())
			u.moved()
		case changed:
			u.log.Info("our own address has changed; registering again", "address", here.String())
			u.moved()
		}
	}
}

// newAddress is our address towards the server as the routing table has it
// now, and whether that is another one than our flow began with.
func (u *uplink) newAddress() (netip.Addr, bool) {
	u.mu.Lock()
	f := u.flow
	u.mu.Unlock()
	if f == nil {
		return netip.Addr{}, false
	}
	before := f.local().Addr()
	if f.udp != nil && !f.udp.here.Addr().IsUnspecified() {
		return before, false // bound to one address
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := u.srv.transport.network.DialContext(ctx, "udp", f.remote().String())
	if err != nil {
		return before, false // no network at all: wait for one
	}
	defer c.Close()
	now := addrPort(c.LocalAddr()).Addr()
	return now, now.IsValid() && now != before
}

// moved: the bindings name an address that is no longer ours, or may have
// expired unnoticed. All are made again, over a new flow.
func (u *uplink) moved() {
	u.mu.Lock()
	f := u.flow
	u.flow = nil // a new one finds out our address
	u.mu.Unlock()
	if f != nil {
		u.retire(f)
	}
	u.renew()
	u.each(func(r *login, after time.Duration) { r.again(after) })
}

// saw compares our address as the server sees it (received and rport, RFC
// 3581) between two answers to OPTIONS: a change means that our NAT has moved
// us, and that calls go astray. Only OPTIONS are compared: a REGISTER may be
// seen by another host of the carrier's.
func (u *uplink) saw(res *sipgo.Response) {
	now := seenFrom(res)
	u.mu.Lock()
	before := u.seen
	u.seen = now
	u.mu.Unlock()
	if before.IsValid() && now.IsValid() && before != now {
		u.log.Info("the server sees us at another address; registering again", "seen", now.String(), "before", before.String())
		u.moved()
	}
}
