package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"reveille/cmd/reveille/admin"
)

var update = flag.Bool("update", false, "write the golden files anew")

// result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

// reveille runs a command in this process.
func reveille(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	p := &process{stdout: &out, stderr: &errs, env: func(string) (string, bool) { return "", false }, signals: make(chan os.Signal)}
	code := p.main(t.Context(), args)
	return result{code, out.String(), errs.String()}
}

// wants checks the exit code and what was said where; "" wants silence.
func (r result) wants(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, s := range []struct{ name, got, want string }{{"stdout", r.stdout, stdout}, {"stderr", r.stderr, stderr}} {
		if s.want == "" && s.got != "" || !strings.Contains(s.got, s.want) {
			t.Errorf("%s is %q, want %q", s.name, s.got, s.want)
		}
	}
}

// write puts a private file into a new directory.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant (%s)\n%s", got, path, want)
	}
}

func TestWrongUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	reveille(t).wants(t, 2, "", "reveille serve")
	for _, args := range []string{
		"dance", "serve now", "serve --listen 1", "serve -c", "serve --log-level loud", "check -c a b", "status me", "calls a b",
		"calls --limit many", "trunks x", "devices a b", "push-test", "push-test a b", "version 2", "help dance", "check",
		"demo now", "demo --scenario dance",
	} {
		t.Run(args, func(t *testing.T) {
			reveille(t, strings.Fields(args)...).wants(t, 2, "", "reveille")
		})
	}
}

func TestHelp(t *testing.T) {
	reveille(t, "--help").wants(t, 0, "reveille serve", "")
	reveille(t, "help").wants(t, 0, "reveille push-test EXTENSION", "")
	reveille(t, "help", "serve").wants(t, 0, "--log-level LEVEL", "")
	for _, c := range commands() {
		for _, help := range []string{"--help", "-h"} {
			reveille(t, c.name, help).wants(t, 0, "Usage: reveille "+c.name, "")
		}
		for i, line := range strings.Split(c.help, "\n") {
			if len(line) > 120 {
				t.Errorf("%s: line %d of the help has %d characters", c.name, i+1, len(line))
			}
		}
	}
}

func TestVersion(t *testing.T) {
	r := reveille(t, "version")
	if r.code != 0 || !regexp.MustCompile(`^reveille \S+ go\S+ \S+/\S+\n$`).MatchString(r.stdout) {
		t.Errorf("%+v", r)
	}
}

func TestFlagsMayStandAfterArguments(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"asked": %q}`, r.URL.String()) }))
	defer api.Close()
	reveille(t, "devices", "1001", "--json", "--server", api.URL).wants(t, 0, `{"asked": "/api/v1/devices?extension=1001"}`, "")
	reveille(t, "devices", "--json", "--server", api.URL, "--", "-1001").wants(t, 0, `{"asked": "/api/v1/devices?extension=-1001"}`, "")
}

func TestCheckOfAGoodFile(t *testing.T) {
	file := write(t, "good.yaml", `
