package peertest

import (
	"fmt"
	"net"
	"regexp"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func srv(name string, priority int, addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf("%s 60 IN SRV %d 0 %s host.pbx.test.", name, priority, port)
}

// answerDNS serves these records, and nothing else.
func answerDNS(t testing.TB, records ...string) string {
	t.Helper()
	var all []dns.RR
	for _, text := range records {
		rr, err := dns.NewRR(text)
		must(t, err)
		all = append(all, rr)
	}
	conn, err := net.ListenPacket("udp", hostPort(pbxIP, 0))
	must(t, err)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		res := new(dns.Msg).SetReply(m)
		for _, rr := range all {
			if h := rr.Header(); h.Rrtype == m.Question[0].Qtype && h.Name == m.Question[0].Name {
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
	names := answerDNS(t, srv("_sip._udp.pbx.test.", 0, first.addr), srv("_sip._udp.pbx.test.", 1, second.addr),
		`host.pbx.test. 60 IN A `+pbxIP)
	b := (&bridge{Registrar: "pbx.test", Resolver: names, TrunkPassword: first.Password, Options: 5 * time.Second}).start(t)
	first.registered(t)
	if n := second.process.count("PBX registered"); n != 0 {
		t.Errorf("registered at the second as well, %d times", n)
	}
	first.process.stop(t)
	second.registered(t)
	b.process.waitFor(t, `another target.*`+regexp.QuoteMeta(second.addr))
}
