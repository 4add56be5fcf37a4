package push

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"
)

const (
	fcmName         = "fcm"
	maxRegistration = 1024             // bytes of a registration token; real ones have under 200
	fcmBackOffFor   = 60 * time.Second // when a 429 comes without Retry-After: Google's own default
)

// fcm pushes to Android devices through Google's Firebase Cloud Messaging,
// HTTP v1. It is made once from the configuration and never changes.
type fcm struct {
	log      *slog.Logger
	accounts *fcmAccounts
	acquired []*fcmAccount
	projects map[string]*fcmProject // by project id, and by sender id
	only     *fcmProject            // where one is configured
}

// fcmProject is one configured project.
type fcmProject struct {
	cfg     FCMConfig
	url     string
	account *fcmAccount
	layout  *layout
}

// newFCM loads every service account, and starts connecting and fetching
// access tokens; what can be wrong in the configuration is found here.
func newFCM(cfgs []FCMConfig, accounts *fcmAccounts) (*fcm, error) {
	f := &fcm{log: accounts.log, accounts: accounts, projects: map[string]*fcmProject{}}
	for _, cfg := range cfgs {
		p, err := f.newProject(cfg)
		if err != nil {
			f.Close()
			return nil, err
		}
		f.projects[cfg.Project] = p
		if cfg.SenderID != "" {
			f.projects[cfg.SenderID] = p
		}
		if f.only = p; len(cfgs) > 1 {
			f.only = nil
		}
	}
	return f, nil
}

// newProject acquires the account, which is to be released also on error.
func (f *fcm) newProject(cfg FCMConfig) (*fcmProject, error) {
	base, err := cfg.endpoint()
	if err != nil {
		return nil, fmt.Errorf("push.fcm.endpoint: %w", err)
	}
	p := &fcmProject{cfg: cfg, url: base + "/v1/projects/" + cfg.Project + "/messages:send"}
	if p.layout, err = newLayout(cfg.PayloadConfig, formFCM); err != nil {
		return nil, fmt.Errorf("push.fcm.%w", err)
	}
	if p.account, err = f.accounts.acquire(cfg); err != nil {
		return nil, err
	}
	f.acquired = append(f.acquired, p.account)
	return p, nil
}

func (f *fcm) Name() string { return fcmName }

// Close ends all connections that no other configuration shares.
func (f *fcm) Close() {
	acquired := f.acquired
	f.acquired = nil
	for _, acc := range acquired {
		f.accounts.release(acc)
	}
}

// Serves says whether the pn-param, a project id (RFC 8599), is
// configured.
func (f *fcm) Serves(param string) bool { return f.find(param) != nil }

// find gives the project of a pn-param. With one configured, a device that
// sent no pn-param means that one.
func (f *fcm) find(param string) *fcmProject {
	if param == "" {
		return f.only
	}
	return f.projects[param]
}

func (f *fcm) checkToken(prid string) error {
	if !isVisible(prid) || len(prid) > maxRegistration {
		return fmt.Errorf("pn-prid is no registration token: need 1 to %d visible ASCII characters", maxRegistration)
	}
	return nil
}

// isVisible: ASCII without spaces and controls, and not empty.
func isVisible(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return s != ""
}

// Push makes one attempt. Inside it the request is made again where that is
// not a retry of the same thing: with a new access token, with the smallest
// payload.
func (f *fcm) Push(ctx context.Context, t Target, m Message) (Outcome, bool) {
	job, out := f.prepare(t, m)
	if job == nil {
		return out, false
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, noDeadline)
		defer cancel()
	}
	done := map[fcmAction]bool{}
	for {
		x, out, retry := job.request(ctx)
		if x == nil {
			return out, retry
		}
		x.reason = redact(redact(x.reason, t.PRID), x.bearer) // which is logged, too
		r := fcmReactionTo(x.status, x.row)
		if done[r.do] || !job.again(r.do, x) {
			return f.conclude(job, x, r)
		}
		done[r.do] = true
		f.noteAgain(job.project, m, x, r)
	}
}

