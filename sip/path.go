package sip

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// maxPath bounds the proxies of one Path. A site has one edge, seldom two.
const maxPath = 5

// edgeTimeout bounds the time in which an edge proxy must take a connection of
// ours: the caller hears ringing meanwhile.
const edgeTimeout = 2 * time.Second

// edges are the addresses of the proxies whose Path we take.
type edges []netip.Prefix

func (c Config) edges() edges {
	var out edges
	for _, s := range c.EdgeProxies {
		if p, _, err := ParsePeer(s); err == nil && p.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

func (e edges) has(a netip.Addr) bool {
	a = a.Unmap()
	return slices.ContainsFunc(e, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (c Config) validateEdges(report func(path, problem string)) {
	for i, s := range c.EdgeProxies {
		path := fmt.Sprintf("edge_proxies[%d]", i)
		p, host, err := ParsePeer(s)
		switch {
		case err != nil:
			report(path, err.Error())
		case host != "":
			report(path, fmt.Sprintf("%q is a host name, and who answers for it may change: write the proxy's IP address or network", s))
		case p.Bits() == 0:
			report(path, fmt.Sprintf("%q is everyone, and each of them could have our INVITEs sent to where he likes: name the proxy's own network", s))
		}
	}
}

// readPath takes the Path of a REGISTER (RFC 3327 §5.3), if it comes from an
// edge proxy of ours; a stranger's must not lead our INVITEs anywhere.
func (r *registrar) readPath(x *registration) *registerRefusal {
	values := headerList(x.req, "Path")
	if len(values) == 0 {
		return nil
	}
	if !r.edges.has(x.f.remote().Addr()) {
		r.o.Rejected("register_foreign_path")
		if r.gripes.allow(time.Now()) {
			r.log.Warn("REGISTER with a Path that was not taken; if the sender is your proxy, add its address to sip.edge_proxies",
				"aor", x.aor, "address", x.f.remote().String())
		}
		if hasToken(x.req, "Require", "path") {
			return refuseRegister(420, "Path Not Taken From Here", sipgo.NewHeader("Unsupported", "path"))
		}
		return nil
	}
	if len(values) > maxPath {
		return refuseRegister(400, "Path Too Long")
	}
	for _, v := range values {
		a, err := parseNameAddr(v)
		if err != nil || a.uri.Wildcard || a.uri.Scheme != "sip" && a.uri.Scheme != "sips" || !plainHost(a.uri.Host) || len(a.uri.Headers) > 0 {
			return refuseRegister(400, "Bad Path")
		}
		if again, err := parseURI(a.uri.String()); err != nil || again.String() != a.uri.String() {
			return refuseRegister(400, "Bad Path") // it is kept as text, and would be another one
		}
		x.path = append(x.path, a.uri)
	}
	if len(x.pathValue()) > maxURI {
		return refuseRegister(400, "Path Too Long")
	}
	return nil
}

// pathValue is the Path as it is kept and given back.
func (x *registration) pathValue() string {
	all := make([]string, len(x.path))
	for i, u := range x.path {
		all[i] = "<" + u.String() + ">"
	}
	return strings.Join(all, ", ")
}

// firstHopIsOutbound: the phone's next hop, the last in Path, says that it
// keeps the flow to the phone (RFC 5626 §5.1, §6).
func (x *registration) firstHopIsOutbound() bool {
	if len(x.req.GetHeaders("Via")) == 1 {
		return true // it talks to us directly
	}
	if len(x.path) == 0 {
		return false
	}
	_, ob := paramOf(x.path[len(x.path)-1].UriParams, "ob")
	return ob
}

// pathOf reads a binding's Path back.
func pathOf(b location.Binding) []sipgo.Uri {
	if b.Path == "" {
		return nil
	}
	var out []sipgo.Uri
	values, _ := splitOutside(b.Path, ',')
	for _, v := range values {
		if a, err := parseNameAddr(strings.TrimSpace(v)); err == nil {
			out = append(out, a.uri)
		}
	}
	return out
}

// flowFor is the flow that requests to a binding take: the one of its REGISTER,
// and no other; to an edge proxy, if that has gone, a new one to where its Path
// leads. It may then wait for the connection.
func (s *Server) flowFor(b location.Binding) *flow {
	f := s.transport.flowByID(b.FlowID)
	if f != nil && !f.isDead() {
		return f
	}
	path := pathOf(b)
	if len(path) == 0 {
		return nil
	}
	proto, addr, ok := s.edgeAddress(path[0])
	if !ok {
		return nil
	}
	if proto == "udp" {
		return s.transport.udpFlowTo(addr)
	}
	if f := s.transport.streamTo(strings.ToUpper(proto), addr); f != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(context.Background(), edgeTimeout)
	defer cancel()
	f, err := s.transport.dial(ctx, proto, addr.String(), addr.Addr().String(), nil)
	if err != nil {
		s.log.Warn("an edge proxy cannot be reached", "proxy", addr.String(), "aor", b.AOR, "err", err)
		return nil
	}
	return f
}

// flowBehindEdge is the flow to a device whose edge proxy has lost its
// connection; nil if it is behind none, or that cannot be reached.
func (s *Server) flowBehindEdge(aor, device string) *flow {
	newest := location.Binding{}
	for _, b := range s.loc.Lookup(aor) {
		if b.DeviceID == device && b.Path != "" && b.Registered.After(newest.Registered) {
			newest = b
		}
	}
	if newest.Path == "" {
		return nil
	}
	return s.flowFor(newest)
}

// edgeAddress is where a Path URI leads; false unless that is an edge proxy.
func (s *Server) edgeAddress(u sipgo.Uri) (proto string, addr netip.AddrPort, ok bool) {
	addr, literal := hopAddress(u)
	if !literal || !s.registrar.edges.has(addr.Addr()) {
		return "", addr, false
	}
	proto = "udp"
	if t, _ := paramOf(u.UriParams, "transport"); t != "" {
		proto = strings.ToLower(t)
	}
	if u.Scheme == "sips" {
		proto = "tls"
	}
	return proto, addr, proto == "udp" || proto == "tcp" || proto == "tls"
}

// Heard is when a device was last heard by the flow of a binding; the zero time
// if that flow is gone. What else comes over a proxy's flow is not of this
// device: there its REGISTER counts alone.
func (s *Server) Heard(b location.Binding) time.Time {
	if b.Path == "" {
		return s.LastHeard(b.FlowID)
	}
	if f := s.transport.flowByID(b.FlowID); f == nil || f.isDead() {
		if _, _, ok := s.edgeAddress(pathOf(b)[0]); !ok {
			return time.Time{}
		}
	}
	return b.Registered
}

// keepPath: a proxy that asked for its place on the way to the device, and did
// not record itself in the dialog, is kept on its way all the same.
func (o *Outbound) keepPath(l *leg) {
	if len(l.routes) == 0 {
		l.routes = pathOf(o.binding)
	}
}
