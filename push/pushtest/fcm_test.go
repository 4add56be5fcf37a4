package pushtest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

const (
	project           = "example-phone"
	registrationToken = "cAbC_0123456789:APA91b-0123456789abcdefghijklmnopqrstuvwxyz"
	goodMessage       = `{"message":{"token":"` + registrationToken + `","android":{"priority":"HIGH","ttl":"0s","data":{"uuid":"u1"}}}}`
)

// fcmKey is made once: that takes a tenth of a second.
var fcmKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// sender is a plain HTTP/2 client that pushes by Google's book.
type sender struct {
	t       testing.TB
	service *FCM
	client  *http.Client
	email   string
	keyID   string
	key     *rsa.PrivateKey
}

func newSender(t testing.TB, o FCMOptions, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *sender {
	t.Helper()
	var err error
	if o.Key, err = fcmKey(); err != nil {
		t.Fatal(err)
	}
	service, err := NewFCM(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	file, err := service.ServiceAccount(t.TempDir(), project)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var account map[string]string
	if err := json.Unmarshal(raw, &account); err != nil {
		t.Fatal(err)
	}
	s := &sender{t: t, service: service, email: account["client_email"], keyID: account["private_key_id"]}
	if s.key, err = jwt.ParseRSAPrivateKeyFromPEM([]byte(account["private_key"])); err != nil || account["token_uri"] != service.TokenURL() {
		t.Fatal(err, account["token_uri"])
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(service.CA())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: dial, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP2(true)
	s.client = &http.Client{Transport: tr}
	t.Cleanup(tr.CloseIdleConnections)
	service.AddToken(project, registrationToken)
	return s
}

// assertion signs a JWT for an access token; change may alter it first.
func (s *sender) assertion(change func(*jwt.Token)) string {
	s.t.Helper()
	now := time.Now()
	tok := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": s.email, "scope": messagingScope, "aud": s.service.TokenURL(),
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	tok.Header["kid"] = s.keyID
	var key any = s.key
	if change != nil {
		change(tok)
		switch tok.Method {
		case jwt.SigningMethodHS256:
			key = []byte("secret")
		case jwt.SigningMethodNone:
			key = jwt.UnsafeAllowNoneSignatureType
		}
	}
	signed, err := tok.SignedString(key)
	if err != nil {
		s.t.Fatal(err)
	}
	return signed
}

// do makes a request and decodes the answer.
func (s *sender) do(req *http.Request) (status int, body map[string]any, header http.Header) {
	s.t.Helper()
	res, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	json.Unmarshal(raw, &body) // no JSON: nil
	return res.StatusCode, body, res.Header
}

func (s *sender) grantRequest(form url.Values) *http.Request {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.service.TokenURL(), strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("content-type", "application/x-www-form-urlencoded")
	return req
}

// access gets an access token.
func (s *sender) access() string {
	s.t.Helper()
	status, body, _ := s.do(s.grantRequest(url.Values{"grant_type": {jwtBearer}, "assertion": {s.assertion(nil)}}))
	token, _ := body["access_token"].(string)
	if status != 200 || token == "" {
		s.t.Fatalf("%d %v", status, body)
	}
	return token
}

// push is a request to send a message.
func (s *sender) push(access, message string) *http.Request {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.service.URL()+"/v1/projects/"+project+"/messages:send", strings.NewReader(message))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("authorization", "Bearer "+access)
	req.Header.Set("content-type", "application/json")
	return req
}

// said is what an error body says: canonical code, FcmError code or ErrorInfo
// reason, and field, with slashes between.
func said(body map[string]any) string {
	e, _ := body["error"].(map[string]any)
	status, _ := e["status"].(string)
	code, field := "", ""
	details, _ := e["details"].([]any)
	for _, d := range details {
		detail := d.(map[string]any)
		switch detail["@type"] {
		case typeFcmError:
			code = detail["errorCode"].(string)
		case typeErrorInfo:
			code = detail["reason"].(string)
		case typeBadRequest:
			field = detail["fieldViolations"].([]any)[0].(map[string]any)["field"].(string)
		}
	}
	return status + "/" + code + "/" + field
}

func TestFCMStrictness(t *testing.T) {
	s := newSender(t, FCMOptions{}, nil)
	access := s.access()
	s.service.AddToken("other-project", "o"+registrationToken)
	s.service.Unregister("x" + registrationToken)
	message := func(fields string) string { return `{"message":{` + fields + `}}` }
	android := func(fields string) string {
		return message(`"token":"` + registrationToken + `","android":{"priority":"HIGH","ttl":"0s",` + fields + `}`)
	}
	to := func(token string) string { return strings.Replace(goodMessage, registrationToken, token, 1) }
	for name, tt := range map[string]struct {
		message string
		status  int
		said    string
	}{
		"by the book":           {goodMessage, 200, "//"},
		"data of the message":   {message(`"token":"` + registrationToken + `","data":{"uuid":"u"},"android":{"priority":"HIGH","ttl":"1.5s"}`), 200, "//"},
		"4096 bytes":            {android(`"data":{"x":"` + strings.Repeat("x", 4095) + `"}`), 200, "//"},
		"4097 bytes":            {android(`"data":{"x":"` + strings.Repeat("x", 4096) + `"}`), 400, "INVALID_ARGUMENT//"},
		"no JSON":               {"{", 400, "INVALID_ARGUMENT//message"},
		"no message":            {"{}", 400, "INVALID_ARGUMENT//message"},
		"no target":             {message(`"android":{"priority":"HIGH","ttl":"0s"}`), 400, "INVALID_ARGUMENT//message"},
		"two targets":           {message(`"token":"` + registrationToken + `","topic":"t","android":{"priority":"HIGH","ttl":"0s"}`), 400, "INVALID_ARGUMENT//message"},
		"a topic":               {message(`"topic":"t","android":{"priority":"HIGH","ttl":"0s"}`), 400, "INVALID_ARGUMENT/INVALID_ARGUMENT/message.token"},
		"notification":          {message(`"token":"` + registrationToken + `","notification":{"title":"t"}`), 400, "INVALID_ARGUMENT//message"},
		"no android":            {message(`"token":"` + registrationToken + `"`), 400, "INVALID_ARGUMENT//message.android"},
		"a number":              {android(`"data":{"n":12}`), 400, "INVALID_ARGUMENT//message.android.data[0].value"},
		"an object":             {android(`"data":{"n":{}}`), 400, "INVALID_ARGUMENT//message.android.data[0].value"},
		"null":                  {android(`"data":{"n":null}`), 400, "INVALID_ARGUMENT//message.android.data[0].value"},
		"reserved: from":        {android(`"data":{"from":"x"}`), 400, "INVALID_ARGUMENT//message.android.data"},
		"reserved: gcm":         {android(`"data":{"gcm.x":"x"}`), 400, "INVALID_ARGUMENT//message.android.data"},
		"reserved: google":      {android(`"data":{"google_x":"x"}`), 400, "INVALID_ARGUMENT//message.android.data"},
		"reserved: type":        {android(`"data":{"message_type":"x"}`), 400, "INVALID_ARGUMENT//message.android.data"},
		"normal priority":       {strings.Replace(goodMessage, "HIGH", "NORMAL", 1), 400, "INVALID_ARGUMENT//message.android.priority"},
		"ttl without unit":      {strings.Replace(goodMessage, "0s", "0", 1), 400, "INVALID_ARGUMENT//message.android.ttl"},
		"ttl in minutes":        {strings.Replace(goodMessage, "0s", "1m", 1), 400, "INVALID_ARGUMENT//message.android.ttl"},
		"ttl of an hour":        {strings.Replace(goodMessage, "0s", "3600s", 1), 400, "INVALID_ARGUMENT//message.android.ttl"},
		"collapse key":          {android(`"collapse_key":"call"`), 400, "INVALID_ARGUMENT//message.android.collapse_key"},
		"malformed token":       {to("not a token at all"), 400, "INVALID_ARGUMENT/INVALID_ARGUMENT/message.token"},
		"unknown token":         {to("y" + registrationToken), 404, "NOT_FOUND/UNREGISTERED/"},
		"unregistered":          {to("x" + registrationToken), 404, "NOT_FOUND/UNREGISTERED/"},
		"token of another":      {to("o" + registrationToken), 403, "PERMISSION_DENIED/SENDER_ID_MISMATCH/"},
		"only to be validated":  {strings.Replace(goodMessage, `{"message"`, `{"validate_only":true,"message"`, 1), 200, "//"},
		"validated: dead token": {strings.Replace(to("y"+registrationToken), `{"message"`, `{"validate_only":true,"message"`, 1), 404, "NOT_FOUND/UNREGISTERED/"},
	} {
		status, body, header := s.do(s.push(access, tt.message))
		if status != tt.status || said(body) != tt.said {
			t.Errorf("%s: %d %s, want %d %s: %v", name, status, said(body), tt.status, tt.said, body)
		}
		if header.Get("content-type") != "application/json; charset=UTF-8" || header.Get("date") == "" {
			t.Errorf("%s: header %v", name, header)
		}
	}
	if c := s.service.Counts(); c.Accepted != 3 || c.Answers["UNREGISTERED"] != 3 || c.Bearers != 1 || c.Connections != 1 {
		t.Errorf("%+v", c)
	}
}

func TestFCMAccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send, token := NewPipeListener("fcm.test:443"), NewPipeListener("oauth2.test:443")
		s := newSender(t, FCMOptions{Send: send, Token: token}, DialAny(send, token))
		defer func() { s.client.CloseIdleConnections(); s.service.Close() }()
		if _, err := s.service.ServiceAccount(t.TempDir(), "second"); err != nil {
			t.Fatal(err)
		}
		access := s.access()
		expect := func(req *http.Request, wantStatus int, want string) {
			t.Helper()
			if status, body, _ := s.do(req); status != wantStatus || said(body) != want {
				t.Errorf("%d %s, want %d %s", status, said(body), wantStatus, want)
			}
		}
		other := s.push(access, goodMessage)
		other.URL.Path = "/v1/projects/second/messages:send"
		expect(other, 403, "PERMISSION_DENIED/IAM_PERMISSION_DENIED/")
		none := s.push(access, goodMessage)
		none.Header.Del("authorization")
		expect(none, 401, "UNAUTHENTICATED/CREDENTIALS_MISSING/")
		expect(s.push("ya29.invented", goodMessage), 401, "UNAUTHENTICATED/ACCESS_TOKEN_TYPE_UNSUPPORTED/")
		time.Sleep(time.Hour - time.Second)
		expect(s.push(access, goodMessage), 200, "//")
		time.Sleep(time.Second)
		expect(s.push(access, goodMessage), 401, "UNAUTHENTICATED/ACCESS_TOKEN_EXPIRED/")
		access = s.access()
		s.service.RevokeAccess()
		expect(s.push(access, goodMessage), 401, "UNAUTHENTICATED/ACCESS_TOKEN_TYPE_UNSUPPORTED/")
		wrong := s.push(access, goodMessage)
		wrong.URL.Path = "/v1/projects/example-phone/messages"
		expect(wrong, 404, "//")
		got := <-s.service.Pushes()
		if got.Token != registrationToken || got.Topic != project || got.Payload["uuid"] != "u1" || got.ID == "" || !got.Expiration.IsZero() {
			t.Errorf("%+v", got)
		}
	})
}

