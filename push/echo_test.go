package push

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2/jwt"
)

// echoing answers every request with what it was sent, and that is no HTTP:
// net/http's errors quote it.
func echoing(t *testing.T, ln net.Listener, answer func(body, head string) string) {
	t.Helper()
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				req, err := http.ReadRequest(bufio.NewReader(nc))
				if err != nil {
					return
				}
				body, _ := io.ReadAll(req.Body)
				io.WriteString(nc, answer(string(body), req.Header.Get("Webhook-Signature")))
			}()
		}
	}()
}

// TestErrorsQuoteNoPeer: neither what was sent comes back into errors and logs,
// nor does a peer fill them.
func TestErrorsQuoteNoPeer(t *testing.T) {
	filler := strings.Repeat("A", 30_000)
	for name, answer := range map[string]func(body, head string) string{
		"status line": func(body, head string) string { return url.QueryEscape(body) + head + filler + "\r\n\r\n" },
		"header": func(body, head string) string {
			return "HTTP/1.1 200 OK\r\n" + url.QueryEscape(body) + head + filler + "\r\n\r\n"
		},
		"words":   func(string, string) string { return strings.Repeat("spam ", 6000) + "\r\n\r\n" },
		"escapes": func(string, string) string { return strings.Repeat("\x1b[2J", 6000) + "\r\n\r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			signature := ""
			echoing(t, ln, func(body, head string) string {
				signature = strings.TrimPrefix(head, "v1,")
				return answer(body, head)
			})
			logs := &logBuffer{}
			s := newHookSender(t, WebhookConfig{Provider: "mypush", URL: "http://" + ln.Addr().String(),
				SecretFile: writeFile(t, "secret", "a secret of 24 bytes or more", 0o600)}, logs, nil)
			out := s.Send(t.Context(), "d", Target{Provider: "mypush", PRID: hookToken}, testMessage("u1"))
			s.Close()
			if out.Verdict != Failed || signature == "" {
				t.Fatalf("outcome %+v", out)
			}
			for _, text := range []string{out.Err.Error(), logs.String()} {
				if len(text) > 2000 || strings.Contains(text, hookToken[:20]) || strings.Contains(text, signature[:20]) {
					t.Errorf("%d bytes: %.3000s", len(text), text)
				}
			}
		})
	}
}

// TestTokenEndpointThatEchoes: whoever has the assertion gets an access token
// for it.
func TestTokenEndpointThatEchoes(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer server.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	echoing(t, ln, func(body, _ string) string { return body + "\r\n\r\n" })
	key, err := fcmTestKey()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	creds := fcmCredentials{roots: roots, serviceAccount: serviceAccount{conf: &jwt.Config{Email: "a@b", TokenURL: "https://" + ln.Addr().String(),
		PrivateKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})}}}
	logs := &logBuffer{}
	s := newAccessSource(testProject, creds, nil, slog.New(slog.NewTextHandler(logs, nil)))
	_, err = s.get(t.Context())
	s.close()
	if err == nil || !strings.Contains(err.Error(), "malformed HTTP response") {
		t.Errorf("an access token: %v", err)
	}
	if text := fmt.Sprint(err) + logs.String(); strings.Contains(text, "eyJ") || len(text) > 2000 {
		t.Errorf("%d bytes: %.3000s", len(text), text)
	}
}

// TestUnquoted: our own words stay.
func TestUnquoted(t *testing.T) {
	jwt, host := strings.Repeat("eyJhbGciOi", 7), strings.Repeat("internal-push-service.", 4)+"example.com:8443"
	for in, want := range map[string]string{
		"": "", "a plain error": "a plain error",
		`http2: server sent GOAWAY and closed the connection; debug="` + jwt + `"`: `http2: server sent GOAWAY and closed the connection; debug="[redacted]"`,
		"Bearer " + jwt + " is none":          "Bearer [redacted] is none",
		strings.Repeat("ä b ", 1000):          strings.Repeat("ä b ", 1000)[:maxError] + "…",
		strings.Repeat("word ", 20):           strings.Repeat("word ", 20),
		strings.Repeat("x", maxRun+1):         "[redacted]",
		"connecting to " + host + ": refused": "connecting to " + host + ": refused",
	} {
		if got := unquoted(in); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
