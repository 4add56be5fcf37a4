package sip

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	dnsFloor    = 30 * time.Second // a TTL of 0 would mean a query for each REGISTER
	dnsCeiling  = time.Hour        // a TTL of days would hide a move for days
	dnsNegative = 5 * time.Minute  // the longest that "there is none" is believed (RFC 2308 §5 allows hours)
	dnsStale    = 24 * time.Hour   // how long an old answer serves while no name server answers (RFC 8767 §5)
	dnsTry      = 2 * time.Second  // for one query at one name server
	dnsRounds   = 2
	dnsTotal    = 8 * time.Second
	dnsSize     = 1232 // of a UDP answer: fits any path without fragments (DNS flag day 2020)
	dnsCache    = 4096 // entries; names come from the configuration and from SRV records
)

// dnsClient asks name servers and remembers their answers.
type dnsClient struct {
	network Network
	servers []string // host:port; none: those of resolv.conf
	conf    string   // /etc/resolv.conf
	hosts   string   // /etc/hosts

	mu    sync.Mutex // guards the following
	cache map[dnsKey]dnsAnswer
}

type dnsKey struct {
	name string
	kind uint16
}

// dnsAnswer is what a name has of one kind; no records: it has none.
type dnsAnswer struct {
	records []dns.RR
	until   time.Time
}

func newDNSClient(network Network, servers []string) *dnsClient {
	c := &dnsClient{network: network, conf: "/etc/resolv.conf", hosts: "/etc/hosts", cache: map[dnsKey]dnsAnswer{}}
	for _, s := range servers {
		if addr, err := hostPort(s, "53"); err == nil {
			c.servers = append(c.servers, addr)
		}
	}
	return c
}

// lookup gives the records of a name, from memory where they are fresh. While
// no name server answers, old answers serve.
func (c *dnsClient) lookup(ctx context.Context, name string, kind uint16) (dnsAnswer, error) {
	key := dnsKey{strings.ToLower(name), kind}
	c.mu.Lock()
	known, ok := c.cache[key]
	c.mu.Unlock()
	now := time.Now()
	if ok && now.Before(known.until) {
		return known, nil
	}
	found, err := c.ask(ctx, name, kind)
	if err != nil && ok && len(known.records) > 0 && now.Before(known.until.Add(dnsStale)) {
		return dnsAnswer{known.records, now.Add(dnsFloor)}, nil
	}
	if err != nil {
		return dnsAnswer{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cache) >= dnsCache {
		clear(c.cache)
	}
	c.cache[key] = found
	return found, nil
}

// ask queries one name server after the other, twice. A single-label name is
// tried in the search domains of resolv.conf.
func (c *dnsClient) ask(ctx context.Context, name string, kind uint16) (dnsAnswer, error) {
	servers, names, err := c.config(name)
	if err != nil {
		return dnsAnswer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTotal)
	defer cancel()
	var a dnsAnswer
	for _, full := range names {
		if a, err = c.askAll(ctx, servers, full, kind); err != nil || len(a.records) > 0 {
			return a, err
		}
	}
	return a, nil
}

func (c *dnsClient) askAll(ctx context.Context, servers []string, name string, kind uint16) (dnsAnswer, error) {
	var last error
	for range dnsRounds {
		for _, server := range servers {
			res, err := c.query(ctx, server, name, kind)
			if err == nil && (res.Rcode == dns.RcodeSuccess || res.Rcode == dns.RcodeNameError) {
				return c.follow(ctx, server, res, name, kind)
			}
			if err == nil {
				err = fmt.Errorf("it answered %s", dns.RcodeToString[res.Rcode])
			}
			last = &lookupError{strings.TrimSuffix(name, "."), kind, server, err}
			if ctx.Err() != nil {
				return dnsAnswer{}, last
			}
		}
	}
	return dnsAnswer{}, last
}

// lookupError says which record could not be had from whom, and what to check.
type lookupError struct {
	name   string
	kind   uint16
	server string
	err    error
}

func (e *lookupError) Error() string {
	problem := e.err.Error()
	if t, ok := e.err.(interface{ Timeout() bool }); ok && t.Timeout() {
		problem = "no answer"
	}
	return fmt.Sprintf("DNS: the %s record of %s could not be had from %s: %s; check that name server, or name another under sip.resolvers",
		dns.TypeToString[e.kind], e.name, e.server, problem)
}

func (e *lookupError) Unwrap() error { return e.err }

// query asks one server by UDP, and by TCP where the answer did not fit.
func (c *dnsClient) query(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	m.SetEdns0(dnsSize, false)
	res, err := c.exchange(ctx, "udp", server, m)
	if err == nil && res.Rcode == dns.RcodeFormatError { // a server from before EDNS0 (RFC 6891 §7)
		m.Extra = nil
		res, err = c.exchange(ctx, "udp", server, m)
	}
	if err == nil && res.Truncated {
		return c.exchange(ctx, "tcp", server, m)
	}
	return res, err
}

func (c *dnsClient) exchange(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTry)
	defer cancel()
	conn, err := c.network.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := dns.Client{Net: network, Timeout: dnsTry}
	m.Id = dns.Id()
	res, _, err := client.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
	if err != nil {
		return nil, err
	}
	if !res.Response || len(res.Question) != 1 || res.Question[0].Qtype != m.Question[0].Qtype || !strings.EqualFold(res.Question[0].Name, m.Question[0].Name) {
		return nil, fmt.Errorf("it answered another question")
	}
	return res, nil
}

