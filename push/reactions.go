package push

import "net/http"

// action is what the APNs provider does before it gives its verdict.
type action int

const (
	none        action = iota
	otherEnv           // the same token in the other environment, once
	minimal            // the same push with the smallest payload, once
	fresh              // another attempt on a fresh connection, by the Sender
	newKeyConn         // as fresh, but at once: the connection is bound to another key
	remint             // a new provider token, then another attempt by the Sender
	wrongKey           // remember, after otherEnv, that the key is no good there
	keepBearer         // go back to the provider token before
	backOff            // leave this device token alone for a while
	ifOlderOnly        // dead unless it was registered after the answer's timestamp
)

// reaction is one row of the table of APNs' answers. Reason "" stands for any.
type reaction struct {
	status  int
	reason  string
	verdict Verdict
	alarm   bool
	do      action
	advice  string // for the administrator, with alarm
}

const (
	adviceTopic  = "topic and app do not belong together: compare push.apns.topic with the app's bundle id and the pn-param it registers"
	adviceKey    = "the signing key is not accepted: compare push.apns.key_id and team_id with developer.apple.com and see that the key is not revoked and has APNs enabled"
	adviceEnv    = "the signing key is for one environment only: set push.apns.environment to it, and add a second entry with a key for the other, or make a key for both"
	adviceCert   = "the client certificate is not accepted: see that push.apns.certificate has not ended, is not revoked and is for this topic and environment, or use a .p8 key (push.apns.key_file)"
	adviceClock  = "Apple calls a fresh provider token expired: set this machine's clock (NTP)"
	adviceOneEnv = "it is no token of %s, the only environment of push.apns for this app: an app that Xcode installed has tokens of the sandbox, any other of production; set environment: auto"
	adviceNodes  = "provider tokens change too often: do several machines use this key with clocks apart?"
	adviceBug    = "the push itself was refused: please report this as a bug"
	adviceHost   = "the host does not know Apple's interface: check push.apns.endpoint"
)

// reactions is the table of what each answer of APNs means and what is done
// about it; the first row that matches holds. From Apple's "Handling
// notification responses from APNs" and from what its servers have been seen
// to answer.
func reactions() []reaction {
	return []reaction{
		{200, "", Sent, false, none, ""},

		{400, "BadDeviceToken", Gone, false, otherEnv, ""},
		{400, "DeviceTokenNotForTopic", Refused, true, none, adviceTopic},
		{400, "BadTopic", Refused, true, none, adviceTopic},
		{400, "TopicDisallowed", Refused, true, none, adviceTopic},
		{400, "MissingTopic", Refused, true, none, adviceTopic},
		{400, "InvalidPushType", Refused, true, none, adviceTopic},
		{400, "IdleTimeout", Failed, false, fresh, ""},
		{400, "", Refused, true, minimal, adviceBug},

		{403, "ExpiredProviderToken", Refused, true, remint, adviceClock},
		{403, "UnrelatedKeyIdInToken", Refused, true, newKeyConn, adviceKey},
		{403, "BadEnvironmentKeyIdInToken", Refused, true, wrongKey, adviceEnv},
		{403, "BadEnvironmentKeyInToken", Refused, true, wrongKey, adviceEnv},
		{403, "BadCertificate", Refused, true, none, adviceCert},
		{403, "BadCertificateEnvironment", Refused, true, none, adviceCert},
		{403, "MissingProviderToken", Refused, true, none, adviceKey},
		{403, "InvalidProviderToken", Refused, true, none, adviceKey},
		{403, "Forbidden", Refused, true, none, adviceKey},
		{403, "", Refused, true, none, adviceKey},

		{404, "", Refused, true, none, adviceHost},
		{405, "", Refused, true, none, adviceHost},
		{410, "", Gone, false, ifOlderOnly, ""},
		{413, "", Refused, true, minimal, adviceBug},

		{429, "TooManyProviderTokenUpdates", Refused, true, keepBearer, adviceNodes},
		{429, "", Failed, false, backOff, ""},

		{500, "", Failed, false, fresh, ""},
		{503, "", Failed, false, fresh, ""}, // ServiceUnavailable, Shutdown, and a proxy's own
	}
}

// reactionTo finds the row; an answer that no row knows is transient when the
// server says that it is its own fault, else ours.
func reactionTo(status int, reason string) reaction {
	for _, r := range reactions() {
		if r.status == status && (r.reason == "" || r.reason == reason) {
			return r
		}
	}
	if status >= http.StatusInternalServerError {
		return reaction{status: status, verdict: Failed, do: fresh}
	}
	return reaction{status: status, verdict: Refused, alarm: true, advice: adviceHost}
}
