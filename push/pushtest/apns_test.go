package pushtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

const (
	bundle = "com.example.phone"
	token  = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// provider is a plain HTTP/2 client that pushes by the book.
type provider struct {
	t           testing.TB
	service     *APNs
	client      *http.Client
	key         *ecdsa.PrivateKey
	keyID, team string
	one         string // provider token of all good requests
}

func newProvider(t testing.TB, o Options, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *provider {
	t.Helper()
	service, err := NewAPNs(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	p := &provider{t: t, service: service}
	file, keyID, team, err := service.NewKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	p.key, p.keyID, p.team = key.(*ecdsa.PrivateKey), keyID, team
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(service.CA())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: dial, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP2(true)
	p.client = &http.Client{Transport: tr}
	t.Cleanup(tr.CloseIdleConnections)
	service.AddToken(Production, token, bundle)
	return p
}

// bearer signs a provider token; change may alter it first.
func (p *provider) bearer(change func(*jwt.Token)) string {
	p.t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": p.team, "iat": time.Now().Unix()})
	tok.Header["kid"] = p.keyID
	var key any = p.key
	if change != nil {
		change(tok)
		switch tok.Method {
		case jwt.SigningMethodHS256:
			key = []byte("secret")
		case jwt.SigningMethodNone:
			key = jwt.UnsafeAllowNoneSignatureType
		case jwt.SigningMethodRS256:
			key, _ = rsa.GenerateKey(rand.Reader, 2048)
		}
	}
	s, err := tok.SignedString(key)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// request is a good one.
func (p *provider) request(body string) *http.Request {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.service.URL()+"/3/device/"+token, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if p.one == "" { // a second may pass between two, and another so soon is refused
		p.one = p.bearer(nil)
	}
	req.Header.Set("authorization", "bearer "+p.one)
	req.Header.Set("apns-topic", bundle+".voip")
	req.Header.Set("apns-push-type", "voip")
	req.Header.Set("apns-priority", "10")
	req.Header.Set("apns-expiration", fmt.Sprint(time.Now().Add(20*time.Second).Unix()))
	req.Header.Set("apns-id", "123e4567-e89b-12d3-a456-426655440000")
	return req
}

// do makes the request and gives status and reason.
func (p *provider) do(req *http.Request) (status int, reason string) {
	p.t.Helper()
	res, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(body) == 0 {
		return res.StatusCode, ""
	}
	var answer struct{ Reason string }
	if err := json.Unmarshal(body, &answer); err != nil {
		p.t.Fatalf("%v in %q", err, body)
	}
	return res.StatusCode, answer.Reason
}

const payload = `{"aps":{},"uuid":"u1"}`

func TestStrictness(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	path := func(path string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = path } }
	signed := func(change func(*jwt.Token)) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("authorization", "bearer "+p.bearer(change)) }
	}
	claim := func(name string, value any) func(*http.Request) {
		return signed(func(tok *jwt.Token) { tok.Claims.(jwt.MapClaims)[name] = value })
	}
	method := func(m jwt.SigningMethod) func(*http.Request) {
		return signed(func(tok *jwt.Token) { tok.Method = m; tok.Header["alg"] = m.Alg() })
	}
	body := func(s string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(s)), int64(len(s))
			r.GetBody = nil
		}
	}
	for name, tt := range map[string]struct {
		change func(*http.Request)
		status int
		reason string
	}{
		"by the book":       {func(*http.Request) {}, 200, ""},
		"now or never":      {header("apns-expiration", "0"), 200, ""},
		"without id":        {func(r *http.Request) { r.Header.Del("apns-id") }, 200, ""},
		"capitals in token": {path("/3/device/" + strings.ToUpper(token)), 200, ""},
		"GET":               {func(r *http.Request) { r.Method = "GET" }, 405, "MethodNotAllowed"},
		"other path":        {path("/4/device/" + token), 404, "BadPath"},
		"no token":          {path("/3/device/"), 400, "MissingDeviceToken"},
		"no hex":            {path("/3/device/xyz"), 400, "BadDeviceToken"},
		"unknown token":     {path("/3/device/ff" + token), 400, "BadDeviceToken"},
		"no authorization":  {func(r *http.Request) { r.Header.Del("authorization") }, 403, "MissingProviderToken"},
		"garbage":           {header("authorization", "bearer abc"), 403, "InvalidProviderToken"},
		"HS256":             {method(jwt.SigningMethodHS256), 403, "InvalidProviderToken"},
		"none":              {method(jwt.SigningMethodNone), 403, "InvalidProviderToken"},
		"RS256":             {method(jwt.SigningMethodRS256), 403, "InvalidProviderToken"},
		"other key id":      {signed(func(tok *jwt.Token) { tok.Header["kid"] = "OTHERKEY01" }), 403, "InvalidProviderToken"},
		"other team":        {claim("iss", "OTHERTEAM1"), 403, "InvalidProviderToken"},
		"no iat":            {claim("iat", nil), 403, "InvalidProviderToken"},
		"from the future":   {claim("iat", time.Now().Add(time.Hour).Unix()), 403, "InvalidProviderToken"},
		"an hour old":       {claim("iat", time.Now().Add(-61*time.Minute).Unix()), 403, "ExpiredProviderToken"},
		"no topic":          {func(r *http.Request) { r.Header.Del("apns-topic") }, 400, "MissingTopic"},
		"no .voip":          {header("apns-topic", bundle), 400, "BadTopic"},
		"other topic":       {header("apns-topic", "com.example.other.voip"), 400, "DeviceTokenNotForTopic"},
		"alert":             {header("apns-push-type", "alert"), 400, "InvalidPushType"},
		"no push type":      {func(r *http.Request) { r.Header.Del("apns-push-type") }, 400, "InvalidPushType"},
		"priority 5":        {header("apns-priority", "5"), 400, "BadPriority"},
		"no expiration":     {func(r *http.Request) { r.Header.Del("apns-expiration") }, 400, "BadExpirationDate"},
		"expires tomorrow":  {header("apns-expiration", fmt.Sprint(time.Now().Add(24*time.Hour).Unix())), 400, "BadExpirationDate"},
		"bad id":            {header("apns-id", "1"), 400, "BadMessageId"},
		"long collapse id":  {header("apns-collapse-id", strings.Repeat("x", 65)), 400, "BadCollapseId"},
		"twice":             {func(r *http.Request) { r.Header.Add("apns-topic", "x.voip") }, 400, "DuplicateHeaders"},
		"no body":           {body(""), 400, "PayloadEmpty"},
		"no JSON":           {body("{"), 400, "PayloadEmpty"},
		"no aps":            {body("{}"), 400, "PayloadEmpty"},
		"5120 bytes":        {body(`{"aps":{},"x":"` + strings.Repeat("x", 5120-17) + `"}`), 200, ""},
		"5121 bytes":        {body(`{"aps":{},"x":"` + strings.Repeat("x", 5121-17) + `"}`), 413, "PayloadTooLarge"},
	} {
		// Each on a connection of its own: provider tokens may not change often.
		p.client.CloseIdleConnections()
		req := p.request(payload)
		tt.change(req)
		if status, reason := p.do(req); status != tt.status || reason != tt.reason {
			t.Errorf("%s: %d %q, want %d %q", name, status, reason, tt.status, tt.reason)
		}
	}
	if c := p.service.Counts(); c.Accepted != 5 || c.Answers["BadDeviceToken"] != 2 {
		t.Errorf("%+v", c)
	}
}

