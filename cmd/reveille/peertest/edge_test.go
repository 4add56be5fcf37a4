package peertest

import (
	_ "embed"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

//go:embed edge.cfg
var edgeConfig string

// startEdge runs Kamailio as an edge proxy in front of the bridge.
func startEdge(t testing.TB, addr string, b *bridge) *pbx {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/kamailio/modules")
	path, dir := program(t, "kamailio"), t.TempDir()
	if len(found) == 0 {
		t.Fatal("Kamailio's modules are not installed; mend it with: apt-get install --no-install-recommends kamailio")
	}
	text := strings.NewReplacer("LISTEN", addr, "MODULES", found[0]+"/", "BRIDGE", b.SIP).Replace(edgeConfig)
	cfg := filepath.Join(dir, "kamailio.cfg")
	must(t, os.WriteFile(cfg, []byte(text), 0o600))
	k := &pbx{addr: addr}
	k.process = start(t, "edge", dir, path, "-f", cfg, "-DD", "-E", "-m", "32", "-M", "4", "-w", dir, "-Y", dir)
	k.ready(t)
	return k
}

// TestPhoneBehindAnEdgeProxy: the phone registers by way of Kamailio, which puts itself into Path; the call goes the
// same way back, over the phone's own connection to it, and so does the BYE.
func TestPhoneBehindAnEdgeProxy(t *testing.T) {
	t.Parallel()
	sent := source(161, long)
	b := (&bridge{EdgeProxy: pbxIP}).start(t)
	edge := startEdge(t, hostPort(pbxIP, freePort(t, pbxIP, 1)), b)
	p := (&phone{User: b.User, Password: b.Password, Instance: newInstance(), Audio: source(162, long),
		Registrar: "sip:" + edge.addr + ";transport=tcp"}).start(t)
	p.registered(t)
	c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Audio: sent}).start(t)
	p.answer(t).hears(t, sent)
	c.proceed(t)
	c.finish(t)
	checkAudio(t, "what the phone heard", p.recording(t), sent)
	if edge.process.count(`EDGE INVITE from udp:\S+ route <sip:`+regexp.QuoteMeta(edge.addr)+`;lr;received=`) == 0 {
		t.Error("the INVITE did not come to the edge proxy with its Path as Route")
	}
	if edge.process.count(`EDGE BYE from udp:`) == 0 {
		t.Error("the BYE did not go by way of the edge proxy")
	}
	b.stop(t)
}

// TestEdgeProxyThatIsNotConfigured: its Path is ignored, and with it where the INVITE would have gone.
func TestEdgeProxyThatIsNotConfigured(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	edge := startEdge(t, hostPort(pbxIP, freePort(t, pbxIP, 1)), b)
	p := (&phone{User: b.User, Password: b.Password, Instance: newInstance(), Audio: source(163, long),
		Registrar: "sip:" + edge.addr + ";transport=tcp"}).start(t)
	p.registered(t)
	b.process.waitFor(t, `sip\.edge_proxies`)
	b.stop(t)
}
