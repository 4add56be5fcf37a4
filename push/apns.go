package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
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
	log     *slog.Logger
	apps    map[string]*app // by bundle id
	pools   []*connPool
	backOff *backOffs
}

// app is one configured topic.
type app struct {
	cfg     APNsConfig
	account *account
	layout  *layout // of a VoIP push
}

// account is one key at one endpoint. Apple binds a connection to the first
// key it sees, so connections and tokens are shared by all apps of the key,
// and by those alone.
type account struct {
	minter  *minter
	clients map[string]*apns2.Client // by environment
	pools   map[string]*connPool
}

// accountKey is what apps have in common that share an account.
type accountKey struct{ team, key, file, endpoint, roots, master string }

// newAPNs loads every key and starts connecting; what can be wrong in the
// configuration is found here.
func newAPNs(cfgs []APNsConfig, dial DialFunc, log *slog.Logger) (*apns, error) {
	a := &apns{log: log, apps: map[string]*app{}, backOff: newBackOffs()}
	accounts := map[accountKey]*account{}
	for _, cfg := range cfgs {
		key := accountKey{cfg.TeamID, cfg.KeyID, cfg.KeyFile, cfg.Endpoint, cfg.RootCA, cfg.masterKeyFile}
		if accounts[key] == nil {
			acc, err := a.newAccount(cfg, dial)
			if err != nil {
				a.Close()
				return nil, err
			}
			accounts[key] = acc
		}
		layout, err := newLayout(cfg.PayloadConfig, formVoIP)
		if err != nil {
			a.Close()
			return nil, fmt.Errorf("push.apns.%w", err)
		}
		a.apps[cfg.Topic] = &app{cfg, accounts[key], layout}
	}
	for _, app := range a.apps {
		app.account.pools[app.cfg.firstEnvironment()].warm()
	}
	return a, nil
}

