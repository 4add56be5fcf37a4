package peertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reveille/sip"
	"reveille/sip/siptest"
)

// The rules of a NAT on a router between "lan" and "wan", by what RFC 3489 called them. A cone keeps one outside port
// for each inside socket: Linux does where it may choose from a range; with random,fully-random it chooses for each
// connection anew. What comes in is let in by connection tracking, which is the port-restricted cone; the wider
// ones remember who has sent from which outside port.
var nats = map[string]struct {
	rules string
	behaviour
}{
	"full cone":       {cone + remember + `chain in { type nat hook prerouting priority dstnat; iifname wan dnat ip to udp dport map @inside; }`, behaviour{true, "anybody"}},
	"restricted":      {cone + remember + `chain in { type nat hook prerouting priority dstnat; iifname wan ip saddr . udp dport @written dnat ip to udp dport map @inside; }`, behaviour{true, "the address"}},
	"port-restricted": {cone, behaviour{true, "address and port"}},
	"none":            {"", behaviour{true, "anybody"}},
	"symmetric":       {`chain out { type nat hook postrouting priority srcnat; oifname wan masquerade random,fully-random; }`, behaviour{false, "address and port"}},
}

const (
	cone     = `chain out { type nat hook postrouting priority srcnat; oifname wan ip protocol udp snat to WAN:40000-49999; oifname wan ip protocol tcp masquerade; }`
	remember = `
		map inside { type inet_service : ipv4_addr . inet_service; flags dynamic; timeout 1m; size 1000; }
		set written { type ipv4_addr . inet_service; flags dynamic; timeout 1m; size 1000; }
		chain learn { type filter hook postrouting priority 300;
			oifname wan ip protocol udp update @inside { udp sport : ct original ip saddr . ct original proto-src }
			oifname wan ip protocol udp update @written { ip daddr . udp sport }
		}
	`
	// What nobody behind it has asked for ends at the router, without a word.
	closed = `chain local { type filter hook input priority filter; iifname wan drop; }`
)

// home is a network of its own behind a router: 192.168.n.0/24 inside, 198.51.n.2 outside.
type home struct {
	n      int
	router *host
	inside *host // 192.168.n.2
}

func newHome(t testing.TB, n int, kind string) *home {
	t.Helper()
	h := &home{n: n, router: newHost(t, "router"), inside: newHost(t, "host behind the router")}
	wan := fmt.Sprintf("wan%d", n)
	ip(t, "link", "add", wan, "type", "veth", "peer", "name", "wan", "netns", h.router.pid())
	ip(t, "address", "add", fmt.Sprintf("198.51.%d.1/24", n), "dev", wan)
	ip(t, "link", "set", wan, "up")
	h.router.do(t, "ip link add lan type veth peer name eth0 netns "+h.inside.pid())
	for host, commands := range map[*host][]string{
		h.router: {"address add " + h.outside() + "/24 dev wan", "address add " + h.gateway() + "/24 dev lan", "link set wan up", "link set lan up",
			fmt.Sprintf("route add default via 198.51.%d.1", n)},
		h.inside: {"address add " + h.address() + "/24 dev eth0", "link set eth0 up", "link set lo up", "route add default via " + h.gateway()},
	} {
		for _, c := range commands {
			host.do(t, "ip "+c)
		}
	}
	h.router.do(t, "route")
	if kind == "none" { // then the inside is known outside
		ip(t, "route", "add", fmt.Sprintf("192.168.%d.0/24", n), "via", h.outside())
	}
	h.rules(t, nats[kind].rules)
	if got, want := observe(t, h.inside), nats[kind].behaviour; got != want {
		t.Fatalf("the NAT %q behaves as %+v, want %+v", kind, got, want)
	}
	return h
}

func (h *home) outside() string { return fmt.Sprintf("198.51.%d.2", h.n) }
func (h *home) gateway() string { return fmt.Sprintf("192.168.%d.1", h.n) }
func (h *home) address() string { return fmt.Sprintf("192.168.%d.2", h.n) }

// rules replaces those of the router.
func (h *home) rules(t testing.TB, rules string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.nft")
	text := "flush ruleset\ntable ip test {\n" + strings.ReplaceAll(rules+closed, "WAN", h.outside()) + "\n}\n"
	text = strings.NewReplacer("chain", "\nchain", ";", ";\n", "{ type", "{\ntype", "; }", ";\n}").Replace(text)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	h.router.do(t, "nft -f "+file)
}

// phone makes the inside host the bridge's phone, which registers.
func (h *home) phone(t testing.TB, b *bridge) *host {
	t.Helper()
	h.inside.do(t, fmt.Sprintf("phone %s %s %s %s %s udp", b.SIP, h.address(), b.User, b.Password, b.instance))
	h.inside.do(t, "register")
	return h.inside
}

// heard waits until the end of a call has heard n packets more, and returns what it has heard by then.
func heard(t testing.TB, who string, n int, now func() hearing) hearing {
	t.Helper()
	var h hearing
	from := now().heard
	waitUntil(t, fmt.Sprintf("the %s to hear %d packets", who, n), func() bool {
		h = now()
		return h.heard >= from+n
	})
	return h
}

// hearing asks the host what it hears of its call.
func (h *host) hearing(t testing.TB) func() hearing {
	return func() hearing {
		got, err := readHearing(h.do(t, "hearing"))
		must(t, err)
		return got
	}
}

