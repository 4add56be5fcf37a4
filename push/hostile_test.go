package push

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2/jwt"

	"reveille/push/pushtest"
)

// switching answers every request with 101, and then says nothing: net/http
// hands such a connection on and no longer ends it with the request.
func switching(t *testing.T, ln net.Listener) {
	t.Helper()
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { nc.Close() })
			go func() {
				req, err := http.ReadRequest(bufio.NewReader(nc))
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			}()
		}
	}()
}

// TestWebhookSwitchingProtocols: an answer that never ends does not hold a push
// beyond its deadline, nor Close.
func TestWebhookSwitchingProtocols(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	switching(t, ln)
	s := newHookSender(t, WebhookConfig{Provider: "mypush", URL: "http://" + ln.Addr().String(),
		SecretFile: writeFile(t, "secret", "a secret of 24 bytes or more", 0o600)}, &logBuffer{}, nil)
	done := make(chan Outcome, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		done <- s.Send(ctx, "d", Target{Provider: "mypush", PRID: hookToken}, testMessage("u1"))
		s.Close()
		close(done)
	}()
	select {
	case out := <-done:
		if out.Verdict == Sent {
			t.Errorf("outcome %+v", out)
		}
	case <-time.After(realPatience):
		t.Fatal("the push hangs")
	}
	<-done
}

// TestFCMTokenEndpointSwitchingProtocols: nor does it hold the fetch of access
// tokens.
func TestFCMTokenEndpointSwitchingProtocols(t *testing.T) {
	tlsServer := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer tlsServer.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: tlsServer.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	switching(t, ln)
	key, err := fcmTestKey()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(tlsServer.Certificate())
	creds := fcmCredentials{roots: roots, serviceAccount: serviceAccount{conf: &jwt.Config{Email: "a@b", TokenURL: "https://" + ln.Addr().String(),
		PrivateKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})}}}
	s := newAccessSource(testProject, creds, nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), realPatience)
	defer cancel()
	if _, err := s.get(ctx); err == nil || !strings.Contains(err.Error(), "101") || ctx.Err() != nil {
		t.Errorf("an access token: %v", err)
	}
	closed := make(chan bool)
	go func() { s.close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(realPatience):
		t.Fatal("close hangs")
	}
}

// TestFCMPushAfterClose: nobody fetches access tokens any more, so that nobody
// waits for one.
func TestFCMPushAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		synctest.Wait()
		w.close()
		time.Sleep(2 * time.Hour)
		if out := w.send(testMessage("u1")); out.Verdict != Failed || out.Uncertain || out.Took > time.Second {
			t.Errorf("outcome %+v", out)
		}
	})
}

// TestFCMEcho: a service that sends back what it was asked with does not get
// it into our logs, not even by an answer that is followed by another request.
func TestFCMEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		defer w.close()
		for i, status := range []int{400, 401, 403, 400, 401, 403} {
			secret, err := w.sender.current().providers[0].(*fcm).only.account.access.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if i < 3 {
				secret = testRegistration
			}
			said := `{"error":{"details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"` + secret + `"}]}}`
			w.service.Answer(testRegistration, pushtest.Answer{Status: status, Body: said})
			w.noSecrets(w.send(testMessage(fmt.Sprint("u", i))))
			time.Sleep(renewAtMost)
		}
		if !strings.Contains(w.logs.String(), "[redacted]") {
			t.Error("nothing was sent back")
		}
	})
}