func TestFCMGrants(t *testing.T) {
	s := newSender(t, FCMOptions{}, nil)
	claim := func(name string, value any) func(*jwt.Token) {
		return func(tok *jwt.Token) { tok.Claims.(jwt.MapClaims)[name] = value }
	}
	times := func(iat, exp time.Duration) func(*jwt.Token) {
		return func(tok *jwt.Token) {
			tok.Claims.(jwt.MapClaims)["iat"] = time.Now().Add(iat).Unix()
			tok.Claims.(jwt.MapClaims)["exp"] = time.Now().Add(exp).Unix()
		}
	}
	method := func(m jwt.SigningMethod) func(*jwt.Token) {
		return func(tok *jwt.Token) { tok.Method = m; tok.Header["alg"] = m.Alg() }
	}
	for name, tt := range map[string]struct {
		change func(*jwt.Token)
		reason string
	}{
		"by the book":     {nil, ""},
		"for an hour":     {times(-10*time.Second, time.Hour-10*time.Second), ""},
		"for a minute":    {times(0, time.Minute), ""},
		"unknown account": {claim("iss", "nobody@example.com"), "invalid_grant"},
		"other audience":  {claim("aud", "https://example.com/token"), "invalid_grant"},
		"other key id":    {func(tok *jwt.Token) { tok.Header["kid"] = "other" }, "invalid_grant"},
		"HS256":           {method(jwt.SigningMethodHS256), "invalid_grant"},
		"none":            {method(jwt.SigningMethodNone), "invalid_grant"},
		"RS512":           {method(jwt.SigningMethodRS512), "invalid_grant"},
		"no iat":          {claim("iat", nil), "invalid_grant"},
		"no exp":          {claim("exp", nil), "invalid_grant"},
		"from the future": {times(2*time.Minute, 30*time.Minute), "invalid_grant"},
		"over":            {times(-30*time.Minute, -time.Second), "invalid_grant"},
		"for 61 minutes":  {times(0, 61*time.Minute), "invalid_grant"},
		"no scope":        {claim("scope", ""), "invalid_scope"},
		"other scope":     {claim("scope", "https://www.googleapis.com/auth/drive"), "invalid_scope"},
		"two scopes":      {claim("scope", "openid "+messagingScope), ""},
	} {
		status, body, _ := s.do(s.grantRequest(url.Values{"grant_type": {jwtBearer}, "assertion": {s.assertion(tt.change)}}))
		reason, _ := body["error"].(string)
		if reason != tt.reason || (status == 200) != (reason == "") || (reason == "") != (body["access_token"] != nil) {
			t.Errorf("%s: %d %v, want %q", name, status, body, tt.reason)
		}
	}
	for name, form := range map[string]url.Values{
		"no grant":     {"assertion": {s.assertion(nil)}},
		"other grant":  {"grant_type": {"client_credentials"}},
		"no assertion": {"grant_type": {jwtBearer}},
		"no JWT":       {"grant_type": {jwtBearer}, "assertion": {"a.b.c"}},
	} {
		if status, body, _ := s.do(s.grantRequest(form)); status != 400 || body["error"] == nil {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
	s.service.AnswerToken(Answer{Status: 503, Body: "<html>"}, Reject(500, "internal_failure"))
	for _, want := range []int{503, 500, 200} {
		status, _, _ := s.do(s.grantRequest(url.Values{"grant_type": {jwtBearer}, "assertion": {s.assertion(nil)}}))
		if status != want {
			t.Errorf("scripted: %d, want %d", status, want)
		}
	}
	s.service.DeleteKeys(project)
	status, body, _ := s.do(s.grantRequest(url.Values{"grant_type": {jwtBearer}, "assertion": {s.assertion(nil)}}))
	if status != 400 || body["error_description"] != "Invalid JWT Signature." {
		t.Errorf("a deleted key: %d %v", status, body)
	}
	if c := s.service.Counts(); c.Requests != 0 || c.Connections != 0 || c.ByEnvironment[TokenHost] == 0 {
		t.Errorf("%+v", c)
	}
}

// TestFCMScript: an answer for any token does not hit the token endpoint.
func TestFCMScript(t *testing.T) {
	s := newSender(t, FCMOptions{AnyToken: true}, nil)
	s.service.Answer("", Answer{Status: 429, Reason: "QUOTA_EXCEEDED", RetryAfter: "60"})
	access := s.access()
	status, body, header := s.do(s.push(access, strings.Replace(goodMessage, registrationToken, "any-token-that-is-long-enough", 1)))
	if status != 429 || said(body) != "RESOURCE_EXHAUSTED/QUOTA_EXCEEDED/" || header.Get("retry-after") != "60" {
		t.Errorf("%d %v %v", status, body, header)
	}
	s.service.Answer(registrationToken, Answer{Delay: time.Millisecond}, Answer{Status: 400, Reason: "INVALID_ARGUMENT", Field: "message.token"}, Reject(404, "NOT_FOUND"))
	for _, want := range []string{"//", "INVALID_ARGUMENT/INVALID_ARGUMENT/message.token", "NOT_FOUND//"} {
		if _, body, _ := s.do(s.push(access, goodMessage)); said(body) != want {
			t.Errorf("%s, want %s", said(body), want)
		}
	}
}