// follow picks the records of the wanted kind, by way of aliases (CNAME); an
// alias whose end is not in the answer is asked for.
func (c *dnsClient) follow(ctx context.Context, server string, res *dns.Msg, name string, kind uint16) (dnsAnswer, error) {
	ttl := uint32(dnsCeiling / time.Second)
	for range 8 { // a longer chain is a loop
		var records []dns.RR
		alias := ""
		for _, rr := range res.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) {
				continue
			}
			if h.Rrtype == kind {
				records = append(records, rr)
				ttl = min(ttl, h.Ttl)
			} else if cname, ok := rr.(*dns.CNAME); ok {
				alias = cname.Target
				ttl = min(ttl, h.Ttl)
			}
		}
		switch {
		case len(records) > 0:
			return dnsAnswer{records, time.Now().Add(max(time.Duration(ttl)*time.Second, dnsFloor))}, nil
		case alias == "":
			return dnsAnswer{until: time.Now().Add(min(negative(res), time.Duration(ttl)*time.Second, dnsNegative))}, nil
		}
		name = alias
		if answers(res, name) {
			continue
		}
		var err error
		if res, err = c.query(ctx, server, name, kind); err != nil {
			return dnsAnswer{}, &lookupError{strings.TrimSuffix(name, "."), kind, server, err}
		}
	}
	return dnsAnswer{}, &lookupError{strings.TrimSuffix(name, "."), kind, server, fmt.Errorf("its aliases (CNAME) go in a circle")}
}

func answers(res *dns.Msg, name string) bool {
	for _, rr := range res.Answer {
		if strings.EqualFold(rr.Header().Name, name) {
			return true
		}
	}
	return false
}

// negative is how long "there is none" may be believed (RFC 2308 §5).
func negative(res *dns.Msg) time.Duration {
	for _, rr := range res.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return max(time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second, dnsFloor)
		}
	}
	return dnsFloor
}

// config gives the name servers and the full names to ask for. resolv.conf is
// read each time: it changes with the network.
func (c *dnsClient) config(name string) (servers, names []string, err error) {
	if len(c.servers) > 0 {
		return c.servers, []string{dns.Fqdn(name)}, nil
	}
	conf, err := dns.ClientConfigFromFile(c.conf)
	if err != nil || len(conf.Servers) == 0 {
		return nil, nil, fmt.Errorf("DNS: %s names no name server that could be asked for %s; name one under sip.resolvers, or use an IP address", c.conf, name)
	}
	for _, s := range conf.Servers {
		servers = append(servers, net.JoinHostPort(s, conf.Port))
	}
	if names = []string{dns.Fqdn(name)}; !strings.Contains(strings.TrimSuffix(name, "."), ".") {
		names = conf.NameList(name)
	}
	return servers, names, nil
}

// whom names the servers for errors.
func (c *dnsClient) whom() string {
	servers, _, err := c.config("")
	if err != nil {
		return c.conf
	}
	return "the name server " + strings.Join(servers, ", ")
}

func (c *dnsClient) inHosts(name string) bool { return len(c.hostsFile(name)) > 0 }

// hostsFile looks a name up in /etc/hosts: what stands there is meant to win.
func (c *dnsClient) hostsFile(name string) (out []netip.Addr) {
	file, err := os.Open(c.hosts)
	if err != nil {
		return nil
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		for i, field := range fields {
			ip, err := netip.ParseAddr(fields[0])
			if i > 0 && err == nil && strings.EqualFold(strings.TrimSuffix(field, "."), name) && len(out) < maxTargets {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out
}

func (c Config) validateResolvers(report func(path, problem string)) {
	for i, r := range c.Resolvers {
		addr, err := hostPort(r, "53")
		if host, _, splitErr := net.SplitHostPort(addr); err != nil || splitErr != nil || !isIP(host) {
			report(fmt.Sprintf("resolvers[%d]", i), fmt.Sprintf("%q is not the address of a DNS server: write its IP address, with :port if that is not 53, as in 192.0.2.53 or [2001:db8::53]:5353", r))
		}
	}
}
