package pushtest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
)

// post sends a body to a service on a socket, as any client would.
func post(t *testing.T, s *Service, url string, header http.Header, body string) (status int, said string) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func jsonHeader(more ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i+1 < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

// TestPNMIsStrict: the mediator takes what is documented and nothing else.
func TestPNMIsStrict(t *testing.T) {
	p, err := NewPNM(WebhookOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.AddDevice("app", "token")
	const good = `{"verb":"NotifyIncomingCall","AppId":"app","DeviceToken":"token","Selector":"s","Id":"i","UserName":"u","UserDisplayName":"d"}`
	for _, tt := range []struct {
		body, says string
		status     int
	}{
		{good, `"code":200`, 200},
		{strings.Replace(good, `"token"`, `"other"`, 1), `"code":404`, 200},
		{strings.Replace(good, `"Selector":"s"`, `"Selector":""`, 1), "Selector is missing", 200},
		{strings.Replace(good, "NotifyIncomingCall", "NotifyTextMessage", 1), `"code":400`, 200},
		{strings.Replace(good, `{`, `{"aps":"x",`, 1), `"code":400`, 200},
		{strings.Replace(good, `"s"`, `7`, 1), "", 400},
		{"<html>", "", 400},
	} {
		if status, said := post(t, p.Service, p.URL(), jsonHeader(), tt.body); status != tt.status || !strings.Contains(said, tt.says) {
			t.Errorf("%s: %d %s", tt.body, status, said)
		}
	}
	if c := p.Counts(); c.Accepted != 1 {
		t.Errorf("%+v", c)
	}
}

// TestWebhookIsStrict: without three headers and a good signature nothing else
// is looked at.
func TestWebhookIsStrict(t *testing.T) {
	w, err := NewWebhook(WebhookOptions{AnyToken: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for reason, h := range map[string]http.Header{
		"no_single_webhook-id":        jsonHeader(),
		"no_single_webhook-timestamp": jsonHeader("webhook-id", "i"),
		"no_single_webhook-signature": jsonHeader("webhook-id", "i", "webhook-timestamp", "1"),
		"timestamp":                   jsonHeader("webhook-id", "i", "webhook-timestamp", "1", "webhook-signature", "v1,x"),
	} {
		if status, said := post(t, w.Service, w.URL(), h, "{}"); status != 401 || !strings.Contains(said, `"`+reason+`"`) {
			t.Errorf("%s: %d %s", reason, status, said)
		}
	}
	if status, _ := post(t, w.Service, w.URL()+"x", jsonHeader(), "{}"); status != 404 {
		t.Errorf("another path: %d", status)
	}
	if status, _ := post(t, w.Service, w.URL(), http.Header{}, "{}"); status != 415 {
		t.Errorf("no content type: %d", status)
	}
	if c := w.Counts(); c.Accepted != 0 {
		t.Errorf("%+v", c)
	}
}
