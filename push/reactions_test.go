package push

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestReactions holds every answer that Apple documents, and those that its
// servers were seen to give, against what must be done about it. Each is given
// by the service for as long as it is asked; the number of requests and the
// environments they went to show what was done.
func TestReactions(t *testing.T) {
	const prod, both = "p", "ps"
	tests := []struct {
		status   int
		reason   string
		verdict  Verdict
		alarm    bool
		requests int    // in all, retries included
		hosts    string // which hosts saw them
	}{
		{200, "", Sent, false, 1, prod},

		{400, "BadDeviceToken", Gone, false, 2, both},
		{400, "DeviceTokenNotForTopic", Refused, true, 1, prod},
		{400, "BadTopic", Refused, true, 1, prod},
		{400, "TopicDisallowed", Refused, true, 1, prod},
		{400, "MissingTopic", Refused, true, 1, prod},
		{400, "InvalidPushType", Refused, true, 1, prod},
		{400, "IdleTimeout", Failed, false, 2, prod},
		{400, "BadCollapseId", Refused, true, 2, prod},
		{400, "BadExpirationDate", Refused, true, 2, prod},
		{400, "BadMessageId", Refused, true, 2, prod},
		{400, "BadPriority", Refused, true, 2, prod},
		{400, "DuplicateHeaders", Refused, true, 2, prod},
		{400, "MissingDeviceToken", Refused, true, 2, prod},
		{400, "PayloadEmpty", Refused, true, 2, prod},
		{400, "SomethingNew", Refused, true, 2, prod},

		{403, "ExpiredProviderToken", Refused, true, 1, prod}, // ours is fresh: it is a clock
		{403, "UnrelatedKeyIdInToken", Refused, true, 2, prod},
		{403, "BadEnvironmentKeyIdInToken", Refused, true, 1, prod},
		{403, "BadEnvironmentKeyInToken", Refused, true, 1, prod},
		{403, "BadCertificate", Refused, true, 1, prod},
		{403, "BadCertificateEnvironment", Refused, true, 1, prod},
		{403, "MissingProviderToken", Refused, true, 1, prod},
		{403, "InvalidProviderToken", Refused, true, 1, prod},
		{403, "Forbidden", Refused, true, 1, prod},
		{403, "SomethingNew", Refused, true, 1, prod},

		{404, "BadPath", Refused, true, 1, prod},
		{405, "MethodNotAllowed", Refused, true, 1, prod},
		{410, "Unregistered", Gone, false, 1, prod},
		{410, "ExpiredToken", Gone, false, 1, prod},
		{413, "PayloadTooLarge", Refused, true, 2, prod},
		{429, "TooManyProviderTokenUpdates", Refused, true, 1, prod},
		{429, "TooManyRequests", Failed, false, 1, prod},
		{500, "InternalServerError", Failed, false, 2, prod},
		{503, "ServiceUnavailable", Failed, false, 2, prod},
		{503, "Shutdown", Failed, false, 2, prod},
		{502, "", Failed, false, 2, prod},
		{301, "", Refused, true, 1, prod},
		{418, "", Refused, true, 1, prod},
	}
	for _, tt := range tests {
		t.Run(strings.TrimSpace(fmt.Sprintf("%d %s", tt.status, tt.reason)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPipeWorld(t, nil)
				defer w.close()
				for range 4 {
					w.service.Answer(testToken, pushtest.Answer{Status: tt.status, Reason: tt.reason})
				}
				out := w.send(testMessage("u1"))
				if out.Verdict != tt.verdict || out.Alarm != tt.alarm || out.Status != tt.status || out.Reason != tt.reason {
					t.Errorf("outcome %v alarm=%v %d %q, want %v alarm=%v", out.Verdict, out.Alarm, out.Status, out.Reason, tt.verdict, tt.alarm)
				}
				if (out.Err == nil) != (tt.verdict == Sent) {
					t.Errorf("err = %v", out.Err)
				}
				if out.Uncertain || out.Duplicate {
					t.Errorf("outcome %+v", out)
				}
				if c := w.service.Counts(); c.Requests != tt.requests || out.Attempts != tt.requests {
					t.Errorf("%d requests, %d attempts, want %d", c.Requests, out.Attempts, tt.requests)
				}
				if hosts := w.hosts(); hosts != tt.hosts {
					t.Errorf("hosts %q, want %q", hosts, tt.hosts)
				}
				w.noSecrets(out)
			})
		})
	}
}

// hosts says which environments' hosts had requests.
func (w *world) hosts() string {
	c := w.service.Counts()
	s := ""
	if c.ByEnvironment[pushtest.Production] > 0 {
		s += "p"
	}
	if c.ByEnvironment[pushtest.Sandbox] > 0 {
		s += "s"
	}
	return s
}

