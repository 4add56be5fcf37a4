package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/sip"
)

// mustParse parses text whose relative file names start at directory(t).
func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	cfg, err := Parse(filepath.Join(directory(t), "reveille.yaml"), []byte(text), environment)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return cfg
}

func TestEmptyFilesAreTheDefaults(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "calls:\nsip:\ntrunks:\n", "{}", "\xef\xbb\xbfnode: \"\"\r\n"} {
		if cfg := mustParse(t, text); !reflect.DeepEqual(cfg, Default()) {
			t.Errorf("%q gives\n%s", text, cfg)
		}
	}
}

func TestExampleIsTheDefaults(t *testing.T) {
	if cfg := mustParse(t, string(Example)); !reflect.DeepEqual(cfg, Default()) {
		t.Errorf("the example gives\n%s\nthe defaults are\n%s", cfg, Default())
	}
}

// uncommented is the example with the lists that it shows in comments: "#" and two or more spaces.
func uncommented() string {
	return regexp.MustCompile(`(?m)^#(  +\S)`).ReplaceAllString(string(Example), "$1")
}

func TestExampleListsAreRead(t *testing.T) {
	dir := directory(t)
	text := uncommented()
	for name, file := range map[string]string{
		"AuthKey_ABC123DEFG.p8": writeKey(t, dir), "example-phone.json": writeServiceAccount(t, dir), "carrier.password": dir + "/secret", "1001.password": dir + "/secret", "1001.upstream.password": dir + "/secret",
		"mypush.secret": dir + "/hmac",
	} {
		text = strings.ReplaceAll(text, "/etc/reveille/"+name, file)
	}
	cfg := mustParse(t, text)
	if len(cfg.Trunks) != 3 || len(cfg.Extensions) != 2 || len(cfg.Push.APNs) != 1 || len(cfg.Push.FCM) != 1 || len(cfg.Push.Webhook) != 1 {
		t.Fatalf("got %s", cfg)
	}
	defaults := sip.TrunkConfig{}.WithDefaults()
	carrier := cfg.Trunks[0]
	if carrier.Password.Reveal() != "s3cret" || cfg.Extensions[0].Password.Reveal() != "s3cret" {
		t.Error("the password files are not read")
	}
	if carrier.Expires != defaults.Expires || carrier.Transport != defaults.Transport || *carrier.EarlyMedia != *defaults.EarlyMedia ||
		!slices.Equal(carrier.CallerID, defaults.CallerID) || carrier.MaxCalls != defaults.MaxCalls {
		t.Errorf("the trunk does not show the defaults: %+v, %+v", carrier, defaults)
	}
}

