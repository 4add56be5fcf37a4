package push

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"
)

// Times of access tokens. Google's live for an hour.
const (
	accessSpare   = time.Minute      // a token is not used in the last of its life
	accessDefault = 5 * time.Minute  // its life, where the endpoint does not say
	accessMost    = 12 * time.Hour   // and no longer, whatever it says: the longest that Google can be told to give
	renewAtMost   = 10 * time.Second // between two that are renewed because one was refused
	fetchTimeout  = 10 * time.Second // connecting included
	fetchAtMost   = time.Second      // between two that failed, however many calls want one
	refetchMost   = time.Minute
)

// accessSource keeps an access token at hand (RFC 7523): fetched when it
// starts and again well before its end, so that no call waits for it. One
// fetch runs at a time, whoever wants a token.
type accessSource struct {
	log     *slog.Logger
	project string
	conf    *jwt.Config
	tr      *http.Transport
	ctx     context.Context
	cancel  context.CancelFunc
	kick    chan struct{} // somebody wants a token now
	tasks   sync.WaitGroup

	mu      sync.Mutex // guards the following
	current access
	err     *accessError  // of the last fetch; nil when it succeeded
	tried   time.Time     // end of the last fetch
	changed chan struct{} // closed at the end of the next fetch
	renewed time.Time     // when a token was last renewed because it was refused
}

// access is an access token. Times are the wall clock's: a suspended machine
// ages its tokens too.
type access struct {
	token            string
	fetched, expires time.Time
}

// accessError says why there is no token, without a word of secrets.
type accessError struct {
	verdict Verdict
	reason  string // for Outcome.Reason
	text    string
	alarm   bool        // an administrator must act, and text says how
	cause   error       // only where somebody's time was over
	header  http.Header // of the token endpoint's answer, if one came
}

func (e *accessError) Error() string { return e.text }
func (e *accessError) Unwrap() error { return e.cause }

func newAccessSource(project string, creds fcmCredentials, dial DialFunc, log *slog.Logger) *accessSource {
	s := &accessSource{
		log: log, project: project, conf: creds.conf,
		tr: newTransport(creds.roots, dial), kick: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	s.tr.Protocols.SetHTTP1(true)
	s.tr.IdleConnTimeout = fetchTimeout
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tasks.Go(s.keep)
	return s
}

// close ends the fetches.
func (s *accessSource) close() {
	s.cancel()
	s.tasks.Wait()
	s.tr.CloseIdleConnections()
}

// keep fetches a token when one is due or wanted.
func (s *accessSource) keep() {
	failed := 0
	for {
		token, err := s.fetch()
		if s.ctx.Err() != nil {
			s.settle(token, err)
			return
		}
		if err != nil {
			failed++
		} else {
			failed = s.recovered(failed)
		}
		if !s.await(s.settle(token, err), failed) {
			return
		}
	}
}

func (s *accessSource) recovered(failed int) int {
	if failed > 0 {
		s.log.Info("there is an access token for FCM again", "project", s.project, "failed", failed)
	}
	return 0
}

// settle keeps what a fetch brought and says so to those who wait. It gives
// how long the token is good without another fetch.
func (s *accessSource) settle(token access, err *accessError) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.tried = err, time.Now().Round(0)
	if err == nil {
		s.current = token
		select {
		case <-s.kick: // whoever wanted a token has this one
		default:
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return token.expires.Sub(token.fetched) * 3 / 4
}

// await waits until the next fetch is due or wanted; false at the end. After
// failures it is due soon, and not sooner for being wanted than fetchAtMost.
func (s *accessSource) await(good time.Duration, failed int) bool {
	kick := s.kick
	if failed > 0 {
		if failed%logEvery == 1 {
			s.mu.Lock()
			err := s.err
			s.mu.Unlock()
			level := slog.LevelWarn
			if err.alarm {
				level = slog.LevelError
			}
			s.log.Log(s.ctx, level, "no access token for FCM", "project", s.project, "err", err, "failed", failed)
		}
		if !sleep(s.ctx, fetchAtMost) {
			return false
		}
		good = min(fetchAtMost<<min(failed, 10), refetchMost)
		good += rand.N(good/4) - fetchAtMost
	}
	timer := time.NewTimer(good)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-kick:
	case <-s.ctx.Done():
		return false
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// get gives a token to send with now. It waits for a fetch only where there is
// none, and not at all where one has just failed.
func (s *accessSource) get(ctx context.Context) (string, error) {
	for waited := false; ; waited = true {
		token, changed, err := s.look(waited)
		if token != "" || err != nil {
			return token, err
		}
		s.want()
		select {
		case <-changed:
		case <-s.ctx.Done():
			return "", &accessError{reason: "Closed", text: "no access token is fetched any more", cause: errPoolClosed}
		case <-ctx.Done():
			return "", &accessError{reason: "Deadline", text: "the token endpoint has not answered in time: no access token", cause: ctx.Err()}
		}
	}
}

// look gives the token, or why there is none: for who has waited for a fetch,
// and while the last one is young. Else there is a fetch to wait for.
func (s *accessSource) look(waited bool) (token string, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().Round(0)
	switch {
	case now.Before(s.current.expires.Add(-accessSpare)) && !now.Before(s.current.fetched.Add(-accessSpare)):
		return s.current.token, nil, nil
	case s.err != nil && (waited || now.Sub(s.tried) < fetchAtMost):
		return "", nil, s.err
	}
	return "", s.changed, nil // also where the token that was fetched has been refused already
}

func (s *accessSource) want() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// refused is told that FCM does not take a token any more. It says whether
// another may do better: false when that was tried just now.
func (s *accessSource) refused(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token != s.current.token {
		return true // another push has had a new one fetched in the meantime
	}
	now := time.Now().Round(0)
	if now.Sub(s.renewed) < renewAtMost {
		return false
	}
	s.renewed = now
	s.current = access{}
	return true
}

// fetch asks the token endpoint.
func (s *accessSource) fetch() (access, *accessError) {
	ctx, cancel := context.WithTimeout(s.ctx, fetchTimeout)
	defer cancel()
	wire := &accessTransport{ctx: ctx, tr: s.tr}
	token, err := s.conf.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport:     wire,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})).Token()
	if err != nil {
		return access{}, wire.explain(err, way{base: s.conf.TokenURL, rootCA: "push.fcm.root_ca"})
	}
	if !isAccessToken(token.AccessToken) || (token.TokenType != "" && !strings.EqualFold(token.TokenType, "bearer")) {
		return access{}, &accessError{reason: "AccessToken", text: "the token endpoint answered without an access token: does a proxy stand before it?"}
	}
	now := time.Now().Round(0)
	life := accessDefault
	if !token.Expiry.IsZero() {
		life = min(max(token.Expiry.Sub(now), 2*accessSpare), accessMost)
	}
	return access{token.AccessToken, now, now.Add(life)}, nil
}

