package sip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"reveille/sip/siptest"
)

// zone is a name server with the records of a test.
type zone struct {
	mu      sync.Mutex // guards the following
	records []string   // in the form of a zone file
	asked   []string   // "SRV _sip._udp.carrier.example udp"
	cut     bool       // UDP answers are truncated
	rcode   int        // other than 0: the answer to everything
	silent  bool
}

func (z *zone) mute(silent bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.silent = silent
}

// queries are those since the last call, sorted.
func (z *zone) queries() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	slices.Sort(z.asked)
	out := strings.Join(z.asked, "; ")
	z.asked = nil
	return out
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	q := m.Question[0]
	z.asked = append(z.asked, fmt.Sprintf("%s %s %s", dns.TypeToString[q.Qtype], strings.TrimSuffix(q.Name, "."), w.LocalAddr().Network()))
	if z.silent {
		return
	}
	res := new(dns.Msg).SetRcode(m, z.rcode)
	if z.cut && w.LocalAddr().Network() == "udp" {
		res.Truncated = true
		w.WriteMsg(res)
		return
	}
	known, name := false, q.Name
	for _, line := range z.records {
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		switch h := rr.Header(); {
		case h.Rrtype == dns.TypeSOA:
			res.Ns = append(res.Ns, rr)
		case !strings.EqualFold(h.Name, name):
		case h.Rrtype == q.Qtype, h.Rrtype == dns.TypeCNAME:
			known = true
			res.Answer = append(res.Answer, rr)
		default:
			known = true
		}
	}
	if !known && z.rcode == 0 {
		res.Rcode = dns.RcodeNameError
	}
	w.WriteMsg(res)
}

// listenBoth opens one port for UDP and TCP. Where any port will do, the one
// that UDP gets may be another program's in TCP: then the next is tried.
func listenBoth(t *testing.T, network Network, addr string) (udp net.PacketConn, tcp net.Listener) {
	t.Helper()
	var err error
	for range 10 {
		if udp, err = network.ListenPacket(t.Context(), "udp", addr); err != nil {
			t.Fatal(err)
		}
		if tcp, err = network.Listen(t.Context(), "tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal(err)
	return nil, nil
}

// serve answers on a host's port 53, or any port of loopback.
func (z *zone) serve(t *testing.T, network Network, addr string) string {
	t.Helper()
	udp, tcp := listenBoth(t, network, addr)
	addr = udp.LocalAddr().String()
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: z}, {Listener: tcp, Handler: z}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return addr
}

// inZone runs a test in virtual time with a resolver at 192.0.2.1 that asks
// the zone at 192.0.2.53.
func inZone(t *testing.T, test func(t *testing.T, r *resolver, z *zone), records ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, z := siptest.NewNetwork(), &zone{records: records}
		z.serve(t, n.Host("192.0.2.53"), "192.0.2.53:53")
		c := newDNSClient(n.Host("192.0.2.1"), []string{"192.0.2.53"})
		c.hosts = "none"
		test(t, &resolver{dns: c, reaches: func(proto string, ip netip.Addr) bool { return ip.Is4() }}, z)
	})
}

// find locates a URI and gives the targets as text.
func find(t *testing.T, r *resolver, uri, transport string) string {
	t.Helper()
	u, err := parseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.locate(t.Context(), u, transport)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, target := range l.targets {
		out = append(out, target.String())
	}
	return strings.Join(out, " ")
}

var carrierZone = []string{
	`carrier.example. 300 IN NAPTR 20 50 "s" "SIP+D2U" "" _sip._udp.carrier.example.`,
	`carrier.example. 300 IN NAPTR 10 60 "s" "SIP+D2W" "" _sip._ws.carrier.example.`,
	`carrier.example. 300 IN NAPTR 10 50 "s" "SIP+D2T" "" _sip._tcp.carrier.example.`,
	`_sip._udp.carrier.example. 300 IN SRV 10 0 5062 a.carrier.example.`,
	`_sip._tcp.carrier.example. 300 IN SRV 20 0 5060 b.carrier.example.`,
	`_sip._tcp.carrier.example. 300 IN SRV 10 0 5060 a.carrier.example.`,
	`_sips._tcp.carrier.example. 300 IN SRV 10 0 5061 a.carrier.example.`,
	`a.carrier.example. 300 IN A 198.51.100.1`,
	`b.carrier.example. 300 IN A 198.51.100.2`,
	`carrier.example. 300 IN A 203.0.113.80`,
	`plain.example. 300 IN A 198.51.100.9`,
	`srv.example. 300 IN A 203.0.113.80`,
	`_sip._tcp.srv.example. 300 IN SRV 0 0 5070 a.carrier.example.`,
	`gone.example. 300 IN A 198.51.100.9`,
	`_sip._udp.gone.example. 300 IN SRV 0 0 0 .`,
}