trunks: [{name: pbx, peers: [192.0.2.10]}]
extensions: [{name: "1001", password: long-password}, {name: "1002", password: long-password}]
`)
	reveille(t, "check", "-c", file).wants(t, 0, file+" is fine: 1 trunk, 2 extensions, SIP on udp://0.0.0.0:5060", "")
	t.Chdir(filepath.Dir(file))
	if err := os.Rename(file, "reveille.yaml"); err != nil {
		t.Fatal(err)
	}
	reveille(t, "check").wants(t, 0, "./reveille.yaml is fine", "")
}

func TestCheckNamesEveryFault(t *testing.T) {
	r := reveille(t, "check", "-c", "testdata/faulty.yaml")
	if r.code != 1 || r.stderr != "" {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
	golden(t, "faulty.txt", regexp.MustCompile(`(?m)^(\S+:\d+: \S+:) .+$`).ReplaceAllString(r.stdout, "$1")) // words may change
	if strings.Contains(r.stdout, "hunter2") {
		t.Error("a password shows")
	}
}

func TestCheckOfNoFile(t *testing.T) {
	reveille(t, "check", "-c", "/nowhere/reveille.yaml").wants(t, 1, "", "/nowhere/reveille.yaml does not exist")
}

func TestCheckReadsTheFilesThatAreNamed(t *testing.T) {
	junk := write(t, "junk.pem", "no certificate")
	file := write(t, "files.yaml", fmt.Sprintf(`sip:
  listen: [tls://0.0.0.0:5061]
  tls:
    certificate: %[1]s
    key: %[1]s
    client_ca: %[1]s
trunks:
  - name: carrier
    peers: [192.0.2.1]
    transport: tls
    root_ca: %[1]s
media:
  ringback: %[1]s
telemetry:
  cdr: /nowhere/at/all/calls.jsonl
`, junk))
	r := reveille(t, "check", "-c", file)
	r.wants(t, 1, file+":13: media.ringback", "")
	mended := strings.Replace(read(t, file), "ringback: "+junk, "ringback: none", 1)
	if err := os.WriteFile(file, []byte(mended), 0o600); err != nil {
		t.Fatal(err)
	}
	r = reveille(t, "check", "-c", file)
	for _, at := range []string{":4: sip.tls.certificate", ":6: sip.tls.client_ca", ":11: trunks[0].root_ca", ":15: telemetry.cdr"} {
		r.wants(t, 1, file+at, "")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestServeRefusesAFaultyFile(t *testing.T) {
	r := reveille(t, "serve", "-c", "testdata/faulty.yaml")
	r.wants(t, 1, "", "testdata/faulty.yaml:2: ")
}

func TestAskingFindsTheBridge(t *testing.T) {
	token := "0123456789abcdef"
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(401)
			fmt.Fprint(w, `{"title":"Unauthorized","status":401,"detail":"send the token"}`)
			return
		}
		fmt.Fprint(w, `{"trunks":[]}`)
	}))
	defer api.Close()
	t.Chdir(t.TempDir())
	tokenFile := write(t, "token", token+"\n")
	cfg := write(t, "b.yaml", fmt.Sprintf("http:\n  listen: %s\n  token: %s\n", strings.TrimPrefix(api.URL, "http://"), token))

	reveille(t, "trunks", "--server", api.URL, "--token-file", tokenFile).wants(t, 0, "no trunks", "")
	reveille(t, "trunks", "-c", cfg).wants(t, 0, "no trunks", "")
	reveille(t, "trunks", "--server", api.URL).wants(t, 1, "", "wants its token")
	if err := os.Rename(cfg, "reveille.yaml"); err != nil {
		t.Fatal(err)
	}
	reveille(t, "trunks").wants(t, 0, "no trunks", "")
	reveille(t, "trunks", "--server", "ftp://x").wants(t, 1, "", "no URL")
	reveille(t, "trunks", "-c", "testdata/none.yaml").wants(t, 1, "", "does not exist")
	api.Close()
	reveille(t, "trunks").wants(t, 1, "", "no bridge answers at "+api.URL)
}

func TestAskingSomethingElse(t *testing.T) {
	for answer, want := range map[string]string{
		`{"trunks": 7}`:      "is this a bridge's API?",
		`<html>hello</html>`: "is this a bridge's API?",
	} {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		reveille(t, "trunks", "--server", api.URL).wants(t, 1, "", want)
		api.Close()
	}
	api := httptest.NewServer(http.NotFoundHandler())
	defer api.Close()
	reveille(t, "status", "--server", api.URL).wants(t, 1, "", "404 Not Found")
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:8060": "127.0.0.1:8060", ":8060": "127.0.0.1:8060", "[::]:80": "[::1]:80", "192.0.2.1:80": "192.0.2.1:80", "localhost:1": "localhost:1",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("%s is reached at %s, want %s", listen, got, want)
		}
	}
}

func TestPushTestExitCodes(t *testing.T) {
	for answer, want := range map[string]result{
		`{"pushes":[]}`: {1, "no device with a push target", ""},
		`{"pushes":[{"device":"0123456789","provider":"apns","outcome":"sent","status":200,"id":"A","ms":12.4}]}`:                                                                                         {0, "device 01234567: sent by apns after 12 ms, status 200, id A", ""},
		`{"pushes":[{"device":"a","outcome":"sent"},{"device":"b","provider":"apns","environment":"sandbox","outcome":"gone","status":410,"reason":"Bad","attempts":2,"error":"APNs answered 410 Bad"}]}`: {1, "device b: gone by apns (sandbox) after 0 ms, status 410, reason Bad, 2 requests: APNs answered 410 Bad; the token was dropped", ""},
		`{"pushes":[{"device":"a","outcome":"refused","error":"compare key_id"}]}`:                                                                                                                        {1, ": compare key_id\n", ""},
		`{"pushes":[{"device":"a","outcome":"budget","error":"no push was sent"}]}`:                                                                                                                       {1, ": no push was sent; wait a minute", ""},
		`{"pushes":[{"device":"a","outcome":"failed","status":429}]}`:                                                                                                                                     {1, "does something else push this device", ""},
		`{"pushes":[{"device":"a","outcome":"failed","status":503}]}`:                                                                                                                                     {1, "is in trouble: try again", ""},
		`{"pushes":[{"device":"a","outcome":"failed","uncertain":true}]}`:                                                                                                                                 {1, "did the phone ring", ""},
		`{"pushes":[{"device":"a","outcome":"refused"}]}`:                                                                                                                                                 {1, "configuration", ""},
		`{"pushes":[{"device":"a","outcome":"failed"}]}`:                                                                                                                                                  {1, "reveille doctor", ""},
	} {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "POST" || r.URL.EscapedPath() != "/api/v1/extensions/10%2F01/push-test" {
				t.Errorf("asked %s %s", r.Method, r.URL.EscapedPath())
			}
			fmt.Fprint(w, answer)
		}))
		reveille(t, "push-test", "10/01", "--server", api.URL).wants(t, want.code, want.stdout, want.stderr)
		reveille(t, "push-test", "10/01", "--json", "--server", api.URL).wants(t, want.code, answer, "")
		api.Close()
	}
}

func TestCallsCompletesAUUID(t *testing.T) {
	one, two := "aaaa1111-0000-4000-8000-000000000000", "aaab2222-0000-4000-8000-000000000000"
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/calls" {
			fmt.Fprintf(w, `{"calls":[{"uuid":%q},{"uuid":%q}]}`, one, two)
			return
		}
		fmt.Fprintf(w, `{"uuid":%q,"timeline":[]}`, filepath.Base(r.URL.Path))
	}))
	defer api.Close()
	reveille(t, "calls", "AAAA", "--server", api.URL).wants(t, 0, one, "")
	reveille(t, "calls", two, "--server", api.URL).wants(t, 0, two, "")
	reveille(t, "calls", "aaa", "--server", api.URL).wants(t, 1, "", "several calls begin with aaa")
	reveille(t, "calls", "bbb", "--server", api.URL).wants(t, 1, "", "no live or recent call begins with bbb")
}

func TestEndOfContextEndsAnAsking(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &process{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	server := "http://127.0.0.1:9"
	none := ""
	a := asking{json: new(bool), server: &server, tokenFile: &none, file: &none}
	if err := ask(ctx, p, a, "/api/v1/trunks", func(admin.TrunkList) {}); err == nil {
		t.Error("an ended context gave an answer")
	}
}

func TestDemoOfOneScenario(t *testing.T) {
	reveille(t, "demo", "--scenario", "busy").wants(t, 0, "486", "")
}
