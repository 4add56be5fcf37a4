package push

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/push/pushtest"
)

const (
	testBundle = "com.example.phone"
	testToken  = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	testParam  = "TESTTEAM01." + testBundle + ".voip"
)

// world is a Sender and the push service that it talks to.
type world struct {
	t       testing.TB
	service *pushtest.APNs
	sender  *Sender
	cfg     Config
	logs    *logBuffer
	metrics *prometheus.Registry

	patience time.Duration // a push has this long
}

// logBuffer is what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newPipeWorld is a world in memory, for synctest bubbles.
func newPipeWorld(t testing.TB, change func(*APNsConfig)) *world {
	production, sandbox := pushtest.NewPipeListener("api.push.test:443"), pushtest.NewPipeListener("api.sandbox.push.test:443")
	return newWorld(t, pushtest.Options{Production: production, Sandbox: sandbox},
		Options{Dial: pushtest.DialAny(production, sandbox)}, change)
}

// A push has the time of a call; on sockets it has more, as a busy machine may
// need that.
const callPatience, realPatience = 5 * time.Second, 30 * time.Second

// closedPort is where nobody listens (RFC 1078 is historic); a port that was
// just closed may be another listener's at once.
const closedPort = "127.0.0.1:1"

// newSocketWorld is a world on loopback sockets.
func newSocketWorld(t testing.TB) *world {
	return newWorld(t, pushtest.Options{}, Options{}, nil)
}

func newWorld(t testing.TB, po pushtest.Options, o Options, change func(*APNsConfig)) *world {
	t.Helper()
	service, err := pushtest.NewAPNs(po)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldAt(t, service, o, change)
	if po.Production == nil {
		w.patience = realPatience
	}
	return w
}

// newWorldAt is newWorld with a service that is there already.
func newWorldAt(t testing.TB, service *pushtest.APNs, o Options, change func(*APNsConfig)) *world {
	t.Helper()
	w := &world{t: t, service: service, logs: &logBuffer{}, metrics: prometheus.NewRegistry(), patience: callPatience}
	var err error
	t.Cleanup(w.service.Close)
	w.cfg = DefaultConfig()
	w.cfg.APNs = []APNsConfig{w.apnsConfig()}
	if change != nil {
		change(&w.cfg.APNs[0])
	}
	o.Log = slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Registerer = w.metrics
	if w.sender, err = NewSender(w.cfg, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.sender.Close)
	w.service.AddToken(pushtest.Production, testToken, testBundle)
	return w
}

func (w *world) apnsConfig() APNsConfig {
	dir := w.t.TempDir()
	ca, err := w.service.CAFile(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	keyFile, keyID, teamID, err := w.service.NewKey(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	return APNsConfig{Topic: testBundle, TeamID: teamID, KeyID: keyID, KeyFile: keyFile,
		Environment: environmentAuto, PayloadConfig: PayloadConfig{Payload: "reveille"}, Endpoint: w.service.Endpoint(), RootCA: ca}
}

// send pushes with the time that a push has.
func (w *world) send(m Message, change ...func(*Target)) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), w.patience)
	defer cancel()
	t := Target{Provider: "apns", Param: testParam, PRID: testToken}
	for _, f := range change {
		f(&t)
	}
	return w.sender.Send(ctx, "device-1", t, m)
}

// close ends both sides; in a bubble that must happen before it ends.
func (w *world) close() {
	w.sender.Close()
	w.service.Close()
}

// noSecrets holds that no token and no key material was logged or returned.
func (w *world) noSecrets(outs ...Outcome) {
	w.t.Helper()
	texts := []string{w.logs.String()}
	for _, out := range outs {
		texts = append(texts, out.Reason)
		if out.Err != nil {
			texts = append(texts, out.Err.Error())
		}
	}
	for _, text := range texts {
		if strings.Contains(text, testToken) || strings.Contains(text, "eyJ") || strings.Contains(text, "bearer ") {
			w.t.Errorf("a secret is in: %s", text)
		}
	}
}

func testMessage(uuid string) Message {
	now := time.Now()
	return Message{
		UUID: uuid, CallID: "call-id@reveille", Handle: "+4930123456", HandleType: "number",
		CallerName: "Ada Lovelace", To: "1001", Trunk: "carrier", Verstat: "verified",
		IssuedAt: now, ExpiresAt: now.Add(20 * time.Second),
		Headers: map[string]string{"X-Queue": "sales"},
	}
}

func writeFile(t testing.TB, name, content string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}
