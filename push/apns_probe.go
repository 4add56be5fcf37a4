package push

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// noToken has the form of a device token. Apple's are random: it cannot exist.
var noToken = strings.Repeat("0", 64)

// probe sends each app a push for a token that cannot exist. BadDeviceToken
// then means that everything before it was good: Apple looks at the provider
// token first.
func (a *apns) probe(ctx context.Context) []ProbeResult {
	var jobs []*job
	for _, topic := range slices.Sorted(maps.Keys(a.apps)) {
		for _, app := range a.apps[topic] {
			for _, env := range app.places() {
				// Nobody gets the push: any payload will do, and any time.
				jobs = append(jobs, &job{accounts: a.accounts, app: app, env: env, choice: choice{token: noToken, alert: app.sides[env].cfg.alert()},
					message: Message{ExpiresAt: time.Now()}, payload: []byte(`{"aps":{}}`)})
			}
		}
	}
	return probeAll(len(jobs), func(i int) ProbeResult { return jobs[i].probe(ctx) })
}

// places are the environments that the app is pushed in, one of each host.
func (a *app) places() []string {
	if a.learns {
		return []string{Production, Sandbox}
	}
	return []string{a.first()}
}

func (j *job) probe(ctx context.Context) ProbeResult {
	config := j.pool().tr.TLSClientConfig
	w := way{base: j.side().host(j.env), roots: config.RootCAs, certificates: config.Certificates, dial: j.accounts.dial, rootCA: "push.apns.root_ca"}
	r := ProbeResult{Provider: apnsName, App: j.app.bundle, Environment: j.env, Host: w.host()}
	if r.Err = w.walk(ctx); r.Err != nil {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, probeAnswer)
	defer cancel()
	x := j.request(ctx)
	if x.err != nil {
		r.Err = w.silent(x.err)
		return r
	}
	r.dated(x.answer)
	r.judgeAPNs(j.side().cfg, x)
	return r
}

// judgeAPNs reads the answer by the table of reactions.
func (r *ProbeResult) judgeAPNs(cfg APNsConfig, x *apnsExchange) {
	re := reactionTo(x.status, x.reason)
	switch {
	case re.verdict == Gone, re.verdict == Sent:
		r.Proved = fmt.Sprintf("%s takes key %s of team %s", r.Host, cfg.KeyID, cfg.TeamID)
		if cfg.Certificate != "" {
			r.Proved = r.Host + " takes the certificate"
		}
		return
	case re.verdict == Failed:
		r.Doubtful = true
		r.Err = fmt.Errorf("%w: %s is busy or has a fault of its own; try again in some minutes", answerError(x, ""), r.Host)
		return
	}
	r.Err = cfg.refusal(x, re.advice)
}
