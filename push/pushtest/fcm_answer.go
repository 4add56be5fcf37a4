package pushtest

import (
	"cmp"
	"net/http"

	"golang.org/x/net/http2/hpack"
)

// notFoundPage is what Google answers for a path that it does not know.
const notFoundPage = `<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title><p><b>404.</b> <ins>That’s an error.</ins>`

// The types of details that errors have.
const (
	typeFcmError   = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
	typeErrorInfo  = "type.googleapis.com/google.rpc.ErrorInfo"
	typeBadRequest = "type.googleapis.com/google.rpc.BadRequest"
)

// googleError is how an error with a certain reason looks.
type googleError struct {
	status  string // canonical code
	detail  string // type of the detail that names the reason; "": it is the canonical code
	message string
}

// googleErrors are, by reason, FCM's own codes (reference/fcm/rest/v1/ErrorCode)
// and the reasons of google.rpc.ErrorInfo that stand in its way.
func googleErrors() map[string]googleError {
	return map[string]googleError{
		"UNSPECIFIED_ERROR":      {"UNKNOWN", typeFcmError, "Unknown error."},
		"UNREGISTERED":           {"NOT_FOUND", typeFcmError, "Requested entity was not found."},
		"SENDER_ID_MISMATCH":     {"PERMISSION_DENIED", typeFcmError, "SenderId mismatch"},
		"QUOTA_EXCEEDED":         {"RESOURCE_EXHAUSTED", typeFcmError, "Quota exceeded."},
		"UNAVAILABLE":            {"UNAVAILABLE", typeFcmError, "The service is currently unavailable."},
		"INTERNAL":               {"INTERNAL", typeFcmError, "Internal error encountered."},
		"THIRD_PARTY_AUTH_ERROR": {"UNAUTHENTICATED", typeFcmError, "Auth error from APNS or Web Push Service"},

		"SERVICE_DISABLED":              {"PERMISSION_DENIED", typeErrorInfo, "Firebase Cloud Messaging API has not been used in project before or it is disabled."},
		"IAM_PERMISSION_DENIED":         {"PERMISSION_DENIED", typeErrorInfo, "Permission 'cloudmessaging.messages.create' denied on resource (or it may not exist)."},
		"CREDENTIALS_MISSING":           {"UNAUTHENTICATED", typeErrorInfo, "Request is missing required authentication credential."},
		"ACCESS_TOKEN_EXPIRED":          {"UNAUTHENTICATED", typeErrorInfo, "Request had invalid authentication credentials."},
		"ACCESS_TOKEN_TYPE_UNSUPPORTED": {"UNAUTHENTICATED", typeErrorInfo, "Request had invalid authentication credentials."},
		"RATE_LIMIT_EXCEEDED":           {"RESOURCE_EXHAUSTED", typeErrorInfo, "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute'."},
	}
}

// render answers as Google does.
func (f *FCM) render(r *request, a Answer) ([]hpack.HeaderField, []byte) {
	fields := []hpack.HeaderField{{Name: "content-type", Value: "application/json; charset=UTF-8"}}
	switch {
	case a.Body != "":
		return fields, nil
	case r.Environment == TokenHost && a.Reason != "":
		return fields, encode(map[string]string{"error": a.Reason, "error_description": a.Message})
	case a.Status == http.StatusOK:
		return fields, encode(map[string]string{"name": r.ID})
	case a.Reason == "":
		return fields, nil
	}
	return fields, errorBody(a)
}

// errorBody is google.rpc.Status as JSON. A reason that is not known is taken
// for a canonical code without details.
func errorBody(a Answer) []byte {
	e, known := googleErrors()[a.Reason]
	if !known {
		e = googleError{status: a.Reason, message: "Request contains an invalid argument."}
	}
	var details []map[string]any
	switch {
	case e.detail == typeFcmError:
		details = append(details, map[string]any{"@type": typeFcmError, "errorCode": a.Reason})
	case e.detail == typeErrorInfo:
		details = append(details, map[string]any{"@type": typeErrorInfo, "reason": a.Reason, "domain": "googleapis.com"})
	case a.Field == "message.token":
		details = append(details, map[string]any{"@type": typeFcmError, "errorCode": a.Reason})
	}
	message := cmp.Or(a.Message, e.message)
	if a.Field != "" {
		details = append(details, map[string]any{"@type": typeBadRequest, "fieldViolations": []map[string]string{
			{"field": a.Field, "description": message},
		}})
	}
	status := map[string]any{"code": a.Status, "message": message, "status": e.status}
	if details != nil {
		status["details"] = details
	}
	return encode(map[string]any{"error": status})
}
