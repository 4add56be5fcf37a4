package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"reveille/bridge"
	"reveille/rtp"
	"reveille/sip"
)

// validate asks each package about its section, then checks what no section can know alone.
func (c *Config) validate(main *document, origins []origin) {
	under := func(section string) func(path, problem string) {
		return func(path, problem string) { main.report(join(section, path), problem) }
	}
	c.SIP.Validate(under("sip"))
	sip.ValidateTrunks(c.Trunks, under("trunks"))
	c.Calls.Validate(under("calls"))
	c.Push.Validate(under("push"))
	c.Media.Validate(under("media"))
	c.validateSounds(under("trunks"))
	c.validateEngine(under("trunks"))
	c.validateSecurity(main.report)
	bridge.ValidateExtensions(c.Extensions, byOrigin(main, origins))

	c.validateUpstreams(main, byOrigin(main, origins))
	c.validateNode(main.report)
	c.HTTP.validate(under("http"))
	if d := c.Location.DeviceLifetime; d < 24*time.Hour || d > 10*365*24*time.Hour {
		main.report("location.device_lifetime", fmt.Sprintf("%s is out of range; use 24h to 87600h (10 years): phones sleep for weeks", d))
	}
	if c.Location.Engine != "embedded" {
		main.report("location.engine", fmt.Sprintf("%q is no engine; use embedded", c.Location.Engine))
	}
	c.validateSockets(main)
}

// Sounds lists what the callers of each trunk hear while they wait.
func (c *Config) Sounds() []rtp.Sound {
	var list []rtp.Sound
	for _, t := range c.Trunks {
		list = append(list, rtp.Sound{Ringback: t.Ringback, Tone: t.Tone})
	}
	return list
}

// validateEngine reports what rtpengine cannot do: with keys of SDES on both sides it passes one side's on to the other.
func (c *Config) validateEngine(report func(path, problem string)) {
	for i, t := range c.Trunks {
		if c.Media.Engine == "rtpengine" && t.SRTP != "off" && t.SRTP != "" {
			report(fmt.Sprintf("[%d].srtp", i), fmt.Sprintf("%s is not to be had with media.engine: rtpengine, which would pass the trunk's keys on to the phones; write off, or use the engine builtin", t.SRTP))
		}
	}
}

// validateSecurity reports an SRTP that is demanded where nothing can bring it: what is required needs TLS, so that every
// call would be refused.
func (c *Config) validateSecurity(report func(path, problem string)) {
	listens := func(schemes ...string) bool {
		return slices.ContainsFunc(c.SIP.Listen, func(l string) bool {
			scheme, _, _ := strings.Cut(l, "://")
			return slices.Contains(schemes, strings.ToLower(scheme))
		})
	}
	if c.Media.DeviceSRTP == "required" && !listens("tls", "wss") {
		report("media.device_srtp", "required calls devices on TLS and WSS alone, and sip.listen has neither; add tls:// or wss:// there, or write optional")
	}
	for i, t := range c.Trunks {
		path := fmt.Sprintf("trunks[%d].srtp", i)
		switch {
		case t.SRTP != "required":
		case t.Transport == "udp" || t.Transport == "tcp":
			report(path, fmt.Sprintf("required refuses every call that does not come by TLS, and transport is %s; set transport: tls, or write optional", t.Transport))
		case t.Registrar == "" && t.Transport != "tls" && !listens("tls"):
			report(path, "required refuses every call that does not come by TLS, and sip.listen has no tls://; add it, or write optional")
		}
	}
}

func (c *Config) validateSounds(report func(path, problem string)) {
	for i, s := range c.Sounds() {
		s.Validate(func(path, problem string) { report(fmt.Sprintf("[%d].%s", i, path), problem) })
		if early := c.Trunks[i].EarlyMedia; early != nil && !*early && s != (rtp.Sound{}) {
			report(fmt.Sprintf("[%d].early_media", i), "false leaves the ringing to the caller's side, so that ringback and tone of this trunk would never be heard; remove them, or set early_media: true")
		}
	}
}

// validateUpstreams holds the accounts of extensions against the trunks. A trunk with a registrar and no user name is one that only
// extensions register at.
func (c *Config) validateUpstreams(main *document, report func(path, problem string)) {
	used := map[string]bool{}
	for i, e := range c.Extensions {
		name := e.Upstream.Trunk
		if name == "" {
			continue
		}
		used[name] = true
		at := slices.IndexFunc(c.Trunks, func(t sip.TrunkConfig) bool { return t.Name == name })
		path := fmt.Sprintf("[%d].upstream.trunk", i)
		switch {
		case at < 0:
			report(path, fmt.Sprintf("no trunk is called %q; name one of those under trunks, with a registrar", name))
		case c.Trunks[at].Registrar == "":
			report(path, fmt.Sprintf("trunk %q has no registrar; set it to where the extensions have their accounts, such as sip:pbx.example.com", name))
		}
	}
	for i, t := range c.Trunks {
		if t.Registrar != "" && t.Username == "" && t.Password == "" && !used[t.Name] {
			main.report(fmt.Sprintf("trunks[%d].username", i), "is missing: registrar needs the user name to log in as, or extensions whose upstream names this trunk")
		}
	}
}

// report records a fault that validation found, unless reading the key had failed already.
func (d *document) report(path, problem string) {
	if !d.faulty(path) {
		d.note(d.line(path), path, problem)
	}
}

