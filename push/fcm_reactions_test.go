package push

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestFCMReactions holds every answer that Google documents ("ErrorCode" of
// the FCM v1 REST reference; the reasons of google.rpc.ErrorInfo), and those
// that its servers were seen to give, against what must be done about it. Each
// is given by the service for as long as it is asked.
func TestFCMReactions(t *testing.T) {
	tests := []struct {
		answer   pushtest.Answer
		verdict  Verdict
		alarm    bool
		requests int // in all, retries included
		grants   int // access tokens fetched
	}{
		{pushtest.Answer{Status: 200}, Sent, false, 1, 1},

		{pushtest.Answer{Status: 400, Reason: "UNSPECIFIED_ERROR"}, Refused, true, 2, 1},
		{pushtest.Answer{Status: 400, Reason: "INVALID_ARGUMENT", Field: "message.token"}, Gone, false, 1, 1},
		{pushtest.Answer{Status: 400, Reason: "INVALID_ARGUMENT", Field: "message.android.data[0].value"}, Refused, true, 2, 1},
		{pushtest.Answer{Status: 400, Reason: "INVALID_ARGUMENT"}, Refused, true, 2, 1}, // too large, as seen
		{pushtest.Answer{Status: 400, Reason: "FAILED_PRECONDITION"}, Refused, true, 2, 1},

		{pushtest.Answer{Status: 401, Reason: "THIRD_PARTY_AUTH_ERROR"}, Refused, true, 1, 1},
		{pushtest.Answer{Status: 401, Reason: "UNAUTHENTICATED"}, Refused, true, 2, 2},
		{pushtest.Answer{Status: 401, Reason: "ACCESS_TOKEN_EXPIRED"}, Refused, true, 2, 2},
		{pushtest.Answer{Status: 401, Reason: "ACCESS_TOKEN_TYPE_UNSUPPORTED"}, Refused, true, 2, 2},
		{pushtest.Answer{Status: 401, Reason: "CREDENTIALS_MISSING"}, Refused, true, 2, 2},

		{pushtest.Answer{Status: 403, Reason: "SENDER_ID_MISMATCH"}, Refused, true, 1, 1},
		{pushtest.Answer{Status: 403, Reason: "SERVICE_DISABLED"}, Refused, true, 1, 1},
		{pushtest.Answer{Status: 403, Reason: "IAM_PERMISSION_DENIED"}, Refused, true, 1, 1},
		{pushtest.Answer{Status: 403, Reason: "PERMISSION_DENIED"}, Refused, true, 1, 1},

		{pushtest.Answer{Status: 404, Reason: "UNREGISTERED"}, Gone, false, 1, 1},
		{pushtest.Answer{Status: 404, Reason: "NOT_FOUND"}, Refused, true, 1, 1},
		{pushtest.Answer{Status: 405, Reason: "METHOD_NOT_ALLOWED"}, Refused, true, 1, 1},
		{pushtest.Answer{Status: 413, Reason: "TOO_LARGE"}, Refused, true, 2, 1},

		{pushtest.Answer{Status: 429, Reason: "QUOTA_EXCEEDED"}, Failed, false, 1, 1},
		{pushtest.Answer{Status: 429, Reason: "RESOURCE_EXHAUSTED"}, Failed, false, 1, 1},
		{pushtest.Answer{Status: 429, Reason: "RATE_LIMIT_EXCEEDED"}, Failed, true, 1, 1},
		{pushtest.Answer{Status: 429, Reason: "RATE_LIMIT_EXCEEDED", RetryAfter: "2"}, Failed, true, 2, 1},
		{pushtest.Answer{Status: 429, Reason: "RATE_LIMIT_EXCEEDED", RetryAfter: "60"}, Failed, true, 1, 1},

		{pushtest.Answer{Status: 500, Reason: "INTERNAL"}, Failed, false, 2, 1},
		{pushtest.Answer{Status: 503, Reason: "UNAVAILABLE"}, Failed, false, 2, 1},
		{pushtest.Answer{Status: 503, Reason: "UNAVAILABLE", RetryAfter: "4"}, Failed, false, 2, 1},
		{pushtest.Answer{Status: 503, Reason: "UNAVAILABLE", RetryAfter: "5"}, Failed, false, 1, 1}, // the call has 5 s
		{pushtest.Answer{Status: 502}, Failed, false, 2, 1},
		{pushtest.Answer{Status: 301}, Refused, true, 1, 1},
		{pushtest.Answer{Status: 418, Reason: "TEAPOT"}, Refused, true, 1, 1},
	}
	for _, tt := range tests {
		name := strings.TrimSpace(fmt.Sprint(tt.answer.Status, " ", tt.answer.Reason, " ", tt.answer.Field, tt.answer.RetryAfter))
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFCMPipeWorld(t, nil)
				defer w.close()
				for range 4 {
					w.service.Answer(testRegistration, tt.answer)
				}
				out := w.send(testMessage("u1"))
				if out.Verdict != tt.verdict || out.Alarm != tt.alarm || out.Status != tt.answer.Status || out.Reason != tt.answer.Reason {
					t.Errorf("outcome %v alarm=%v %d %q, want %v alarm=%v", out.Verdict, out.Alarm, out.Status, out.Reason, tt.verdict, tt.alarm)
				}
				if (out.Err == nil) != (tt.verdict == Sent) || (out.ID == "") != (tt.verdict != Sent) {
					t.Errorf("err = %v, id %q", out.Err, out.ID)
				}
				if out.Uncertain || out.Duplicate {
					t.Errorf("outcome %+v", out)
				}
				if c := w.service.Counts(); c.Requests != tt.requests || out.Attempts != tt.requests || c.Bearers != tt.grants {
					t.Errorf("%d requests, %d attempts, want %d; %d access tokens, want %d", c.Requests, out.Attempts, tt.requests, c.Bearers, tt.grants)
				}
				w.noSecrets(out)
			})
		})
	}
}