// checkWhole fails the test unless everything has been heard, bit for bit, but at most late packets at the beginning, and
// those that the bridge had no time for.
func checkWhole(t testing.TB, who string, b *bridge, h hearing) {
	t.Helper()
	missed := b.missed(t)
	t.Logf("the %s heard %+v; the bridge missed %d packets", who, h, missed)
	if h.first > late || h.missing > missed || h.twice+h.late+h.wrong > 0 {
		t.Errorf("the %s heard %+v; want each packet from number %d on at the latest but %d, in order and unaltered", who, h, late, missed)
	}
}

// outsideCarrier is a carrier with an address of its own, in this process.
func outsideCarrier(t testing.TB, b *bridge) *siptest.Trunk {
	t.Helper()
	trunk, err := siptest.NewTrunk(context.Background(), siptest.TrunkOptions{Sockets: sip.SystemNetwork(), Bridge: b.SIP, Local: hostPort(carrierIP, 0)})
	must(t, err)
	t.Cleanup(trunk.Close)
	return trunk
}

// talk waits for the answer and talks from then on, to the end of the test.
func talk(t testing.TB, call *siptest.Call) func() hearing {
	t.Helper()
	_, err := call.Await(patience, "200")
	must(t, err)
	ctx, hush := context.WithCancel(context.Background())
	t.Cleanup(hush)
	go call.Audio.Play(ctx, 1<<20)
	return func() hearing { return hearingOf(call.Audio.Received()) }
}

// second is a second of sound, in packets.
const second = 50

// late is how many packets the latch may cost at the beginning: it wants four in a row of a peer behind NAT, and a test
// machine may be busy. Nothing may be lost later.
const late = 25

// TestNAT: the sound goes both ways whatever NAT the phone is behind, from its first packets on.
func TestNAT(t *testing.T) {
	if !inOwnNetwork(t, 8) {
		return
	}
	for i, kind := range []string{"full cone", "restricted", "port-restricted", "symmetric"} {
		t.Run(strings.ReplaceAll(kind, " ", "_"), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, i+1, kind)
			b := (&bridge{}).start(t)
			phone := h.phone(t, b)
			call, err := outsideCarrier(t, b).Invite(siptest.Invitation{To: b.Number})
			must(t, err)
			phone.do(t, "ring")
			phone.do(t, "answer")
			carrier := talk(t, call)
			checkWhole(t, "carrier", b, heard(t, "carrier", 2*second, carrier))
			checkWhole(t, "phone", b, heard(t, "phone", 2*second, phone.hearing(t)))
			_, err = call.Bye().Await(patience, "200")
			must(t, err)
			phone.do(t, "over")
			b.stop(t)
		})
	}
	t.Run("both", func(t *testing.T) {
		t.Parallel()
		bothBehindNAT(t)
	})
	for i, c := range []struct {
		name  string
		tells string // how the phone says that it has moved
	}{{"port changes and phone registers", "register"}, {"port changes and phone re-invites", "reinvite-anew"}} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			portChanges(t, 10+i, c.tells)
		})
	}
}

// bothBehindNAT has a carrier that is behind a NAT too: neither side's SDP has an address that anybody can reach.
func bothBehindNAT(t *testing.T) {
	h, c := newHome(t, 8, "port-restricted"), newHome(t, 9, "symmetric")
	b := (&bridge{CarrierIP: c.outside()}).start(t)
	phone, carrier := h.phone(t, b), c.inside
	carrier.do(t, fmt.Sprintf("carrier %s %s:5060", b.SIP, c.address()))
	carrier.do(t, "call "+b.Number)
	phone.do(t, "ring")
	phone.do(t, "answer")
	carrier.do(t, "answered")
	checkWhole(t, "carrier", b, heard(t, "carrier", 2*second, carrier.hearing(t)))
	checkWhole(t, "phone", b, heard(t, "phone", 2*second, phone.hearing(t)))
	carrier.do(t, "bye")
	phone.do(t, "over")
	b.stop(t)
}

// portChanges has the phone's NAT forget everything in mid-call: the phone's packets come from other ports then, and
// what is sent to the old ones goes nowhere. Nothing is believed of that until the phone has said so.
func portChanges(t *testing.T, n int, tells string) {
	h := newHome(t, n, "port-restricted")
	b := (&bridge{}).start(t)
	phone := h.phone(t, b)
	call, err := outsideCarrier(t, b).Invite(siptest.Invitation{To: b.Number})
	must(t, err)
	phone.do(t, "ring")
	phone.do(t, "answer")
	carrier := talk(t, call)
	heard(t, "carrier", second, carrier)
	checkWhole(t, "phone", b, heard(t, "phone", second, phone.hearing(t)))
	h.rules(t, strings.ReplaceAll(cone, "40000-49999", "50000-59999"))
	h.router.do(t, "forget")
	phone.do(t, tells)
	before := carrier()
	after := heard(t, "carrier", 2*second, carrier)
	if gap := after.missing - before.missing; after.wrong+after.twice+after.late > 0 || gap > 5*second {
		t.Errorf("the carrier heard %+v before the phone's ports changed, %+v after", before, after)
	}
	heard(t, "phone", 2*second, phone.hearing(t))
	_, err = call.Bye().Await(patience, "200")
	must(t, err)
	phone.do(t, "over")
	b.stop(t)
}
