package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

// readTorture reads a message as it comes in a datagram.
func readTorture(t *testing.T, name string) *sipgo.Request {
	t.Helper()
	m, _, err := parseDatagram([]byte(tortureFile(t, name)), 1<<16)
	if err != nil {
		t.Fatal(name, err)
	}
	req, ok := m.(*sipgo.Request)
	if !ok {
		t.Fatalf("%s is a %T", name, m)
	}
	return req
}

func holds(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// RFC 4475 §3.1.1.1: white space, folding, compact and odd names everywhere.
func TestTortuousInviteIsRead(t *testing.T) {
	req := readTorture(t, "rfc4475/wsinv")
	holds(t, "To tag", tagOf(req.To()), "1918181833n")
	holds(t, "To", req.To().Address.String(), "sip:vivekg@chair-dnrc.example.com")
	tag, _ := req.From().Params.Get("tag")
	holds(t, "From tag", tag, "98asjd8")
	holds(t, "From name", SanitiseName(req.From().DisplayName), `J Rosenberg \"`)
	holds(t, "Max-Forwards", req.MaxForwards().Val(), 68)
	holds(t, "Call-ID", *req.CallID(), "wsinv.ndaksdj@192.0.2.1")
	holds(t, "CSeq", req.CSeq().SeqNo, 9)
	holds(t, "Vias", len(req.GetHeaders("Via")), 3)
	branch, _ := req.Via().Params.Get("branch")
	holds(t, "branch", branch, "390skdjuw")
	holds(t, "Routes", len(routeURIs(req, "Route")), 1)
	c := firstContact(req)
	holds(t, "Contact name", c.DisplayName, "Quoted string \\\"\\\"")
	if _, ok := paramOf(c.Params, "newparam"); !ok {
		t.Error("the Contact's parameters are lost")
	}
	if sdpBody(req) == nil {
		t.Error("the SDP is lost")
	}
}

// RFC 4475 §3.1.1.9, §3.1.1.4, §3.3.12, §3.3.13, §3.3.14: what belongs to the
// user part, to the URI and to the header.
func TestTortureAddressesAreReadAsMeant(t *testing.T) {
	holds(t, "semiuri", readTorture(t, "rfc4475/semiuri").Recipient.User, "user;par=u%40example.net")
	holds(t, "escnull", readTorture(t, "rfc4475/escnull").To().Address.User, "null-%00-null")
	header := firstContact(readTorture(t, "rfc4475/cparam01"))
	if !header.Params.Has("unknownparam") || header.Address.UriParams.Has("unknownparam") {
		t.Error("cparam01: the parameter belongs to the header")
	}
	uri := firstContact(readTorture(t, "rfc4475/cparam02"))
	if uri.Params.Has("unknownparam") || !uri.Address.UriParams.Has("unknownparam") {
		t.Error("cparam02: the parameter belongs to the URI")
	}
	route := firstContact(readTorture(t, "rfc4475/regescrt"))
	if _, ok := route.Address.Headers.Get("Route"); !ok {
		t.Error("regescrt: the URI's Route is lost")
	}
	if long := readTorture(t, "rfc4475/longreq"); len(long.CallID().Value()) < 100 {
		t.Error("longreq: the Call-ID was cut")
	}
}

// RFC 4475 §3.3.5, §3.3.6: 420 and 415 say what would be taken.
func TestTortureRefusalsSayWhy(t *testing.T) {
	for name, want := range map[string]string{
		"rfc4475/bext01":  "Unsupported: nothingSupportsThis",
		"rfc4475/invut":   "Accept: application/sdp",
		"rfc4475/intmeth": "Allow: INVITE",
	} {
		inServer(t, bedOptions{}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			w.send(tortureFile(t, name))
			if m := w.expect("SIP/2.0 4"); !strings.Contains(m, want) {
				t.Errorf("%s got %q", name, m)
			}
		})
	}
}

// RFC 5118 §4.1 to §4.10: addresses of both families where both may stand.
func TestIPv6AddressesAreReadAsMeant(t *testing.T) {
	for name, want := range map[string]struct {
		host string
		port int
	}{
		"ipv6-good":                  {"2001:db8::10", 0},
		"port-ambiguous":             {"2001:db8::10:5070", 0}, // all of it is the address
		"port-unambiguous":           {"2001:db8::10", 5070},
		"ipv6-correct-abnf-2-colons": {"2001:db8::192.0.2.1", 0},
		"ipv6-bug-abnf-3-colons":     {"2001:db8:::192.0.2.1", 0},
	} {
		u := readTorture(t, "rfc5118/"+name).Recipient
		holds(t, name, strings.Trim(u.Host, "[]"), want.host)
		holds(t, name+" port", u.Port, want.port)
	}
	for _, name := range []string{"with", "no"} {
		req := readTorture(t, "rfc5118/via-received-param-"+name+"-delim")
		received, _ := req.Via().Params.Get("received")
		holds(t, name, strings.Trim(received, "[]"), "2001:db8::9:255")
		holds(t, name+" host", req.Via().Host, "2001:db8::9:1")
		// We note where it came from ourselves, in place of what is claimed.
		stampVia(req.Via(), netip.MustParseAddrPort("[2001:db8::7]:5060"))
		holds(t, "received", strings.Count(req.Via().String(), "received="), 1)
		received, _ = req.Via().Params.Get("received")
		holds(t, "received", received, "2001:db8::7")
	}
	var hosts []string
	for _, h := range readTorture(t, "rfc5118/mult-ip-in-header").GetHeaders("Via") {
		v := h.(*sipgo.ViaHeader)
		hosts = append(hosts, fmt.Sprint(v.Transport, " ", v.Host, " ", v.Port))
	}
	holds(t, "Vias", strings.Join(hosts, ", "), "UDP 2001:db8::9:1 6050, UDP 192.0.2.1 0, TCP 2001:db8::9:255 0")
	mapped := readTorture(t, "rfc5118/ipv4-mapped-ipv6")
	holds(t, "mapped Via", mapped.Via().Host, "::ffff:192.0.2.10")
	holds(t, "mapped Contact", strings.Trim(firstContact(mapped).Address.Host, "[]"), "::ffff:192.0.2.2")
}
