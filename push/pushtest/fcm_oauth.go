package pushtest

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

// What the token endpoint wants: RFC 7523 §2.1 and Google's "Using OAuth 2.0
// for Server to Server Applications".
const (
	jwtBearer      = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	messagingScope = "https://www.googleapis.com/auth/firebase.messaging"
	assertionLife  = time.Hour
	clockSkew      = time.Minute // ours; Google does not say
)

// grantFault is what Google says is wrong with an assertion, in its words.
type grantFault string

func (f grantFault) Error() string { return string(f) }

const (
	errAccount   = grantFault("Invalid grant: account not found")
	errSignature = grantFault("Invalid JWT Signature.")
	errTimes     = grantFault("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
)

// judgeGrant answers a request for an access token.
func (f *FCM) judgeGrant(r *request) Answer {
	if path, _, _ := strings.Cut(r.Path, "?"); path != "/token" || r.method != http.MethodPost {
		return Answer{Status: 404, Reason: "not_found", Body: notFoundPage}
	}
	form, err := url.ParseQuery(string(r.Body))
	kind, _, _ := strings.Cut(r.Header.Get("content-type"), ";")
	switch {
	case err != nil || kind != "application/x-www-form-urlencoded":
		return Answer{Status: 400, Reason: "invalid_request", Message: "Bad Request"}
	case form.Get("grant_type") != jwtBearer:
		return Answer{Status: 400, Reason: "unsupported_grant_type", Message: "Invalid grant_type: " + form.Get("grant_type")}
	}
	account, claims, err := f.verifyAssertion(form.Get("assertion"))
	if err == nil {
		err = f.checkClaims(claims, r.At)
	}
	if err != nil {
		return Answer{Status: 400, Reason: "invalid_grant", Message: err.Error()}
	}
	if scope, _ := claims["scope"].(string); !slices.Contains(strings.Fields(scope), messagingScope) {
		return Answer{Status: 400, Reason: "invalid_scope", Message: "Invalid OAuth scope or ID token audience provided."}
	}
	return Answer{Status: 200, Body: string(encode(map[string]any{
		"access_token": f.newAccess(account.project, r.At),
		"expires_in":   int(f.accessLife / time.Second),
		"token_type":   "Bearer",
	}))}
}

// verifyAssertion checks form, issuer and signature of the JWT.
func (f *FCM) verifyAssertion(assertion string) (serviceAccount, jwt.MapClaims, error) {
	var account serviceAccount
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(assertion, claims, func(t *jwt.Token) (any, error) {
		issuer, _ := claims["iss"].(string)
		f.mu.Lock()
		defer f.mu.Unlock()
		found := f.accounts[issuer]
		if found == nil {
			return nil, errAccount
		}
		account = *found
		if account.public == nil || t.Header["kid"] != account.keyID {
			return nil, errSignature
		}
		return account.public, nil
	})
	var fault *jwt.ValidationError
	switch {
	case err == nil:
		return account, claims, nil
	case errors.As(err, &fault) && errors.Is(fault.Inner, errAccount):
		return account, nil, errAccount
	}
	return account, nil, errSignature
}

func (f *FCM) checkClaims(claims jwt.MapClaims, now time.Time) error {
	if claims["aud"] != f.TokenURL() {
		return errors.New("Invalid JWT: Failed audience check. The right audience is " + f.TokenURL())
	}
	iat, ok := claims["iat"].(float64)
	exp, also := claims["exp"].(float64)
	issued, expires := time.Unix(int64(iat), 0), time.Unix(int64(exp), 0)
	if !ok || !also || issued.After(now.Add(clockSkew)) || !expires.After(now) ||
		expires.Sub(issued) > assertionLife || issued.Before(now.Add(-assertionLife)) {
		return errTimes
	}
	return nil
}
