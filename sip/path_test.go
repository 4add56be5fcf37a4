package sip

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

const (
	edgeIP = "192.0.2.9"
	behind = `Contact: <sip:1001@10.0.0.9:4000;ob>;+sip.instance="<urn:uuid:behind>";reg-id=1`
)

// atEdge runs a test with a phone of 1001 whose REGISTERs come over a proxy of
// ours.
func atEdge(t *testing.T, network string, test func(b *registerBed, u *ua)) {
	inBed(t, func(c *Config) { c.EdgeProxies = []string{"192.0.2.8/31"} }, func(b *registerBed) {
		test(b, b.phoneAt(network, edgeIP))
	})
}

// via is the Via of a REGISTER that came over a proxy: a new one each time.
func (u *ua) via() string {
	return fmt.Sprintf("Via: SIP/2.0/TCP %s;branch=z9hG4bKe%p-%d, SIP/2.0/TLS 10.0.0.9:4000;branch=z9hG4bKp%d", edgeIP, u, u.serial, u.serial)
}

// wantOverProxy is want with two Vias.
func (u *ua) wantOverProxy(code int, headers ...string) *sipgo.Response {
	u.b.t.Helper()
	res := u.exchange(append(slices.Clone(headers), u.via())...)
	if res.StatusCode == 401 {
		if _, err := u.creds.challenged(res); err != nil {
			u.b.t.Fatal(err)
		}
		res = u.exchange(append(slices.Clone(headers), u.via())...)
	}
	if res.StatusCode != code {
		u.b.t.Fatalf("answer %d %s, want %d", res.StatusCode, res.Reason, code)
	}
	return res
}

// request reads one request that came by u's flow.
func (u *ua) requested(method sipgo.RequestMethod) *sipgo.Request {
	u.b.t.Helper()
	u.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 65536)
	n, err := u.conn.Read(buf)
	if err != nil {
		u.b.t.Fatalf("no %s came: %v", method, err)
	}
	req, ok := parsed(u.b.t, string(buf[:n])).(*sipgo.Request)
	if !ok || req.Method != method {
		u.b.t.Fatalf("want %s, got %s", method, buf[:n])
	}
	return req
}

func (u *ua) reply(req *sipgo.Request, code int, extra ...string) {
	u.b.t.Helper()
	res := sipgo.NewResponseFromRequest(req, code, "x", nil)
	res.To().Params.Add("tag", "dev")
	for _, h := range extra {
		name, value, _ := strings.Cut(h, ": ")
		res.AppendHeader(sipgo.NewHeader(name, value))
	}
	if _, err := io.WriteString(u.conn, res.String()); err != nil {
		u.b.t.Fatal(err)
	}
	synctest.Wait()
}

func routesIn(req *sipgo.Request) string {
	var out []string
	for _, h := range req.GetHeaders("Route") {
		out = append(out, h.Value())
	}
	return strings.Join(out, ", ")
}

// RFC 3327 §5.3, and RFC 3261 §12.2.1.1 for what follows.
func TestPathOfAnEdgeProxyIsKeptReturnedAndFollowed(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			atEdge(t, network, func(b *registerBed, u *ua) {
				path := "<sip:192.0.2.9;transport=" + network + ";lr>, <sip:flow@edge2.example;lr;ob>"
				res := u.wantOverProxy(200, behind, "Path: "+path, "Supported: path, outbound")
				if got := headerValue(res, "Path"); got != path {
					t.Errorf("Path in the 200: %s", got)
				}
				if got := headerValue(res, "Require"); got != "outbound" {
					t.Errorf("Require: %q, but the first hop says ob", got)
				}
				binding := b.loc.Lookup("1001")[0]
				if binding.Path != path {
					t.Errorf("kept %q", binding.Path)
				}
				out, err := b.srv.Dial(binding, Invitation{CallID: "c"})
				if err != nil {
					t.Fatal(err)
				}
				invite := u.requested(sipgo.INVITE)
				if got := routesIn(invite); got != path || invite.Recipient.Host != "10.0.0.9" {
					t.Errorf("INVITE %s with Route %s", invite.Recipient.String(), got)
				}
				u.reply(invite, 200, "Contact: <sip:1001@10.0.0.9:4000>")
				if ack := u.requested(sipgo.ACK); routesIn(ack) != path {
					t.Errorf("ACK with Route %s", routesIn(ack))
				}
				out.Hangup(Reason{})
				bye := u.requested(sipgo.BYE)
				if routesIn(bye) != path {
					t.Errorf("BYE with Route %s", routesIn(bye))
				}
				u.reply(bye, 200)
			})
		})
	}
}

