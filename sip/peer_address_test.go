package sip

import (
	"net/netip"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

// TestPeerAddress: the media of who speaks SIP with us itself can be expected from where it does; a proxy says nothing
// about that.
func TestPeerAddress(t *testing.T) {
	here := netip.MustParseAddr("203.0.113.5")
	f := &flow{peer: netip.AddrPortFrom(here, 5060)}
	for name, c := range map[string]struct {
		leg  *leg
		want netip.Addr
	}{
		"direct":                   {&leg{flow: f}, here},
		"by a proxy that stays":    {&leg{flow: f, routes: []sipgo.Uri{{Host: "203.0.113.9"}}}, netip.Addr{}},
		"by a proxy that does not": {&leg{flow: f, proxied: true}, netip.Addr{}},
	} {
		if got := c.leg.PeerAddress(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if got := (&Change{leg: c.leg, flow: f}).PeerAddress(); got != c.want {
			t.Errorf("%s, re-INVITE: %v, want %v", name, got, c.want)
		}
	}
}
