package sip

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
	"github.com/miekg/dns"
)

// maxTargets bounds what one server's DNS may make us try.
const maxTargets = 32

// target is one place where a SIP server can be reached.
type target struct {
	proto string // "UDP", "TCP" or "TLS"
	addr  netip.AddrPort
	rank  int // SRV priority: lower is better, equals share the load
}

func (t target) String() string { return strings.ToLower(t.proto) + "://" + t.addr.String() }

func (t target) same(o target) bool { return t.proto == o.proto && t.addr == o.addr }

// located is a server as the DNS has it: where to send, and from where it may
// send to us.
type located struct {
	targets []target
	addrs   []netip.Addr // further hosts of the same name
	until   time.Time    // when to look again
}

// resolver finds SIP servers (RFC 3263): NAPTR, SRV, A and AAAA.
type resolver struct {
	dns *dnsClient
	// reaches reports whether we can send to that kind of address by that
	// transport, and be reached back.
	reaches func(proto string, ip netip.Addr) bool
}

// service is one transport that a domain offers, and the name of its SRV records.
type service struct{ proto, name string }

// locate finds the targets of a URI (RFC 3263 §4). transport is "udp", "tcp",
// "tls", or "" for what the URI or the DNS says. The error names the record
// that is missing and the server that was asked.
func (r *resolver) locate(ctx context.Context, u sipgo.Uri, transport string) (located, error) {
	host := strings.ToLower(strings.TrimSuffix(strings.Trim(u.Host, "[]"), "."))
	if transport == "" {
		p, _ := u.UriParams.Get("transport")
		transport = strings.ToLower(p)
	}
	if u.Scheme == "sips" {
		transport = "tls"
	}
	if _, err := netip.ParseAddr(host); err == nil || u.Port != 0 || !strings.Contains(host, ".") || r.dns.inHosts(host) {
		return r.byAddress(ctx, host, u.Port, transport)
	}
	until := time.Now().Add(dnsCeiling)
	services, err := r.services(ctx, host, transport, &until)
	if err != nil {
		return located{}, err
	}
	for _, s := range services {
		l, err := r.byService(ctx, s, &until)
		if err != nil {
			return located{}, err
		}
		if len(l.targets) > 0 {
			l.until = until
			return r.withOwnAddresses(ctx, l, host), nil
		}
	}
	l, err := r.byAddress(ctx, host, 0, transport)
	l.until = earlier(l.until, until)
	return l, err
}

// services lists the transports of a domain in the order in which it prefers
// them (RFC 3263 §4.1).
func (r *resolver) services(ctx context.Context, host, transport string, until *time.Time) ([]service, error) {
	names := map[string]service{"udp": {"UDP", "_sip._udp." + host}, "tcp": {"TCP", "_sip._tcp." + host}, "tls": {"TLS", "_sips._tcp." + host}}
	if s, ok := names[transport]; ok {
		return []service{s}, nil
	}
	rrs, err := r.lookup(ctx, host, dns.TypeNAPTR, until)
	if err != nil {
		return nil, err
	}
	var offers []*dns.NAPTR
	for _, rr := range rrs {
		if n, ok := rr.(*dns.NAPTR); ok && strings.EqualFold(n.Flags, "s") && naptrProto(n.Service) != "" {
			offers = append(offers, n)
		}
	}
	slices.SortStableFunc(offers, func(a, b *dns.NAPTR) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Preference, b.Preference))
	})
	var out []service
	for _, n := range offers {
		out = append(out, service{naptrProto(n.Service), strings.ToLower(strings.TrimSuffix(n.Replacement, "."))})
	}
	if len(out) > 0 {
		return out, nil
	}
	return []service{names["udp"], names["tcp"], names["tls"]}, nil
}

func naptrProto(service string) string {
	switch strings.ToUpper(service) {
	case "SIP+D2U":
		return "UDP"
	case "SIP+D2T":
		return "TCP"
	case "SIPS+D2T":
		return "TLS"
	}
	return ""
}

