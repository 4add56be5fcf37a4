// Package push wakes sleeping devices: it turns one call into one accepted
// VoIP push per device.
//
//	Sender.Send ── dedupe ── retry within the call's deadline ── Provider
//	                                                            ├─ APNs  (apns.go, over sideshow/apns2)
//	                                                            ├─ FCM   (fcm.go; access tokens by golang.org/x/oauth2)
//	                                                            └─ log   (when nothing is configured)
//
// A push never changes or cancels a call: everything after the wake travels
// over the device's own registration. Whatever fails here is told to the
// caller as an Outcome whose Verdict says what to do with the device's target.
//
// Sources: RFC 8599 (pn-provider, pn-param, pn-prid), RFC 9113 (HTTP/2),
// RFC 7519 (JWT), RFC 7523 (JWT bearer grants), RFC 9180 (HPKE), Apple's
// "Sending notification requests to APNs" and "Handling notification responses
// from APNs", and Google's "FCM v1 REST" reference and "FCM error codes".
package push

import (
	"context"
	"time"
)

// Target is where a device is reached by push, as it registered it (RFC 8599
// §3). PRID is a secret: it never appears in logs, errors or outcomes.
type Target struct {
	Provider string // pn-provider: "apns", "apns.dev", "fcm"
	Param    string // pn-param: for APNs the team and bundle id, see ParseAPNsParam; for FCM the project id
	PRID     string // pn-prid: the device token, see ParseAPNsPRID; for FCM the registration token
	// Environment is the APNs environment that is known to take this token:
	// "production", "sandbox", or "" when not known yet.
	Environment string
	// Key is the device's public key for caller data (HPKE, X25519): base64url
	// of 32 bytes without padding; "" if it gave none.
	Key string
}

// The two APNs environments, as in Target.Environment and Outcome.Environment.
const (
	Production = "production"
	Sandbox    = "sandbox"
)

// Message is the call that a push announces. Handle, CallerName, To,
// DivertedBy and Headers come from the caller and are not trusted: the payload
// builder cleans and cuts them.
type Message struct {
	UUID        string // the call's UUID, also in X-Call-UUID
	CallID      string // Call-ID of this device's leg, chosen before the push
	Handle      string // the caller's number or address
	HandleType  string // "number", else "generic"
	CallerName  string
	To          string // what was dialled
	Trunk       string // the trunk's name
	HasVideo    bool
	Verstat     string // "verified", "failed", else "none"
	DivertedBy  string
	IssuedAt    time.Time
	ExpiresAt   time.Time         // after this the device need not ring any more; zero: not known
	Headers     map[string]string // headers of the trunk's INVITE, by canonical name; see Sender.Headers
	Test        bool              // no call: an administrator's test of the device
	Again       bool              // a second push for the call: the device woke by the first, and its connection has gone since
	TargetSince time.Time         // when the device registered this target; zero: not known. A 410 that is older does not kill the target.
	// Still says whether the target is still the device's; nil: it is. It is
	// asked before a further attempt: the push must not ring a phone that has
	// gone to another account meanwhile.
	Still func() bool
}

// Verdict is what a push came to.
type Verdict int

// The verdicts. They are also the values of the metric label "outcome".
const (
	// Failed: transient; retries are used up or the deadline has passed.
	Failed Verdict = iota
	// Sent: the provider accepted the push. That the device got it is known
	// only by its REGISTER.
	Sent
	// Gone: the token is dead for good: drop the target.
	Gone
	// Refused: our configuration or our message is at fault; the token stays.
	Refused
)

// String is "sent", "gone", "refused" or "failed".
func (v Verdict) String() string {
	switch v {
	case Sent:
		return "sent"
	case Gone:
		return "gone"
	case Refused:
		return "refused"
	}
	return "failed"
}

// Outcome is the result of one push, for the call's timeline and for what is
// to be done with the device's target.
type Outcome struct {
	Verdict Verdict
	Status  int    // HTTP status of the last answer; 0: no answer
	Reason  string // the provider's reason ("BadDeviceToken") or a short one of ours; never a token
	ID      string // the provider's id of the push (apns-id)
	// Environment is the APNs environment that took the token; "" when it does
	// not apply. The caller keeps it with the device.
	Environment string
	Alarm       bool // an administrator must act; Err says how
	Duplicate   bool // this call and device had their accepted push already; nothing was sent now
	// Uncertain: the request left and no answer came, so the push may have been
	// accepted. It is not sent again for this call and device.
	Uncertain bool
	// Alert: the push was a notification. It wakes no app: that runs when its
	// user touches it.
	Alert     bool
	Shortened []string // payload fields that were cut to fit the provider's limit
	// RetryAfter is how long the provider wants another attempt to wait; 0: it did not say.
	RetryAfter time.Duration
	Attempts   int           // requests made
	Took       time.Duration // from Send's start to its outcome
	Err        error         // nil when Sent
}

// Provider is one push service.
type Provider interface {
	// Name is the pn-provider value and the metric label.
	Name() string
	// Serves says whether this pn-param is configured here.
	Serves(param string) bool
	// Push makes one attempt. retry says that another attempt, on a fresh
	// connection, may help and cannot lead to two accepted pushes.
	Push(ctx context.Context, t Target, m Message) (out Outcome, retry bool)
}

// closer is what a Provider also has when it holds connections.
type closer interface{ Close() }
