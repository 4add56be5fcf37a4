package peertest

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// TestPhoneChangesNetworks takes a phone from one network to another, as from Wi-Fi to LTE: it is in a network
// namespace of its own with two links to the bridge's, the first of which goes down without a FIN. The test runs
// itself in such a namespace, so that it leaves nothing behind in the system's.
func TestPhoneChangesNetworks(t *testing.T) {
	if !inOwnNetwork(t, 4) {
		return
	}
	for i, c := range []struct {
		name string
		act  func(testing.TB, *roamer)
	}{
		{"answered", inviteAgain},
		{"only registers", registerOnly},
		{"ringing", ringAgain},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := (&bridge{}).start(t)
			r := newRoamer(t, b, i+1)
			r.do(t, "register")
			caller := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Echo: true}).start(t)
			r.do(t, "ring")
			c.act(t, r)
			r.hears(t)
			caller.proceed(t)
			caller.finish(t)
			r.do(t, "over") // it can only have come by the second link
			b.stop(t)
		})
	}
}

// inviteAgain is a phone that does all by the book: it registers, and says by re-INVITE where its audio is now.
func inviteAgain(t testing.TB, r *roamer) {
	r.do(t, "answer")
	r.hears(t)
	r.move(t)
	r.do(t, "register")
	r.do(t, "resound")
	r.do(t, "reinvite")
}

// registerOnly is a phone that leaves the re-INVITE to the bridge.
func registerOnly(t testing.TB, r *roamer) {
	r.do(t, "answer")
	r.hears(t)
	r.move(t)
	r.do(t, "resound") // the bridge's re-INVITE, however soon, is answered with the new address
	r.do(t, "register")
	r.do(t, "reinvited")
}

// ringAgain changes networks while it rings: the call rings at the new address, and it is the same call.
func ringAgain(t testing.TB, r *roamer) {
	first := r.do(t, "uuid")
	r.move(t)
	r.do(t, "register")
	r.do(t, "ring")
	if second := r.do(t, "uuid"); second != first {
		t.Errorf("the call rings at the new address as %s, and was %s", second, first)
	}
	r.do(t, "answer")
}

// roamer is a phone in a namespace of its own, see roamerMain; it has two links to us.
type roamer struct {
	n int
	*host
}

// newRoamer starts phone n and links it to us twice: 10.n.1.0/30 is its first network, 10.n.2.0/30 the second.
func newRoamer(t testing.TB, b *bridge, n int) *roamer {
	t.Helper()
	r := &roamer{n, newHost(t, "roaming phone")}
	for i := 1; i <= 2; i++ {
		ours, theirs := fmt.Sprintf("net%d-%d", r.n, i), fmt.Sprintf("link%d", i)
		ip(t, "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", r.pid())
		ip(t, "address", "add", r.gateway(i)+"/30", "dev", ours)
		ip(t, "link", "set", ours, "up")
		r.do(t, "ip address add "+r.address(i)+"/30 dev "+theirs)
		r.do(t, "ip link set "+theirs+" up")
	}
	r.do(t, "ip route add default via "+r.gateway(1))
	r.do(t, fmt.Sprintf("phone %s %s %s %s %s", b.SIP, r.address(1), b.User, b.Password, b.instance))
	return r
}

func (r *roamer) gateway(link int) string { return fmt.Sprintf("10.%d.%d.1", r.n, link) }
func (r *roamer) address(link int) string { return fmt.Sprintf("10.%d.%d.2", r.n, link) }

// move takes the first link down, without a word to anybody, and goes on by the second.
func (r *roamer) move(t testing.TB) {
	t.Helper()
	ip(t, "link", "set", fmt.Sprintf("net%d-1", r.n), "down")
	r.do(t, "ip link set link1 down")
	r.do(t, "ip route replace default via "+r.gateway(2))
	r.do(t, "roam "+r.address(2))
}

// hears waits until the phone has heard a second of what it says come back from the carrier, bit for bit.
func (r *roamer) hears(t testing.TB) {
	t.Helper()
	var heard int
	waitUntil(t, "the phone to hear its echo", func() bool {
		heard, _ = strconv.Atoi(r.do(t, "heard"))
		return heard >= int(time.Second/(20*time.Millisecond))
	})
}