// TestFCMReactionsAreOrdered: no row hides a later one, and what alarms says
// what to do.
func TestFCMReactionsAreOrdered(t *testing.T) {
	any := map[int]bool{}
	seen := map[string]bool{}
	for _, r := range fcmReactions() {
		key := fmt.Sprint(r.status, r.reason)
		if any[r.status] || seen[key] {
			t.Errorf("row %d %q can never match", r.status, r.reason)
		}
		seen[key] = true
		any[r.status] = r.reason == ""
		if r.alarm != (r.advice != "") {
			t.Errorf("row %d %q: an alarm needs advice, and nothing else does", r.status, r.reason)
		}
	}
}

// TestFCMReason holds the reading of bodies against Google's examples and what
// its servers were seen to send.
func TestFCMReason(t *testing.T) {
	const fcmErr = `{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"%s"}`
	for name, tt := range map[string]struct {
		body   string
		reason string
		about  bool
	}{
		"example 1 of the documents: a bad value": {`{"error":{"code":400,"message":"Invalid value at 'message.data[0].value' (TYPE_STRING), 12","status":"INVALID_ARGUMENT",
			"details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message.data[0].value","description":"Invalid value at 'message.data[0].value' (TYPE_STRING), 12"}]}]}}`, "INVALID_ARGUMENT", false},
		"example 2 of the documents: a bad token": {`{"error":{"code":400,"message":"The registration token is not a valid FCM registration token","status":"INVALID_ARGUMENT",
			"details":[` + fmt.Sprintf(fcmErr, "INVALID_ARGUMENT") + `]}}`, "INVALID_ARGUMENT", true},
		"a bad token, with the field": {`{"error":{"code":400,"message":"Request contains an invalid argument.","status":"INVALID_ARGUMENT",
			"details":[` + fmt.Sprintf(fcmErr, "INVALID_ARGUMENT") + `,{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message.token","description":"Invalid registration token"}]}]}}`, "INVALID_ARGUMENT", true},
		"no recipient": {`{"error":{"code":400,"message":"Recipient of the message is not set.","status":"INVALID_ARGUMENT",
			"details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message","description":"Recipient of the message is not set."}]},` + fmt.Sprintf(fcmErr, "INVALID_ARGUMENT") + `]}}`, "INVALID_ARGUMENT", false},
		"too large":          {`{"error":{"code":400,"message":"Request contains an invalid argument.","status":"INVALID_ARGUMENT"}}`, "INVALID_ARGUMENT", false},
		"not FCM's own word": {`{"error":{"code":400,"message":"The registration token is odd","status":"INVALID_ARGUMENT"}}`, "INVALID_ARGUMENT", false},
		"another field, whatever the message": {`{"error":{"code":400,"message":"Message to the registration token has a bad ttl","status":"INVALID_ARGUMENT",
			"details":[` + fmt.Sprintf(fcmErr, "INVALID_ARGUMENT") + `,{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message.android.ttl"}]}]}}`, "INVALID_ARGUMENT", false},
		"unregistered":    {`{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND","details":[` + fmt.Sprintf(fcmErr, "UNREGISTERED") + `]}}`, "UNREGISTERED", false},
		"project's quota": {`{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED","metadata":{"quota_limit":"SendsPerMinutePerProject"}},{"@type":"type.googleapis.com/google.rpc.Help","links":[]}]}}`, "RATE_LIMIT_EXCEEDED", false},
		"only a status":   {`{"error":{"status":"UNAVAILABLE"}}`, "UNAVAILABLE", false},
		"strange details": {`{"error":{"status":"INTERNAL","details":[7,{"@type":3},{"@type":"x.FcmError","errorCode":{}},null]}}`, "INTERNAL", false},
		"strange error":   {`{"error":"invalid"}`, "", false},
		"HTML":            {`<!DOCTYPE html>`, "", false},
		"nothing":         {``, "", false},
		"control":         {`{"error":{"status":"A\n\u0000B"}}`, "AB", false},
	} {
		if reason, row := fcmReason([]byte(tt.body)); reason != tt.reason || (row == aboutToken) != tt.about {
			t.Errorf("%s: %q %q, want %q %v", name, reason, row, tt.reason, tt.about)
		}
	}
}

