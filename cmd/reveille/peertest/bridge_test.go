package peertest

import (
	"cmp"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"reveille/push/pushtest"
)

// binDir is where the bridge is built once for all tests.
var binDir = filepath.Join(os.TempDir(), fmt.Sprintf("reveille-peertest-%d", os.Getpid()))

// buildBridge builds the program under test and returns its path.
var buildBridge = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(ownNetwork); path != "" {
		return path, nil
	}
	path := filepath.Join(binDir, "reveille")
	args := append(append([]string{"build"}, buildFlags...), "-o", path, "reveille/cmd/reveille")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return path, nil
})

// parallel is how many calls are made at once. They spend their time in talk and not on a processor, so there can be
// more of them than processors, which is Go's default.
const parallel = 6

func TestMain(m *testing.M) {
	if os.Getenv("REVEILLE_PEERTEST_HOST") != "" {
		os.Exit(hostMain())
	}
	flag.Parse()
	flag.Set("test.parallel", strconv.Itoa(parallel))
	code := m.Run()
	os.RemoveAll(binDir)
	os.Exit(code)
}

//go:embed bridge.yml
var bridgeConfig string

// bridge is a running `reveille serve` with a push service, one trunk, and one extension with one app; for more apps
// see newApp.
type bridge struct {
	Registrar     string        // host:port of a PBX that it registers to, or its domain, or ""
	Resolver      string        // host:port of the DNS server for that domain, or ""
	TrunkPassword string        // for that
	AnyTransport  bool          // as the DNS says; otherwise UDP
	Options       time.Duration // how often it is asked whether it is there, or 0
	Upstream      string        // user name of the extension's own account there, with that password; "": the trunk's
	EdgeProxy     string        // IP address of a proxy whose Path it takes, or ""
	WakeTimeout   time.Duration // default patience
	Engine        string        // URL of the rtpengine that has the audio; "": the bridge
	Origin        string        // of a page that may connect to its WebSocket, or ""
	Webhook       string        // URL of a receiver that wakes devices of provider "webpush", or ""
	WebhookSecret string        // file
	WebhookCA     string        // file
	DeviceSRTP    string        // default optional
	Silent        bool          // no ringback. An echo of it might reach baresip, which then takes nothing of a source with lower numbers
	MediaPorts    int           // default 40

	Dir, SIP, TLS, WSS, HTTP  string // addresses are host:port
	CarrierIP                 string
	User, Password, Number    string // the extension
	Bundle, TeamID, KeyID     string
	KeyFile, Endpoint, PushCA string
	FirstRTP, LastRTP         int
	CA                        authority

	*app
	secrets []string // that it must not print
	apns    *pushtest.APNs
	file    string // its configuration
	process *process
}

// app is the app on one device of the extension.
type app struct {
	bridge          *bridge
	token, instance string
}

// newApp makes an app with a token that the push service knows.
func (b *bridge) newApp() *app {
	token := make([]byte, 32)
	rand.Read(token)
	a := &app{bridge: b, token: hex.EncodeToString(token), instance: newInstance()}
	b.apns.AddToken(pushtest.Production, a.token, b.Bundle)
	b.secrets = append(b.secrets, a.token)
	return a
}

// start brings up the push service and the bridge, and waits until the bridge says that it is ready.
func (b *bridge) start(t testing.TB) *bridge {
	t.Helper()
	b.settings(t)
	b.pushService(t)
	b.app = b.newApp()
	b.file = filepath.Join(b.Dir, "reveille.yaml")
	var text strings.Builder
	must(t, template.Must(template.New("").Parse(bridgeConfig)).Execute(&text, b))
	must(t, os.WriteFile(b.file, []byte(text.String()), 0o600))
	attach(t, filepath.Join(b.Dir, "cdr.jsonl"))
	b.run(t)
	return b
}

// run starts the program; after stop, a second time.
func (b *bridge) run(t testing.TB) {
	t.Helper()
	path, err := buildBridge()
	must(t, err)
	b.process = start(t, "reveille", b.Dir, path, "serve", "-c", b.file)
	b.ready(t)
}

func (b *bridge) settings(t testing.TB) {
	t.Helper()
	b.Dir, b.CarrierIP = t.TempDir(), cmp.Or(b.CarrierIP, carrierIP)
	if b.CA == (authority{}) {
		b.CA = newAuthority(t)
	}
	port := freePort(t, bridgeIP, 4)
	b.SIP, b.TLS, b.HTTP, b.WSS = hostPort(bridgeIP, port), hostPort(bridgeIP, port+1), hostPort(bridgeIP, port+2), hostPort(bridgeIP, port+3)
	if os.Getenv(ownNetwork) != "" {
		b.HTTP = hostPort("127.0.0.1", port+2) // anywhere else it wants a token
	}
	b.MediaPorts = cmp.Or(b.MediaPorts, 40)
	b.FirstRTP = freePort(t, bridgeIP, b.MediaPorts)
	b.LastRTP = b.FirstRTP + b.MediaPorts - 1
	b.User, b.Password, b.Number, b.Bundle = "1001", "correct-horse-battery", "+4930123456", "com.example.phone"
	b.secrets = []string{b.Password, b.TrunkPassword}
	b.WakeTimeout = cmpDuration(b.WakeTimeout, patience)
}

