package push

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

const (
	maxAnswer    = 16 << 10 // bytes of an answer's body; Apple's have under a hundred
	maxReason    = 64
	streamWait   = time.Second // for a free stream on a connection
	connAttempts = 3           // connections tried at once for a request that certainly was not processed
)

// exchange is one HTTP request and what came of it. It travels in the
// request's context, since the APNs library hands on neither the headers of an
// answer nor a body that is not its JSON, and its errors hold the URL, which
// holds the device token.
type exchange struct {
	jwt string // provider token to send

	status     int
	reason     string    // "" when the body was no JSON of theirs
	timestamp  time.Time // of a 410: when the token was last known to be dead
	apnsID     string
	retryAfter time.Duration
	date       time.Time // the provider's clock
	conn       *conn     // only for connPool.suspect

	err  error // the request failed; status is 0
	safe bool  // with err: the provider certainly did not process the request
}

type exchangeKey struct{}

// exchanger is the http.RoundTripper under the APNs library: it picks a warm
// connection, moves a request that a connection turned away to another one,
// and keeps the whole answer.
type exchanger struct{ pool *connPool }

func (e exchanger) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		return nil, errors.New("push: request without an exchange")
	}
	req = req.Clone(req.Context())
	req.Header.Set("authorization", "bearer "+x.jwt)
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
	for try := 1; ; try++ {
		if x.err, x.safe = e.once(req, body, x); x.err == nil {
			return x.answer(req), nil
		}
		if !x.safe || try == connAttempts || req.Context().Err() != nil || !errors.Is(x.err, errTurnedAway) {
			return nil, x.err
		}
	}
}

// errTurnedAway marks errors where the peer said that it did not process the
// request (GOAWAY, REFUSED_STREAM) or the connection took no more.
var (
	errTurnedAway = errors.New("turned away")
	errNoStream   = errors.New("the connection let no request through")
)

// once makes the request on one connection and reads the answer's body.
func (e exchanger) once(req *http.Request, body []byte, x *exchange) (err error, safe bool) {
	c, err := e.pool.acquire(req.Context())
	if err != nil {
		return err, true
	}
	defer e.pool.release(c)
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	gate := &gate{payload: body, raw: c.raw}
	req = req.WithContext(ctx)
	req.Body = gate
	// A connection whose peer has no stream or window to give may be stuck:
	// what has not left yet is better off on another.
	patience := time.AfterFunc(streamWait, func() {
		if gate.shut() {
			cancel()
		}
	})
	defer patience.Stop()
	defer c.raw.watch(gate.needs)()
	res, err := c.cc.RoundTrip(req)
	if err == nil {
		x.conn = c
		x.read(res)
		return nil, true
	}
	return e.failed(c, gate, err)
}

// failed says what an error means for the request. One whose last byte never
// left, or was never acknowledged, cannot have been processed.
func (e exchanger) failed(c *conn, gate *gate, err error) (_ error, safe bool) {
	stayed := gate.shut()
	lost := c.cc.Err() != nil && c.raw.unacked(gate.needs())
	switch {
	case turnedAway(err) || lost:
		e.pool.retire(c)
		return errors.Join(errTurnedAway, err), true
	case stayed && errors.Is(err, context.Canceled): // by our patience, or by the caller, who is gone then
		return errors.Join(errTurnedAway, errNoStream, err), true
	}
	return err, stayed
}

// turnedAway recognises the errors after which net/http's own transport would
// try again on another connection: RFC 9113 §8.7. They have no exported form.
func turnedAway(err error) bool {
	var stream http2.StreamError
	if errors.As(err, &stream) {
		return stream.Code == http2.ErrCodeRefusedStream
	}
	text := err.Error()
	return strings.Contains(text, "graceful shutdown GOAWAY") || // our stream is above the last one processed
		strings.Contains(text, "received GOAWAY from server") || // the same for a connection's first stream
		strings.Contains(text, "client conn not usable") ||
		strings.Contains(text, "client conn could not be established")
}

// read keeps what the answer's head and body say. A body that does not come
// whole, or is not theirs, is no reason to lose the status.
func (x *exchange) read(res *http.Response) {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	res.Body.Close()
	x.status = res.StatusCode
	x.apnsID = printable(res.Header.Get("apns-id"))
	x.date, _ = http.ParseTime(res.Header.Get("Date"))
	x.retryAfter = retryAfter(res.Header.Get("Retry-After"), x.date)
	var answer struct {
		Reason    string      `json:"reason"`
		Timestamp json.Number `json:"timestamp"`
	}
	if err != nil || json.Unmarshal(body, &answer) != nil {
		return
	}
	x.reason = printable(answer.Reason)
	if ms, err := answer.Timestamp.Int64(); err == nil && ms > 0 {
		x.timestamp = time.UnixMilli(ms)
	}
}

// answer is what the library gets to see: always JSON that it can decode.
func (x *exchange) answer(req *http.Request) *http.Response {
	return &http.Response{
		StatusCode:    x.status,
		Header:        http.Header{},
		Body:          io.NopCloser(strings.NewReader("{}")),
		ContentLength: 2,
		Request:       req,
	}
}

// retryAfter reads RFC 9110 §10.2.3: seconds, or a date. Zero: not given.
func retryAfter(s string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(strings.TrimSpace(s)); err == nil && seconds >= 0 {
		return min(time.Duration(seconds)*time.Second, time.Hour)
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	if now.IsZero() {
		now = time.Now()
	}
	return min(max(0, at.Sub(now)), time.Hour)
}

// printable keeps a provider's word fit for logs.
func printable(s string) string {
	s = s[:min(len(s), maxReason)]
	return strings.Map(func(r rune) rune {
		if r < '!' || r > '~' {
			return -1
		}
		return r
	}, s)
}

// withExchange binds x to the request that the library makes with the context.
func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}