func (a *apns) newAccount(cfg APNsConfig, dial DialFunc) (*account, error) {
	creds, err := cfg.load()
	if err != nil {
		return nil, err
	}
	acc := &account{clients: map[string]*apns2.Client{}, pools: map[string]*connPool{}}
	if acc.minter, err = newMinter(creds.key, cfg.KeyID, cfg.TeamID); err != nil {
		return nil, err
	}
	hosts, err := cfg.endpoints()
	if err != nil {
		return nil, err
	}
	shared := map[string]*connPool{}
	for env, host := range hosts {
		pool := shared[host]
		if pool == nil {
			if pool, err = newConnPool(host, creds.roots, dial, a.log); err != nil {
				return nil, err
			}
			shared[host] = pool
			a.pools = append(a.pools, pool)
		}
		acc.pools[env] = pool
		acc.clients[env] = &apns2.Client{Host: host, HTTPClient: &http.Client{
			Transport:     apnsTransport{pool},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
	}
	return acc, nil
}

func (a *apns) Name() string { return apnsName }

// Close ends all connections.
func (a *apns) Close() {
	for _, p := range a.pools {
		p.close()
	}
}

// Serves says whether the pn-param names a configured app.
func (a *apns) Serves(param string) bool { return a.find(param) != nil }

// find gives the app of a pn-param. A bundle id may look like another form of
// pn-param, so the whole is compared first. With one app configured, a device
// that sent no pn-param means that one.
func (a *apns) find(param string) *app {
	if param == "" && len(a.apps) == 1 {
		for _, app := range a.apps {
			return app
		}
	}
	if app := a.apps[param]; app != nil {
		return app
	}
	p, err := ParseAPNsParam(param)
	if err != nil {
		return nil
	}
	app := a.apps[p.Bundle]
	if app == nil || (p.Team != "" && p.Team != app.cfg.TeamID) {
		return nil
	}
	return app
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
	a.log.Log(context.Background(), level, "push refused, trying again", "call", m.UUID, "code", x.status, "err", answerError(x, r.advice))
}

// job is one attempt on its way.
type job struct {
	app     *app
	env     string
	flipped bool // env is the second one tried
	token   string
	target  Target
	message Message
	payload []byte
	out     Outcome // Attempts and Shortened
}

// prepare checks what does not need the network; without a job the outcome is final.
func (a *apns) prepare(t Target, m Message) (*job, Outcome) {
	app := a.find(t.Param)
	if app == nil {
		return nil, Outcome{Verdict: Refused, Alarm: true, Reason: "UnknownTopic",
			Err: errors.New("the device's pn-param names no configured app: compare push.apns.topic and team_id with it")}
	}
	token, err := ParseAPNsPRID(t.PRID)
	if err != nil {
		return nil, Outcome{Verdict: Gone, Reason: "MalformedToken", Err: err}
	}
	if wait := a.backOff.left(token); wait > 0 {
		return nil, Outcome{Verdict: Failed, Status: http.StatusTooManyRequests, Reason: "TooManyRequests",
			Err: fmt.Errorf("the provider has had too many pushes for this device: none for another %v", wait.Round(time.Millisecond))}
	}
	if !m.ExpiresAt.IsZero() && !time.Now().Before(m.ExpiresAt) {
		return nil, Outcome{Verdict: Failed, Reason: "Expired", Err: errors.New("the call's time was over before the push was sent")}
	}
	payload, shortened, err := app.layout.build(m, t)
	if err != nil {
		return nil, Outcome{Verdict: Refused, Alarm: true, Reason: "Payload", Err: err}
	}
	return &job{app: app, env: app.environment(t), token: token, target: t, message: m, payload: payload, out: Outcome{Shortened: shortened}}, Outcome{}
}

// environment is where to try a target first: what is configured, else what
// has been learned of the token, else what the device says.
func (a *app) environment(t Target) string {
	switch {
	case a.cfg.Environment == Production || a.cfg.Environment == Sandbox:
		return a.cfg.Environment
	case t.Environment == Production || t.Environment == Sandbox:
		return t.Environment
	case strings.EqualFold(t.Provider, apnsDevName):
		return Sandbox
	}
	return a.cfg.firstEnvironment()
}

// request makes one HTTP request. The library's own answer and error are not
// used: the error holds the token.
func (j *job) request(ctx context.Context) *apnsExchange {
	j.out.Attempts++
	x := &apnsExchange{answer: &answer{safe: true}}
	if x.jwt, x.err = j.app.account.minter.bearer(); x.err != nil {
		return x
	}
	pool := j.app.account.pools[j.env]
	pool.warm()
	client := j.app.account.clients[j.env]
	_, err := client.PushWithContext(withExchange(ctx, x), &apns2.Notification{
		ApnsID:      uuid.NewString(),
		DeviceToken: j.token,
		Topic:       j.app.cfg.Topic + voipSuffix,
		Expiration:  expiration(time.Now(), j.message.ExpiresAt),
		Priority:    apns2.PriorityHigh,
		PushType:    apns2.PushTypeVOIP,
		Payload:     j.payload,
	})
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
		if !j.app.cfg.learns() {
			return false
		}
		j.env, j.flipped = otherEnvironment(j.env), true
	case minimal:
		body, err := j.app.layout.minimal(j.message, j.target)
		if err != nil || len(body) >= len(j.payload) {
			return false
		}
		j.payload = body
		j.out.Shortened, j.out.Alarm = []string{"all"}, true
	case newKeyConn:
		j.app.account.pools[j.env].suspect(x.conn)
	default:
		return false
	}
	return true
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
	if r.verdict == Sent || (j.flipped && r.do != otherEnv) {
		out.Environment = j.env
	}
	advice := r.advice
	switch r.do {
	case fresh:
		retry = true
		j.app.account.pools[j.env].suspect(x.conn)
	case remint:
		retry = j.app.account.minter.expired(x.jwt)
	case keepBearer:
		j.app.account.minter.tooMany()
	case backOff:
		a.backOff.add(j.token, cmp.Or(x.retryAfter(), backOffDefault))
	case ifOlderOnly:
		if since := j.message.TargetSince; !x.timestamp.IsZero() && since.After(x.timestamp) {
			out.Verdict, advice = Failed, "the device has registered this token since then: it stays"
		}
	}
	if out.Verdict != Sent {
		out.Err = answerError(x, advice)
	}
	return out, retry
}

func answerError(x *apnsExchange, advice string) error {
	text := fmt.Sprintf("APNs answered %d %s", x.status, cmp.Or(x.reason, http.StatusText(x.status), "without a reason"))
	if advice != "" {
		text += ": " + advice
	}
	if at := x.date(); advice == adviceClock && !at.IsZero() {
		text += fmt.Sprintf(" (this machine minus APNs: %v)", time.Since(at).Round(time.Second))
	}
	return errors.New(text)
}

// unanswered is the outcome of a request that brought no answer.
func (j *job) unanswered(ctx context.Context, x *apnsExchange) (out Outcome, retry bool) {
	out = j.out
	if j.flipped {
		out.Environment = j.env
	}
	return x.unanswered(ctx, out, "push.apns.root_ca")
}
