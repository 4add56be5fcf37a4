package push

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// What the apps of others read, from their sources; docs/payloads.md names the
// files. Where a family's code hands the whole payload to the app, our own
// fields follow its own.

// appleItems: Apple's sample "Responding to VoIP Notifications from PushKit"
// reads handle and callUUID.
func appleItems() []item {
	return slices.Concat([]item{
		{path: "callUUID", put: callUUID},
		{path: "handle", put: handle},
	}, rest("uuid", "handle"))
}

// flutterItems: the plugin's Data reads id, nameCaller, handle, handleType,
// type (0 audio, 1 video) and extra; the AppDelegate of its example reads
// isVideo in place of type. `headers` at the top would be taken by Android for
// the headers of a request for the avatar, so all that is ours is in extra.
func flutterItems(f form) ([]item, error) {
	return slices.Concat([]item{
		{path: "id", put: callUUID},
		{path: "nameCaller", put: title},
		{path: "handle", put: handle},
		{path: "handleType", put: handleType},
		{path: "isVideo", put: hasVideo},
		{path: "type", put: videoType},
	}, inside(f, "extra", rest("uuid", "handle", "handle_type", "has_video"))), nil
}

func videoType(e *encoder, c *call) {
	if c.HasVideo {
		e.number(1)
		return
	}
	e.number(0)
}

// reactItems: the AppDelegate that react-native-voip-push-notification wants
// reads uuid, callerName and handle before it calls RNCallKeep; the JavaScript
// side gets all.
func reactItems() []item {
	return slices.Concat([]item{
		{path: "uuid", put: callUUID},
		{path: "callerName", put: title},
		{path: "handle", put: handle},
		{path: "handleType", put: handleType},
		{path: "hasVideo", put: hasVideo},
	}, rest("uuid", "handle", "handle_type", "has_video"))
}

// flutterRTCItems: CallKeep.m reads uuid, caller_id, caller_name,
// caller_id_type and has_video. It drops a VoIP push that has an aps without
// telling CallKit of the call, for which iOS ends the app: there is none.
func flutterRTCItems(f form) ([]item, error) {
	items := slices.Concat([]item{
		{path: "uuid", put: callUUID},
		{path: "caller_id", put: handle},
		{path: "caller_name", put: title},
		{path: "caller_id_type", put: handleType},
		{path: "has_video", put: hasVideo},
	}, rest("uuid", "handle", "handle_type", "caller_name", "has_video"))
	if f == formVoIP {
		items = slices.Concat([]item{noFrame()}, items)
	}
	return items, nil
}

// linphoneItems: what Flexisip sends. liblinphone reads aps.call-id and makes
// the call of it that the INVITE with this Call-ID will fill; older apps want a
// loc-key too, and ignore a push whose aps.uuid is not their own +sip.instance:
// we send none. Android reads call-id alone.
func linphoneItems(f form) ([]item, error) {
	switch f {
	case formVoIP:
		return slices.Concat([]item{
			{path: "aps.sound", put: constant("")},
			{path: "aps.loc-key", put: constant(linphoneKey)},
			{path: "aps.loc-args", put: linphoneArgs},
			{path: "aps.call-id", put: callID},
			{path: "aps.send-time", put: sendTime},
			{path: "from-uri", put: fromURI},
			{path: "display-name", put: callerName},
			{path: "pn_ttl", put: timeToLive},
		}, inside(f, "customPayload", rest())), nil
	case formAlert:
		return slices.Concat([]item{
			{path: "aps.alert.loc-key", put: constant(linphoneKey)},
			{path: "aps.alert.loc-args", put: linphoneArgs},
			{path: "aps.sound", put: constant("default")},
			{path: "aps.mutable-content", put: one},
			{path: "from-uri", put: fromURI},
			{path: "display-name", put: callerName},
			{path: "call-id", put: callID},
			{path: "pn_ttl", put: timeToLive},
			{path: "send-time", put: sendTime},
		}, inside(f, "customPayload", rest())), nil
	}
	return slices.Concat([]item{
		{path: "from-uri", put: fromURI},
		{path: "display-name", put: callerName},
		{path: "call-id", put: callID},
		{path: "sip-from", put: linphoneFrom},
		{path: "loc-key", put: constant(linphoneKey)},
		{path: "loc-args", put: linphoneFrom},
		{path: "send-time", put: sendTime},
	}, inside(f, "custom-payload", rest())), nil
}

// linphoneKey is the text of an incoming call in Linphone's translations.
const linphoneKey = "IC_MSG"

func linphoneFrom(e *encoder, c *call) {
	if c.CallerName != "" {
		e.text(c.CallerName)
		return
	}
	e.text(c.URI())
}

func linphoneArgs(e *encoder, c *call) {
	e.buf = append(e.buf, '[')
	linphoneFrom(e, c)
	e.buf = append(e.buf, ']')
}

func fromURI(e *encoder, c *call) { e.text(c.URI()) }

// sendTime is in Flexisip's own form, in UTC.
func sendTime(e *encoder, c *call) {
	if c.IssuedAt.none() {
		e.text("")
		return
	}
	e.text(c.IssuedAt.at.UTC().Format(time.DateTime))
}

// timeToLive is for how many seconds the push is of use.
func timeToLive(e *encoder, c *call) { e.number(max(0, c.ExpiresAt.Unix()-c.IssuedAt.Unix())) }

// vialerItems: VoIPPushPayloadTransformer.swift and Middleware.m want
// phonenumber, unique_key and response_api as texts; the last comes from the
// configuration's template. The time is in seconds, as Python's time().
func vialerItems() []item {
	return []item{
		{path: "type", put: constant("call")},
		{path: "unique_key", put: callUUID},
		{path: "phonenumber", put: handle},
		{path: "caller_id", put: callerName, when: func(c *call) bool { return c.CallerName != "" }},
		{path: "message_start_time", put: func(e *encoder, c *call) { e.raw(c.IssuedAt.seconds()) }},
		{path: "attempt", put: one},
	}
}

// acrobitsItems: "Push Notifications over HTTP" and "SIPIS-less push calls" at
// doc.acrobits.net. The app pairs the push with the INVITE by Id, which is its
// Call-ID, so that no header X-Push-ID is needed. A pn-prid is DeviceToken and
// Selector with a & between them, the pn-param the AppId.
func acrobitsItems(f form) ([]item, error) {
	if f != formWebhook {
		return nil, errAcrobitsForm
	}
	return []item{
		{path: "verb", put: constant("NotifyIncomingCall")},
		{path: "AppId", put: text(func(c *call) string { return c.target.Param })},
		{path: "DeviceToken", put: text(func(c *call) string { token, _, _ := strings.Cut(c.target.PRID, "&"); return token })},
		{path: "Selector", put: text(func(c *call) string { _, selector, _ := strings.Cut(c.target.PRID, "&"); return selector })},
		{path: "Id", put: callID},
		{path: "UserName", put: handle},
		{path: "UserDisplayName", put: title},
	}, nil
}

// URI is the caller's address: a SIP URI, or a tel URI where only a number is
// known; "" when withheld.
func (c *call) URI() string {
	switch {
	case c.Handle == "":
		return ""
	case strings.Contains(c.Handle, "@"):
		return "sip:" + c.Handle
	}
	return "tel:" + c.Handle
}

// seconds is the time in seconds since 1970, with thousandths; "0" when not known.
func (s stamp) seconds() string {
	if s.none() {
		return "0"
	}
	return strconv.FormatFloat(float64(s.at.UnixMilli())/1000, 'f', 3, 64)
}
