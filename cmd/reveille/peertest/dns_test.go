package peertest

import (
	"fmt"
	"net"
	"regexp"
	"testing"

	"github.com/miekg/dns"
)

// nameServer serves SRV records for pbx.test that name these PBXs, the first one preferred.
func nameServer(t testing.TB, pbxs ...*pbx) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", hostPort(pbxIP, 0))
	must(t, err)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		res := new(dns.Msg).SetReply(m)
		switch q := m.Question[0]; {
		case q.Qtype == dns.TypeSRV && q.Name == "_sip._udp.pbx.test.":
			for i, k := range pbxs {
				_, port, _ := net.SplitHostPort(k.addr)
				rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN SRV %d 0 %s host.pbx.test.", q.Name, i, port))
				if err == nil {
					res.Answer = append(res.Answer, rr)
				}
			}
		case q.Qtype == dns.TypeA && q.Name == "host.pbx.test.":
			rr, err := dns.NewRR(q.Name + " 60 IN A " + pbxIP)
			if err == nil {
				res.Answer = append(res.Answer, rr)
			}
		}
		w.WriteMsg(res)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return conn.LocalAddr().String()
}

// TestPeersFailoverBetweenTwoKamailios has the bridge find two Kamailios by SRV: it registers at the first, and at the
// second when the first has died.
func TestPeersFailoverBetweenTwoKamailios(t *testing.T) {
	t.Parallel()
	first := (&pbx{User: "+4930123456", Password: "wake-me-up"}).start(t)
	second := (&pbx{User: "+4930123456", Password: "wake-me-up"}).start(t)
	b := (&bridge{Registrar: "pbx.test", Resolver: nameServer(t, first, second), TrunkPassword: first.Password}).start(t)
	first.registered(t)
	if n := second.process.count("PBX registered"); n != 0 {
		t.Errorf("registered at the second as well, %d times", n)
	}
	first.process.stop(t)
	second.registered(t)
	b.process.waitFor(t, `another target.*`+regexp.QuoteMeta(second.addr))
}
