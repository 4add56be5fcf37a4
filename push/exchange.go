package push

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

const (
	maxAnswer    = 16 << 10 // bytes of an answer's body; those of push services have some hundreds
	maxReason    = 64
	streamWait   = time.Second // for a free stream on a connection
	connAttempts = 3           // connections tried at once for a request that certainly was not processed
)

// answer is what came of one HTTP request. Its errors never hold the request's
// URL, which may hold a device token.
type answer struct {
	status int // 0: none came, see err
	header http.Header
	body   []byte // at most maxAnswer bytes
	whole  bool   // the body came to its end, within that bound
	conn   *conn  // only for connPool.suspect

	err  error // the request failed; status is 0
	safe bool  // with err: the provider certainly did not process the request
}

// errTurnedAway marks errors where the peer said that it did not process the
// request (GOAWAY, REFUSED_STREAM) or the connection took no more.
var (
	errTurnedAway = errors.New("turned away")
	errNoStream   = errors.New("the connection let no request through")
)

// exchange makes a request on a warm connection, and again on another one
// where a connection turned it away. The request's own Body is not used; body
// must not be empty.
func (p *connPool) exchange(req *http.Request, body []byte) *answer {
	for try := 1; ; try++ {
		a := p.once(req, body)
		if a.err == nil || !a.safe || try == connAttempts || req.Context().Err() != nil || !errors.Is(a.err, errTurnedAway) {
			return a
		}
	}
}

// once makes the request on one connection and reads the answer's body.
func (p *connPool) once(req *http.Request, body []byte) *answer {
	c, err := p.acquire(req.Context())
	if err != nil {
		return &answer{err: err, safe: true}
	}
	defer p.release(c)
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)() // close does not know of connections that are retired
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
	if err != nil {
		return p.failed(c, gate, err)
	}
	a := &answer{status: res.StatusCode, header: res.Header, conn: c}
	a.read(res.Body)
	return a
}

// failed says what an error means for the request. One whose last byte never
// left, or was never acknowledged, cannot have been processed.
func (p *connPool) failed(c *conn, gate *gate, err error) *answer {
	stayed := gate.shut()
	lost := c.cc.Err() != nil && c.raw.unacked(gate.needs())
	switch {
	case turnedAway(err) || lost:
		p.retire(c)
		return &answer{err: errors.Join(errTurnedAway, err), safe: true}
	case stayed && errors.Is(err, context.Canceled): // by our patience, or by the caller, who is gone then
		if gate.starved(streamWait / 2) { // of window for some hundred bytes: the peer hangs
			p.suspect(c)
		}
		return &answer{err: errors.Join(errTurnedAway, errNoStream, err), safe: true}
	}
	return &answer{err: err, safe: stayed}
}

// unanswered completes the outcome of a request that brought no answer. Another
// attempt is made only when the provider certainly did nothing about this one.
func (a *answer) unanswered(ctx context.Context, out Outcome, to way) (_ Outcome, retry bool) {
	out.Verdict, out.Err = Failed, cmp.Or(to.explain(a.err), a.err)
	var badCert *tls.CertificateVerificationError
	switch {
	case errors.As(a.err, &badCert):
		out.Alarm, out.Reason = true, "Certificate"
	case !a.safe:
		out.Uncertain, out.Reason = true, "NoAnswer"
		out.Err = errors.New(to.unheard(a.err) + ": it may have arrived and is not sent again")
	case ctx.Err() != nil:
		out.Reason = "Deadline"
		if errors.Is(a.err, context.DeadlineExceeded) {
			out.Err = inWords{"there was no connection to " + to.host() + " in time", a.err}
		}
	default:
		out.Reason = "Unreachable"
		retry = true
	}
	return out, retry
}

// unheard is the error of a push that may have been accepted.
func (w way) unheard(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "the push was sent to " + w.host() + ", but no answer came in time"
	}
	return fmt.Sprintf("the push was sent to %s, but no answer came (%v)", w.host(), err)
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

// errSwitched: net/http hands over a connection that has switched protocols,
// and no request's end, nor Close, ends reading it. Nobody asked for that.
var errSwitched = errors.New("it answered 101 Switching Protocols: does a proxy stand before it?")

// read keeps what the body says. One that does not come whole is no reason to
// lose the status.
func (a *answer) read(body io.ReadCloser) {
	if a.status == http.StatusSwitchingProtocols { // see errSwitched
		body.Close()
		return
	}
	text, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	body.Close()
	a.whole = err == nil && len(text) <= maxAnswer
	a.body = text[:min(len(text), maxAnswer)]
}

// date is the provider's clock; zero: not given.
func (a *answer) date() time.Time {
	at, _ := http.ParseTime(a.header.Get("Date"))
	return at
}

// retryAfter is the provider's wish; zero: none.
func (a *answer) retryAfter() time.Duration {
	return retryAfter(a.header.Get("Retry-After"), a.date())
}

// retryAfter reads RFC 9110 §10.2.3: seconds, or a date. Zero: not given.
func retryAfter(s string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(strings.TrimSpace(s)); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, int(time.Hour/time.Second))) * time.Second
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