// noteAgain leaves a trace of an answer that the outcome will not show. A
// payload that Google refuses is our fault, even when the smallest one passes.
func (f *fcm) noteAgain(p *fcmProject, m Message, x *fcmExchange, r fcmReaction) {
	level := slog.LevelInfo
	if r.do == fcmMinimal {
		level = slog.LevelError
	}
	f.log.Log(context.Background(), level, "push refused, trying again", "call", m.UUID, "provider", fcmName, "code", x.status, "err", x.refusal(p.advice(r)))
}

// advice is that of a reaction; where the service account is of another
// project there are more places to look at.
func (p *fcmProject) advice(r fcmReaction) string {
	home := p.account.home
	if home == p.cfg.Project {
		return r.advice
	}
	switch r.advice {
	case adviceRole:
		return fmt.Sprintf("the service account is of project %q and may not send for %q: correct push.fcm.project or take a service account of that project, or, if this one is meant, "+
			"give it the role Firebase Cloud Messaging API Admin on the IAM page of %q, and see that the API is enabled in both", home, p.cfg.Project, p.cfg.Project)
	case adviceAPI:
		return fmt.Sprintf("the Firebase Cloud Messaging API (V1) is off: enable it in the Google Cloud console, under APIs & Services, in the service account's project %q, and in %q",
			home, p.cfg.Project)
	}
	return r.advice
}

// fcmJob is one attempt on its way.
type fcmJob struct {
	project *fcmProject
	target  Target
	message Message
	data    []byte
	trial   bool    // to be judged by FCM only, not delivered
	out     Outcome // Attempts and Shortened
}

// prepare checks what does not need the network; without a job the outcome is final.
func (f *fcm) prepare(t Target, m Message) (*fcmJob, Outcome) {
	p := f.find(t.Param)
	if p == nil {
		return nil, Outcome{Verdict: Refused, Alarm: true, Reason: "UnknownProject",
			Err: foreignApp(t.Param, slices.Collect(maps.Keys(f.projects)), "push.fcm.project and sender_id")}
	}
	if err := f.checkToken(t.PRID); err != nil {
		return nil, Outcome{Verdict: Gone, Reason: "MalformedToken", Err: err}
	}
	if wait := f.accounts.backOff.left(t.PRID); wait > 0 {
		return nil, Outcome{Verdict: Failed, Status: http.StatusTooManyRequests, Reason: "QUOTA_EXCEEDED",
			Err: fmt.Errorf("the provider has had too many pushes for this device: none for another %v", wait.Round(time.Millisecond))}
	}
	if !m.ExpiresAt.IsZero() && !time.Now().Before(m.ExpiresAt) {
		return nil, Outcome{Verdict: Failed, Reason: "Expired", Err: errors.New("the call's time was over before the push was sent")}
	}
	data, shortened, err := p.layout.build(m, t)
	if err != nil {
		return nil, Outcome{Verdict: Refused, Alarm: true, Reason: "Payload", Err: err}
	}
	return &fcmJob{project: p, target: t, message: m, data: data, out: Outcome{Shortened: shortened}}, Outcome{}
}

// fcmExchange is one request to FCM and its answer.
type fcmExchange struct {
	*answer
	bearer string // access token that it went with
	reason string // "" when the body was no JSON of theirs
	row    string // the reason as the table of reactions has it
}

// request makes one HTTP request. Without an answer the outcome is final, but
// for a retry.
func (j *fcmJob) request(ctx context.Context) (x *fcmExchange, out Outcome, retry bool) {
	bearer, err := j.project.account.access.get(ctx)
	if err != nil {
		out, retry = j.noAccess(err)
		return nil, out, retry
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, j.project.url, http.NoBody)
	if err != nil { // the URL was made of checked parts
		out, retry = j.noAccess(errors.New("the request could not be built"))
		return nil, out, retry
	}
	body := j.body(time.Now())
	req.ContentLength = int64(len(body))
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "reveille")
	j.out.Attempts++
	x = &fcmExchange{answer: j.project.account.pool.exchange(req, body), bearer: bearer}
	if x.err != nil {
		out, retry = x.unanswered(ctx, j.out, way{base: j.project.url, rootCA: "push.fcm.root_ca"})
		return nil, out, retry
	}
	x.reason, x.row = fcmReason(x.body) // half of one is no JSON
	return x, Outcome{}, false
}

