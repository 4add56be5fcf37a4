package push

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// probe sends the receiver a signed ping. It need not know that: any answer
// but one that refuses the signature or the address will do. Acrobits' mediator
// has no ping, and gets a push for a device that cannot exist.
func (w *webhook) probe(ctx context.Context) []ProbeResult {
	way := way{base: w.url.Scheme + "://" + w.url.Host, roots: w.tr.TLSClientConfig.RootCAs, dial: w.dial, rootCA: "push.webhook.root_ca"}
	r := ProbeResult{Provider: w.name, Host: way.host()}
	if r.Err = way.walk(ctx); r.Err != nil {
		return []ProbeResult{r}
	}
	ctx, cancel := context.WithTimeout(ctx, probeAnswer)
	defer cancel()
	ctx, done, err := w.lines.begin(ctx)
	if err != nil {
		r.Err = err
		return []ProbeResult{r}
	}
	defer done()
	nowhere := Target{Provider: w.name, Param: "reveille.doctor", PRID: noToken + "&" + noToken}
	body, err := w.ping(nowhere)
	if err != nil {
		r.Err = err
		return []ProbeResult{r}
	}
	a := w.request(ctx, "ping_"+uuid.NewString(), body, w.most())
	if a.err != nil {
		r.Err = way.silent(a.err)
		return []ProbeResult{r}
	}
	r.dated(a)
	r.judgeWebhook(w, a, nowhere)
	return []ProbeResult{r}
}

func (w *webhook) ping(nowhere Target) ([]byte, error) {
	if w.cfg.isAcrobits() {
		body, _, err := w.form.body(nowhere, Message{UUID: uuid.NewString(), IssuedAt: time.Now(), ExpiresAt: time.Now()})
		return body, err
	}
	return []byte(`{"type":"ping","timestamp":"` + time.Now().UTC().Format(time.RFC3339) + `","data":{}}`), nil
}

// judgeWebhook reads the answer. What is said of the ping itself, or of the
// device that is none, is no fault.
func (r *ProbeResult) judgeWebhook(w *webhook, a *answer, nowhere Target) {
	said := fmt.Sprintf("%s answered %d %s", r.Host, a.status, http.StatusText(a.status))
	re := w.form.read(a, nowhere)
	switch {
	case re.verdict == Sent, re.verdict == Gone, re.advice == adviceNoAppID:
		r.Proved = said + " to a signed ping"
		if w.cfg.isAcrobits() {
			r.Proved = r.Host + " is Acrobits' mediator; whether it knows the app, only a push to a device tells"
		}
	case re.verdict == Failed:
		r.Doubtful = true
		r.Err = fmt.Errorf("%s: it is busy or has a fault of its own; try again in some minutes", said)
	case re.advice == adviceRefused:
		r.Proved = said + " to a signed ping, which it need not know: the signature is not refused"
	default:
		if ahead := a.aheadOf(); ahead != 0 && re.advice == adviceSecret {
			re.advice = setClock(ahead, "the receiver")
		}
		r.Err = fmt.Errorf("%s: %s", said, re.advice)
	}
}
