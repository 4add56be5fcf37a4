package push

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// apnsExchange is one request to APNs and what came of it. It travels in the
// request's context, since the APNs library hands on neither the headers of an
// answer nor a body that is not its JSON, and its errors hold the URL, which
// holds the device token.
type apnsExchange struct {
	jwt string // provider token to send; "": a client certificate speaks for us
	*answer

	reason    string    // "" when the body was no JSON of theirs
	timestamp time.Time // of a 410: when the token was last known to be dead
	apnsID    string
}

type apnsExchangeKey struct{}

// withExchange binds x to the request that the library makes with the context.
func withExchange(ctx context.Context, x *apnsExchange) context.Context {
	return context.WithValue(ctx, apnsExchangeKey{}, x)
}

// apnsTransport is the http.RoundTripper under the APNs library: it sends by
// the pool and keeps the whole answer.
type apnsTransport struct{ pool *connPool }

func (t apnsTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(apnsExchangeKey{}).(*apnsExchange)
	if x == nil {
		return nil, errors.New("push: request without an exchange")
	}
	req = req.Clone(req.Context())
	if x.jwt != "" {
		req.Header.Set("authorization", "bearer "+x.jwt)
	}
	if req.Header.Get("apns-expiration") == "" {
		// Now or never. The library cannot say so: it leaves the header out for
		// the epoch, and then Apple stores the push.
		req.Header.Set("apns-expiration", "0")
	}
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	if x.answer = t.pool.exchange(req, body); x.err != nil {
		return nil, x.err
	}
	x.read()
	return forLibrary(req, x.status), nil
}

// read takes what the answer's head and body say in Apple's form. A body that
// is not theirs is no reason to lose the status.
func (x *apnsExchange) read() {
	x.apnsID = printable(x.header.Get("apns-id"))
	var said struct {
		Reason    string      `json:"reason"`
		Timestamp json.Number `json:"timestamp"`
	}
	if !x.whole || json.Unmarshal(x.body, &said) != nil {
		return
	}
	x.reason = printable(said.Reason)
	if ms, err := said.Timestamp.Int64(); err == nil && ms > 0 {
		x.timestamp = time.UnixMilli(ms)
	}
}

// forLibrary is what the library gets to see: always JSON that it can decode.
func forLibrary(req *http.Request, status int) *http.Response {
	return &http.Response{
		StatusCode:    status,
		Header:        http.Header{},
		Body:          io.NopCloser(strings.NewReader("{}")),
		ContentLength: 2,
		Request:       req,
	}
}
