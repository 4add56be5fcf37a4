package pushtest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of a message.
const (
	maxData         = 4096 // bytes of data: keys and values
	maxRegistration = 1024
	maxTTL          = 60 * time.Second // ours: a call is over by then. Google takes four weeks.
)

var (
	sendPath     = regexp.MustCompile(`^/v1/projects/([^/]+)/messages:send$`)
	durationForm = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9})?s$`)
	tokenForm    = regexp.MustCompile(`^[A-Za-z0-9_:-]{20,}$`)
)

// fcmRequest is the body of messages:send, as far as a call's push has use for
// it: notification, apns and webpush are not among it.
type fcmRequest struct {
	ValidateOnly bool `json:"validate_only"`
	Message      *struct {
		Token     string                     `json:"token"`
		Topic     string                     `json:"topic"`
		Condition string                     `json:"condition"`
		Data      map[string]json.RawMessage `json:"data"`
		Android   *fcmAndroid                `json:"android"`
	} `json:"message"`
}

type fcmAndroid struct {
	CollapseKey  string                     `json:"collapse_key"`
	Priority     string                     `json:"priority"`
	TTL          string                     `json:"ttl"`
	Package      string                     `json:"restricted_package_name"`
	DirectBootOK bool                       `json:"direct_boot_ok"`
	Data         map[string]json.RawMessage `json:"data"`
}

// invalid is a 400 about a field.
func invalid(field, message string) Answer {
	return Answer{Status: 400, Reason: "INVALID_ARGUMENT", Field: field, Message: message}
}

// judgeSend checks a push as Google does; the first fault is the answer.
func (f *FCM) judgeSend(r *request) Answer {
	var body fcmRequest
	decoder := json.NewDecoder(bytes.NewReader(r.Body))
	decoder.DisallowUnknownFields()
	bad := decoder.Decode(&body)
	if body.Message != nil {
		r.Token = body.Message.Token
	}
	path := sendPath.FindStringSubmatch(r.Path)
	if path == nil || r.method != http.MethodPost {
		return Answer{Status: 404, Reason: "NOT_FOUND", Body: notFoundPage}
	}
	r.Topic = path[1]
	if fault := f.checkAccess(r); fault.Status != 0 {
		return fault
	}
	if bad != nil {
		return invalid("message", "Invalid JSON payload received. "+bad.Error())
	}
	if fault := checkMessage(&body, r); fault.Status != 0 {
		return fault
	}
	if fault := f.checkRegistration(r); fault.Status != 0 {
		return fault
	}
	r.ID = "projects/" + r.Topic + "/messages/0:" + strconv.FormatInt(f.serial.Add(1), 10)
	if body.ValidateOnly {
		r.aside, r.ID = true, "projects/"+r.Topic+"/messages/fake_message_id"
	}
	return accepted
}

// checkAccess checks the access token, and that it is for the project.
func (f *FCM) checkAccess(r *request) Answer {
	scheme, token, _ := strings.Cut(r.Header.Get("authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "bearer") {
		return Reject(401, "CREDENTIALS_MISSING")
	}
	f.mu.Lock()
	g, known := f.access[token]
	allowed := g.project == r.Topic || f.roles[[2]string{g.project, r.Topic}]
	f.mu.Unlock()
	switch {
	case !known:
		return Reject(401, "ACCESS_TOKEN_TYPE_UNSUPPORTED")
	case !r.At.Before(g.expires):
		return Reject(401, "ACCESS_TOKEN_EXPIRED")
	case !allowed:
		return Reject(403, "IAM_PERMISSION_DENIED")
	}
	return Answer{}
}

// checkMessage checks what does not depend on the registration token.
func checkMessage(body *fcmRequest, r *request) Answer {
	m := body.Message
	switch {
	case m == nil:
		return invalid("message", "Message is not set.")
	case m.Token == "" && m.Topic == "" && m.Condition == "":
		return invalid("message", "Recipient of the message is not set.")
	case (m.Token != "" && m.Topic != "") || m.Condition != "" && m.Token+m.Topic != "":
		return invalid("message", "Invalid value at 'message' (oneof), oneof field 'target' is already set.")
	case m.Token == "":
		return invalid("message.token", "A call is for one device.") // ours
	case m.Android == nil:
		return invalid("message.android", "A call's push needs android.priority and android.ttl.") // ours
	}
	data, at := m.Android.Data, "message.android.data"
	if data == nil {
		data, at = m.Data, "message.data"
	}
	if fault := checkData(data, at, r); fault.Status != 0 {
		return fault
	}
	return checkAndroid(m.Android, r)
}

func checkData(data map[string]json.RawMessage, at string, r *request) Answer {
	r.Payload = map[string]any{}
	size := 0
	for i, key := range slices.Sorted(maps.Keys(data)) {
		field := at + "[" + strconv.Itoa(i) + "].value"
		var value string
		if raw := data[key]; len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &value) != nil {
			return invalid(field, "Invalid value at '"+field+"' (TYPE_STRING), "+string(raw))
		}
		if key == "from" || key == "message_type" || strings.HasPrefix(key, "gcm") || strings.HasPrefix(key, "google") {
			return invalid(at, "Invalid data payload key: "+key)
		}
		r.Payload[key] = value
		size += len(key) + len(value)
	}
	if size > maxData {
		return Answer{Status: 400, Reason: "INVALID_ARGUMENT", Message: "Android message is too big"}
	}
	return Answer{}
}

func checkAndroid(a *fcmAndroid, r *request) Answer {
	if a.Priority != "HIGH" { // ours: NORMAL does not wake a phone
		return invalid("message.android.priority", "Invalid value at 'message.android.priority', \""+a.Priority+"\"")
	}
	if a.CollapseKey != "" { // ours: two calls must both ring
		return invalid("message.android.collapse_key", "A call's push must not replace another.")
	}
	ttl, err := time.ParseDuration(a.TTL)
	if !durationForm.MatchString(a.TTL) || err != nil || ttl > maxTTL {
		return invalid("message.android.ttl", "Invalid value at 'message.android.ttl' (type.googleapis.com/google.protobuf.Duration), \""+a.TTL+"\"")
	}
	if ttl > 0 {
		r.Expiration = r.At.Add(ttl)
	}
	return Answer{}
}

// checkRegistration checks the registration token.
func (f *FCM) checkRegistration(r *request) Answer {
	if !tokenForm.MatchString(r.Token) || len(r.Token) > maxRegistration {
		return invalid("message.token", "The registration token is not a valid FCM registration token")
	}
	f.mu.Lock()
	reg, known := f.tokens[r.Token]
	f.mu.Unlock()
	switch {
	case reg.gone || !known && !f.anyToken:
		return Reject(404, "UNREGISTERED")
	case reg.project != "" && reg.project != r.Topic:
		return Reject(403, "SENDER_ID_MISMATCH")
	}
	return Answer{}
}
