package push

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// noRegistration has a form that no registration token has: it cannot exist.
const noRegistration = "reveille-probe-no-such-registration-token"

// probe has FCM judge a message to a registration token that cannot exist
// (validate_only). That it finds fault with the token then means that
// everything before it was good: the service account, its role, the API.
func (f *fcm) probe(ctx context.Context) []ProbeResult {
	var all []*fcmProject
	for _, id := range slices.Sorted(maps.Keys(f.projects)) {
		if p := f.projects[id]; p.cfg.Project == id {
			all = append(all, p)
		}
	}
	return probeAll(len(all), func(i int) ProbeResult { return all[i].probe(ctx, f.accounts.dial) })
}

func (p *fcmProject) probe(ctx context.Context, dial DialFunc) ProbeResult {
	roots := p.account.pool.tr.TLSClientConfig.RootCAs
	tokens := way{base: p.account.access.conf.TokenURL, roots: roots, dial: dial, rootCA: "push.fcm.root_ca"}
	sends := way{base: p.url, roots: roots, dial: dial, rootCA: "push.fcm.root_ca"}
	r := ProbeResult{Provider: fcmName, App: p.cfg.Project, Host: sends.host()}
	if err := tokens.walk(ctx); err != nil {
		r.Err = fmt.Errorf("the token endpoint: %w", err)
		return r
	}
	if r.Err = p.probeAccess(ctx, &r); r.Err != nil {
		return r
	}
	if r.Err = sends.walk(ctx); r.Err != nil {
		return r
	}
	p.probeSend(ctx, sends, &r)
	return r
}

// probeAccess gets an access token.
func (p *fcmProject) probeAccess(ctx context.Context, r *ProbeResult) error {
	ctx, cancel := context.WithTimeout(ctx, probeAnswer)
	defer cancel()
	_, err := p.account.access.get(ctx)
	var why *accessError
	if errors.As(err, &why) {
		r.dated(&answer{header: why.header})
		if r.Doubtful = why.verdict == Failed && !why.alarm; r.Doubtful {
			return fmt.Errorf("%w; try again in some minutes, then look at what is in between", err)
		}
	}
	return err
}

// probeSend reads the answer by the table of reactions.
func (p *fcmProject) probeSend(ctx context.Context, w way, r *ProbeResult) {
	ctx, cancel := context.WithTimeout(ctx, probeAnswer)
	defer cancel()
	j := &fcmJob{project: p, target: Target{PRID: noRegistration}, data: []byte(`{"test":"true"}`), trial: true}
	x, out, _ := j.request(ctx)
	if x == nil {
		r.Err = w.silent(out.Err)
		return
	}
	r.dated(x.answer)
	switch re := fcmReactionTo(x.status, x.row); re.verdict {
	case Gone, Sent:
		r.Proved = fmt.Sprintf("%s takes the service account for project %s", r.Host, p.cfg.Project)
		if home := p.account.home; home != p.cfg.Project {
			r.Proved = fmt.Sprintf("%s takes the service account of project %s for project %s", r.Host, home, p.cfg.Project)
		}
	case Failed:
		r.Doubtful = !re.alarm
		r.Err = fmt.Errorf("%w; try again in some minutes", x.refusal(p.advice(re)))
	default:
		r.Err = x.refusal(p.advice(re))
	}
}