// byOrigin sends faults of the merged list of extensions to the files they were written in.
func byOrigin(main *document, origins []origin) func(path, problem string) {
	return func(path, problem string) {
		index, rest, _ := strings.Cut(strings.TrimPrefix(path, "["), "]")
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || i >= len(origins) { // no entry's fault
			main.report(join("extensions", path), problem)
			return
		}
		origins[i].doc.report(origins[i].path+rest, problem)
	}
}

// validateOrigins reports extensions that two files have; of those in one file bridge tells.
func (c *Config) validateOrigins(origins []origin) {
	first := map[string]origin{}
	for i, e := range c.Extensions {
		here := origins[i]
		there, twice := first[e.Name]
		if !twice {
			first[e.Name] = here
		} else if e.Name != "" && there.doc != here.doc {
			path := there.path + ".name"
			here.doc.fault(here.path+".name", fmt.Sprintf("extension %q is in %s:%d already; remove one", e.Name, there.doc.name, there.doc.line(path)))
		}
	}
}

// maxDrain bounds drain_timeout: whoever stops a service does not wait longer than an hour for its last call.
const maxDrain = time.Hour

func (c *Config) validateNode(report func(path, problem string)) {
	if len(c.Node) > 64 || strings.ContainsFunc(c.Node, func(r rune) bool { return r <= ' ' || r > '~' }) {
		report("node", "no name of a node; use up to 64 letters, digits, dots and hyphens, or \"\" for the host name")
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > maxDrain {
		report("drain_timeout", fmt.Sprintf("%s is out of range; use a duration from 0s to %s", c.DrainTimeout, maxDrain))
	}
}

// minToken keeps a bearer token from being guessed: 16 characters of rand.Text carry 80 bits.
const minToken = 16

func (h HTTPConfig) validate(report func(path, problem string)) {
	if h.Listen == "" {
		return
	}
	host, port, err := net.SplitHostPort(h.Listen)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n > 65535 {
		report("listen", fmt.Sprintf("%s is no address to listen on; write HOST:PORT such as 127.0.0.1:8060", quote(h.Listen)))
		return
	}
	if !isLoopback(host) && h.Token == "" {
		report("listen", fmt.Sprintf("%s can be reached from other machines, and there is no token; set http.token_file, or listen on 127.0.0.1:%s", quote(h.Listen), port))
	}
	if h.Token != "" && len(h.Token) < minToken {
		report("token", fmt.Sprintf("the token is too short; use at least %d characters, such as the output of: openssl rand -hex 16", minToken))
	}
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// socket is one address the configuration binds.
type socket struct {
	path   string // where it was configured
	stream bool   // TCP; else UDP
	dual   bool   // [::] takes IPv4 as well
	host   string
	port   string
}

// validateSockets reports addresses that cannot both be bound.
func (c *Config) validateSockets(main *document) {
	var bound []socket
	for i, text := range c.SIP.Listen {
		network, addr, err := sip.ParseListen(text)
		if err != nil {
			continue // told by sip
		}
		host, port, _ := net.SplitHostPort(addr)
		bound = append(bound, socket{path: fmt.Sprintf("sip.listen[%d]", i), stream: network != "udp", host: host, port: port})
	}
	if host, port, err := net.SplitHostPort(c.HTTP.Listen); err == nil {
		bound = append(bound, socket{path: "http.listen", stream: true, dual: true, host: host, port: port})
	}
	c.validateMediaPorts(bound, main)
	for i, later := range bound {
		for _, earlier := range bound[:i] {
			if later.collides(earlier) {
				main.report(later.path, fmt.Sprintf("port %s is taken by %s already; choose another port or address", later.port, earlier.path))
			}
		}
	}
}

// validateMediaPorts reports SIP over UDP in the range of media.ports, at whichever of the two is written.
func (c *Config) validateMediaPorts(bound []socket, main *document) {
	lo, hi, _ := strings.Cut(c.Media.Ports, "-")
	first, errFirst := strconv.Atoi(strings.TrimSpace(lo))
	last, errLast := strconv.Atoi(strings.TrimSpace(hi))
	if errFirst != nil || errLast != nil || c.Media.Engine == "rtpengine" {
		return // told by rtp, or not used
	}
	for _, s := range bound {
		port, err := strconv.Atoi(s.port)
		if err != nil || s.stream || port < first || port > last {
			continue
		}
		if _, written := main.lines["media.ports"]; written {
			main.report("media.ports", fmt.Sprintf("the range holds port %d of %s; move one of the two", port, s.path))
		} else {
			main.report(s.path, fmt.Sprintf("port %d is in the range of media.ports (%s); move one of the two", port, c.Media.Ports))
		}
	}
}

func (s socket) collides(other socket) bool {
	if s.stream != other.stream || s.port != other.port || s.port == "0" {
		return false
	}
	return s.host == other.host || s.covers(other.host) || other.covers(s.host)
}

// covers holds for an address that stands for all of a machine's, or for all of the family of host.
func (s socket) covers(host string) bool {
	if s.host == "" {
		return true
	}
	all, err := netip.ParseAddr(s.host)
	if err != nil || !all.IsUnspecified() {
		return false
	}
	one, err := netip.ParseAddr(host)
	return err != nil || one.Is4() == all.Is4() || s.dual && all.Is6()
}