func (b *bridge) pushService(t testing.TB) {
	t.Helper()
	var err error
	b.apns, err = pushtest.NewAPNs(pushtest.Options{})
	must(t, err)
	t.Cleanup(b.apns.Close)
	b.Endpoint = b.apns.Endpoint()
	b.PushCA, err = b.apns.CAFile(b.Dir)
	must(t, err)
	b.KeyFile, b.KeyID, b.TeamID, err = b.apns.NewKey(b.Dir)
	must(t, err)
}

// ready asks /readyz, as a load balancer would.
func (b *bridge) ready(t testing.TB) {
	t.Helper()
	waitUntil(t, "the bridge to be ready", func() bool {
		select {
		case <-b.process.done:
			t.Fatalf("the bridge ended at once: %v", b.process.err)
		default:
		}
		_, status := b.get(t, "/readyz")
		return status == http.StatusOK
	})
}

// get asks the bridge's HTTP listener; status 0 means that nobody listens.
func (b *bridge) get(t testing.TB, path string) (string, int) {
	t.Helper()
	res, err := http.Get("http://" + b.HTTP + path)
	if err != nil {
		return "", 0
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return string(body), res.StatusCode
}

// metric returns a sample of /metrics, "" when there is none; labels is the text between the braces.
func (b *bridge) metric(t testing.TB, name, labels string) string {
	t.Helper()
	text, _ := b.get(t, "/metrics")
	re := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name+"{"+labels+"}") + ` (\S+)$`)
	if m := re.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// install is the app's first start on the device: it registers with its push token, and is put to sleep. It returns
// when the bridge has seen the flow close.
func (a *app) install(t testing.TB, network string) {
	t.Helper()
	r, b := a.registration(network), a.bridge
	head := r.do(t)
	if caps := strings.Join(head["Feature-Caps"], ","); !strings.Contains(caps, `+sip.pns="apns"`) {
		t.Errorf("the 200 to REGISTER does not offer the push service (RFC 8599 §8): Feature-Caps %q", caps)
	}
	r.close()
	waitUntil(t, "the binding to go with its flow", func() bool {
		n := b.metric(t, "reveille_bindings", `transport="`+network+`"`)
		return n == "0" || n == ""
	})
}

// registration is the app's REGISTER with its push token, written by hand.
func (a *app) registration(network string) *registration {
	b := a.bridge
	r := &registration{Network: network, Registrar: b.SIP, CAFile: b.CA.CAFile, User: b.User, Password: b.Password,
		Instance: a.instance, Push: fmt.Sprintf(";pn-provider=apns;pn-param=%s.%s.voip;pn-prid=%s", b.TeamID, b.Bundle, a.token)}
	if network == "tls" {
		r.Registrar = b.TLS
	}
	return r
}

// pushed waits for the next push of a call, to whichever app.
func (b *bridge) pushed(t testing.TB) pushtest.Push {
	t.Helper()
	select {
	case p := <-b.apns.Pushes():
		return p
	case <-time.After(patience):
		t.Fatalf("no push came within %v", patience)
		return pushtest.Push{}
	}
}

// wake is what iOS does on a push: it starts the app, which registers.
func (a *app) wake(t testing.TB, network string, p *phone) *phone {
	t.Helper()
	b := a.bridge
	p.User, p.Password, p.Instance, p.CAFile = b.User, b.Password, a.instance, b.CA.CAFile
	p.Registrar = "sip:" + b.SIP + ";transport=" + network
	if network == "tls" {
		p.Registrar = "sip:" + b.TLS + ";transport=tls"
	}
	return p.start(t)
}

// record waits for the record of the call, and returns it. It is the only one.
func (b *bridge) record(t testing.TB) map[string]any {
	t.Helper()
	var text []byte
	waitUntil(t, "the call's record", func() bool {
		text, _ = os.ReadFile(filepath.Join(b.Dir, "cdr.jsonl"))
		return strings.HasSuffix(string(text), "\n")
	})
	var record map[string]any
	if err := json.Unmarshal(text, &record); err != nil { // it fails on a second line too
		t.Fatalf("want one record, one JSON object: %v\n%s", err, text)
	}
	return record
}

// took is the time from the INVITE to the end of the call, by its record.
func (b *bridge) took(t testing.TB) time.Duration {
	t.Helper()
	var at [2]time.Time
	for i, field := range []string{"start", "end"} {
		text, _ := b.record(t)[field].(string)
		var err error
		at[i], err = time.Parse(time.RFC3339Nano, text)
		must(t, err)
	}
	return at[1].Sub(at[0])
}

// stop drains the bridge, which must end well: with code 0, and without having printed a secret.
func (b *bridge) stop(t testing.TB) {
	t.Helper()
	if code := b.process.stop(t); code != 0 {
		t.Errorf("the bridge ended with code %d on SIGTERM, want 0", code)
	}
	for i, secret := range b.secrets {
		if secret != "" && strings.Contains(b.process.output(), secret) {
			t.Errorf("the bridge printed secret %d of: password, trunk's password, push tokens", i+1)
		}
	}
}