// byService follows the SRV records of one transport (RFC 2782).
func (r *resolver) byService(ctx context.Context, s service, until *time.Time) (located, error) {
	rrs, err := r.lookup(ctx, s.name, dns.TypeSRV, until)
	if err != nil {
		return located{}, err
	}
	var records []*dns.SRV
	for _, rr := range rrs {
		if srv, ok := rr.(*dns.SRV); ok && srv.Target != "." && srv.Port != 0 { // ".": decidedly not offered
			records = append(records, srv)
		}
	}
	if len(records) > maxTargets {
		records = records[:maxTargets]
	}
	var l located
	var last error
	for _, srv := range balanced(records, rand.IntN) {
		ips, err := r.addresses(ctx, strings.TrimSuffix(srv.Target, "."), until)
		if err != nil {
			last = err // the others may do
			continue
		}
		l.add(r, s.proto, ips, srv.Port, int(srv.Priority))
	}
	if len(l.targets) == 0 && last != nil {
		return located{}, last
	}
	return l, nil
}

// add appends the reachable addresses as targets, and all as addresses.
func (l *located) add(r *resolver, proto string, ips []netip.Addr, port uint16, rank int) {
	for _, ip := range ips {
		if len(l.addrs) < 2*maxTargets {
			l.addrs = append(l.addrs, ip)
		}
		if len(l.targets) < maxTargets && r.reaches(proto, ip) {
			l.targets = append(l.targets, target{proto, netip.AddrPortFrom(ip, port), rank})
		}
	}
}

// balanced orders SRV records by priority and, within one, by chance and
// weight, as RFC 2782 has it. pick is rand.IntN.
func balanced(records []*dns.SRV, pick func(int) int) []*dns.SRV {
	left := slices.Clone(records)
	slices.SortStableFunc(left, func(a, b *dns.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Weight, b.Weight)) // weight 0 first
	})
	var out []*dns.SRV
	for len(left) > 0 {
		same, sum := 0, 0
		for same < len(left) && left[same].Priority == left[0].Priority {
			sum += int(left[same].Weight)
			same++
		}
		chosen, run := 0, 0
		for at := pick(sum + 1); chosen < same; chosen++ {
			if run += int(left[chosen].Weight); run >= at {
				break
			}
		}
		out = append(out, left[chosen])
		left = slices.Delete(left, chosen, chosen+1)
	}
	return out
}

// byAddress finds a host by A and AAAA alone: port 0 is the transport's usual one.
func (r *resolver) byAddress(ctx context.Context, host string, port int, transport string) (located, error) {
	proto := strings.ToUpper(transport)
	if proto != "TCP" && proto != "TLS" {
		proto = "UDP" // RFC 3263 §4.1
	}
	if port == 0 {
		port = 5060
		if proto == "TLS" {
			port = 5061
		}
	}
	until := time.Now().Add(dnsCeiling)
	ips, err := r.addresses(ctx, host, &until)
	if err != nil {
		return located{}, err
	}
	l := located{until: until}
	l.add(r, proto, ips, uint16(port), 0)
	switch {
	case len(ips) == 0:
		return located{}, fmt.Errorf("%s has no address: %s knows no record A, AAAA or SRV of it; check the spelling of the name", host, r.dns.whom())
	case len(l.targets) == 0:
		return located{}, fmt.Errorf("no %s listener of ours can reach %s (%s): add one of that address family to sip.listen", proto, host, ips[0])
	}
	return l, nil
}

// withOwnAddresses adds what the bare name resolves to: many carriers call
// from there. Nothing hangs on it.
func (r *resolver) withOwnAddresses(ctx context.Context, l located, host string) located {
	until := l.until
	ips, err := r.addresses(ctx, host, &until)
	if err == nil && len(l.addrs)+len(ips) <= 2*maxTargets {
		l.addrs = append(l.addrs, ips...)
	}
	return l
}

// addresses gives a host's addresses of both families.
func (r *resolver) addresses(ctx context.Context, host string, until *time.Time) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	if ips := r.dns.hostsFile(host); len(ips) > 0 {
		*until = earlier(*until, time.Now().Add(dnsFloor))
		return ips, nil
	}
	var out []netip.Addr
	var last error
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		rrs, err := r.lookup(ctx, host, kind, until)
		if err != nil {
			last = err
		}
		for _, rr := range rrs {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if a, ok := netip.AddrFromSlice(ip); ok && !a.IsUnspecified() && !a.IsMulticast() && len(out) < maxTargets {
				out = append(out, a.Unmap())
			}
		}
	}
	if len(out) == 0 {
		return nil, last
	}
	return out, nil
}

func (r *resolver) lookup(ctx context.Context, name string, kind uint16, until *time.Time) ([]dns.RR, error) {
	a, err := r.dns.lookup(ctx, name, kind)
	if err == nil {
		*until = earlier(*until, a.until)
	}
	return a.records, err
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
