package push

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/push/pushtest"
)

const (
	hookToken     = "hook-token-8f14e45fceea167a5a36dedd4bea2543"
	pnmAppID      = "com.example.softphone.ios"
	pnmToken      = "V2hhdGV2ZXIvdGhlK2FwcD09"
	pnmSelector   = "12869E0E6E553673C54F29105A0647204C416A2A:7C3A0D14"
	pnmWholeToken = pnmToken + "&" + pnmSelector
)

// hookWorld is a Sender and the receiver that it posts to.
type hookWorld struct {
	t       testing.TB
	service *pushtest.Webhook
	sender  *Sender
	cfg     WebhookConfig
	logs    *logBuffer
}

// newHookWorld is a world in memory, for synctest bubbles.
func newHookWorld(t testing.TB, change func(*WebhookConfig)) *hookWorld {
	t.Helper()
	ln := pushtest.NewPipeListener("push.example.test:443")
	service, err := pushtest.NewWebhook(pushtest.WebhookOptions{Listener: ln})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	service.AddToken(hookToken)
	w := &hookWorld{t: t, service: service, logs: &logBuffer{}}
	dir := t.TempDir()
	w.cfg = WebhookConfig{Provider: "MyPush", URL: service.URL()}
	if w.cfg.SecretFile, err = service.SecretFile(dir); err != nil {
		t.Fatal(err)
	}
	if w.cfg.RootCA, err = service.CAFile(dir); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&w.cfg)
	}
	w.sender = newHookSender(t, w.cfg, w.logs, pushtest.DialAny(ln))
	return w
}

func newHookSender(t testing.TB, cfg WebhookConfig, logs *logBuffer, dial DialFunc) *Sender {
	t.Helper()
	s, err := NewSender(Config{Header: "X-Call-UUID", Webhook: []WebhookConfig{cfg}}, Options{
		Log:        slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: prometheus.NewRegistry(),
		Dial:       dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (w *hookWorld) send(m Message) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return w.sender.Send(ctx, "device-1", Target{Provider: "mypush", Param: "com.example.phone", PRID: hookToken}, m)
}

func (w *hookWorld) close() {
	w.sender.Close()
	w.service.Close()
}

// noSecrets holds that neither token nor secret nor URL was logged or returned.
func (w *hookWorld) noSecrets(outs ...Outcome) {
	w.t.Helper()
	texts := []string{w.logs.String()}
	for _, out := range outs {
		texts = append(texts, out.Reason, out.ID)
		if out.Err != nil {
			texts = append(texts, out.Err.Error())
		}
	}
	for _, text := range texts {
		for _, secret := range []string{hookToken, w.service.Secret(), "v1,", "/voip"} {
			if strings.Contains(text, secret) {
				w.t.Errorf("%q is in: %s", secret, text)
			}
		}
	}
}
