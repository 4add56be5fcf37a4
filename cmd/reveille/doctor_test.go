package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"reveille/cmd/reveille/doctor"
	"reveille/push/pushtest"
)

// faulted collects, under the name of each fault, the lines that are not ok.
type faulted struct {
	t   *testing.T
	out strings.Builder
}

func (f *faulted) add(name, lines string) {
	f.t.Helper()
	lines = strings.ReplaceAll(lines, "warn  the rest: not tried: mend the configuration, then run this again\n", "")
	if n := strings.Count(lines, "\n"); n != 1 {
		f.t.Errorf("%s: %d lines in place of one:\n%s", name, n, lines)
	}
	fmt.Fprintf(&f.out, "-- %s --\n%s", name, lines)
}

func TestDoctorWhereAllIsWell(t *testing.T) {
	c := newClinic(t)
	entry := c.apnsEntry()
	entry["environment"], entry["endpoint"] = "auto", c.apns.Endpoint()
	golden(t, "doctor_good.txt", c.lines(c.file(entry), true))
	if c.apns.Counts().Accepted != 0 {
		t.Error("a push was accepted")
	}
	for _, m := range c.carrier.requests() {
		if m.Get("Contact") != "" && m.Method() == "REGISTER" {
			t.Errorf("a REGISTER that changes a binding:\n%s", m)
		}
	}
	if _, err := os.Stat(filepath.Join(c.dir, "state")); err == nil {
		t.Error("the state directory was made")
	}
}

// TestDoctorNamesTheCauseOfPushFaults: each in one line, with the next step.
func TestDoctorNamesTheCauseOfPushFaults(t *testing.T) {
	noToken := strings.Repeat("0", 64)
	f := &faulted{t: t}
	for _, tt := range []struct {
		name  string
		fault func(c *clinic, entry map[string]string)
	}{
		{"the key's id is another's", func(_ *clinic, e map[string]string) { e["key_id"] = "ABCDE12345" }},
		{"the team is another's", func(_ *clinic, e map[string]string) { e["team_id"] = "ABCDE12345" }},
		{"the key was revoked", func(c *clinic, _ map[string]string) { c.apns.Revoke(c.keyID) }},
		{"the topic is not the team's", func(c *clinic, _ map[string]string) {
			c.apns.Answer(noToken, pushtest.Reject(400, "TopicDisallowed"))
		}},
		{"the key is for the other environment", func(c *clinic, _ map[string]string) {
			c.apns.Answer(noToken, pushtest.Reject(403, "BadEnvironmentKeyInToken"))
		}},
		{"the authority is unknown", func(_ *clinic, e map[string]string) { e["root_ca"] = "" }},
		{"the host is unknown", func(_ *clinic, e map[string]string) { e["endpoint"] = "https://push.invalid" }},
		{"the port is closed", func(_ *clinic, e map[string]string) { e["endpoint"] = "https://" + closedPort(t) }},
		{"the host does not answer", func(c *clinic, _ map[string]string) {
			c.apns.Answer(noToken, pushtest.Answer{Do: pushtest.Stall})
		}},
		{"the host is busy", func(c *clinic, _ map[string]string) {
			c.apns.Answer(noToken, pushtest.Reject(503, "ServiceUnavailable"))
		}},
		{"the webhook's secret is another's", func(c *clinic, _ map[string]string) {
			c.webhook().SetSecrets([]byte("another secret, of as many bytes"))
		}},
		{"the service account is of another project", func(c *clinic, _ map[string]string) {
			c.fcm("other-phone")
			c.push = strings.Replace(c.push, `"other-phone"`, `"example-phone"`, 1)
		}},
		{"the service account was deleted", func(c *clinic, _ map[string]string) {
			gone := pushtest.Answer{Status: 400, Reason: "invalid_grant", Message: "Invalid grant: account not found"}
			c.fcm("example-phone").AnswerToken(gone, gone, gone)
		}},
		{"the service account's key was deleted", func(c *clinic, _ map[string]string) { c.fcm("example-phone").DeleteKeys("example-phone") }},
		{"the service account has no role", func(c *clinic, _ map[string]string) {
			c.fcm("example-phone").Answer("", pushtest.Reject(403, "IAM_PERMISSION_DENIED"))
		}},
		{"FCM is not enabled", func(c *clinic, _ map[string]string) {
			c.fcm("example-phone").Answer("", pushtest.Reject(403, "SERVICE_DISABLED"))
		}},
		{"the webhook is elsewhere", func(c *clinic, _ map[string]string) {
			c.webhook()
			c.push = strings.Replace(c.push, "/voip", "/elsewhere", 1)
		}},
	} {
		c := newClinic(t)
		entry := c.apnsEntry()
		tt.fault(c, entry)
		f.add(tt.name, c.lines(c.file(entry), false))
	}
	golden(t, "doctor_push.txt", f.out.String())
}

