package pushtest

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"golang.org/x/net/http2/hpack"
)

// Limits of pushes, and of provider tokens.
const (
	maxPayload    = 5120 // of a VoIP push
	maxAlert      = 4096
	bearerLife    = 60 * time.Minute
	bearerAtLeast = 20 * time.Minute // between two different ones on a connection
	maxExpiration = 60 * time.Second // ours: a call is over by then. Apple takes any time.
)

var accepted = Answer{Status: http.StatusOK}

// judge checks a request as Apple does; the first fault is the answer. The
// first request with a good provider token lifts the limit of one stream.
func (a *APNs) judge(r *request) Answer {
	token, _ := strings.CutPrefix(r.Path, "/3/device/")
	r.Token = strings.ToLower(token)
	r.ID, r.Topic = r.Header.Get("apns-id"), r.Header.Get("apns-topic")
	answer := a.check(r)
	if !strings.Contains(answer.Reason, "ProviderToken") {
		r.conn.widen()
	}
	return answer
}

func (a *APNs) check(r *request) Answer {
	for _, check := range []func(*request) Answer{
		a.checkForm, a.checkBearer, a.checkToken, a.checkTopic, a.checkKind, a.checkHeaders, a.checkPayload,
	} {
		if fault := check(r); fault.Status != 0 {
			return fault
		}
	}
	return accepted
}

// render answers as Apple does: 200 without a body, else a reason.
func (a *APNs) render(r *request, answer Answer) ([]hpack.HeaderField, []byte) {
	fields := []hpack.HeaderField{{Name: "apns-id", Value: r.ID}}
	if answer.Reason == "" {
		return fields, nil
	}
	body := struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp,omitempty"`
	}{Reason: answer.Reason}
	if !answer.Timestamp.IsZero() {
		body.Timestamp = answer.Timestamp.UnixMilli()
	}
	return fields, encode(body)
}

func (*APNs) checkForm(r *request) Answer {
	switch {
	case !strings.HasPrefix(r.Path, "/3/device/"):
		return Reject(404, "BadPath")
	case r.method != http.MethodPost:
		return Reject(405, "MethodNotAllowed")
	}
	for _, name := range []string{"apns-topic", "apns-id", "apns-priority", "apns-expiration", "apns-push-type", "authorization"} {
		if len(r.Header.Values(name)) > 1 {
			return Reject(400, "DuplicateHeaders")
		}
	}
	return Answer{}
}

// verified is a provider token whose signature is good.
type verified struct {
	keyID  string
	only   string // the environment of its key; "": both
	issued time.Time
}