func TestRFC3263FindsNAPTRThenSRVThenAddresses(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:carrier.example":               "tcp://198.51.100.1:5060 tcp://198.51.100.2:5060", // the NAPTR of lowest order that we speak
		"sips:carrier.example":              "tls://198.51.100.1:5061",
		"sip:carrier.example;transport=udp": "udp://198.51.100.1:5062",
		"sip:srv.example":                   "tcp://198.51.100.1:5070", // no NAPTR: each transport's SRV
		"sip:plain.example":                 "udp://198.51.100.9:5060", // neither
		"sips:plain.example":                "tls://198.51.100.9:5061",
		"sip:gone.example;transport=udp":    "udp://198.51.100.9:5060", // SRV "." is no target
	} {
		inZone(t, func(t *testing.T, r *resolver, z *zone) {
			if got := find(t, r, uri, ""); got != want {
				t.Errorf("%s: %s, want %s", uri, got, want)
			}
		}, carrierZone...)
	}
}

func TestRFC3263ConfiguredTransportAsksItsOwnSRVAlone(t *testing.T) {
	for transport, want := range map[string]string{
		"udp": "udp://198.51.100.1:5062",
		"tcp": "tcp://198.51.100.1:5060 tcp://198.51.100.2:5060",
		"tls": "tls://198.51.100.1:5061",
	} {
		inZone(t, func(t *testing.T, r *resolver, z *zone) {
			if got := find(t, r, "sip:carrier.example", transport); got != want {
				t.Errorf("%s: %s, want %s", transport, got, want)
			}
			if asked := z.queries(); strings.Contains(asked, "NAPTR") || strings.Count(asked, "SRV") != 1 {
				t.Error(asked)
			}
		}, carrierZone...)
	}
}

func TestRFC3263PortOrAddressAsksNeitherNAPTRNorSRV(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:carrier.example:5080":               "udp://203.0.113.80:5080",
		"sip:carrier.example:5080;transport=tcp": "tcp://203.0.113.80:5080",
		"sip:192.0.2.7":                          "udp://192.0.2.7:5060",
		"sips:192.0.2.7":                         "tls://192.0.2.7:5061",
	} {
		inZone(t, func(t *testing.T, r *resolver, z *zone) {
			if got := find(t, r, uri, ""); got != want {
				t.Errorf("%s: %s, want %s", uri, got, want)
			}
			if asked := z.queries(); strings.Contains(asked, "NAPTR") || strings.Contains(asked, "SRV") {
				t.Error(asked)
			}
		}, carrierZone...)
	}
}

func TestRFC2782PriorityThenWeightByChance(t *testing.T) {
	srv := func(priority, weight uint16, name string) *dns.SRV {
		return &dns.SRV{Priority: priority, Weight: weight, Target: name, Port: 5060}
	}
	records := []*dns.SRV{srv(20, 0, "last"), srv(10, 60, "c"), srv(10, 0, "zero"), srv(10, 40, "b")}
	for at, want := range map[int]string{0: "zero b c last", 1: "b zero c last", 40: "b zero c last", 41: "c zero b last", 100: "c zero b last"} {
		first := true
		got := balanced(records, func(n int) int {
			if first && n != 101 {
				t.Errorf("chance over %d, want 0 to the sum of weights", n)
			}
			if first {
				first = false
				return at
			}
			return 0
		})
		var names []string
		for _, r := range got {
			names = append(names, r.Target)
		}
		if strings.Join(names, " ") != want {
			t.Errorf("%d: %v, want %s", at, names, want)
		}
	}
}

