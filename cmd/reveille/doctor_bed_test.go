package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// clinic is a configuration that is in order: a carrier that takes the login,
// and a push service that takes the key. Tests break one thing of it.
type clinic struct {
	t       *testing.T
	dir     string
	apns    *pushtest.APNs
	carrier *carrier
	keyFile string
	keyID   string
	teamID  string
	caFile  string

	listen string // YAML of sip.listen; "": UDP on port
	tls    string // YAML beside it
	trunk  string // YAML of the one trunk
	push   string // YAML beside push.apns
	media  string // media.ports; "": some
	engine string // YAML behind it
	port   string // of sip.listen
	web    string // of http.listen
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	t.Setenv("REVEILLE_MASTER_KEY", "")
	os.Unsetenv("REVEILLE_MASTER_KEY")
	c := &clinic{t: t, dir: t.TempDir(), carrier: newCarrier(t), port: "0", web: "0"}
	var err error
	if c.apns, err = pushtest.NewAPNs(pushtest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.apns.Close)
	if c.keyFile, c.keyID, c.teamID, err = c.apns.NewKey(c.dir); err != nil {
		t.Fatal(err)
	}
	if c.caFile, err = c.apns.CAFile(c.dir); err != nil {
		t.Fatal(err)
	}
	c.trunk = fmt.Sprintf("{name: carrier, registrar: \"sip:%s\", username: \"4930\", password: hunter2}", c.carrier.addr())
	return c
}

// apnsEntry is the push service as it should be configured.
func (c *clinic) apnsEntry() map[string]string {
	return map[string]string{"topic": "com.example.phone", "team_id": c.teamID, "key_id": c.keyID, "key_file": c.keyFile,
		"environment": "production", "endpoint": c.apns.URL(), "root_ca": c.caFile}
}

func yamlEntry(entry map[string]string) string {
	var parts []string
	for key, value := range entry {
		if value != "" {
			parts = append(parts, fmt.Sprintf("%s: %q", key, value))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// file writes the configuration, with that entry under push.apns.
func (c *clinic) file(apns map[string]string) string {
	c.t.Helper()
	listen := c.listen
	if listen == "" {
		listen = `"udp://127.0.0.1:` + c.port + `"`
	}
	media := c.media
	if media == "" {
		media = `18000-18999, fast_path: "off"` // ports of no other test; whether the kernel may relay depends on who tests
	}
	text := fmt.Sprintf(`state_dir: %s
sip: {listen: [%s]%s}
http: {listen: "127.0.0.1:%s"}
trunks: [%s]
extensions: [{name: "1001", password: hunter2, numbers: ["1001"]}]
push: {apns: [%s]%s}
media: {ports: %s%s}
`, filepath.Join(c.dir, "state"), listen, c.tls, c.web, c.trunk, yamlEntry(apns), c.push, media, c.engine)
	name := filepath.Join(c.dir, "reveille.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return name
}

// lines are what the doctor prints of a file, with what changes from run to
// run left out; only those that are not ok, if they are asked for.
func (c *clinic) lines(file string, all bool) string {
	c.t.Helper()
	r := reveille(c.t, "doctor", "-c", file)
	if want := strings.Contains("\n"+r.stdout, "\nFAIL "); r.code != map[bool]int{true: 1}[want] || r.stderr != "" {
		c.t.Errorf("exit code %d, stderr %q:\n%s", r.code, r.stderr, r.stdout)
	}
	if strings.Contains(r.stdout, "hunter2") || strings.Contains(r.stdout, strings.Repeat("0", 64)) || strings.Contains(r.stdout, "eyJ") {
		c.t.Errorf("a secret shows:\n%s", r.stdout)
	}
	var out strings.Builder
	for line := range strings.Lines(r.stdout) {
		if all || strings.HasPrefix(line, "warn") || strings.HasPrefix(line, "FAIL") {
			out.WriteString(line)
		}
	}
	return c.general(out.String())
}

func (c *clinic) general(text string) string {
	for from, to := range map[string]string{c.dir: "DIR", c.keyID: "KEYID", c.teamID: "TEAMID"} {
		text = strings.ReplaceAll(text, from, to)
	}
	for from, to := range map[string]string{
		`(127\.0\.0\.[12]):[0-9]+`: "$1:PORT", `master key [0-9a-f]{8}`: "master key ID", `(-?)1h(29m59|30m0|30m1)s`: "${1}1h30m",
		`user [a-z]+ may`: "user USER may", `(process|PID) [0-9]+`: "$1 N", `/tmp/\S+?/TestDoctor\S*?/\d+`: "TMP",
		`this machine says that it is \S+;`: "this machine says that it is TODAY;",
		`let TCP [0-9]+ out`:                "let TCP PORT out", `in [0-9]+ days`: "in N days", `[0-9]{4}-[0-9]{2}-[0-9]{2}`: "DAY",
		`trunk carrier DNS: .*invalid.*`:                    "trunk carrier DNS: push.invalid is not known, by whom, and what to check",
		`DNS: (there is no host|push\.invalid could not).*`: "DNS: there is no host push.invalid, or no name server",
	} {
		text = regexp.MustCompile(from).ReplaceAllString(text, to)
	}
	return text
}

// carrier is a registrar on a UDP socket of this machine.
type carrier struct {
	conn net.PacketConn

	mu     sync.Mutex // guards the following
	answer func(m *siptest.Message) (code int, headers string)
	got    []*siptest.Message
}

func newCarrier(t *testing.T) *carrier {
	t.Helper()
	conn := listenUDP(t)
	c := &carrier{conn: conn, answer: takesLogin(200)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.serve()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return c
}

// listenUDP takes a UDP port whose TCP port refuses connections: that is bound, and nobody listens. Were it free, another
// part of the test might get it.
func listenUDP(t *testing.T) net.PacketConn {
	t.Helper()
	for range 20 {
		conn, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
		syscall.CloseOnExec(fd)
		if syscall.Bind(fd, &syscall.SockaddrInet4{Port: conn.LocalAddr().(*net.UDPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}) == nil {
			return conn
		}
		conn.Close()
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil
}

func (c *carrier) addr() string { return c.conn.LocalAddr().String() }

// takesLogin is a registrar that asks for a password, and then answers so;
// with 0 it goes on asking.
func takesLogin(last int) func(m *siptest.Message) (int, string) {
	return func(m *siptest.Message) (int, string) {
		switch {
		case m.Method() == "OPTIONS":
			return 200, ""
		case m.Get("Authorization") == "" || last == 0:
			return 401, "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\", qop=\"auth\", algorithm=MD5\r\n"
		}
		return last, ""
	}
}

func (c *carrier) serve() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		m, err := siptest.ParseMessage(buf[:n])
		if err != nil || m.IsResponse() {
			continue
		}
		c.mu.Lock()
		c.got = append(c.got, m)
		code, headers := c.answer(m)
		c.mu.Unlock()
		if code == 0 {
			continue
		}
		text := fmt.Sprintf("SIP/2.0 %d Said\r\n", code)
		for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
			text += name + ": " + m.Get(name) + map[bool]string{true: ";tag=c"}[name == "To"] + "\r\n"
		}
		if _, err := c.conn.WriteTo([]byte(text+headers+"Content-Length: 0\r\n\r\n"), from); err != nil {
			return
		}
	}
}

// requests are those that came so far.
func (c *carrier) requests() []*siptest.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

func (c *carrier) follow(answer func(m *siptest.Message) (int, string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}