// noAccess is the outcome where there is no access token to send with.
func (j *fcmJob) noAccess(err error) (out Outcome, retry bool) {
	out = j.out
	out.Verdict, out.Err, out.Reason = Failed, err, "AccessToken"
	var why *accessError
	if errors.As(err, &why) {
		out.Verdict, out.Reason, out.Alarm = why.verdict, why.reason, why.alarm
	}
	return out, out.Verdict == Failed && !out.Alarm
}

// body is the message: data alone, since a notification would be shown by the
// system without waking the app.
func (j *fcmJob) body(now time.Time) []byte {
	token, err := json.Marshal(j.target.PRID)
	if err != nil { // a string always encodes
		return nil
	}
	b := make([]byte, 0, len(j.data)+len(token)+100)
	b = append(b, '{')
	if j.trial {
		b = append(b, `"validate_only":true,`...)
	}
	b = append(b, `"message":{"token":`...)
	b = append(b, token...)
	b = append(b, `,"android":{"priority":"HIGH","ttl":"`...)
	b = strconv.AppendInt(b, int64(j.ttl(now)/time.Second), 10)
	b = append(b, `s","data":`...)
	b = append(b, j.data...)
	return append(b, `}}}`...)
}

// ttl is how long Google may keep the push: never beyond the call.
func (j *fcmJob) ttl(now time.Time) time.Duration {
	ttl := j.project.cfg.TTL
	if ends := j.message.ExpiresAt; !ends.IsZero() {
		ttl = min(ttl, max(0, ends.Sub(now)))
	}
	return ttl
}

// again prepares the job for another request in the same attempt, if the
// action asks for one.
func (j *fcmJob) again(do fcmAction, x *fcmExchange) bool {
	switch do {
	case fcmMinimal:
		data, err := j.project.layout.minimal(j.message, j.target)
		if err != nil || len(data) >= len(j.data) {
			return false
		}
		j.data = data
		j.out.Shortened, j.out.Alarm = []string{"all"}, true
	case fcmRenew:
		return j.project.account.access.refused(x.bearer)
	default:
		return false
	}
	return true
}

// conclude turns the last answer into the outcome.
func (f *fcm) conclude(j *fcmJob, x *fcmExchange, r fcmReaction) (out Outcome, retry bool) {
	out = j.out
	out.Verdict, out.Alarm = r.verdict, r.alarm || j.out.Alarm
	out.Status, out.Reason = x.status, x.reason
	wish := x.retryAfter()
	switch r.do {
	case fcmFresh:
		retry, out.RetryAfter = true, wish
		j.project.account.pool.suspect(x.conn)
	case fcmWait:
		retry, out.RetryAfter = wish > 0, wish
	case fcmBackOff:
		retry, out.RetryAfter = wish > 0, wish
		f.accounts.backOff.add(j.target.PRID, cmp.Or(wish, fcmBackOffFor))
	}
	if out.Verdict == Sent {
		out.ID = messageID(x.answer)
	} else {
		out.Err = x.refusal(j.project.advice(r))
	}
	return out, retry
}

// messageID is the last part of the name that FCM gave the message,
// "projects/…/messages/…".
func messageID(a *answer) string {
	var said struct {
		Name string `json:"name"`
	}
	if !a.whole || json.Unmarshal(a.body, &said) != nil || said.Name == "" {
		return ""
	}
	return printable(path.Base(said.Name))
}

func (x *fcmExchange) refusal(advice string) error {
	text := fmt.Sprintf("FCM answered %d %s", x.status, cmp.Or(x.reason, http.StatusText(x.status), "without a reason"))
	if advice != "" {
		text += ": " + advice
	}
	return errors.New(text)
}
