package peertest

import (
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

//go:embed kamailio.cfg
var kamailioConfig string

// pbx is Kamailio as a PBX that one user registers to with digest, and that sends calls on to that user.
type pbx struct {
	User, Password string

	addr    string // host:port, UDP
	process *process
}

func (k *pbx) start(t testing.TB) *pbx {
	t.Helper()
	path, dir := program(t, "kamailio"), t.TempDir()
	if k.addr == "" {
		k.addr = hostPort(pbxIP, freePort(t, pbxIP, 1))
	}
	found, _ := filepath.Glob("/usr/lib/*/kamailio/modules")
	if len(found) == 0 {
		t.Fatal("Kamailio's modules are not installed; mend it with: apt-get install --no-install-recommends kamailio")
	}
	text := strings.NewReplacer("LISTEN", k.addr, "MODULES", found[0]+"/", "USER", k.User, "PASSWORD", k.Password).
		Replace(kamailioConfig)
	cfg := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k.process = start(t, "kamailio", dir, path, "-f", cfg, "-DD", "-E", "-m", "32", "-M", "4", "-w", dir, "-Y", dir)
	k.ready(t)
	return k
}

// ready sends OPTIONS until there is an answer.
func (k *pbx) ready(t testing.TB) {
	t.Helper()
	conn, err := net.Dial("udp", k.addr)
	must(t, err)
	defer conn.Close()
	me, answer := conn.LocalAddr(), make([]byte, 2048)
	waitUntil(t, "Kamailio to answer OPTIONS", func() bool {
		fmt.Fprintf(conn, "OPTIONS sip:%[1]s SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[3]s\r\n"+
			"From: <sip:test@%[2]s>;tag=1\r\nTo: <sip:%[1]s>\r\nCall-ID: %[3]s\r\nCSeq: 1 OPTIONS\r\n"+
			"Max-Forwards: 10\r\nContent-Length: 0\r\n\r\n", k.addr, me, newInstance())
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := conn.Read(answer) // "connection refused" as long as it is not bound
		return err == nil && n > 0
	})
}

// registered waits until the user is registered and returns the Contact.
func (k *pbx) registered(t testing.TB) string {
	t.Helper()
	m := k.process.waitFor(t, `PBX registered `+regexp.QuoteMeta(k.User)+`: (.*)`)
	return m[1]
}

// TestPeersThroughKamailio lets baresip stand in for the bridge: it registers at Kamailio with digest, SIPp calls
// it through Kamailio, and the audio flows between the two directly.
func TestPeersThroughKamailio(t *testing.T) {
	t.Parallel()
	sent := source(21, long)
	k := (&pbx{User: "bridge", Password: "wake-me-up"}).start(t)
	p := (&phone{User: "bridge", Password: "wake-me-up", Registrar: "sip:" + k.addr + ";transport=udp",
		Instance: newInstance(), Audio: source(22, long)}).start(t)
	t.Log("registered Contact:", k.registered(t))
	c := (&carrier{Scenario: "caller_hangs_up", To: k.addr, Number: "bridge", Audio: sent}).start(t)
	p.answer(t).hears(t, sent)
	c.proceed(t)
	c.finish(t)
	if rr := header(c.received(t, "SIP/2.0 200")[0], "Record-Route"); !strings.Contains(rr, k.addr) {
		t.Errorf("Kamailio is not in the call's route set: Record-Route %q", rr)
	}
	if k.process.count(`PBX BYE`) == 0 {
		t.Error("the BYE did not go by way of Kamailio")
	}
	checkAudio(t, "what the phone heard", p.recording(t), sent)
}

// TestPeersKamailioRefusesAWrongPassword shows that the PBX's digest check can fail.
func TestPeersKamailioRefusesAWrongPassword(t *testing.T) {
	t.Parallel()
	k := (&pbx{User: "bridge", Password: "wake-me-up"}).start(t)
	p := (&phone{User: "bridge", Password: "wrong", Registrar: "sip:" + k.addr + ";transport=udp",
		Instance: newInstance(), Audio: source(23, time.Second)}).start(t)
	p.process.waitFor(t, `reg: .*401|401 Unauthorized`)
	c := (&carrier{Scenario: "refused", Final: 480, To: k.addr, Number: "bridge", NoTrying: true, MayNotRing: true}).start(t)
	c.finish(t)
	if k.process.count("PBX registered") != 0 {
		t.Error("registered with a wrong password")
	}
}
