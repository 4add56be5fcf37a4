package peertest

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"reveille/sip/siptest"
)

// lossy has the router lose and double some of the phone's packets, and count both. It routes, and has no NAT: doubles
// pass by what tracks connections.
const lossy = `counter lost { }
	counter twice { }
	chain through { type filter hook forward priority filter;
		iifname lan udp dport FIRST-LAST numgen random mod 1000 < LOSS counter name lost drop
		iifname lan udp dport FIRST-LAST numgen random mod 1000 < TWICE counter name twice dup to 198.51.N.1 device wan
	}
`

// TestLossIsOnRecord: what a network loses and doubles is in the call's record, to the packet.
func TestLossIsOnRecord(t *testing.T) {
	if !inOwnNetwork(t, 4) {
		return
	}
	for i, c := range []struct{ loss, twice int }{{0, 0}, {60, 20}, {100, 0}} {
		t.Run(fmt.Sprintf("%d_per_mille", c.loss), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, i+1, "none")
			b := (&bridge{}).start(t)
			phone := h.phone(t, b)
			call, err := outsideCarrier(t, b).Invite(siptest.Invitation{To: b.Number})
			must(t, err)
			phone.do(t, "ring")
			phone.do(t, "answer-quietly")
			talk(t, call)
			phone.do(t, "say 20") // what is lost before the first packet, and behind the last, nobody knows of
			h.lossy(t, b, c.loss, c.twice)
			phone.do(t, "say 300")
			lost, twice := h.counted(t, "lost"), h.counted(t, "twice")
			h.lossy(t, b, 0, 0)
			phone.do(t, "say 20")
			waitUntil(t, "the carrier to hear the last packet", func() bool { return hearingOf(call.Audio.Received()).last == 339 })
			lost += b.missed(t)
			_, err = call.Bye().Await(patience, "200")
			must(t, err)
			phone.do(t, "over")
			device := b.record(t)["media"].(map[string]any)["device"].(map[string]any)
			t.Logf("the router (and a bridge that came to read too late) lost %d packets and doubled %d; the record: %v", lost, twice, device)
			doubled, _ := device["duplicates"].(float64)
			if device["lost"] != float64(lost) || doubled != float64(twice) || device["packets"] != float64(340-lost+twice) || c.loss > 0 && lost == 0 {
				t.Errorf("the router lost %d of 340 packets and doubled %d; the record says %v", lost, twice, device)
			}
			got := hearingOf(call.Audio.Received())
			if got.missing != lost || got.twice != twice || got.wrong > 0 {
				t.Errorf("the router lost %d packets and doubled %d; the carrier heard %+v", lost, twice, got)
			}
			b.stop(t)
		})
	}
}

func (h *home) lossy(t testing.TB, b *bridge, loss, twice int) {
	t.Helper()
	text := lossy
	for name, value := range map[string]int{"FIRST": b.FirstRTP, "LAST": b.LastRTP, "LOSS": loss, "TWICE": twice, `\bN\b`: h.n} {
		text = regexp.MustCompile(name).ReplaceAllString(text, strconv.Itoa(value))
	}
	h.rules(t, text)
}

// counted is one of the router's counters.
func (h *home) counted(t testing.TB, name string) int {
	t.Helper()
	m := regexp.MustCompile(`packets (\d+)`).FindStringSubmatch(h.router.do(t, "nft list counter ip test "+name))
	if m == nil {
		t.Fatalf("the router has no counter %q", name)
	}
	n, err := strconv.Atoi(m[1])
	must(t, err)
	return n
}

// TestOrderIsOnRecord: packets that overtake each other reach the carrier as they come, and are counted.
func TestOrderIsOnRecord(t *testing.T) {
	if !inOwnNetwork(t, 1) {
		return
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Fatalf("packets overtake each other by way of a TUN device, which is not there: %v", err)
	}
	h := newHome(t, 1, "none")
	h.router.do(t, "swap")
	b := (&bridge{}).start(t)
	h.rules(t, fmt.Sprintf(`chain by { type filter hook prerouting priority mangle; iifname lan udp dport %d-%d meta mark set 1; }`, b.FirstRTP, b.LastRTP))
	phone := h.phone(t, b)
	call, err := outsideCarrier(t, b).Invite(siptest.Invitation{To: b.Number})
	must(t, err)
	phone.do(t, "ring")
	phone.do(t, "answer-quietly")
	talk(t, call)
	phone.do(t, "say 205")
	waitUntil(t, "the carrier to hear the last packet", func() bool { return hearingOf(call.Audio.Received()).last == 204 })
	missed := b.missed(t)
	_, err = call.Bye().Await(patience, "200")
	must(t, err)
	phone.do(t, "over")
	swapped, err := strconv.Atoi(h.router.do(t, "swapped"))
	must(t, err)
	got, device := hearingOf(call.Audio.Received()), b.record(t)["media"].(map[string]any)["device"].(map[string]any)
	if device["reordered"] != float64(swapped) || got.late != swapped || got.missing != missed || got.twice+got.wrong > 0 || swapped < 20 {
		t.Errorf("%d packets were overtaken; the carrier heard %+v, the record says %v", swapped, got, device)
	}
	b.stop(t)
}
