package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/sideshow/apns2"
)

const (
	apnsName      = "apns"
	apnsDevName   = "apns.dev"       // the same service's sandbox (Linphone's value)
	maxExpiration = 30 * time.Second // a call push that Apple delivers later only rings a dead call
	noDeadline    = 10 * time.Second // for a caller that set none
)

// apns pushes to iOS devices through Apple's service. It is made once from the
// configuration and never changes.
type apns struct {
	log      *slog.Logger
	accounts *accounts
	acquired []*account
	apps     map[string][]*app // by bundle id, in the order of the configuration
	count    int               // of apps
}

// newAPNs loads every key and certificate and starts connecting; what can be
// wrong in the configuration is found here.
func newAPNs(cfgs []APNsConfig, accounts *accounts) (*apns, error) {
	a := &apns{log: accounts.log, accounts: accounts, apps: map[string][]*app{}}
	for _, cfg := range cfgs {
		if err := a.add(cfg); err != nil {
			a.Close()
			return nil, err
		}
	}
	for _, apps := range a.apps {
		for _, app := range apps {
			app.sides[app.first()].account.pools[app.first()].warm()
		}
	}
	return a, nil
}

func (a *apns) Name() string { return apnsName }

// Close ends all connections that no other configuration shares.
func (a *apns) Close() {
	acquired := a.acquired
	a.acquired = nil
	for _, acc := range acquired {
		a.accounts.release(acc)
	}
}

// Serves says whether the pn-param names a configured app.
func (a *apns) Serves(param string) bool {
	app, _ := a.find(param)
	return app != nil
}

// Push makes one attempt. Inside it the request is made again where that is
// not a retry of the same thing: in the other environment, with the smallest
// payload, on a connection that is not bound to another key.
func (a *apns) Push(ctx context.Context, t Target, m Message) (Outcome, bool) {
	job, out := a.prepare(t, m)
	if job == nil {
		return out, false
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, noDeadline)
		defer cancel()
	}
	done := map[action]bool{}
	for {
		x := job.request(ctx)
		if x.err != nil {
			return job.unanswered(ctx, x)
		}
		x.reason = redact(x.reason, t.PRID) // which is logged, too
		r := reactionTo(x.status, x.reason)
		if done[r.do] || !job.again(r.do, x) {
			return a.conclude(job, x, r)
		}
		done[r.do] = true
		a.noteAgain(m, x, r)
	}
}

// noteAgain leaves a trace of an answer that the outcome will not show. A
// payload that Apple refuses is our fault, even when the smallest one passes.
func (a *apns) noteAgain(m Message, x *apnsExchange, r reaction) {
	level := slog.LevelInfo
	if r.do == minimal {
		level = slog.LevelError
	}
	a.log.Log(context.Background(), level, "push refused, trying again", "call", m.UUID, "provider", apnsName, "code", x.status, "err", answerError(x, r.advice))
}

// job is one attempt on its way.
type job struct {
	accounts *accounts
	app      *app
	env      string
	flipped  bool // env is the second one tried
	held     bool // a second one was not tried, because too many were lately
	choice
	target  Target
	message Message
	payload []byte
	out     Outcome // Attempts and Shortened
}

func (j *job) side() *side       { return j.app.sides[j.env] }
func (j *job) account() *account { return j.side().account }
func (j *job) pool() *connPool   { return j.account().pools[j.env] }

// prepare checks what does not need the network; without a job the outcome is final.
func (a *apns) prepare(t Target, m Message) (*job, Outcome) {
	app, remote := a.find(t.Param)
	if app == nil {
		return nil, Outcome{Verdict: Refused, Alarm: true, Reason: "UnknownTopic",
			Err: a.unknownTopic(t.Param)}
	}
	j := &job{accounts: a.accounts, app: app, env: app.environment(t), target: t, message: m}
	var err error
	if j.choice, err = j.side().choose(t.PRID, remote); err != nil {
		return nil, Outcome{Verdict: Gone, Reason: "MalformedToken", Err: err}
	}
	if wait := a.accounts.backOff.left(j.token); wait > 0 {
		return nil, Outcome{Verdict: Failed, Status: http.StatusTooManyRequests, Reason: "TooManyRequests",
			Err: fmt.Errorf("the provider has had too many pushes for this device: none for another %v", wait.Round(time.Millisecond))}
	}
	if !m.ExpiresAt.IsZero() && !time.Now().Before(m.ExpiresAt) {
		return nil, Outcome{Verdict: Failed, Reason: "Expired", Err: errors.New("the call's time was over before the push was sent")}
	}
	if err := j.build(); err != nil {
		return nil, Outcome{Verdict: Refused, Alarm: true, Reason: "Payload", Err: err}
	}
	return j, Outcome{}
}

// build makes the payload for the environment.
func (j *job) build() error {
	l, err := j.side().layout(j.choice)
	if err == nil {
		j.payload, j.out.Shortened, err = l.build(j.message, j.target)
	}
	return err
}