// TestDoctorReadsTheClock: a wrong clock is told once for all, and where a
// push service refuses us for it.
func TestDoctorReadsTheClock(t *testing.T) {
	c := newClinic(t)
	for _, tt := range []struct {
		ahead      time.Duration
		want, also string
	}{
		{30 * time.Second, "ok    clock: it agrees", "ok    push apns"},
		{2 * time.Minute, "warn  clock: this machine is 2m0s behind", "ok    push apns"},
		{-3 * time.Minute, "warn  clock: this machine is 3m0s ahead of", "FAIL  push apns com.example.phone production: APNs answered 403 InvalidProviderToken: this machine's clock is 3m"},
		{90 * time.Minute, "FAIL  clock: this machine is 1h30m0s behind", "FAIL  push apns com.example.phone production: APNs answered 403 ExpiredProviderToken: this machine's clock is 1h"},
	} {
		c.apns.SetClock(tt.ahead)
		r := reveille(t, "doctor", "-c", c.file(c.apnsEntry()))
		out := r.stdout
		for slow, exact := range map[string]string{`\b1m5\ds`: "2m0s", `\b3m\ds`: "3m0s", `\b1h29m5\ds`: "1h30m0s"} {
			out = regexp.MustCompile(slow).ReplaceAllString(out, exact)
		}
		if !strings.Contains(out, tt.want) || !strings.Contains(out, tt.also) {
			t.Errorf("%v: want %q and %q in\n%s", tt.ahead, tt.want, tt.also, r.stdout)
		}
	}
}

// fcm puts a project of FCM beside APNs.
func (c *clinic) fcm(project string) *pushtest.FCM {
	c.t.Helper()
	f, err := pushtest.NewFCM(pushtest.FCMOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(f.Close)
	account, err := f.ServiceAccount(c.dir, project)
	if err != nil {
		c.t.Fatal(err)
	}
	ca, err := f.CAFile(c.t.TempDir())
	if err != nil {
		c.t.Fatal(err)
	}
	c.push = ", fcm: [" + yamlEntry(map[string]string{"project": project, "service_account_file": account, "endpoint": f.URL(), "root_ca": ca}) + "]"
	return f
}

// webhook puts a receiver beside APNs.
func (c *clinic) webhook() *pushtest.Webhook {
	c.t.Helper()
	w, err := pushtest.NewWebhook(pushtest.WebhookOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(w.Close)
	dir := c.t.TempDir()
	secret, err := w.SecretFile(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	ca, err := w.CAFile(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	c.push = ", webhook: [" + yamlEntry(map[string]string{"provider": "mypush", "url": w.URL(), "secret_file": secret, "root_ca": ca}) + "]"
	return w
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

// TestDoctorNamesTheCauseOfTrunkFaults: who cannot be reached, and who does
// not take the login.
func TestDoctorNamesTheCauseOfTrunkFaults(t *testing.T) {
	f := &faulted{t: t}
	for _, tt := range []struct {
		name  string
		fault func(c *clinic)
	}{
		{"wrong password", func(c *clinic) { c.carrier.follow(takesLogin(0)) }},
		{"blocked", func(c *clinic) { c.carrier.follow(takesLogin(403)) }},
		{"unknown user", func(c *clinic) { c.carrier.follow(takesLogin(404)) }},
		{"a registrar that wants a Contact", func(c *clinic) { c.carrier.follow(takesLogin(400)) }},
		{"tcp in place of udp", func(c *clinic) { c.trunk = strings.Replace(c.trunk, "{", "{transport: tcp, ", 1) }},
		{"the host is unknown", func(c *clinic) {
			c.trunk = "{name: carrier, registrar: \"sip:push.invalid\", username: u, password: hunter2}"
		}},
	} {
		c := newClinic(t)
		tt.fault(c)
		f.add(tt.name, c.lines(c.file(c.apnsEntry()), false))
	}
	golden(t, "doctor_trunks.txt", f.out.String())
}

// TestDoctorBesideARunningBridge: what the bridge has is good, and it does not
// notice; a second bridge for the same state is none.
func TestDoctorBesideARunningBridge(t *testing.T) {
	r := serveProcess(t)
	c := newClinic(t)
	_, c.port, _ = net.SplitHostPort(r.sip)
	_, c.web, _ = net.SplitHostPort(strings.TrimPrefix(r.http, "http://"))
	file := c.file(c.apnsEntry())
	text := strings.Replace(read(t, file), filepath.Join(c.dir, "state"), filepath.Join(filepath.Dir(r.file), "state"), 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := reveille(t, "doctor", "-c", file)
	if n := strings.Count(got.stdout, ": in use by the running bridge\n"); n != 3 || got.code != 0 {
		t.Errorf("exit code %d, %d in use by the bridge, want state_dir, sip.listen and http.listen:\n%s", got.code, n, got.stdout)
	}
	r.ask("status").wants(t, 0, "running", "")
	// With no way to ask it, it is a stranger that has the port and the state.
	if err := os.WriteFile(file, []byte(strings.Replace(text, "127.0.0.1:"+c.web, "127.0.0.1:0", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(program(t))
	got = reveille(t, "doctor", "-c", file)
	for _, want := range []string{": the port is in use by " + name[:min(15, len(name))] + " (process ", ": the database is in use by " + name[:min(15, len(name))] + " (process "} {
		got.wants(t, 1, want, "")
	}
}

func TestDoctorInJSON(t *testing.T) {
	c := newClinic(t)
	c.apns.Revoke(c.keyID)
	r := reveille(t, "doctor", "--json", "-c", c.file(c.apnsEntry()))
	var out report
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || r.code != 1 || out.OK || len(out.Checks) < 8 {
		t.Fatalf("exit code %d, %v:\n%s", r.code, err, r.stdout)
	}
	if last := out.Checks[len(out.Checks)-1]; last.Check != "push apns com.example.phone production" || last.Status != doctor.Fail {
		t.Errorf("%+v", last)
	}
}

func TestDoctorUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	reveille(t, "doctor").wants(t, 2, "", "use -c FILE")
	reveille(t, "doctor", "x").wants(t, 2, "", "reveille doctor")
	reveille(t, "doctor", "-c", "/nowhere.yaml").wants(t, 1, "FAIL  configuration: /nowhere.yaml does not exist", "")
}