// TestFCMWhoseQuota: a quota that is not the device's leaves the device alone
// no longer than the push, whatever else the answer holds.
func TestFCMWhoseQuota(t *testing.T) {
	const fcmErr = `{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"QUOTA_EXCEEDED"}`
	quota := func(text string) string {
		return `,{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[` + text + `]}`
	}
	for name, tt := range map[string]struct {
		details string
		device  bool
		alarm   bool
	}{
		"FCM's word alone":    {fcmErr, true, false},
		"the device's":        {fcmErr + quota(`{"subject":"device","description":"Device message rate exceeded"}`), true, false},
		"no violation":        {fcmErr + quota(``), true, false},
		"the project's":       {fcmErr + quota(`{"subject":"project:1","description":"Message rate exceeded"}`), false, true},
		"the project's, else": {fcmErr + `,{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED"}`, false, true},
		"nothing":             {``, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFCMPipeWorld(t, nil)
				defer w.close()
				w.service.Answer(testRegistration, pushtest.Answer{Status: 429, Body: `{"error":{"status":"RESOURCE_EXHAUSTED","details":[` + tt.details + `]}}`})
				if out := w.send(testMessage("u1")); out.Verdict != Failed || out.Alarm != tt.alarm || out.Attempts != 1 {
					t.Errorf("outcome %+v", out)
				}
				if out := w.send(testMessage("u2")); (out.Verdict == Sent) == tt.device {
					t.Errorf("the next call: %+v", out)
				}
			})
		})
	}
}

// FuzzFCMReason: whatever is answered, the reason is fit for a log, and only a
// bad argument can be about the token.
func FuzzFCMReason(f *testing.F) {
	f.Add([]byte(`{"error":{"status":"NOT_FOUND","message":"m","details":[{"@type":"a.FcmError","errorCode":"UNREGISTERED"},{"@type":"a.BadRequest","fieldViolations":[{"field":"message.token"}]}]}}`))
	f.Add([]byte(`<html>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		reason, row := fcmReason(body)
		if len(reason) > maxReason || (reason != "" && !isVisible(reason)) || (row == aboutToken && reason != "INVALID_ARGUMENT") {
			t.Errorf("%q %q", reason, row)
		}
	})
}

// TestFCMQuotaOfADevice: Retry-After is waited for where the call has the
// time; without it the device is left alone for a minute.
func TestFCMQuotaOfADevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		defer w.close()
		w.service.Answer(testRegistration, pushtest.Answer{Status: 429, Reason: "QUOTA_EXCEEDED", RetryAfter: "3"})
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Took != 3*time.Second || out.Attempts != 2 {
			t.Errorf("within the call's time: %+v", out)
		}
		w.service.Answer(testRegistration, pushtest.Reject(429, "QUOTA_EXCEEDED"))
		w.send(testMessage("u2"))
		time.Sleep(fcmBackOffFor - time.Second)
		if out := w.send(testMessage("u3")); out.Verdict != Failed || out.Attempts != 0 || out.Status != 429 {
			t.Errorf("while backing off: %+v", out)
		}
		w.service.AddToken(testProject, "another-"+testRegistration)
		if out := w.send(testMessage("u4"), func(t *Target) { t.PRID = "another-" + testRegistration }); out.Verdict != Sent {
			t.Errorf("another device: %+v", out)
		}
		time.Sleep(time.Second)
		if out := w.send(testMessage("u5")); out.Verdict != Sent {
			t.Errorf("afterwards: %+v", out)
		}
	})
}

func TestFCMMinimalPayloadAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		defer w.close()
		w.service.Answer(testRegistration, pushtest.Reject(400, "INVALID_ARGUMENT"))
		out := w.send(testMessage("u1"))
		if out.Verdict != Sent || !out.Alarm || len(out.Shortened) == 0 || out.Attempts != 2 {
			t.Fatalf("outcome %+v", out)
		}
		got := <-w.service.Pushes()
		if got.Payload["uuid"] != "u1" || got.Payload["handle"] != "+4930123456" || got.Payload["caller_name"] != "" {
			t.Errorf("payload %s", got.Body)
		}
		if !strings.Contains(w.logs.String(), "level=ERROR") {
			t.Error("no alarm in the log")
		}
	})
}