func TestExampleHasEveryKey(t *testing.T) {
	doc := newDocument("example.yml", environment)
	root, fault := readYAML([]byte(uncommented()))
	if fault != nil {
		t.Fatal(fault)
	}
	doc.decode("", root, reflect.ValueOf(Default()).Elem())
	var walk func(path string, v reflect.Type)
	walk = func(path string, v reflect.Type) {
		switch {
		case v.Kind() == reflect.Slice && isSection(v.Elem()):
			for i := range 2 {
				if _, there := doc.lines[fmt.Sprintf("%s[%d]", path, i)]; there {
					walk(fmt.Sprintf("%s[%d]", path, i), v.Elem())
				}
			}
		case isSection(v):
			for _, f := range fieldsOf(v) {
				walk(join(path, f.key), f.typ)
			}
		default:
			general := regexp.MustCompile(`\[\d\]`).ReplaceAllString(path, "[]")
			for i := range 2 {
				if _, there := doc.lines[strings.ReplaceAll(general, "[]", fmt.Sprintf("[%d]", i))]; there {
					return
				}
			}
			if general != "trunks[].password" && general != "extensions[].password" && general != "extensions[].upstream.password" {
				t.Errorf("the example does not show %s", general)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}

// TestEveryTypeCanBeRead decodes into a Config whose lists and tables all have an entry: decode panics at a type it does not know.
func TestEveryTypeCanBeRead(t *testing.T) {
	var walk func(t reflect.Type) string
	walk = func(typ reflect.Type) string {
		switch {
		case typ.Kind() == reflect.Pointer:
			return walk(typ.Elem())
		case isSection(typ):
			var parts []string
			for _, f := range fieldsOf(typ) {
				parts = append(parts, f.key+": "+walk(f.typ))
			}
			return "{" + strings.Join(parts, ", ") + "}"
		case typ.Kind() == reflect.Slice:
			return "[" + walk(typ.Elem()) + "]"
		case typ.Kind() == reflect.Map:
			return "{a: " + walk(typ.Elem()) + "}"
		case typ == durationType:
			return "1s"
		case typ.Kind() == reflect.Bool:
			return "true"
		}
		return "1"
	}
	_, err := Parse("x.yaml", []byte(walk(reflect.TypeFor[Config]())), environment)
	if err == nil || strings.Contains(err.Error(), "expected") || strings.Contains(err.Error(), "unknown key") {
		t.Errorf("got %v", err)
	}
}

func TestValues(t *testing.T) {
	cfg := mustParse(t, `
node: ${NODE}-${NUMBER}
drain_timeout: ${SECONDS}
sip:
  listen: [ "udp://127.0.0.1:0" ]
  domains: &d [a.example]
  user_agent: 'costs 5$, $${NODE} $NODE'
  limits: { connections: "${NUMBER}" }
trunks:
  - name: pbx
    peers: [192.0.2.1]
    early_media: false
extensions:
  - name: 0100
    password: ${PASSWORD}
    numbers: [+4930123456, 0100]
    fallback: 480
  - name: ada
    ha1: { MD5: 0123456789ABCDEF0123456789abcdef }
calls: { ring_timeout: 1m30s }
`)
	no := false
	trunk := sip.TrunkConfig{Name: "pbx", Peers: []string{"192.0.2.1"}, EarlyMedia: &no}.WithDefaults()
	for _, c := range []struct{ what, got, want any }{
		{"node", cfg.Node, "node-a-7"},
		{"drain_timeout", cfg.DrainTimeout, 30 * time.Second},
		{"listen", cfg.SIP.Listen, []string{"udp://127.0.0.1:0"}},
		{"user_agent", cfg.SIP.UserAgent, "costs 5$, ${NODE} $NODE"},
		{"connections", cfg.SIP.Limits.Connections, 7},
		{"trunks", cfg.Trunks, []sip.TrunkConfig{trunk}},
		{"extensions", cfg.Extensions, []bridge.Extension{
			{Name: "0100", Password: "from the environment", Numbers: []string{"+4930123456", "0100"}, Fallback: "480"},
			{Name: "ada", HA1: map[string]string{"MD5": "0123456789ABCDEF0123456789abcdef"}},
		}},
		{"ring_timeout", cfg.Calls.RingTimeout, 90 * time.Second},
		{"wake_timeout", cfg.Calls.WakeTimeout, bridge.DefaultConfig().WakeTimeout},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s is %#v, want %#v", c.what, c.got, c.want)
		}
	}
}

func TestExtensionFilesAreMerged(t *testing.T) {
	dir := directory(t)
	for name, text := range map[string]string{
		"a.yml": "- {name: \"2\", password: abc}\n- {name: \"3\", password_file: secret}\n", "b.yml": "", "c.yml": "- {name: \"4\", password: abc}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := Parse(filepath.Join(dir, "x.yaml"), []byte("extensions: [{name: \"1\", password: abc}]\nextension_files: [a.yml, b.yml, c.yml]\n"), environment)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range cfg.Extensions {
		names = append(names, e.Name+" "+e.Password.Reveal())
	}
	if want := []string{"1 abc", "2 abc", "3 s3cret", "4 abc"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if want := filepath.Join(dir, "a.yml"); cfg.ExtensionFiles[0] != want {
		t.Errorf("extension file %q, want %q: a reload reads it again", cfg.ExtensionFiles[0], want)
	}
}

func TestEmbedded(t *testing.T) {
	cfg, extension, password := Embedded()
	again, _, other := Embedded()
	if password == other || len(password) < 20 {
		t.Errorf("passwords %q and %q", password, other)
	}
	if cfg.Extensions[0].Name != extension || cfg.Extensions[0].Password.Reveal() != password || cfg.Node == "" {
		t.Errorf("got %s", cfg)
	}
	main := newDocument("embedded", environment)
	main.last = 1
	again.validate(main, []origin{{main, "extensions[0]"}})
	if len(main.faults) > 0 {
		t.Error(main.faults)
	}
}

func TestNoDumpShowsASecret(t *testing.T) {
	cfg := mustParse(t, `
trunks: [{name: a, registrar: "sip:a.example", username: u, password: hunter2-trunk}]
extensions:
  - {name: "1", password: hunter2-extension}
  - {name: "2", ha1: {MD5: 0123456789abcdef0123456789abcdef}}
http: {token: hunter2-0123456789}
`)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		shown := fmt.Sprintf(verb, cfg)
		if strings.Contains(shown, "hunter2") || strings.Contains(shown, "0123456789") {
			t.Errorf("%s shows %s", verb, shown)
		}
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("loaded", "config", cfg)
	if !strings.Contains(log.String(), "name: a") || strings.Contains(log.String(), "hunter2") || strings.Contains(log.String(), "0123456789") {
		t.Errorf("the log shows %s", log.String())
	}
	if n := strings.Count(string(cfg.Dump()), redacted); n != 4 {
		t.Errorf("%d secrets marked in\n%s", n, cfg.Dump())
	}
	if cfg.Extensions[1].HA1["MD5"] != "0123456789abcdef0123456789abcdef" || cfg.Trunks[0].Password.Reveal() != "hunter2-trunk" {
		t.Error("the configuration itself has lost its secrets")
	}
}