func TestTokenChangesTooOften(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	req := p.request(payload)
	req.Header.Set("authorization", "bearer "+p.bearer(func(tok *jwt.Token) {
		tok.Claims.(jwt.MapClaims)["iat"] = time.Now().Add(-19 * time.Minute).Unix()
	}))
	if status, _ := p.do(req); status != 200 {
		t.Fatalf("the first: %d", status)
	}
	if status, reason := p.do(p.request(payload)); status != 429 || reason != "TooManyProviderTokenUpdates" {
		t.Errorf("%d %s", status, reason)
	}
}

func TestOtherKeyOnConnection(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	p.do(p.request(payload))
	dir := t.TempDir()
	file, keyID, _, err := p.service.NewKey(dir)
	if err != nil || filepath.Base(file) != "AuthKey_"+keyID+".p8" {
		t.Fatal(file, keyID, err)
	}
	raw, _ := os.ReadFile(file)
	key, err := jwt.ParseECPrivateKeyFromPEM(raw)
	if err != nil {
		t.Fatal(err)
	}
	p.key, p.keyID, p.one = key, keyID, ""
	if status, reason := p.do(p.request(payload)); status != 403 || reason != "UnrelatedKeyIdInToken" {
		t.Errorf("%d %s", status, reason)
	}
}

