package peertest

import (
	"fmt"
	"testing"

	"reveille/sip/siptest"
)

// newStranger links a host to our network that nobody knows, in a network of its own.
func newStranger(t testing.TB, n int) *host {
	t.Helper()
	s := newHost(t, "stranger")
	ours := fmt.Sprintf("strange%d", n)
	ip(t, "link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", s.pid())
	ip(t, "address", "add", fmt.Sprintf("198.18.%d.1/24", n), "dev", ours)
	ip(t, "link", "set", ours, "up")
	for _, c := range []string{fmt.Sprintf("address add 198.18.%d.2/24 dev eth0", n), "link set eth0 up", fmt.Sprintf("route add default via 198.18.%d.1", n)} {
		s.do(t, "ip "+c)
	}
	return s
}

// bled is what the stranger has sent, and what has come to it.
func bled(t testing.TB, stranger *host) (sent, udp, other int) {
	t.Helper()
	_, err := fmt.Sscan(stranger.do(t, "bled"), &sent, &udp, &other)
	must(t, err)
	return sent, udp, other
}

// TestRTPBleed: a stranger sends to all media ports, from before the call to after it, and gets no packet: neither
// while the caller, who is silent, hears the ringback, nor while a phone behind NAT is on its way to be believed, nor in
// the call. The call's sound does not suffer.
func TestRTPBleed(t *testing.T) {
	if !inOwnNetwork(t, 3) {
		return
	}
	for i, kind := range []string{"port-restricted", "symmetric"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h, stranger := newHome(t, i+1, kind), newStranger(t, i+1)
			b := (&bridge{MediaPorts: 8}).start(t)
			phone := h.phone(t, b)
			stranger.do(t, fmt.Sprintf("bleed %s %d %d", bridgeIP, b.FirstRTP, b.LastRTP))
			call, err := outsideCarrier(t, b).Invite(siptest.Invitation{To: b.Number})
			must(t, err)
			phone.do(t, "ring")
			waitUntil(t, "a second of ringback", func() bool { return len(call.Audio.Received()) > second })
			phone.do(t, "answer")
			carrier := talk(t, call)
			checkWhole(t, "carrier", b, heard(t, "carrier", 2*second, carrier))
			checkWhole(t, "phone", b, heard(t, "phone", 2*second, phone.hearing(t)))
			_, err = call.Bye().Await(patience, "200")
			must(t, err)
			phone.do(t, "over")
			record := b.record(t)
			for range 10 { // and the ports are as closed as before
				stranger.do(t, "bled")
			}
			sent, udp, other := bled(t, stranger)
			t.Logf("the stranger sent %d packets; %d of UDP came back, and %d others; the record: %v", sent, udp, other, record["media"])
			if sent < 1000 || udp > 0 {
				t.Errorf("the stranger sent %d packets, want many, and got %d, want none", sent, udp)
			}
			for side, figures := range record["media"].(map[string]any) {
				if f := figures.(map[string]any); f["dropped"] == 0.0 || f["invalid"] == 0.0 {
					t.Errorf("the record of the %s counts no strangers: %v", side, f)
				}
			}
			b.stop(t)
		})
	}
}
