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
)

// Limits of a VoIP push, and of provider tokens.
const (
	maxPayload    = 5120
	bearerLife    = 60 * time.Minute
	bearerAtLeast = 20 * time.Minute // between two different ones on a connection
	maxExpiration = 60 * time.Second // ours: a call is over by then. Apple takes any time.
)

// request is one complete HTTP request.
type request struct {
	at          time.Time
	environment string
	conn        int
	method      string
	path        string
	header      http.Header
	body        []byte

	// known once checked
	expiration time.Time
	payload    map[string]any
}

func (r *request) token() string {
	token, _ := strings.CutPrefix(r.path, "/3/device/")
	return strings.ToLower(token)
}

func (r *request) push() Push {
	return Push{
		At: r.at, Environment: r.environment, Token: r.token(), ID: r.header.Get("apns-id"),
		Topic: r.header.Get("apns-topic"), Expiration: r.expiration, Payload: r.payload,
		Body: r.body, Header: r.header, Conn: r.conn,
	}
}

var accepted = Answer{Status: http.StatusOK}

// judge checks a request as Apple does; the first fault is the answer.
func (c *serverConn) judge(r *request) Answer {
	for _, check := range []func(*request) Answer{
		c.checkForm, c.checkBearer, c.checkToken, c.checkTopic, c.checkHeaders, c.checkPayload,
	} {
		if fault := check(r); fault.Status != 0 {
			return fault
		}
	}
	return accepted
}

func (c *serverConn) checkForm(r *request) Answer {
	switch {
	case !strings.HasPrefix(r.path, "/3/device/"):
		return Reject(404, "BadPath")
	case r.method != http.MethodPost:
		return Reject(405, "MethodNotAllowed")
	}
	for _, name := range []string{"apns-topic", "apns-id", "apns-priority", "apns-expiration", "apns-push-type", "authorization"} {
		if len(r.header.Values(name)) > 1 {
			return Reject(400, "DuplicateHeaders")
		}
	}
	return Answer{}
}

// verified is a provider token whose signature is good.
type verified struct {
	keyID  string
	issued time.Time
}

func (c *serverConn) checkBearer(r *request) Answer {
	scheme, bearer, _ := strings.Cut(r.header.Get("authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") || bearer == "" {
		return Reject(403, "MissingProviderToken")
	}
	v, err := c.service.verify(bearer)
	switch {
	case err != nil, v.issued.After(r.at):
		return Reject(403, "InvalidProviderToken")
	case r.at.Sub(v.issued) > bearerLife:
		return Reject(403, "ExpiredProviderToken")
	case c.keyID != "" && c.keyID != v.keyID:
		return Reject(403, "UnrelatedKeyIdInToken")
	case v.issued.After(c.issued) && !c.issued.IsZero() && v.issued.Sub(c.issued) < bearerAtLeast:
		return Reject(429, "TooManyProviderTokenUpdates")
	}
	c.keyID, c.issued = v.keyID, v.issued
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
	return v, nil
}

var hexToken = regexp.MustCompile(`^[0-9a-f]{2,}$`)

func (c *serverConn) checkToken(r *request) Answer {
	token := r.token()
	if token == "" {
		return Reject(400, "MissingDeviceToken")
	}
	if !hexToken.MatchString(token) || len(token)%2 != 0 {
		return Reject(400, "BadDeviceToken")
	}
	a := c.service
	a.mu.Lock()
	d, known := a.tokens[r.environment+" "+token]
	a.mu.Unlock()
	if !known && !a.opts.AnyToken {
		return Reject(400, "BadDeviceToken")
	}
	if !d.gone.IsZero() {
		return Answer{Status: 410, Reason: "Unregistered", Timestamp: d.gone}
	}
	topic := r.header.Get("apns-topic")
	if d.topic != "" && topic != "" && strings.TrimSuffix(topic, ".voip") != d.topic {
		return Reject(400, "DeviceTokenNotForTopic")
	}
	return Answer{}
}

func (c *serverConn) checkTopic(r *request) Answer {
	topic := r.header.Get("apns-topic")
	switch {
	case topic == "":
		return Reject(400, "MissingTopic")
	case !strings.HasSuffix(topic, ".voip") || len(topic) > 255:
		return Reject(400, "BadTopic")
	case r.header.Get("apns-push-type") != "voip":
		return Reject(400, "InvalidPushType")
	}
	return Answer{}
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// checkHeaders is stricter than Apple, who has defaults for all of these: a
// call's push must say that it is urgent and when it is over.
func (c *serverConn) checkHeaders(r *request) Answer {
	if r.header.Get("apns-priority") != "10" {
		return Reject(400, "BadPriority")
	}
	expiration, err := strconv.ParseInt(r.header.Get("apns-expiration"), 10, 64)
	if err != nil || expiration < 0 || expiration > r.at.Add(maxExpiration).Unix() {
		return Reject(400, "BadExpirationDate")
	}
	if expiration > 0 {
		r.expiration = time.Unix(expiration, 0)
	}
	if id := r.header.Get("apns-id"); id != "" && !uuidForm.MatchString(id) {
		return Reject(400, "BadMessageId")
	}
	if len(r.header.Get("apns-collapse-id")) > 64 {
		return Reject(400, "BadCollapseId")
	}
	return Answer{}
}

func (c *serverConn) checkPayload(r *request) Answer {
	switch {
	case len(r.body) == 0:
		return Reject(400, "PayloadEmpty")
	case len(r.body) > maxPayload:
		return Reject(413, "PayloadTooLarge")
	case json.Unmarshal(r.body, &r.payload) != nil || r.payload["aps"] == nil:
		return Reject(400, "PayloadEmpty") // Apple has no better word for it
	}
	return Answer{}
}