// TestReactionsAreOrdered holds that no row hides a later one.
func TestReactionsAreOrdered(t *testing.T) {
	any := map[int]bool{}
	seen := map[string]bool{}
	for _, r := range reactions() {
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

func TestBadDeviceTokenFlips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.AddToken(pushtest.Sandbox, "aa"+testToken, testBundle)
		sandboxToken := func(t *Target) { t.PRID = "aa" + testToken }

		out := w.send(testMessage("u1"), sandboxToken)
		if out.Verdict != Sent || out.Environment != Sandbox || out.Attempts != 2 {
			t.Fatalf("first: %+v", out)
		}
		out = w.send(testMessage("u2"), sandboxToken, func(t *Target) { t.Environment = out.Environment })
		if out.Verdict != Sent || out.Environment != Sandbox || out.Attempts != 1 {
			t.Errorf("once learned: %+v", out)
		}
		out = w.send(testMessage("u3"), sandboxToken, func(t *Target) { t.Provider = "apns.dev" })
		if out.Verdict != Sent || out.Environment != Sandbox || out.Attempts != 1 {
			t.Errorf("apns.dev: %+v", out)
		}
		out = w.send(testMessage("u4"), func(t *Target) { t.Environment = Sandbox })
		if out.Verdict != Sent || out.Environment != Production || out.Attempts != 2 {
			t.Errorf("learned wrongly: %+v", out)
		}
	})
}

// A token that the one configured environment refuses is dead where it has been
// taken there before; else the configuration may be wrong, and the token stays.
func TestFixedEnvironmentDoesNotFlip(t *testing.T) {
	for _, env := range []string{Production, Sandbox} {
		t.Run(env, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPipeWorld(t, func(c *APNsConfig) { c.Environment = env })
				defer w.close()
				out := w.send(testMessage("u1"), func(t *Target) { t.PRID = "bb" + testToken; t.Environment = otherEnvironment(env) })
				if out.Verdict != Refused || !out.Alarm || out.Attempts != 1 || w.hosts() != env[:1] {
					t.Errorf("outcome %+v, hosts %q", out, w.hosts())
				}
				out = w.send(testMessage("u2"), func(t *Target) { t.PRID = "bb" + testToken; t.Environment = env })
				if out.Verdict != Gone || out.Attempts != 1 || w.hosts() != env[:1] {
					t.Errorf("once it was taken there: %+v, hosts %q", out, w.hosts())
				}
			})
		})
	}
}

func TestOneEndpointDoesNotFlip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, func(c *APNsConfig) { c.Endpoint, _, _ = strings.Cut(c.Endpoint, ",") })
		defer w.close()
		out := w.send(testMessage("u1"), func(t *Target) { t.PRID = "bb" + testToken })
		if out.Verdict != Gone || out.Attempts != 1 {
			t.Errorf("outcome %+v", out)
		}
		if out := w.send(testMessage("u2"), func(t *Target) { t.Provider = "apns.dev" }); out.Verdict != Sent {
			t.Errorf("a sandbox push: %+v", out)
		}
	})
}

func TestGoneOnlyIfOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		died := time.Now().Add(-time.Hour)
		w.service.Unregister(pushtest.Production, testToken, died)
		for name, tt := range map[string]struct {
			since time.Time
			want  Verdict
		}{
			"unknown":           {time.Time{}, Gone},
			"registered before": {died.Add(-time.Millisecond), Gone},
			"registered since":  {died.Add(time.Millisecond), Failed},
		} {
			m := testMessage(name)
			m.TargetSince = tt.since
			if out := w.send(m); out.Verdict != tt.want || out.Status != 410 {
				t.Errorf("%s: %+v, want %v", name, out, tt.want)
			}
		}
	})
}

func TestTooManyRequestsBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.Answer(testToken, pushtest.Answer{Status: 429, Reason: "TooManyRequests", RetryAfter: "3"})
		w.send(testMessage("u1"))
		time.Sleep(2 * time.Second)
		out := w.send(testMessage("u2"))
		if out.Verdict != Failed || out.Attempts != 0 || out.Status != 429 || w.service.Counts().Requests != 1 {
			t.Errorf("while backing off: %+v", out)
		}
		time.Sleep(time.Second)
		if out := w.send(testMessage("u3")); out.Verdict != Sent {
			t.Errorf("afterwards: %+v", out)
		}
	})
}

func TestMinimalPayloadAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.Answer(testToken, pushtest.Reject(413, "PayloadTooLarge"))
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
