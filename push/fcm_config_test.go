package push

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

func TestFCMConfigKeys(t *testing.T) {
	const text = `
fcm:
  - {project: P, sender_id: "1", service_account_file: F, ttl: 5s, endpoint: E, root_ca: R,
     payload: reveille, template: {k: v}, encrypt: true, headers: [X-A]}
`
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	var c Config
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	want := FCMConfig{Project: "P", SenderID: "1", ServiceAccountFile: "F", TTL: 5 * time.Second, Endpoint: "E", RootCA: "R",
		PayloadConfig: PayloadConfig{"reveille", map[string]string{"k": "v"}, true, []string{"X-A"}}}
	if !reflect.DeepEqual(c.FCM[0], want) {
		t.Errorf("%+v", c)
	}
}

func TestFCMValidate(t *testing.T) {
	w := newFCMSocketWorld(t)
	w.cfg.Validate(func(path, problem string) { t.Errorf("a good one: %s: %s", path, problem) })
	good := w.cfg.FCM[0]
	raw, err := os.ReadFile(good.ServiceAccountFile)
	if err != nil {
		t.Fatal(err)
	}
	account := func(key, value string) func(*FCMConfig) {
		var fields map[string]string
		if err := json.Unmarshal(raw, &fields); err != nil {
			t.Fatal(err)
		}
		fields[key] = value
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		file := writeFile(t, "account.json", string(text), 0o600)
		return func(c *FCMConfig) { c.ServiceAccountFile = file }
	}
	file := func(content string, mode os.FileMode) func(*FCMConfig) {
		name := writeFile(t, "x.json", content, mode)
		return func(c *FCMConfig) { c.ServiceAccountFile = name }
	}
	for _, tt := range []struct {
		path, want string
		change     func(*FCMConfig)
	}{
		{"project", "project id", func(c *FCMConfig) { c.Project = "" }},
		{"project", "project id", func(c *FCMConfig) { c.Project = "Example Phone" }},
		{"project", "project id", func(c *FCMConfig) { c.Project = "../x" }},
		{"project", "number under sender_id", func(c *FCMConfig) { c.Project = "123456789012" }},
		{"sender_id", "Sender ID", func(c *FCMConfig) { c.SenderID = testProject }},
		{"service_account_file", "Service accounts", func(c *FCMConfig) { c.ServiceAccountFile = "" }},
		{"service_account_file", "/none.json", func(c *FCMConfig) { c.ServiceAccountFile = "/none.json" }},
		{"service_account_file", "chmod", file(string(raw), 0o644)},
		{"service_account_file", "no JSON", file("-----BEGIN PRIVATE KEY-----", 0o600)},
		{"service_account_file", "google-services.json", file("{}", 0o600)},
		{"service_account_file", "google-services.json", account("type", "authorized_user")},
		{"service_account_file", "private_key", account("private_key", "x")},
		{"service_account_file", "private_key", account("private_key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")},
		{"service_account_file", "client_email", account("client_email", "")},
		{"service_account_file", "token_uri", account("token_uri", "http://oauth2.googleapis.com/token")},
		{"ttl", "30s", func(c *FCMConfig) { c.TTL = 31 * time.Second }},
		{"ttl", "30s", func(c *FCMConfig) { c.TTL = -time.Second }},
		{"ttl", "whole seconds", func(c *FCMConfig) { c.TTL = time.Second / 2 }},
		{"payload", "reveille", func(c *FCMConfig) { c.Payload = "x" }},
		{"endpoint", "https://HOST", func(c *FCMConfig) { c.Endpoint = "http://x" }},
		{"endpoint", "https://HOST", func(c *FCMConfig) { c.Endpoint = "https://x/v1" }},
		{"endpoint", "https://HOST", func(c *FCMConfig) { c.Endpoint = "https://a:b@x" }},
		{"root_ca", "/none.pem", func(c *FCMConfig) { c.RootCA = "/none.pem" }},
	} {
		cfg := good
		tt.change(&cfg)
		var got []string
		cfg.Validate(func(path, problem string) {
			got = append(got, path+": "+problem)
			if strings.Contains(problem, "PRIVATE") || strings.Contains(problem, "AAAA") {
				t.Errorf("%s: a secret is in: %s", tt.want, problem)
			}
		})
		if !strings.Contains(strings.Join(got, "\n"), tt.path+": ") || !strings.Contains(strings.Join(got, "\n"), tt.want) {
			t.Errorf("%s, %q: got %q", tt.path, tt.want, got)
		}
	}
	w.cfg.FCM = append(w.cfg.FCM, good)
	if err := w.cfg.first(); err == nil || !strings.Contains(err.Error(), "push.fcm[1].project") {
		t.Errorf("twice: %v", err)
	}
	second := w.project("second-phone")
	second.SenderID = "123456789012"
	w.cfg.FCM = []FCMConfig{good, second}
	w.cfg.FCM[0].SenderID = second.SenderID
	if err := w.cfg.first(); err == nil || !strings.Contains(err.Error(), "push.fcm[1].sender_id") {
		t.Errorf("one number twice: %v", err)
	}
}

// TestFCMDefaultTokenURI: a file without token_uri means Google's.
func TestFCMDefaultTokenURI(t *testing.T) {
	w := newFCMSocketWorld(t)
	raw, err := os.ReadFile(w.cfg.FCM[0].ServiceAccountFile)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(w.service.TokenURL()), nil, 1)
	cfg := FCMConfig{Project: testProject, ServiceAccountFile: writeFile(t, "a.json", string(raw), 0o600)}
	a, err := cfg.account()
	conf := a.conf
	if err != nil || conf.TokenURL != "https://oauth2.googleapis.com/token" || len(conf.Scopes) != 1 || conf.Scopes[0] != messagingScope {
		t.Errorf("%+v, %v", conf, err)
	}
}

// FuzzServiceAccount: whatever the file holds, the error holds none of its key.
func FuzzServiceAccount(f *testing.F) {
	f.Add(`{"type":"service_account","project_id":"example-phone","private_key":"-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n","client_email":"a@b"}`)
	f.Add(`{"type":7}`)
	f.Add(``)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := FCMConfig{Project: testProject, ServiceAccountFile: writeFile(t, "a.json", text, 0o600)}.account()
		conf := a.conf
		if err == nil && (conf.Email == "" || len(conf.PrivateKey) == 0) {
			t.Errorf("%q: %+v", text, conf)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("a secret is in: %v", err)
		}
	})
}