// isAccessToken: RFC 6750 §2.1, in visible characters. It goes into a header.
func isAccessToken(s string) bool { return isVisible(s) && len(s) <= 8<<10 }

// accessTransport is under the OAuth library, which gives a request no
// deadline and hides what its errors were.
type accessTransport struct {
	ctx context.Context
	tr  *http.Transport
	err error
}

func (t *accessTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.tr.RoundTrip(req.WithContext(t.ctx))
	if err == nil && res.StatusCode == http.StatusSwitchingProtocols {
		res.Body.Close()
		res, err = nil, errSwitched
	}
	t.err = err
	return res, err
}

// explain says what an error means, and how to mend it.
func (t *accessTransport) explain(err error, to way) *accessError {
	var badCert *tls.CertificateVerificationError
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(t.err, &badCert):
		return &accessError{reason: "Certificate", alarm: true,
			text: fmt.Sprintf("the token endpoint: %v", cmp.Or(to.explain(t.err), t.err))}
	case t.err != nil:
		problem := to.explain(t.err)
		if problem == nil {
			problem = errors.New(unquoted(t.err.Error()))
		}
		return &accessError{reason: "AccessToken", text: fmt.Sprintf("the token endpoint: %v", problem)}
	case errors.As(err, &refused) && refused.Response != nil:
		return explainRefusal(refused.Response, refused.Body)
	}
	return &accessError{reason: "AccessToken", text: "the token endpoint answered what is no access token: does a proxy stand before it?"}
}

// explainRefusal reads RFC 6749 §5.2 in Google's words.
func explainRefusal(res *http.Response, body []byte) *accessError {
	var said struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &said) != nil || res.StatusCode >= http.StatusInternalServerError || res.StatusCode == http.StatusTooManyRequests {
		said.Error = "" // theirs, and it passes
	}
	text := fmt.Sprintf("the token endpoint answered %d %s", res.StatusCode, printable(said.Error))
	if said.Error == "" {
		return &accessError{reason: "AccessToken", text: text + "without saying why", header: res.Header}
	}
	advice := "compare push.fcm.service_account_file with the Firebase console, or " + howToGetAccount
	switch {
	case strings.Contains(said.Description, "account not found"):
		advice = "the service account was deleted: " + howToGetAccount
	case strings.Contains(said.Description, "Signature"):
		advice = "the service account's key was deleted: " + howToGetAccount
	case strings.Contains(said.Description, "short-lived"):
		advice = "set this machine's clock (timedatectl set-ntp true)"
		if ahead := (&answer{header: res.Header}).aheadOf(); ahead != 0 {
			advice = setClock(ahead, "Google")
		}
	}
	return &accessError{verdict: Refused, alarm: true, reason: printable(said.Error), text: text + ": " + advice, header: res.Header}
}