func TestRFC3263AddressesOfAFamilyWithoutListenerAreNoTargets(t *testing.T) {
	inZone(t, func(t *testing.T, r *resolver, z *zone) {
		if got := find(t, r, "sip:both.example:5060", ""); got != "udp://198.51.100.1:5060" {
			t.Error(got)
		}
		u, _ := parseURI("sip:both.example:5060")
		if l, _ := r.locate(t.Context(), u, ""); len(l.addrs) != 2 {
			t.Errorf("%v: a call may come from either family", l.addrs)
		}
		r.reaches = func(string, netip.Addr) bool { return true }
		if got := find(t, r, "sip:both.example:5060", ""); got != "udp://198.51.100.1:5060 udp://[2001:db8::1]:5060" {
			t.Error(got)
		}
		r.reaches = func(_ string, ip netip.Addr) bool { return ip.Is6() }
		if got := find(t, r, "sip:plain.example:5060", ""); !strings.Contains(got, "sip.listen") {
			t.Error(got)
		}
	}, "both.example. 60 IN A 198.51.100.1", "both.example. 60 IN AAAA 2001:db8::1", "plain.example. 60 IN A 198.51.100.2")
}

func TestDNSTruncatedAnswerIsAskedForOverTCP(t *testing.T) {
	z := &zone{records: carrierZone, cut: true}
	c := newDNSClient(SystemNetwork(), []string{z.serve(t, SystemNetwork(), "127.0.0.1:0")})
	c.hosts = "none"
	r := &resolver{dns: c, reaches: func(string, netip.Addr) bool { return true }}
	if got := find(t, r, "sip:carrier.example", "tls"); got != "tls://198.51.100.1:5061" {
		t.Error(got)
	}
	if asked := z.queries(); !strings.Contains(asked, "SRV _sips._tcp.carrier.example tcp; SRV _sips._tcp.carrier.example udp") {
		t.Error(asked)
	}
}

func TestDNSTimeToLiveHasFloorAndCeiling(t *testing.T) {
	for ttl, kept := range map[int]time.Duration{0: dnsFloor, 100: 100 * time.Second, 1 << 20: dnsCeiling} {
		inZone(t, func(t *testing.T, r *resolver, z *zone) {
			find(t, r, "sip:x.example:5060", "")
			time.Sleep(kept - time.Second)
			find(t, r, "sip:x.example:5060", "")
			if asked := "; " + z.queries(); strings.Count(asked, "; A x.example") != 1 {
				t.Errorf("TTL %d: %s", ttl, asked)
			}
			time.Sleep(2 * time.Second)
			find(t, r, "sip:x.example:5060", "")
			if asked := z.queries(); !strings.HasPrefix(asked, "A x.example") {
				t.Errorf("TTL %d: not asked again after %v: %s", ttl, kept, asked)
			}
		}, fmt.Sprintf("x.example. %d IN A 198.51.100.1", ttl))
	}
}

func TestDNSAbsenceIsRememberedAsTheSOASays(t *testing.T) {
	inZone(t, func(t *testing.T, r *resolver, z *zone) {
		find(t, r, "sip:x.example", "udp")
		z.queries()
		time.Sleep(119 * time.Second)
		find(t, r, "sip:x.example", "udp")
		if asked := z.queries(); strings.Contains(asked, "SRV") {
			t.Error(asked)
		}
		time.Sleep(2 * time.Second)
		find(t, r, "sip:x.example", "udp")
		if asked := z.queries(); !strings.Contains(asked, "SRV") {
			t.Error(asked)
		}
	}, "x.example. 3600 IN A 198.51.100.1", "example. 3600 IN SOA a. b. 1 2 3 4 120")
}

