package push

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// fcmAction is what the FCM provider does before it gives its verdict.
type fcmAction int

const (
	fcmNothing fcmAction = iota
	fcmMinimal           // the same push with the smallest payload, once
	fcmRenew             // the same push with a new access token, once
	fcmFresh             // another attempt on a fresh connection, by the Sender, when the provider wants it
	fcmWait              // another attempt, by the Sender, only where the provider says when
	fcmBackOff           // as fcmWait, and this registration token is left alone until then
)

// fcmReaction is one row of the table of FCM's answers. Reason "" stands for any.
type fcmReaction struct {
	status  int
	reason  string
	verdict Verdict
	alarm   bool
	do      fcmAction
	advice  string // for the administrator, with alarm
}

// Reasons of the table that no code alone tells.
const (
	aboutToken   = "INVALID_ARGUMENT message.token" // a 400 that concerns the registration token
	projectQuota = "RATE_LIMIT_EXCEEDED"            // Google's reason for the project's quota, FCM's own is QUOTA_EXCEEDED for any
)

const (
	adviceSender  = "the registration token belongs to another Firebase project: compare push.fcm.project with the app's google-services.json"
	adviceAPI     = "the Firebase Cloud Messaging API (V1) is off for the project: enable it in the Google Cloud console, under APIs & Services"
	adviceRole    = "the service account may not send for this project: give it the role Firebase Cloud Messaging API Admin (cloudmessaging.messages.create), and see that the API is enabled"
	adviceAccess  = "a fresh access token is not accepted: make a new key of the service account, and set this machine's clock (NTP)"
	adviceThird   = "the registration token is of an iOS or web app without its credential in Firebase: use pn-provider=apns for iOS"
	adviceProject = "Google knows no such project or address: compare push.fcm.project and push.fcm.endpoint with the Firebase console"
	adviceQuota   = "the project's quota of messages is used up: ask for more in the Google Cloud console, and look for a client that sends too many"
)

// fcmReactions is the table of what each answer of FCM means and what is done
// about it; the first row that matches holds. From Google's "ErrorCode" of the
// FCM v1 REST reference, "FCM error codes" and "Best practices when sending FCM
// messages at scale", and from what its servers have been seen to answer.
func fcmReactions() []fcmReaction {
	return []fcmReaction{
		{200, "", Sent, false, fcmNothing, ""},

		{400, aboutToken, Gone, false, fcmNothing, ""},
		{400, "", Refused, true, fcmMinimal, adviceBug},

		{401, "THIRD_PARTY_AUTH_ERROR", Refused, true, fcmNothing, adviceThird},
		{401, "", Refused, true, fcmRenew, adviceAccess},

		{403, "SENDER_ID_MISMATCH", Refused, true, fcmNothing, adviceSender},
		{403, "SERVICE_DISABLED", Refused, true, fcmNothing, adviceAPI},
		{403, "", Refused, true, fcmNothing, adviceRole}, // IAM_PERMISSION_DENIED and others

		{404, "UNREGISTERED", Gone, false, fcmNothing, ""},
		{404, "", Refused, true, fcmNothing, adviceProject}, // the token stays
		{405, "", Refused, true, fcmNothing, adviceProject},
		{413, "", Refused, true, fcmMinimal, adviceBug},

		{429, projectQuota, Failed, true, fcmWait, adviceQuota},
		{429, "QUOTA_EXCEEDED", Failed, false, fcmBackOff, ""}, // of the device, 240 a minute
		{429, "", Failed, false, fcmWait, ""},                  // nothing is said of the device: its next call is pushed

		{500, "", Failed, false, fcmFresh, ""}, // INTERNAL
		{503, "", Failed, false, fcmFresh, ""}, // UNAVAILABLE
	}
}

// fcmReactionTo finds the row; an answer that no row knows is transient when
// the server says that it is its own fault, else ours.
func fcmReactionTo(status int, reason string) fcmReaction {
	for _, r := range fcmReactions() {
		if r.status == status && (r.reason == "" || r.reason == reason) {
			return r
		}
	}
	if status >= http.StatusInternalServerError {
		return fcmReaction{status: status, verdict: Failed, do: fcmFresh}
	}
	return fcmReaction{status: status, verdict: Refused, alarm: true, advice: adviceProject}
}

// fcmError is google.rpc.Status in JSON, which errors are.
type fcmError struct {
	Error struct {
		Message string            `json:"message"`
		Status  string            `json:"status"`
		Details []json.RawMessage `json:"details"`
	} `json:"error"`
}

// fcmDetail is what is read of any detail.
type fcmDetail struct {
	Type       string `json:"@type"`
	ErrorCode  string `json:"errorCode"` // of FcmError
	Reason     string `json:"reason"`    // of google.rpc.ErrorInfo
	Violations []struct {
		Field string `json:"field"`
	} `json:"fieldViolations"` // of google.rpc.BadRequest
	Quotas []struct {
		Subject     string `json:"subject"`
		Description string `json:"description"`
	} `json:"violations"` // of google.rpc.QuotaFailure
}

// notDevices: the quota that is used up is named, and is not the device's. A
// project that sends too much must not keep its devices from their next calls.
func (d fcmDetail) notDevices() bool {
	for _, q := range d.Quotas {
		if strings.Contains(strings.ToLower(q.Subject+q.Description), "device") {
			return false
		}
	}
	return len(d.Quotas) > 0
}

// fcmReason reads why FCM refused a push: FCM's own code, else Google's reason,
// else the canonical code; "" when the body is not theirs. row is the reason as
// the table of reactions has it.
func fcmReason(body []byte) (reason, row string) {
	var said fcmError
	if json.Unmarshal(body, &said) != nil {
		return "", ""
	}
	var code, info string
	project := false
	var fields []string
	for _, raw := range said.Error.Details {
		var d fcmDetail
		if json.Unmarshal(raw, &d) != nil {
			continue // of a type that is not ours
		}
		switch d.Type[strings.LastIndexByte(d.Type, '.')+1:] {
		case "FcmError":
			code = printable(d.ErrorCode)
		case "ErrorInfo":
			info = printable(d.Reason)
			project = project || info == projectQuota
		case "QuotaFailure":
			project = project || d.notDevices()
		case "BadRequest":
			for _, v := range d.Violations {
				fields = append(fields, v.Field)
			}
		}
	}
	for _, reason = range []string{code, info, printable(said.Error.Status)} {
		if reason != "" {
			break
		}
	}
	switch {
	case reason == "INVALID_ARGUMENT" && isAboutToken(said.Error.Message, fields, code != ""):
		return reason, aboutToken
	case project:
		return reason, projectQuota
	}
	return reason, reason
}

// isAboutToken: either the field is named, or, in the form of the second
// example of "FCM error codes", it is FCM's own error, names no field, and the
// message says it.
func isAboutToken(message string, fields []string, own bool) bool {
	if slices.Contains(fields, "message.token") {
		return true
	}
	return own && len(fields) == 0 && strings.Contains(strings.ToLower(message), "registration token")
}