// The proxy that records itself has the dialog's route set, not its Path.
func TestRecordRouteTakesThePlaceOfPath(t *testing.T) {
	atEdge(t, "udp", func(b *registerBed, u *ua) {
		u.wantOverProxy(200, behind, "Path: <sip:192.0.2.9;lr>", "Supported: path")
		out, err := b.srv.Dial(b.loc.Lookup("1001")[0], Invitation{CallID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		u.reply(u.requested(sipgo.INVITE), 200, "Contact: <sip:1001@10.0.0.9:4000>", "Record-Route: <sip:192.0.2.9;lr;dialog>")
		if ack := u.requested(sipgo.ACK); routesIn(ack) != "<sip:192.0.2.9;lr;dialog>" {
			t.Errorf("ACK with Route %s", routesIn(ack))
		}
		out.Hangup(Reason{})
		u.reply(u.requested(sipgo.BYE), 200)
	})
}

// A Path that anyone could write must not lead our INVITEs anywhere.
func TestPathOfAStrangerIsIgnored(t *testing.T) {
	inBed(t, func(c *Config) { c.EdgeProxies = []string{"192.0.2.8/31"} }, func(b *registerBed) {
		u := b.phoneAt("udp", "192.0.2.50")
		res := u.want(200, ada, "Path: <sip:203.0.113.66;lr>", "Supported: path")
		binding := b.loc.Lookup("1001")[0]
		if headerValue(res, "Path") != "" || binding.Path != "" {
			t.Errorf("Path %q, kept %q", headerValue(res, "Path"), binding.Path)
		}
		out, err := b.srv.Dial(binding, Invitation{CallID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		if invite := u.requested(sipgo.INVITE); routesIn(invite) != "" {
			t.Errorf("INVITE with Route %s", routesIn(invite))
		}
		out.Abandon()
		res = u.want(420, ada, "Path: <sip:203.0.113.66;lr>", "Require: path")
		if headerValue(res, "Unsupported") != "path" {
			t.Errorf("Unsupported: %q", headerValue(res, "Unsupported"))
		}
	})
}

func TestPathIsReturnedOnlyToAPhoneThatKnowsIt(t *testing.T) {
	atEdge(t, "tcp", func(b *registerBed, u *ua) {
		res := u.wantOverProxy(200, ada, "Path: <sip:192.0.2.9;lr>")
		if headerValue(res, "Path") != "" || b.loc.Lookup("1001")[0].Path != "<sip:192.0.2.9;lr>" {
			t.Errorf("Path %q", headerValue(res, "Path"))
		}
		for _, bad := range []string{"<mailto:x@y>", "<sip:a?Route=b>", "*", "<sip:>", strings.Repeat("<sip:a;lr>, ", 5) + "<sip:a;lr>",
			"<sip:a;x=" + strings.Repeat("y", 3000) + ">"} {
			u.wantOverProxy(400, ada, "Path: "+bad)
		}
	})
}

// RFC 5626 §6.
func TestFirstHopThatLacksOutboundIs439(t *testing.T) {
	for name, tt := range map[string]struct {
		path    string
		support string
		code    int
	}{
		"ob on the first hop":             {"Path: <sip:192.0.2.9;lr>, <sip:flow@e;lr;ob>", "Supported: outbound", 200},
		"ob on another hop only":          {"Path: <sip:192.0.2.9;lr;ob>, <sip:flow@e;lr>", "Supported: outbound", 439},
		"no Path at all":                  {"", "Supported: outbound", 439},
		"no ob, and the phone can't, too": {"Path: <sip:192.0.2.9;lr>", "Supported: path", 200},
	} {
		t.Run(name, func(t *testing.T) {
			atEdge(t, "tcp", func(b *registerBed, u *ua) {
				headers := []string{behind, tt.support}
				if tt.path != "" {
					headers = append(headers, tt.path)
				}
				res := u.wantOverProxy(tt.code, headers...)
				if want := tt.code == 200 && strings.Contains(tt.support, "outbound"); (headerValue(res, "Require") == "outbound") != want {
					t.Errorf("Require: %q", headerValue(res, "Require"))
				}
				if n := len(b.loc.Lookup("1001")); n > 0 != (tt.code == 200) {
					t.Errorf("%d bindings after %d", n, tt.code)
				}
			})
		})
	}
}

// The connection of a proxy may be silent, and when it ends the devices behind
// it are reached by another one, to where their Path leads: the proxy.
func TestProxyThatReconnects(t *testing.T) {
	atEdge(t, "tcp", func(b *registerBed, u *ua) {
		u.wantOverProxy(200, behind, "Path: <sip:192.0.2.9:5070;transport=tcp;lr>", "Expires: 3600")
		time.Sleep(10 * time.Minute)
		if res := u.exchange(u.via()); res.StatusCode != 401 && res.StatusCode != 200 {
			t.Fatalf("the connection was closed for silence: %v", res)
		}
		u.conn.Close()
		synctest.Wait()
		binding := b.loc.Lookup("1001")
		if len(binding) != 1 {
			t.Fatal("the binding went with the proxy's connection")
		}
		accepted := b.listen(edgeIP + ":5070")
		out, err := b.srv.Dial(binding[0], Invitation{CallID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		u.conn = <-accepted
		u.reply(u.requested(sipgo.INVITE), 200, "Contact: <sip:1001@10.0.0.9:4000>")
		u.requested(sipgo.ACK)
		u.conn.Close() // once more, in mid-call
		synctest.Wait()
		accepted = b.listen(edgeIP + ":5070")
		out.Hangup(Reason{})
		u.conn = <-accepted
		u.reply(u.requested(sipgo.BYE), 200)
		u.conn.Close()
	})
}

// listen takes one connection at an address.
func (b *registerBed) listen(addr string) <-chan net.Conn {
	b.t.Helper()
	host, _, _ := net.SplitHostPort(addr)
	l, err := b.net.Host(host).Listen(context.Background(), "tcp", addr)
	if err != nil {
		b.t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		defer l.Close()
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	return accepted
}

// A Path whose first hop is none of ours is not connected to.
func TestPathLeadsToEdgeProxiesOnly(t *testing.T) {
	for _, path := range []string{"<sip:203.0.113.66:5060;transport=tcp;lr>", "<sip:edge.example;lr>", "<sip:192.0.2.9;transport=ws;lr>"} {
		atEdge(t, "tcp", func(b *registerBed, u *ua) {
			u.wantOverProxy(200, behind, "Path: "+path)
			u.conn.Close()
			synctest.Wait()
			binding := b.loc.Lookup("1001")[0]
			if _, err := b.srv.Dial(binding, Invitation{CallID: "c"}); err == nil {
				t.Errorf("%s was dialled", path)
			}
			if at := b.srv.Heard(binding); !at.IsZero() {
				t.Errorf("heard at %v by a flow that is gone", at)
			}
		})
	}
}

// What other phones send over a proxy's connection says nothing of this one.
func TestOthersOnAProxysFlowAreNoSignOfLife(t *testing.T) {
	atEdge(t, "tcp", func(b *registerBed, u *ua) {
		u.wantOverProxy(200, behind, "Path: <sip:192.0.2.9;lr>")
		at := time.Now()
		time.Sleep(time.Minute)
		u.aor, u.creds, u.callID = "1002", newDigestClient("1002", "secret2"), "other"
		u.wantOverProxy(200, "Contact: <sip:1002@10.0.0.10>", "Path: <sip:192.0.2.9;lr>")
		first, other := b.loc.Lookup("1001")[0], b.loc.Lookup("1002")[0]
		if heard := b.srv.Heard(first); heard.After(at) {
			t.Errorf("heard %v after its REGISTER", heard.Sub(at))
		}
		if time.Since(b.srv.Heard(other)) > time.Second {
			t.Error("the one that registered was not heard")
		}
		if own := (location.Binding{FlowID: first.FlowID}); time.Since(b.srv.Heard(own)) > time.Second {
			t.Error("a device's own flow is heard by all that comes over it")
		}
	})
}

func TestEdgeProxyFaults(t *testing.T) {
	for entry, want := range map[string]string{
		"192.0.2.0/28": "", "2001:db8::1": "", "edge.example": "host name", "0.0.0.0/0": "everyone", "192.0.2.1/24": "host bits", "x y": "not an IP",
	} {
		c := DefaultConfig()
		c.EdgeProxies = []string{entry}
		got := ""
		c.Validate(func(path, problem string) { got += path + ": " + problem })
		if want == "" && got != "" || want != "" && (!strings.Contains(got, want) || !strings.Contains(got, "edge_proxies[0]")) {
			t.Errorf("%s: %q", entry, got)
		}
	}
}

// FuzzPath holds that what is kept of a Path reads back as what was sent, and
// stays on its line.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"<sip:192.0.2.9;lr>", "<sip:a;lr>, \"B, <x>\" <sips:b@[::1]:5061;lr;ob>;x=y", "sip:a;lr",
		"<sip:192.0.2.9:5060;lr;received=sip:127.0.0.1:49962%3Btransport%3Dtcp>", "<sip:a?Route=b>", ",,<sip:h>", "<sip:a;x=\"y,z\">"} {
		f.Add(seed)
	}
	r, flow := fuzzRegistrar(f)
	r.edges = edges{netip.MustParsePrefix("192.0.2.0/24")}
	f.Fuzz(func(t *testing.T, value string) {
		m, _, err := parseDatagram([]byte(message("REGISTER sip:h SIP/2.0", "", "Path: "+value)), 16384)
		req, ok := m.(*sipgo.Request)
		if err != nil || !ok {
			return
		}
		x := &registration{f: flow, req: req, aor: "1001"}
		if r.readPath(x) != nil {
			return
		}
		kept := x.pathValue()
		back := pathOf(location.Binding{Path: kept})
		if len(back) != len(x.path) || strings.ContainsAny(kept, "\r\n") {
			t.Fatalf("%q is kept as %q, which reads as %d URIs", value, kept, len(back))
		}
		for i := range back {
			if back[i].String() != x.path[i].String() {
				t.Errorf("%q reads back as %q", x.path[i].String(), back[i].String())
			}
		}
	})
}
