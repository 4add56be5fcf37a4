package sip

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// natInterval is how often a datagram goes to a server that we are registered
// at over UDP, so that the NATs and firewalls between let its calls through:
// many forget a UDP association after 30 s.
const natInterval = 25 * time.Second

// holes are the UDP associations that registrations live on.
type holes struct {
	mu   sync.Mutex // guards the following
	open map[holeKey]*hole
}

type holeKey struct {
	listener *udpListener
	peer     netip.AddrPort
}

// hole is one of them; a timer and no goroutine.
type hole struct {
	f     *flow
	until time.Time // the end of the longest registration
	timer *time.Timer
}

// holdOpen sends keep-alives by f for a while, or for longer if it does already.
func (t *transport) holdOpen(f *flow, d time.Duration) {
	key, until := holeKey{f.udp, f.remote()}, time.Now().Add(d)
	t.holes.mu.Lock()
	defer t.holes.mu.Unlock()
	if h := t.holes.open[key]; h != nil {
		if until.After(h.until) {
			h.until = until
		}
		return
	}
	h := &hole{f: f, until: until}
	h.timer = time.AfterFunc(natInterval, func() { t.keepOpen(key, h) })
	if t.holes.open == nil {
		t.holes.open = map[holeKey]*hole{}
	}
	t.holes.open[key] = h
}

func (t *transport) keepOpen(key holeKey, h *hole) {
	t.holes.mu.Lock()
	defer t.holes.mu.Unlock()
	if t.isClosed() || time.Now().After(h.until) {
		delete(t.holes.open, key)
		return
	}
	h.timer.Reset(natInterval)
	if err := h.f.write(doubleCRLF()); err != nil {
		t.log.Debug("a keep-alive could not be sent", "flow", h.f.String(), "err", err)
	}
}

// learn reads what a response of a trunk's says about our place on the network:
// how long it will send calls here, and as whom it sees us (RFC 3581 §4).
func (s *Server) learn(f *flow, res *sipgo.Response) {
	method := res.CSeq().MethodName
	if method != sipgo.REGISTER && method != sipgo.OPTIONS {
		return
	}
	if held := longestBinding(res); f.udp != nil && method == sipgo.REGISTER && res.StatusCode/100 == 2 && held > 0 {
		s.transport.holdOpen(f, held)
	}
	seen := seenFrom(res)
	if !seen.IsValid() {
		return
	}
	for _, t := range s.Trunks() {
		if t.owns(f) {
			t.seenAs(f, seen)
		}
	}
}

// longestBinding is the longest lifetime among the Contacts that a 2xx to
// REGISTER lists; 0 if there are none.
func longestBinding(res *sipgo.Response) (longest time.Duration) {
	for _, c := range contacts(res) {
		seconds := 3600 // RFC 3261 §10.2.1.1
		value, ok := c.Params.Get("expires")
		if h := res.GetHeader("Expires"); !ok && h != nil {
			value, ok = strings.TrimSpace(h.Value()), true
		}
		if n, err := strconv.Atoi(value); ok && err == nil {
			seconds = min(max(n, 0), 24*3600)
		}
		longest = max(longest, time.Duration(seconds)*time.Second)
	}
	return longest
}

// seenFrom is our address as the answerer of a request saw it: received and
// rport in our Via, an IPv6 address with brackets or without (RFC 5118 §4.5).
// Invalid if it did not say.
func seenFrom(res *sipgo.Response) netip.AddrPort {
	via := res.Via()
	if via == nil {
		return netip.AddrPort{}
	}
	host, _ := via.Params.Get("received")
	if host == "" {
		host = via.Host
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return netip.AddrPort{}
	}
	value, _ := via.Params.Get("rport")
	port, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		port = uint64(via.Port)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port))
}

// seenAs notes as whom the trunk sees us, where that is not what we call
// ourselves; a change is logged with what mends it.
func (t *Trunk) seenAs(f *flow, seen netip.AddrPort) {
	external := t.srv.cfg.ExternalAddress
	ours := f.seenAs(external)
	text := ""
	if ip, err := netip.ParseAddr(ours); err == nil && ip.Unmap() != seen.Addr() {
		text = seen.String()
	}
	before := t.State().SeenAs
	if text == before {
		return
	}
	t.set(func(s *TrunkState) { s.SeenAs = text })
	switch {
	case text == "":
	case external == "":
		t.log.Warn("the trunk sees us at another address than we name: there is a NAT between; set sip.external_address and media.external_address if calls do not come or have no sound",
			"seen", seen.Addr().String(), "named", ours)
	default:
		t.log.Warn("the trunk sees us at another address than sip.external_address says", "seen", seen.Addr().String(), "named", ours)
	}
}
