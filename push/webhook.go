package push

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	webhookAttempts = 3   // requests for one wake, as far as the call's deadline goes
	webhookAtOnce   = 128 // requests under way; the rest wait, so that a receiver that hangs does not eat all sockets
	webhookIdle     = 16  // connections kept
	webhookIdleTime = 90 * time.Second
)

// webhook wakes devices by posting to a receiver: a push service of one's own,
// or a relay to any other. Its requests are signed, and all those for one wake
// carry the same webhook-id (Standard Webhooks), by which the receiver knows a
// repetition. For that reason, and unlike other providers, it also repeats a
// request whose answer was lost.
type webhook struct {
	cfg   WebhookConfig
	name  string
	url   *url.URL
	sign  *signer // nil: not signed
	form  webhookForm
	slots chan struct{}
	lines *lines
	dial  DialFunc
	tr    *http.Transport
}

// webhookForm is what a kind of receiver wants to read and how it answers.
type webhookForm interface {
	// body is the request's. It may hold the token, its error must not.
	body(t Target, m Message) (body []byte, shortened []string, err error)
	// checkToken says what is wrong with a pn-prid, without showing it.
	checkToken(prid string) error
	serves(param string) bool
	// read says what an answer means; what it quotes must not hold the token.
	read(a *answer, t Target) webhookReaction
	// repeatable: the receiver knows a repetition by its id.
	repeatable() bool
}

func newWebhook(cfg WebhookConfig, dial DialFunc) (*webhook, error) {
	u, err := cfg.parseURL()
	if err != nil {
		return nil, fmt.Errorf("push.webhook.url: %w", err)
	}
	w := &webhook{cfg: cfg, name: cfg.name(), url: u, slots: make(chan struct{}, webhookAtOnce), lines: newLines(), dial: dial}
	if w.sign, err = cfg.signer(); err != nil {
		return nil, fmt.Errorf("push.webhook.secret_file: %w", err)
	}
	roots, err := loadRoots(cfg.RootCA)
	if err != nil {
		return nil, fmt.Errorf("push.webhook.root_ca: %w", err)
	}
	if w.form, err = cfg.webhookForm(); err != nil {
		return nil, fmt.Errorf("push.webhook.%w", err)
	}
	w.tr = newTransport(roots, dial)
	w.tr.DialContext = w.lines.track(w.tr.DialContext)
	w.tr.Protocols.SetHTTP1(true)
	w.tr.MaxIdleConnsPerHost = webhookIdle
	w.tr.IdleConnTimeout = webhookIdleTime // a connection that lives for long does not see that the name moved
	w.tr.DisableCompression = true
	return w, nil
}

func (w *webhook) Name() string                 { return w.name }
func (w *webhook) Serves(param string) bool     { return w.form.serves(param) }
func (w *webhook) checkToken(prid string) error { return w.form.checkToken(prid) }

// Close ends all connections, and with them the requests under way.
func (w *webhook) Close() {
	w.lines.close()
	w.tr.CloseIdleConnections()
}

// Push makes the request, and again where that may help: after no connection,
// no answer in time, 408, 429 and 5xx.
func (w *webhook) Push(ctx context.Context, t Target, m Message) (out Outcome, retry bool) {
	body, out := w.prepare(t, m)
	if body == nil {
		return out, false
	}
	ctx, done, err := w.lines.begin(ctx)
	if err != nil {
		return Outcome{Verdict: Failed, Reason: "Closed", Err: err}, false
	}
	defer done()
	id, shortened, uncertain := wakeID(t, m), out.Shortened, false
	for attempt := 1; ; attempt++ {
		a := w.request(ctx, id, body, attempt)
		out, retry = w.conclude(ctx, a, t)
		out.Attempts, out.Shortened = attempt, shortened
		uncertain = uncertain || out.Uncertain
		out.Uncertain = uncertain && out.Verdict == Failed
		if !retry || attempt == w.most() || !pause(ctx, max(retryAfterFailure<<(attempt-1), out.RetryAfter)) {
			return out, false
		}
		if m.Still != nil && !m.Still() {
			return moved(out), false
		}
	}
}

// most is how many requests there may be for one wake.
func (w *webhook) most() int {
	if w.form.repeatable() {
		return webhookAttempts
	}
	return maxAttempts
}

// prepare checks what does not need the network; without a body the outcome is final.
func (w *webhook) prepare(t Target, m Message) ([]byte, Outcome) {
	if err := w.form.checkToken(t.PRID); err != nil {
		return nil, Outcome{Verdict: Gone, Reason: "MalformedToken", Err: err}
	}
	if !m.ExpiresAt.IsZero() && !time.Now().Before(m.ExpiresAt) {
		return nil, Outcome{Verdict: Failed, Reason: "Expired", Err: errors.New("the call's time was over before the push was sent")}
	}
	body, shortened, err := w.form.body(t, m)
	if err != nil {
		return nil, Outcome{Verdict: Refused, Alarm: true, Reason: "Payload", Err: err}
	}
	return body, Outcome{Shortened: shortened}
}