// request makes one HTTP request. The library's own answer and error are not
// used: the error holds the token.
func (j *job) request(ctx context.Context) *apnsExchange {
	j.out.Attempts++
	j.out.Alert = j.alert
	x := &apnsExchange{answer: &answer{safe: true}}
	if minter := j.account().minter; minter != nil {
		if x.jwt, x.err = minter.bearer(); x.err != nil {
			return x
		}
	}
	j.pool().warm()
	n := &apns2.Notification{
		ApnsID:      uuid.NewString(),
		DeviceToken: j.token,
		Topic:       j.app.bundle + voipSuffix,
		Expiration:  expiration(time.Now(), j.message.ExpiresAt),
		Priority:    apns2.PriorityHigh,
		PushType:    apns2.PushTypeVOIP,
		Payload:     j.payload,
	}
	if j.alert {
		n.Topic, n.PushType = j.app.bundle, apns2.PushTypeAlert
	}
	_, err := j.account().clients[j.env].PushWithContext(withExchange(ctx, x), n)
	if err != nil && x.err == nil && x.status == 0 {
		x.err = errors.New("the request could not be built")
	}
	return x
}

// expiration is until when Apple may try to deliver: the call's end, at most
// 30 s. The zero time stands for "now or never".
func expiration(now, callEnds time.Time) time.Time {
	if callEnds.IsZero() || callEnds.Sub(now) > maxExpiration {
		return now.Add(maxExpiration)
	}
	if callEnds.Sub(now) < time.Second {
		return time.Time{}
	}
	return callEnds
}

// again prepares the job for another request in the same attempt, if the
// action asks for one.
func (j *job) again(do action, x *apnsExchange) bool {
	switch do {
	case otherEnv:
		return j.flip()
	case minimal:
		l, err := j.side().layout(j.choice)
		if err != nil {
			return false
		}
		body, err := l.minimal(j.message, j.target)
		if err != nil || len(body) >= len(j.payload) {
			return false
		}
		j.payload = body
		j.out.Shortened, j.out.Alarm = []string{"all"}, true
	case newKeyConn:
		j.pool().suspect(x.conn)
	default:
		return false
	}
	return true
}

// flip turns to the other environment, where the app has one and its key may
// be good there.
func (j *job) flip() bool {
	env := otherEnvironment(j.env)
	if !j.app.learns || j.app.sides[env].account.foreign.Load() {
		return false
	}
	if j.held = !j.accounts.mayFlip(j.account()); j.held {
		return false
	}
	before := j.side()
	j.env, j.flipped = env, true
	return j.side() == before || j.build() == nil
}

func otherEnvironment(env string) string {
	if env == Sandbox {
		return Production
	}
	return Sandbox
}

// conclude turns the last answer into the outcome.
func (a *apns) conclude(j *job, x *apnsExchange, r reaction) (out Outcome, retry bool) {
	out = j.out
	out.Verdict, out.Alarm = r.verdict, r.alarm || j.out.Alarm
	out.Status, out.Reason, out.ID = x.status, x.reason, x.apnsID
	if r.verdict == Sent || (j.flipped && r.do != otherEnv && r.do != wrongKey) {
		out.Environment = j.env
	}
	advice, minter := r.advice, j.account().minter
	switch r.do {
	case fresh:
		retry = true
		j.pool().suspect(x.conn)
	case none:
		if minter != nil && r.verdict == Sent {
			minter.accepted(x.jwt)
		}
	case remint:
		retry = minter != nil && minter.expired(x.jwt)
	case keepBearer:
		if minter != nil {
			minter.tooMany()
		}
	case wrongKey:
		if j.flipped { // the token is no proof against the key, the answer is
			j.account().foreign.Store(true)
			advice += "; until then tokens are tried in one environment only"
		}
	case otherEnv:
		if j.held {
			out.Verdict, advice = Failed, "the other environment was not tried, since too many tokens were bad lately: the device stays"
		} else if len(j.app.sides) == 1 {
			// One that this environment has never taken may be good in the other: a
			// wrong line in the configuration must not cost a fleet its tokens.
			advice = fmt.Sprintf(adviceOneEnv, j.env)
			if j.target.Environment != j.env {
				out.Verdict, out.Alarm = Refused, true
			}
		}
	case backOff:
		a.accounts.backOff.add(j.token, cmp.Or(x.retryAfter(), backOffDefault))
	case ifOlderOnly:
		if since := j.message.TargetSince; !x.timestamp.IsZero() && since.After(x.timestamp) {
			out.Verdict, advice = Failed, "the device has registered this token since then: it stays"
		}
	}
	if out.Verdict != Sent {
		out.Err = j.side().cfg.refusal(x, advice)
	}
	return out, retry
}

func answerError(x *apnsExchange, advice string) error {
	text := fmt.Sprintf("APNs answered %d %s", x.status, cmp.Or(x.reason, http.StatusText(x.status), "without a reason"))
	if advice != "" {
		text += ": " + advice
	}
	return errors.New(text)
}

// unanswered is the outcome of a request that brought no answer.
func (j *job) unanswered(ctx context.Context, x *apnsExchange) (out Outcome, retry bool) {
	out = j.out
	if j.flipped {
		out.Environment = j.env
	}
	return x.unanswered(ctx, out, way{base: j.side().host(j.env), rootCA: "push.apns.root_ca"})
}
