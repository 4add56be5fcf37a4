package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/location"
)

// What an administrator sees of ten faults, by a running bridge and a push
// service over TLS: for each device the cause and the next step in one line.
func TestPushTestNamesCauseAndNextStep(t *testing.T) {
	apns, err := pushtest.NewAPNs(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer apns.Close()
	dir := t.TempDir()
	keyFile, keyID, teamID, err := apns.NewKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	caFile, err := apns.CAFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	const bundle = "com.example.phone"
	var targets []location.Target
	for i, script := range []func(token string){
		func(token string) { apns.AddToken(pushtest.Sandbox, token, bundle) },
		func(token string) { apns.Unregister(pushtest.Production, token, time.Now().Add(time.Hour)) },
		func(string) {}, // known in neither environment
		func(token string) { apns.Answer(token, pushtest.Reject(403, "InvalidProviderToken")) },
		func(token string) { apns.Answer(token, pushtest.Reject(400, "DeviceTokenNotForTopic")) },
		func(token string) { apns.Answer(token, pushtest.Reject(429, "TooManyRequests")) },
		func(token string) {
			apns.Answer(token, pushtest.Reject(503, "ServiceUnavailable"), pushtest.Reject(503, "ServiceUnavailable"))
		},
		func(token string) {
			apns.Answer(token, pushtest.Answer{Status: 502, Body: "<html>Bad gateway</html>"}, pushtest.Answer{Status: 502, Body: "<html>Bad gateway</html>"})
		},
		func(token string) { apns.Answer(token, pushtest.Answer{Do: pushtest.Stall}) },
		func(token string) { apns.AddToken(pushtest.Production, token, bundle) },
		func(token string) { apns.AddToken(pushtest.Production, token, bundle) },
	} {
		token := fmt.Sprintf("%064x", i+1)
		apns.AddToken(pushtest.Production, token, bundle)
		if i == 0 || i == 2 {
			apns.Answer(token, pushtest.Reject(400, "BadDeviceToken"))
		}
		script(token)
		targets = append(targets, location.Target{Provider: "apns", Param: teamID + "." + bundle + ".voip", PRID: token})
	}
	targets[2].PRID = strings.Repeat("f", 64)
	targets[9].Param = teamID + ".com.example.other.voip"
	targets[10].Provider = "mypush"
	r := serveDevices(t, fmt.Sprintf("calls: {push_timeout: 6s}\npush: {apns: [{topic: %s, team_id: %s, key_id: %s, key_file: %s, endpoint: %q, root_ca: %s}]}",
		bundle, teamID, keyID, keyFile, apns.Endpoint(), caFile), targets...)
	out := r.ask("push-test", "1001")
	if out.code != 1 || out.stderr != "" {
		t.Errorf("exit code %d, stderr %s", out.code, out.stderr)
	}
	text := regexp.MustCompile(`after \d+ ms`).ReplaceAllString(out.stdout, "after N ms")
	text = regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}`).ReplaceAllString(text, "ID")
	text = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "127.0.0.1:PORT")
	golden(t, "push_test.txt", text)
	if strings.Contains(text, "000000") || strings.Contains(text, "ffffff") {
		t.Error("a token is shown")
	}
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != len(targets) || slices.ContainsFunc(lines, func(l string) bool { return len(l) > 400 }) {
		t.Errorf("%d lines for %d devices", len(lines), len(targets))
	}
	apns.Close()
	if out = r.ask("push-test", "1001"); !strings.Contains(out.stdout, "doctor") {
		t.Errorf("with the push service gone: %s", out.stdout)
	}
	t.Log(out.stdout)
}