// request makes one request. By RoundTrip and no http.Client: a redirect is
// never followed, since the signed body with the token is for this receiver
// alone, and no error holds the URL.
func (w *webhook) request(ctx context.Context, id string, body []byte, attempt int) *answer {
	ctx, cancel := w.share(ctx, attempt)
	defer cancel()
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return &answer{err: fmt.Errorf("%d requests wait for the receiver already: %w", webhookAtOnce, ctx.Err()), safe: true}
	}
	var sent atomic.Bool
	var line atomic.Pointer[line]
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
		GotConn:      func(got httptrace.GotConnInfo) { line.Store(lineOf(got.Conn)) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "", bytes.NewReader(body))
	if err != nil {
		return &answer{err: errors.New("the request could not be built"), safe: true}
	}
	req.URL, req.Host = w.url, w.url.Host
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Reveille")
	w.sign.sign(req.Header, id, time.Now(), body)
	if w.form.repeatable() {
		// Never sent; it tells the transport that it may repeat the request at
		// once where a kept connection turns out to be closed.
		req.Header["X-Idempotency-Key"] = []string{}
	}
	start := time.Now()
	res, err := w.tr.RoundTrip(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && line.Load().silent(start) {
			line.Load().Close()
			w.tr.CloseIdleConnections() // they have the same way, and its fate
		}
		return &answer{err: err, safe: !sent.Load()}
	}
	a := &answer{status: res.StatusCode, header: res.Header}
	a.read(res.Body)
	return a
}

// share gives an attempt its part of the time: half of what is left, and the
// last one all. Where nothing is repeated the first is the last.
func (w *webhook) share(ctx context.Context, attempt int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || attempt == w.most() || !w.form.repeatable() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// conclude turns an answer, or none, into the outcome.
func (w *webhook) conclude(ctx context.Context, a *answer, t Target) (out Outcome, retry bool) {
	if a.err != nil {
		to := way{base: w.url.Scheme + "://" + w.url.Host, rootCA: "push.webhook.root_ca"}
		out, retry = a.unanswered(ctx, out, to)
		if out.Uncertain && w.form.repeatable() {
			out.Err = errors.New(to.unheard(a.err))
			retry = ctx.Err() == nil
		}
		return out, retry
	}
	r := w.form.read(a, t)
	out = Outcome{Verdict: r.verdict, Alarm: r.alarm, Uncertain: r.uncertain, Status: a.status, ID: r.id,
		Reason: cmp.Or(r.reason, printable(http.StatusText(a.status))), RetryAfter: a.retryAfter()}
	if out.Verdict == Sent {
		out.Reason = ""
		return out, false
	}
	out.Err = fmt.Errorf("%s answered %d %s", w.url.Host, a.status, out.Reason)
	if ahead := a.aheadOf(); ahead != 0 && r.advice == adviceSecret {
		r.advice = setClock(ahead, "the receiver")
	}
	if r.advice != "" {
		out.Err = fmt.Errorf("%w: %s", out.Err, r.advice)
	}
	return out, r.retry
}

// envelope is the form of Standard Webhooks: an event with its time and data.
type envelope struct {
	Type      string       `json:"type"`
	Timestamp string       `json:"timestamp"` // of the call: the same in every repetition
	Data      envelopeData `json:"data"`
}

type envelopeData struct {
	UUID      string          `json:"uuid"`
	Device    envelopeDevice  `json:"device"`
	ExpiresAt string          `json:"expires_at"`
	Payload   json.RawMessage `json:"payload"`
}

// envelopeDevice has the names of the provisioning API and of RFC 8599.
type envelopeDevice struct {
	Provider string `json:"provider"`
	Param    string `json:"param"`
	PRID     string `json:"prid"`
}

// standardForm is Reveille's own.
type standardForm struct{ layout *layout }

func (f standardForm) body(t Target, m Message) ([]byte, []string, error) {
	payload, shortened, err := f.layout.build(m, t)
	if err != nil {
		return nil, nil, err
	}
	body, err := json.Marshal(envelope{Type: "call.wake", Timestamp: stamp{m.IssuedAt}.String(), Data: envelopeData{
		UUID:      clean(m.UUID, maxID),
		Device:    envelopeDevice{t.Provider, t.Param, t.PRID},
		ExpiresAt: stamp{m.ExpiresAt}.String(),
		Payload:   payload,
	}})
	return body, shortened, err
}

func (standardForm) checkToken(prid string) error {
	if prid == "" {
		return errors.New("the device has no push token")
	}
	return nil
}

func (standardForm) serves(string) bool { return true }
func (standardForm) repeatable() bool   { return true }
