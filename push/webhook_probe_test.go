package push

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
)

func probed(t *testing.T, s *Sender) ProbeResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	found := s.Probe(ctx)
	if len(found) != 1 {
		t.Fatalf("%+v", found)
	}
	return found[0]
}

// TestProbeOfAWebhook: a receiver that need not know a ping tells by its
// answer whether it takes the signature.
func TestProbeOfAWebhook(t *testing.T) {
	for name, tt := range map[string]struct {
		fault    func(w *hookWorld)
		proved   string
		doubtful bool
		want     []string
	}{
		"in order":         {func(*hookWorld) {}, "answered 400 Bad Request to a signed ping, which it need not know", false, nil},
		"knows a ping":     {func(w *hookWorld) { w.service.Answer("", pushtest.Answer{Status: 204}) }, "answered 204 No Content to a signed ping", false, nil},
		"another secret":   {func(w *hookWorld) { w.service.SetSecrets([]byte("another secret of many bytes")) }, "", false, []string{"401", "compare push.webhook.secret_file"}},
		"clock":            {func(w *hookWorld) { w.service.SetClock(time.Hour) }, "", false, []string{"401", "this machine's clock is", "behind that of the receiver: set it"}},
		"not there":        {func(w *hookWorld) { w.service.Answer("", pushtest.Reject(404, "")) }, "", false, []string{"404", "compare push.webhook.url"}},
		"moved":            {func(w *hookWorld) { w.service.Answer("", pushtest.Reject(301, "")) }, "", false, []string{"301", "redirects are not followed"}},
		"busy":             {func(w *hookWorld) { w.service.Answer("", pushtest.Reject(503, "")) }, "", true, []string{"503", "try again"}},
		"cuts us off":      {func(w *hookWorld) { w.service.Answer("", pushtest.Answer{Do: pushtest.CutOff}) }, "", false, []string{"gives no answer"}},
		"gone says nought": {func(w *hookWorld) { w.service.Answer("", pushtest.Reject(410, "")) }, "answered 410", false, nil},
	} {
		w := newHookWorld(t, nil)
		tt.fault(w)
		r := probed(t, w.sender)
		w.noSecrets(Outcome{Err: r.Err})
		if tt.want == nil && (r.Err != nil || !strings.Contains(r.Proved, tt.proved)) {
			t.Errorf("%s: %+v", name, r)
		}
		for _, want := range tt.want {
			if r.Err == nil || !strings.Contains(r.Err.Error(), want) || r.Doubtful != tt.doubtful {
				t.Errorf("%s: %v (doubtful: %v), want %q", name, r.Err, r.Doubtful, want)
			}
		}
		if c := w.service.Counts(); c.Accepted != 0 && name != "knows a ping" {
			t.Errorf("%s: a push was accepted", name)
		}
	}
}

func TestProbeOfAcrobitsMediator(t *testing.T) {
	ln := pushtest.NewPipeListener("pnm.example.test:443")
	service, err := pushtest.NewPNM(pushtest.WebhookOptions{Listener: ln})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	cfg := WebhookConfig{Provider: "acrobits", URL: service.URL(), PayloadConfig: PayloadConfig{Payload: presetAcrobits}}
	if cfg.RootCA, err = service.CAFile(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	s := newHookSender(t, cfg, &logBuffer{}, pushtest.DialAny(ln))
	if r := probed(t, s); r.Err != nil || !strings.Contains(r.Proved, "is Acrobits' mediator") {
		t.Errorf("%+v", r)
	}
	service.Answer("", pushtest.Answer{Status: 200, Body: "<html>"})
	if r := probed(t, s); r.Err == nil || !strings.Contains(r.Err.Error(), "no answer of Acrobits' push mediator") {
		t.Errorf("%+v", r)
	}
}

// TestProbeOfAWebhookOnLoopback: without TLS there is no handshake to try.
func TestProbeOfAWebhookOnLoopback(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	cfg := WebhookConfig{Provider: "mypush", URL: server.URL + "/secret-path", SecretFile: writeFile(t, "secret", strings.Repeat("s", 32), 0o600)}
	s := newHookSender(t, cfg, &logBuffer{}, nil)
	if r := probed(t, s); r.Err != nil || !strings.Contains(r.Proved, "answered 202 Accepted to a signed ping") {
		t.Errorf("%+v", r)
	}
	server.Close()
	if r := probed(t, s); r.Err == nil || !strings.Contains(r.Err.Error(), "refuses connections") || strings.Contains(r.Err.Error(), "secret-path") {
		t.Errorf("%+v", r)
	}
}
