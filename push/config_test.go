package push

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestDefaultConfigIsValid(t *testing.T) {
	DefaultConfig().Validate(func(path, problem string) { t.Errorf("%s: %s", path, problem) })
}

func TestConfigKeys(t *testing.T) {
	const text = `
header: X-UUID
master_key_file: M
apns:
  - {topic: a.b, team_id: T, key_id: K, key_file: F, certificate: C, certificate_password_file: P,
     push_type: alert, environment: auto, payload: reveille, endpoint: E, root_ca: R, template: {k: v}, encrypt: true, headers: [X-A]}
`
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	var c Config
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if want := (APNsConfig{"a.b", "T", "K", "F", "C", "P", "alert", "auto", "E", "R",
		PayloadConfig{"reveille", map[string]string{"k": "v"}, true, []string{"X-A"}}, ""}); c.Header != "X-UUID" || c.MasterKeyFile != "M" || !reflect.DeepEqual(c.APNs[0], want) {
		t.Errorf("%+v", c)
	}
}

func TestValidate(t *testing.T) {
	w := newSocketWorld(t)
	good := w.cfg.APNs[0]
	w.cfg.Validate(func(path, problem string) { t.Errorf("a good one: %s: %s", path, problem) })
	noPEM := writeFile(t, "ca.pem", "nothing", 0o644)

	for _, tt := range []struct {
		path, want string
		change     func(*APNsConfig)
	}{
		{"topic", `"com.example.phone"`, func(c *APNsConfig) { c.Topic += ".voip" }},
		{"topic", "bundle id", func(c *APNsConfig) { c.Topic = "" }},
		{"topic", "bundle id", func(c *APNsConfig) { c.Topic = "com.example phone" }},
		{"team_id", "ten capitals", func(c *APNsConfig) { c.TeamID = "abcde12345" }},
		{"key_id", "ten capitals", func(c *APNsConfig) { c.KeyID = "" }},
		{"key_file", "AuthKey", func(c *APNsConfig) { c.KeyFile = "" }},
		{"key_file", "/none.p8", func(c *APNsConfig) { c.KeyFile = "/none.p8" }},
		{"environment", "production, sandbox or auto", func(c *APNsConfig) { c.Environment = "dev" }},
		{"payload", "reveille", func(c *APNsConfig) { c.Payload = "x" }},
		{"endpoint", "https://HOST", func(c *APNsConfig) { c.Endpoint = "http://x" }},
		{"endpoint", "https://HOST", func(c *APNsConfig) { c.Endpoint = "https://x/path" }},
		{"endpoint", "https://HOST", func(c *APNsConfig) { c.Endpoint = "https://a,ftp://b" }},
		{"endpoint", "https://HOST", func(c *APNsConfig) { c.Endpoint = "https://user:pw@x" }},
		{"root_ca", "/none.pem", func(c *APNsConfig) { c.RootCA = "/none.pem" }},
		{"root_ca", "no certificate", func(c *APNsConfig) { c.RootCA = noPEM }},
	} {
		bad := good
		tt.change(&bad)
		var got []string
		Config{Header: "X", APNs: []APNsConfig{good, bad}}.Validate(func(path, problem string) {
			got = append(got, path+": "+problem)
		})
		prefix := "apns[1]." + tt.path + ": "
		if len(got) == 0 || !strings.HasPrefix(got[0], prefix) || !strings.Contains(got[0], tt.want) {
			t.Errorf("%s: %q, want %q", tt.path, got, prefix+"…"+tt.want)
		}
		if _, err := NewSender(Config{Header: "X", APNs: []APNsConfig{bad}}, Options{}); err == nil {
			t.Errorf("%s: NewSender takes it", tt.path)
		}
	}
}

func TestValidateTellsEverything(t *testing.T) {
	var paths []string
	Config{Header: "bad header", APNs: []APNsConfig{{Topic: "a b", Environment: "x", PayloadConfig: PayloadConfig{Payload: "x"}, Endpoint: "x", RootCA: "/x"}, {Topic: "a b"}}}.
		Validate(func(path, problem string) { paths = append(paths, path) })
	want := "header apns[0].topic apns[0].team_id apns[0].key_id apns[0].key_file apns[0].environment apns[0].payload apns[0].endpoint apns[0].root_ca " +
		"apns[1].topic apns[1].team_id apns[1].key_id apns[1].key_file apns[1].topic"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEndpoints(t *testing.T) {
	for in, want := range map[string]string{
		"":                           hostProduction + " " + hostSandbox,
		"https://relay.example":      "https://relay.example https://relay.example",
		"https://a:1/, https://b:2":  "https://a:1 https://b:2",
		"https://[2001:db8::1]:2197": "https://[2001:db8::1]:2197 https://[2001:db8::1]:2197",
	} {
		got, err := APNsConfig{Endpoint: in}.endpoints()
		if s := fmt.Sprint(got[Production], " ", got[Sandbox]); err != nil || s != want {
			t.Errorf("%q: %s, %v", in, s, err)
		}
	}
}

// TestAppsShareConnections: two apps of one key use the same two connections.
func TestAppsShareConnections(t *testing.T) {
	w := newSocketWorld(t)
	second := w.cfg.APNs[0]
	second.Topic = "com.example.other"
	s, err := NewSender(Config{Header: "X", APNs: []APNsConfig{w.cfg.APNs[0], second}}, Options{Log: w.sender.log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := s.now.providers[0].(*apns)
	if x, y := a.apps[testBundle][0], a.apps["com.example.other"][0]; x.sides[Production].account != y.sides[Sandbox].account || len(a.accounts.inUse) != 1 {
		t.Errorf("%d accounts", len(a.accounts.inUse))
	}
	w.service.AddToken(Production, "dd"+testToken, "com.example.other")
	out := s.Send(t.Context(), "d", Target{Provider: "apns", Param: "com.example.other.voip", PRID: "dd" + testToken}, testMessage("u1"))
	if out.Verdict != Sent {
		t.Errorf("outcome %+v", out)
	}
}