func (a *APNs) checkBearer(r *request) Answer {
	if r.Header.Get("authorization") == "" {
		return a.checkCertificate(r)
	}
	scheme, bearer, _ := strings.Cut(r.Header.Get("authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") || bearer == "" {
		return Reject(403, "MissingProviderToken")
	}
	v, err := a.verify(bearer)
	last, _ := r.conn.memory.(verified)
	switch {
	case err != nil, v.issued.After(r.At):
		return Reject(403, "InvalidProviderToken")
	case r.At.Sub(v.issued) > bearerLife:
		return Reject(403, "ExpiredProviderToken")
	case v.only != "" && v.only != r.Environment:
		return Reject(403, "BadEnvironmentKeyIdInToken")
	case last.keyID != "" && last.keyID != v.keyID:
		return Reject(403, "UnrelatedKeyIdInToken")
	case v.issued.After(last.issued) && !last.issued.IsZero() && v.issued.Sub(last.issued) < bearerAtLeast:
		return Reject(429, "TooManyProviderTokenUpdates")
	}
	r.conn.memory = v // Apple binds a connection to its first key
	return Answer{}
}

// verify checks a provider token's form and signature, once for each token.
func (a *APNs) verify(bearer string) (verified, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v, ok := a.bearers[bearer]; ok {
		return v, nil
	}
	var v verified
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(bearer, claims, func(t *jwt.Token) (any, error) {
		v.keyID, _ = t.Header["kid"].(string)
		key, ok := a.keys[v.keyID]
		if !ok || claims["iss"] != key.team {
			return nil, errors.New("unknown key or team")
		}
		v.only = key.only
		return key.public, nil
	})
	if err != nil {
		return verified{}, err
	}
	iat, ok := claims["iat"].(float64)
	if !ok {
		return verified{}, errors.New("no iat")
	}
	v.issued = time.Unix(int64(iat), 0)
	a.bearers[bearer] = v
	a.counts.Bearers++
	return v, nil
}

var hexToken = regexp.MustCompile(`^[0-9a-f]{2,}$`)

func (a *APNs) checkToken(r *request) Answer {
	token := r.Token
	if token == "" {
		return Reject(400, "MissingDeviceToken")
	}
	if !hexToken.MatchString(token) || len(token)%2 != 0 {
		return Reject(400, "BadDeviceToken")
	}
	a.mu.Lock()
	d, known := a.tokens[r.Environment+" "+token]
	a.mu.Unlock()
	if !known && !a.anyToken {
		return Reject(400, "BadDeviceToken")
	}
	if !d.gone.IsZero() {
		return Answer{Status: 410, Reason: "Unregistered", Timestamp: d.gone}
	}
	topic := r.Header.Get("apns-topic")
	if d.topic != "" && topic != "" && strings.TrimSuffix(topic, ".voip") != d.topic {
		return Reject(400, "DeviceTokenNotForTopic")
	}
	return Answer{}
}

func (*APNs) checkTopic(r *request) Answer {
	topic, kind := r.Header.Get("apns-topic"), r.Header.Get("apns-push-type")
	switch {
	case topic == "":
		return Reject(400, "MissingTopic")
	case kind != "voip" && kind != "alert":
		return Reject(400, "InvalidPushType")
	case kind == "voip" && !strings.HasSuffix(topic, ".voip") || len(topic) > 255:
		return Reject(400, "BadTopic")
	case kind == "alert" && strings.HasSuffix(topic, ".voip"):
		return Reject(400, "InvalidPushType")
	}
	return Answer{}
}

// checkKind: a token is for VoIP pushes or for alerts.
func (a *APNs) checkKind(r *request) Answer {
	a.mu.Lock()
	d := a.tokens[r.Environment+" "+r.Token]
	a.mu.Unlock()
	if d.topic != "" && d.alert != (r.Header.Get("apns-push-type") == "alert") {
		return Reject(400, "DeviceTokenNotForTopic")
	}
	return Answer{}
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// checkHeaders is stricter than Apple, who has defaults for all of these: a
// call's push must say that it is urgent and when it is over.
func (*APNs) checkHeaders(r *request) Answer {
	if r.Header.Get("apns-priority") != "10" {
		return Reject(400, "BadPriority")
	}
	expiration, err := strconv.ParseInt(r.Header.Get("apns-expiration"), 10, 64)
	if err != nil || expiration < 0 || expiration > r.At.Add(maxExpiration).Unix() {
		return Reject(400, "BadExpirationDate")
	}
	if expiration > 0 {
		r.Expiration = time.Unix(expiration, 0)
	}
	if id := r.Header.Get("apns-id"); id != "" && !uuidForm.MatchString(id) {
		return Reject(400, "BadMessageId")
	}
	if len(r.Header.Get("apns-collapse-id")) > 64 {
		return Reject(400, "BadCollapseId")
	}
	return Answer{}
}

func (*APNs) checkPayload(r *request) Answer {
	most, alert := maxPayload, r.Header.Get("apns-push-type") == "alert"
	if alert {
		most = maxAlert
	}
	switch {
	case len(r.Body) == 0:
		return Reject(400, "PayloadEmpty")
	case len(r.Body) > most:
		return Reject(413, "PayloadTooLarge")
	case json.Unmarshal(r.Body, &r.Payload) != nil || len(r.Payload) == 0,
		r.Payload["aps"] == nil && r.Header.Get("apns-push-type") != "voip": // what PushKit hands to an app need not have one
		return Reject(400, "PayloadEmpty") // Apple has no better word for it
	}
	if aps, _ := r.Payload["aps"].(map[string]any); alert && aps["alert"] == nil {
		return Reject(400, "PayloadEmpty")
	}
	return Answer{}
}