func TestEnvironmentsAreApart(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	req := p.request(payload)
	req.URL.Host = strings.TrimPrefix(p.service.SandboxURL(), "https://")
	if status, reason := p.do(req); status != 400 || reason != "BadDeviceToken" {
		t.Errorf("%d %s", status, reason)
	}
	p.service.AddToken(Sandbox, token, "")
	req = p.request(payload)
	req.URL.Host = strings.TrimPrefix(p.service.SandboxURL(), "https://")
	p.do(req)
	if got := <-p.service.Pushes(); got.Environment != Sandbox {
		t.Errorf("%+v", got)
	}
}

func TestUnregistered(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	p.service.Unregister(Production, token, time.UnixMilli(1234567890123))
	res, err := p.client.Do(p.request(payload))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if want := `{"reason":"Unregistered","timestamp":1234567890123}`; res.StatusCode != 410 || string(body) != want {
		t.Errorf("%d %s, want %s", res.StatusCode, body, want)
	}
}

func TestScript(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	p.service.Answer(token, Answer{Status: 503, Reason: "Shutdown", RetryAfter: "7"}, Reject(500, "InternalServerError"))
	p.service.Answer("", Reject(403, "Forbidden"))
	res, err := p.client.Do(p.request(payload))
	if err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") != "7" {
		t.Errorf("%v %v", res, err)
	}
	res.Body.Close()
	for _, want := range []int{500, 403, 200} {
		if status, _ := p.do(p.request(payload)); status != want {
			t.Errorf("%d, want %d", status, want)
		}
	}
}

// TestPushesWaitForAReader: nothing is lost, nothing waits.
func TestPushesWaitForAReader(t *testing.T) {
	p := newProvider(t, Options{AnyToken: true}, nil)
	bearer := "bearer " + p.bearer(nil) // one for all: a second may pass, and another so soon is refused
	for i := range 100 {
		req := p.request(fmt.Sprintf(`{"aps":{},"n":%d}`, i))
		req.Header.Set("authorization", bearer)
		if status, _ := p.do(req); status != 200 {
			t.Fatal(status)
		}
	}
	for i := range 100 {
		if got := <-p.service.Pushes(); got.Payload["n"] != float64(i) || got.Conn != 1 || got.Token != token {
			t.Fatalf("%d: %+v", i, got)
		}
	}
	p.service.Close()
	if _, open := <-p.service.Pushes(); open {
		t.Error("the channel is open after Close")
	}
	p.service.Close()
}

func TestInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		production, sandbox := NewPipeListener("production.test:443"), NewPipeListener("sandbox.test:443")
		p := newProvider(t, Options{Production: production, Sandbox: sandbox}, DialAny(production, sandbox))
		p.service.Answer(token, Answer{Delay: time.Hour})
		start := time.Now()
		if status, _ := p.do(p.request(payload)); status != 200 || time.Since(start) != time.Hour {
			t.Errorf("%d after %v", status, time.Since(start))
		}
		p.client.CloseIdleConnections()
		p.service.Close()
	})
}

// TestNotHTTP2: a client that offers HTTP/1.1 only is turned away.
func TestNotHTTP2(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	tr := p.client.Transport.(*http.Transport)
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP1(true)
	if _, err := p.client.Do(p.request(payload)); err == nil {
		t.Error("no error")
	}
}

// TestNoise: what is not HTTP/2 inside TLS ends the connection and nothing else.
func TestNoise(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.service.CA())
	for _, noise := range []string{"GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 99), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 99),
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x05\x01\x04\x00\x00\x00\x02hello"} {
		c, err := tls.Dial("tcp", strings.TrimPrefix(p.service.URL(), "https://"), &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write([]byte(noise))
		if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
			t.Errorf("%q: the connection stays", noise)
		}
		c.Close()
	}
	if status, _ := p.do(p.request(payload)); status != 200 {
		t.Errorf("afterwards %d", status)
	}
}

// TestCurl holds the service against an HTTP/2 client that is not Go's.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed: apt-get install curl")
	}
	if version, _ := exec.Command(curl, "--version").Output(); !bytes.Contains(version, []byte("HTTP2")) {
		t.Skip("this curl has no HTTP/2")
	}
	p := newProvider(t, Options{}, nil)
	ca, err := p.service.CAFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-sS", "--noproxy", "*", "--http2-prior-knowledge", "--cacert", ca, "-d", payload, "-w", " %{http_version} %{http_code}"}
	req := p.request(payload)
	for name, values := range req.Header {
		args = append(args, "-H", name+": "+values[0])
	}
	out, err := exec.Command(curl, append(args, req.URL.String(), p.service.URL()+"/3/device/ff"+token)...).CombinedOutput()
	if want := ` 2 200{"reason":"BadDeviceToken"} 2 400`; err != nil || string(out) != want {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
}