func TestDNSOldAnswersServeWhileNoServerAnswers(t *testing.T) {
	inZone(t, func(t *testing.T, r *resolver, z *zone) {
		want := find(t, r, "sip:carrier.example", "tls")
		z.mute(true)
		time.Sleep(time.Hour)
		if got := find(t, r, "sip:carrier.example", "tls"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		time.Sleep(25 * time.Hour)
		if got := find(t, r, "sip:carrier.example", "tls"); !strings.HasPrefix(got, "DNS:") {
			t.Errorf("a day later: %s", got)
		}
	}, carrierZone...)
}

func TestDNSErrorNamesRecordServerAndMend(t *testing.T) {
	inZone(t, func(t *testing.T, r *resolver, z *zone) {
		z.mute(true)
		if got, want := find(t, r, "sip:carrier.example", "udp"), "DNS: the SRV record of _sip._udp.carrier.example could not be had from 192.0.2.53:53: no answer; check that name server, or name another under sip.resolvers"; got != want {
			t.Error(got)
		}
		z.mute(false)
		z.rcode = dns.RcodeServerFailure
		if got := find(t, r, "sip:carrier.example", "udp"); !strings.Contains(got, "SERVFAIL") {
			t.Error(got)
		}
		z.rcode = 0
		if got := find(t, r, "sip:misspelt.example", "udp"); !strings.Contains(got, "misspelt.example has no address") || !strings.Contains(got, "192.0.2.53") {
			t.Error(got)
		}
	}, carrierZone...)
}

func TestDNSAsksTheNextServer(t *testing.T) {
	inZone(t, func(t *testing.T, r *resolver, z *zone) {
		r.dns.servers = []string{"192.0.2.54:53", "192.0.2.53:53"}
		if got := find(t, r, "sip:plain.example:5060", ""); got != "udp://198.51.100.9:5060" {
			t.Error(got)
		}
	}, carrierZone...)
}

func TestDNSFollowsAliases(t *testing.T) {
	inZone(t, func(t *testing.T, r *resolver, z *zone) {
		if got := find(t, r, "sip:alias.example:5060", ""); got != "udp://198.51.100.1:5060" {
			t.Error(got)
		}
		if got := find(t, r, "sip:round.example:5060", ""); !strings.Contains(got, "circle") {
			t.Error(got)
		}
	}, "alias.example. 60 IN CNAME other.example.", "other.example. 60 IN CNAME real.example.", "real.example. 60 IN A 198.51.100.1",
		"round.example. 60 IN CNAME about.example.", "about.example. 60 IN CNAME round.example.")
}

func TestDNSAnswersAreBounded(t *testing.T) {
	var records []string
	for i := range 100 {
		records = append(records, fmt.Sprintf("_sip._udp.many.example. 60 IN SRV 0 0 5060 h%d.example.", i),
			fmt.Sprintf("h%d.example. 60 IN A 198.51.100.%d", i, i), fmt.Sprintf("h%d.example. 60 IN A 203.0.113.%d", i, i))
	}
	inZone(t, func(t *testing.T, r *resolver, z *zone) {
		z.cut = true
		if got := strings.Fields(find(t, r, "sip:many.example", "udp")); len(got) != maxTargets {
			t.Errorf("%d targets", len(got))
		}
	}, records...)
}

func TestDNSHostsFileWins(t *testing.T) {
	inZone(t, func(t *testing.T, r *resolver, z *zone) {
		r.dns.hosts = filepath.Join(t.TempDir(), "hosts")
		os.WriteFile(r.dns.hosts, []byte("127.0.0.1 localhost\n# 192.0.2.1 plain.example\n192.0.2.77\tpbx.lan carrier.example # ours\n"), 0o600)
		for uri, want := range map[string]string{"sip:localhost": "udp://127.0.0.1:5060", "sip:carrier.example": "udp://192.0.2.77:5060", "sip:plain.example": "udp://198.51.100.9:5060"} {
			if got := find(t, r, uri, ""); got != want {
				t.Errorf("%s: %s, want %s", uri, got, want)
			}
		}
	}, carrierZone...)
}

func TestDNSResolversAreValidated(t *testing.T) {
	for want, resolvers := range map[string][]string{
		"":                          {"192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:5353", "[2001:db8::53]"},
		"resolvers[0] resolvers[1]": {"ns.example.com", "192.0.2.53:x"},
		"resolvers[0]":              {""},
	} {
		cfg := DefaultConfig()
		cfg.Resolvers = resolvers
		if got := faults(cfg.Validate); got != want {
			t.Errorf("%v: %q, want %q", resolvers, got, want)
		}
	}
}

func FuzzDNSAnswer(f *testing.F) {
	m := new(dns.Msg).SetQuestion("x.example.", dns.TypeSRV)
	for _, line := range carrierZone {
		rr, _ := dns.NewRR(line)
		m.Answer = append(m.Answer, rr)
	}
	packed, _ := m.Pack()
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		res := new(dns.Msg)
		if res.Unpack(data) != nil {
			return
		}
		c := newDNSClient(deadNetwork{}, []string{"192.0.2.53"})
		a, err := c.follow(context.Background(), "192.0.2.53:53", res, "x.example.", dns.TypeSRV)
		if left := time.Until(a.until); err == nil && (left <= 0 || left > dnsCeiling) {
			t.Errorf("kept for %v", left)
		}
		var records []*dns.SRV
		for _, rr := range a.records {
			records = append(records, rr.(*dns.SRV))
		}
		if got := balanced(records, func(n int) int { return n - 1 }); len(got) != len(records) {
			t.Errorf("%d of %d records", len(got), len(records))
		}
	})
}

type deadNetwork struct{ Network }

func (deadNetwork) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errNoTarget
}
