package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"reveille/rtp"
	"reveille/sip"
)

// sipSockets tries every address of sip.listen.
func (e *examination) sipSockets(ctx context.Context) (out []Finding) {
	for _, l := range e.SIP.Listen {
		network, addr, err := sip.ParseListen(l)
		if err != nil {
			out = append(out, fail("sip.listen "+l, "%v", err))
			continue
		}
		out = append(out, e.socket(ctx, "sip.listen "+l, network, addr))
	}
	return out
}

func (e *examination) httpSocket(ctx context.Context) []Finding {
	if e.HTTP.Listen == "" {
		return []Finding{warn("http.listen", `it is "": no API, no metrics, and no reveille status, calls or trunks`)}
	}
	return []Finding{e.socket(ctx, "http.listen "+e.HTTP.Listen, "http", e.HTTP.Listen)}
}

// socket tries whether an address can be listened on. One that the running
// bridge listens on is good.
func (e *examination) socket(ctx context.Context, name, scheme, addr string) Finding {
	network := "tcp"
	if scheme == "udp" {
		network = "udp"
	}
	err := e.bind(ctx, network, addr)
	switch {
	case err == nil:
		return good(name, "the port is free")
	case errors.Is(err, syscall.EADDRINUSE) && e.running.listens(scheme, addr):
		return good(name, "in use by the running bridge")
	case errors.Is(err, syscall.EADDRINUSE):
		return fail(name, "the port is in use by %s; stop that, or choose another port", owner(network, addr))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail(name, "this machine does not have the address; choose one of those that `ip addr` lists, or 0.0.0.0")
	case errors.Is(err, syscall.EACCES):
		return fail(name, "user %s may not listen on a port below 1024; give the bridge CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=), or choose a port above", userName())
	}
	return fail(name, "%v; choose another address or port", err)
}

// bind opens a socket as the bridge would, and closes it.
func (e *examination) bind(ctx context.Context, network, addr string) error {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		network += map[bool]string{true: "4", false: "6"}[ap.Addr().Is4()]
	}
	if strings.HasPrefix(network, "udp") {
		c, err := e.Network.ListenPacket(ctx, network, addr)
		if err == nil {
			err = c.Close()
		}
		return err
	}
	l, err := e.Network.Listen(ctx, network, addr)
	if err == nil {
		err = l.Close()
	}
	return err
}

// fastPath tries whether the kernel would relay media. Nothing is attached.
func (e *examination) fastPath(context.Context) []Finding {
	name := "media.fast_path " + e.Media.FastPath
	if e.Media.FastPath == "off" || e.Media.Engine != "builtin" {
		return nil
	}
	if err := rtp.TryFastPath(); err != nil {
		return []Finding{warn(name, "all media will go through sockets, at ten times the cost: %v; docs/fastpath.md has what it needs, media.fast_path: off hides this line", err)}
	}
	return []Finding{good(name, "the kernel will relay plain RTP")}
}

// mediaRange gives the ends of media.ports; 0 and -1: it is none.
func (e *examination) mediaRange() (first, last int) {
	lo, hi, _ := strings.Cut(e.Media.Ports, "-")
	first, errFirst := strconv.Atoi(strings.TrimSpace(lo))
	last, errLast := strconv.Atoi(strings.TrimSpace(hi))
	if errFirst != nil || errLast != nil {
		return 0, -1
	}
	return first, last
}

// portsRoom is how many calls have room in a range: each takes two pairs, from
// an even port on.
func portsRoom(first, last int) int {
	return ((last+1)/2 - (first+1)/2) / 2
}

// mostCalls is how many calls the trunks may bring at a time; 0: no limit.
func (e *examination) mostCalls() (n int) {
	for _, t := range e.Trunks {
		if t.MaxCalls == 0 {
			return 0
		}
		n += t.MaxCalls
	}
	return n
}

// mediaSamples is how many ports of the range are tried.
const mediaSamples = 32

// media tries some ports of the range, and holds their number against the
// calls that the trunks may bring.
func (e *examination) media(ctx context.Context) []Finding {
	if e.Media.Engine == "rtpengine" {
		return e.engines(ctx)
	}
	name := "media.ports " + e.Media.Ports
	first, last := e.mediaRange()
	if last < first {
		return []Finding{fail(name, "this is no range of ports")}
	}
	var taken []int
	tried := 0
	for port := first; port <= last; port += max(1, (last-first)/(mediaSamples-1)) {
		tried++
		if err := e.bind(ctx, "udp", net.JoinHostPort("", strconv.Itoa(port))); errors.Is(err, syscall.EADDRINUSE) {
			taken = append(taken, port)
		} else if err != nil {
			return []Finding{fail(name, "port %d cannot be opened: %v; choose another range", port, err)}
		}
	}
	calls, wanted := portsRoom(first, last), e.mostCalls()
	size := fmt.Sprintf("room for %d calls at a time", calls)
	switch {
	case len(taken) > 0 && e.running == nil && 2*len(taken) >= tried:
		return []Finding{fail(name, "%d of %d ports that were tried are in use, %d by %s; choose another range", len(taken), tried, taken[0], owner("udp", strconv.Itoa(taken[0])))}
	case len(taken) > 0 && e.running == nil:
		return []Finding{warn(name, "%s, but %d of %d ports that were tried are in use, %d by %s; they are passed over, better choose another range", size, len(taken), tried, taken[0], owner("udp", strconv.Itoa(taken[0])))}
	case wanted > calls:
		return []Finding{warn(name, "%s, and the trunks may bring %d (max_calls); a call takes four ports: widen the range", size, wanted)}
	}
	return []Finding{good(name, "%s; let this range of UDP in through the firewall", size)}
}
