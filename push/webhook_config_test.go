package push

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"reveille/push/pushtest"
)

func TestWebhookValidate(t *testing.T) {
	whsec := func(n int) string {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", n)))
	}
	secret := func(text string) string { return writeFile(t, "secret", text, 0o600) }
	good := WebhookConfig{Provider: "My.Push-2_x", URL: "https://push.example.com/voip?tenant=1", SecretFile: secret(whsec(32) + "\n" + strings.Repeat("s", 24))}
	first := WebhookConfig{Provider: "first", URL: "http://127.0.0.1:8080", SecretFile: good.SecretFile}
	Config{Header: "X", Webhook: []WebhookConfig{
		first, good,
		{Provider: "v6", URL: "http://[::1]/", SecretFile: good.SecretFile},
		{Provider: "name", URL: "http://localhost:1/", SecretFile: good.SecretFile},
		{Provider: "acrobits", URL: "https://pnm.example.com", PayloadConfig: PayloadConfig{Payload: "acrobits"}},
	}}.Validate(func(path, problem string) { t.Errorf("a good one: %s: %s", path, problem) })

	for _, tt := range []struct {
		path, want string
		change     func(*WebhookConfig)
	}{
		{"provider", "no name", func(c *WebhookConfig) { c.Provider = "" }},
		{"provider", "no name", func(c *WebhookConfig) { c.Provider = "my push" }},
		{"provider", "no name", func(c *WebhookConfig) { c.Provider = "größe" }},
		{"provider", "no name", func(c *WebhookConfig) { c.Provider = strings.Repeat("a", 33) }},
		{"provider", "something else", func(c *WebhookConfig) { c.Provider = "APNS" }},
		{"provider", "something else", func(c *WebhookConfig) { c.Provider = "apns.dev" }},
		{"provider", "something else", func(c *WebhookConfig) { c.Provider = "fcm" }},
		{"provider", "something else", func(c *WebhookConfig) { c.Provider = "log" }},
		{"provider", "webhook[0]", func(c *WebhookConfig) { c.Provider = "FIRST" }},
		{"url", "is missing", func(c *WebhookConfig) { c.URL = "" }},
		{"url", "https://HOST/PATH", func(c *WebhookConfig) { c.URL = "push.example.com/x" }},
		{"url", "https://HOST/PATH", func(c *WebhookConfig) { c.URL = "ftp://push.example.com" }},
		{"url", "https://HOST/PATH", func(c *WebhookConfig) { c.URL = "https:opaque" }},
		{"url", "https://HOST/PATH", func(c *WebhookConfig) { c.URL = "https://%zz" }},
		{"url", "user name", func(c *WebhookConfig) { c.URL = "https://user:hunter2@x" }},
		{"url", "#", func(c *WebhookConfig) { c.URL = "https://x/#y" }},
		{"url", "in the clear", func(c *WebhookConfig) { c.URL = "http://push.example.com/hunter2" }},
		{"url", "in the clear", func(c *WebhookConfig) { c.URL = "http://192.168.1.5/hunter2" }},
		{"secret_file", "openssl rand", func(c *WebhookConfig) { c.SecretFile = "" }},
		{"secret_file", "/none", func(c *WebhookConfig) { c.SecretFile = "/none" }},
		{"secret_file", "is empty", func(c *WebhookConfig) { c.SecretFile = secret("\n \n") }},
		{"secret_file", "line 2: a secret of 7 characters", func(c *WebhookConfig) { c.SecretFile = secret(whsec(32) + "\nhunter2") }},
		{"secret_file", "base64", func(c *WebhookConfig) { c.SecretFile = secret("whsec_hunter2*") }},
		{"secret_file", "23 bytes", func(c *WebhookConfig) { c.SecretFile = secret(whsec(23)) }},
		{"secret_file", "65 bytes", func(c *WebhookConfig) { c.SecretFile = secret(whsec(65)) }},
		{"secret_file", "at most two", func(c *WebhookConfig) { c.SecretFile = secret(strings.Repeat(whsec(24)+"\n", 3)) }},
		{"secret_file", "chmod", func(c *WebhookConfig) { c.SecretFile = writeFile(t, "secret", whsec(24), 0o644) }},
		{"root_ca", "/none.pem", func(c *WebhookConfig) { c.RootCA = "/none.pem" }},
		{"payload", "is unknown", func(c *WebhookConfig) { c.Payload = "nonsense" }},
	} {
		bad := good
		tt.change(&bad)
		var got []string
		Config{Header: "X", Webhook: []WebhookConfig{first, bad}}.Validate(func(path, problem string) {
			got = append(got, path+": "+problem)
		})
		if len(got) != 1 || !strings.HasPrefix(got[0], "webhook[1]."+tt.path+": ") || !strings.Contains(got[0], tt.want) || strings.Contains(got[0], "hunter2") {
			t.Errorf("%s: %q, want …%s", tt.path, got, tt.want)
		}
	}
}

// FuzzParseSecret: a secret is taken in full or refused without being shown.
func FuzzParseSecret(f *testing.F) {
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	f.Add("twenty-four characters..")
	f.Add("whsec_short")
	f.Fuzz(func(t *testing.T, line string) {
		key, err := parseSecret(line)
		switch {
		case err != nil && len(line) > 8 && strings.Contains(err.Error(), line):
			t.Errorf("the error shows the secret: %v", err)
		case err == nil && len(key) < minSecret:
			t.Errorf("a key of %d bytes", len(key))
		}
	})
}

// TestSignature is the example of the Standard Webhooks specification's
// reference libraries.
func TestSignature(t *testing.T) {
	key, err := parseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestWebhookKeptConnectionIsClosed: a connection that the receiver closes as
// the next request comes on it costs no attempt and no pause.
func TestWebhookKeptConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 2 {
				panic(http.ErrAbortHandler) // closes the connection, with nothing said
			}
			io.Copy(io.Discard, r.Body)
		})}
		ln := pushtest.NewPipeListener("127.0.0.1:80")
		go server.Serve(ln)
		defer server.Close()
		cfg := WebhookConfig{Provider: "mypush", URL: "http://127.0.0.1:80", SecretFile: writeFile(t, "secret", strings.Repeat("s", 32), 0o600)}
		s := newHookSender(t, cfg, &logBuffer{}, pushtest.DialAny(ln))
		defer s.Close()
		for _, uuid := range []string{"u1", "u2"} {
			out := s.Send(t.Context(), "d", Target{Provider: "mypush", PRID: hookToken}, testMessage(uuid))
			if out.Verdict != Sent || out.Attempts != 1 || out.Took > 0 {
				t.Errorf("%s: %+v", uuid, out)
			}
		}
		if n := requests.Load(); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}
