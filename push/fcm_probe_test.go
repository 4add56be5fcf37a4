package push

import (
	"context"
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
)

func (w *fcmWorld) probe() []ProbeResult {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	found := w.sender.Probe(ctx)
	for _, r := range found {
		if r.Err != nil {
			w.noSecrets(Outcome{Err: r.Err})
			if strings.Contains(r.Err.Error(), "\n") {
				w.t.Errorf("more than a line: %v", r.Err)
			}
		}
	}
	return found
}

// TestFCMProbeOfGoodCredentials: each project is tried, and nothing is pushed.
func TestFCMProbeOfGoodCredentials(t *testing.T) {
	w := newFCMSocketWorld(t)
	w.cfg.FCM[0].SenderID = "123456789012"
	w.cfg.FCM = append(w.cfg.FCM, w.project("second-phone"))
	w.sender = w.newSender(nil)
	found := w.probe()
	if len(found) != 2 {
		t.Fatalf("%+v", found)
	}
	for i, project := range []string{testProject, "second-phone"} {
		r := found[i]
		if r.Err != nil || r.Provider != "fcm" || r.App != project || !strings.Contains(r.Proved, "project "+project) || !r.Dated || r.Skew.Abs() > 2*time.Second {
			t.Errorf("%+v", r)
		}
	}
	if c := w.service.Counts(); c.Accepted != 0 {
		t.Errorf("%+v", c)
	}
}

// TestFCMAccountOfAnotherProject: Google lets a service account send for other
// projects that gave it the role. The probe tells which way it is, and so does
// a push.
func TestFCMAccountOfAnotherProject(t *testing.T) {
	w := newFCMSocketWorld(t)
	w.cfg.FCM[0].ServiceAccountFile = w.project("other-phone").ServiceAccountFile
	w.cfg.Validate(func(path, problem string) { t.Errorf("%s: %s", path, problem) })
	w.sender = w.newSender(nil)
	const hint = `of project "other-phone" and may not send for "example-phone"`
	if r := w.probe()[0]; r.Err == nil || !strings.Contains(r.Err.Error(), hint) || !strings.Contains(r.Err.Error(), "IAM") || r.Doubtful {
		t.Errorf("without the role: %+v", r)
	}
	if out := w.send(testMessage("u1")); out.Verdict != Refused || !out.Alarm || !strings.Contains(out.Err.Error(), hint) {
		t.Errorf("without the role: %+v", out)
	}
	w.service.GiveRole("other-phone", testProject)
	if r := w.probe()[0]; r.Err != nil || !strings.Contains(r.Proved, "of project other-phone for project "+testProject) {
		t.Errorf("with it: %+v", r)
	}
	if out := w.send(testMessage("u2")); out.Verdict != Sent {
		t.Errorf("with it: %+v", out)
	}
	w.service.Answer(testRegistration, pushtest.Reject(403, "SERVICE_DISABLED"))
	if out := w.send(testMessage("u3")); out.Verdict != Refused || !strings.Contains(out.Err.Error(), `in the service account's project "other-phone", and in "example-phone"`) {
		t.Errorf("API off: %+v", out)
	}
}

// TestFCMProbeSaysWhatGoogleMeans: the fault is named with its next step.
func TestFCMProbeSaysWhatGoogleMeans(t *testing.T) {
	send := func(a pushtest.Answer) func(*fcmWorld) {
		return func(w *fcmWorld) { w.service.Answer(noRegistration, a) }
	}
	for name, tt := range map[string]struct {
		fault    func(*fcmWorld)
		doubtful bool
		want     string
	}{
		"API off":     {send(pushtest.Reject(403, "SERVICE_DISABLED")), false, "enable it in the Google Cloud console"},
		"no role":     {send(pushtest.Reject(403, "IAM_PERMISSION_DENIED")), false, "Firebase Cloud Messaging API Admin"},
		"no project":  {send(pushtest.Reject(404, "NOT_FOUND")), false, "push.fcm.project"},
		"busy":        {send(pushtest.Reject(503, "UNAVAILABLE")), true, "try again"},
		"cut off":     {send(pushtest.Answer{Do: pushtest.CutOff}), false, "gives no answer"},
		"bad token":   {send(pushtest.Answer{Status: 400, Reason: "INVALID_ARGUMENT", Field: "message.token"}), false, ""},
		"takes it":    {send(pushtest.Answer{Status: 200}), false, ""},
		"key deleted": {func(w *fcmWorld) { w.service.DeleteKeys(testProject) }, false, "key was deleted"},
		"clock": {func(w *fcmWorld) {
			for range 5 {
				w.service.AnswerToken(pushtest.Answer{Status: 400, Reason: "invalid_grant", Message: "Invalid JWT: Token must be a short-lived token"})
			}
		}, false, "set this machine's clock"},
		"endpoint down": {func(w *fcmWorld) {
			for range 5 {
				w.service.AnswerToken(pushtest.Answer{Status: 503})
			}
		}, true, "try again"},
	} {
		w := newFCMSocketWorld(t)
		w.sender.Close()
		tt.fault(w)
		w.sender = w.newSender(nil)
		r := w.probe()[0]
		if tt.want == "" && r.Err == nil {
			continue
		}
		if r.Err == nil || !strings.Contains(r.Err.Error(), tt.want) || r.Doubtful != tt.doubtful {
			t.Errorf("%s: %v (doubtful: %v), want %q", name, r.Err, r.Doubtful, tt.want)
		}
		w.sender.Close()
	}
}

// TestFCMProbeTellsTheStepsApart: the two endpoints each have their own words.
func TestFCMProbeTellsTheStepsApart(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*FCMConfig)
		want   string
	}{
		"no such host": {func(c *FCMConfig) { c.Endpoint = "https://fcm.invalid" }, "DNS: "},
		"port closed":  {func(c *FCMConfig) { c.Endpoint = "https://" + closedPort }, "refuses connections"},
		"unknown CA":   {func(c *FCMConfig) { c.RootCA = "" }, `the token endpoint: the certificate of 127.0.0.1`},
	} {
		w := newFCMSocketWorld(t)
		tt.change(&w.cfg.FCM[0])
		w.sender = w.newSender(nil)
		if r := w.probe()[0]; r.Err == nil || !strings.Contains(r.Err.Error(), tt.want) {
			t.Errorf("%s: %v", name, r.Err)
		}
		w.sender.Close()
	}
}
