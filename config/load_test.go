package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeKey makes a push key of the form that Apple hands out.
func writeKey(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, "AuthKey.p8", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600)
}

// writeServiceAccount makes the key of a service account as the Firebase console hands it out.
func writeServiceAccount(t *testing.T, dir string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "example-phone", "client_email": "push@example-phone.iam.gserviceaccount.com",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, "example-phone.json", string(text), 0o600)
}

func writeFile(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask does not get a say
		t.Fatal(err)
	}
	return path
}

func TestLoadRefusesSecretsThatOthersCanRead(t *testing.T) {
	const inline = "extensions:\n  - name: \"1001\"\n    password: hunter2\n"
	const hashes = "extensions:\n  - name: \"1001\"\n    ha1: {MD5: 0123456789abcdef0123456789abcdef}\n"
	const aliased = "node: &n hunter2\nextensions:\n  - name: \"1001\"\n    password: *n\n"
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string // in the error; "" for none
	}{
		{"private", inline, 0o600, ""},
		{"read-only", inline, 0o400, ""},
		{"group", inline, 0o640, ":3: extensions[0].password: the secret stands in a file that others can read: FILE is open to its group (mode 0640); run: chmod 600 FILE"},
		{"others", inline, 0o604, ":3: extensions[0].password: the secret stands in a file that others can read: FILE is open to others (mode 0604); run: chmod 600 FILE"},
		{"all", inline, 0o644, "is open to its group and others (mode 0644)"},
		{"writable", inline, 0o602, "is open to others (mode 0602)"},
		{"hashes", hashes, 0o644, ":3: extensions[0].ha1: the secret stands"},
		{"alias", aliased, 0o644, ":4: extensions[0].password: the secret stands"},
		{"from the environment", strings.Replace(inline, "hunter2", "${PASSWORD}", 1), 0o644, ""},
		{"partly from the environment", strings.Replace(inline, "hunter2", "${PASSWORD}x", 1), 0o644, ":3: extensions[0].password: the secret stands"},
		{"no secret", "http: {token: \"\"}\n", 0o644, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := writeFile(t, t.TempDir(), "reveille.yaml", c.text, c.mode)
			_, err := Load(path, environment)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), path, "FILE"), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the secret shows: %v", err)
			}
		})
	}
}

func TestLoadRefusesAnExtensionFileThatOthersCanRead(t *testing.T) {
	dir := t.TempDir()
	more := writeFile(t, dir, "more.yml", "- name: \"1\"\n  password: abc\n", 0o644)
	path := writeFile(t, dir, "reveille.yaml", "extension_files: [more.yml]\n", 0o644)
	_, err := Load(path, environment)
	want := more + ":2: [0].password: the secret stands in a file that others can read: " + more + " is open to its group and others (mode 0644); run: chmod 600 " + more
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestSecretFiles(t *testing.T) {
	for _, c := range []struct{ content, want string }{
		{"s3cret", "s3cret"}, {"s3cret\n", "s3cret"}, {"s3cret\r\n", "s3cret"}, {" s3cret ", " s3cret "}, {"a b\n\n", "a b\n"},
	} {
		got, err := readSecret(writeFile(t, t.TempDir(), "x", c.content, 0o600))
		if err != nil || got != c.want {
			t.Errorf("%q gives %q, %v; want %q", c.content, got, err, c.want)
		}
	}
}

func TestLoadNamesTheNode(t *testing.T) {
	cfg, err := Load(writeFile(t, t.TempDir(), "x.yaml", "", 0o644), environment)
	if host, _ := os.Hostname(); err != nil || cfg.Node != host {
		t.Errorf("got %v, %v, want node %q", cfg, err, host)
	}
}

func TestLoadWithoutFile(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"): "does not exist", dir: "is a directory", "/dev/null": "is no regular file",
	} {
		if _, err := Load(path, environment); err == nil || !strings.Contains(err.Error(), path+" "+want) {
			t.Errorf("%s gives %v, want %s", path, err, want)
		}
	}
}

// TestHostileFilesAreBounded gives the reader what makes other readers run out of memory or time.
func TestHostileFilesAreBounded(t *testing.T) {
	bomb := "sip:\n  domains: &a [" + strings.Repeat("x, ", 2000) + "]\ntrunks:\n" + strings.Repeat("  - {caller_id: *a, peers: *a}\n", 2000)
	for name, text := range map[string]string{
		"aliases of lists":       bomb,
		"aliases of aliases":     "node: &a [x]\nsip: &b [*a,*a,*a,*a]\ncalls: &c [*b,*b,*b,*b]\ntrunks: [" + strings.Repeat("*c,", 1000) + "]\n",
		"an alias of itself":     "trunks: &a [*a]\n",
		"a section in itself":    "sip: &a\n  tls: *a\n",
		"unknown keys":           strings.Repeat("k: &a {"+strings.Repeat("xx: 1, ", 1000)+"}\n", 1) + "trunks: [" + strings.Repeat("*a,", 5000) + "]\n",
		"a deep list":            "node: " + strings.Repeat("[", 100000),
		"a deep block":           strings.Repeat("- ", 50000),
		"many keys":              strings.Repeat("? a\n", 100000),
		"a long line":            "node: " + strings.Repeat("x", maxFile-10),
		"a file too long":        strings.Repeat("#\n", maxFile),
		"an error at the end":    strings.Repeat("node: x\n", 5000) + "\t[",
		"an error at the start":  "[\n" + strings.Repeat("node: x\n", 5000),
		"brackets without end":   strings.Repeat("[\n", 9000),
		"many ${":                "node: \"" + strings.Repeat("${", 100000) + "\"",
		"every entry at fault":   "trunks:\n" + strings.Repeat("  - {nam: 1}\n", 5000),
		"every extension a twin": "extensions:\n" + strings.Repeat("  - {name: a, password: b, numbers: [\"1\"]}\n", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := Parse("x.yaml", []byte(text), environment)
			if err == nil {
				t.Error("no fault")
				return
			}
			// Thirty seconds are a hundred times what it takes, for a busy machine with the race detector.
			if took := time.Since(began); took > 30*time.Second || len(err.Error()) > 200*maxFaults+len(text)/10 {
				t.Errorf("took %s and said %d bytes", took, len(err.Error()))
			}
		})
	}
}

func TestFaultsHaveALimit(t *testing.T) {
	_, err := Parse("x.yaml", bytes.Repeat([]byte("- a\n"), 1), environment)
	if err == nil || strings.Contains(err.Error(), "perhaps more") {
		t.Errorf("got %v", err)
	}
	_, err = Parse("x.yaml", []byte("trunks:\n"+strings.Repeat("  - {nam: 1}\n", 1000)), environment)
	if err == nil || strings.Count(err.Error(), "\n") != maxFaults || !strings.HasSuffix(err.Error(), "and perhaps more; mend these first") {
		t.Errorf("got %v", err)
	}
}

// FuzzParse looks for panics and for faults that do not say where they are.
func FuzzParse(f *testing.F) {
	golden, err := os.ReadFile("testdata/faults.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, part := range strings.Split(string(golden), " --\n") {
		text, _, _ := strings.Cut(part, "==\n")
		f.Add([]byte(text))
	}
	f.Add(Example)
	f.Add([]byte(uncommented()))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("x.yaml", data, environment)
		if err == nil {
			cfg.Dump()
			return
		}
		faults, ok := err.(Faults)
		if !ok || len(faults) == 0 || len(faults) > 3*maxFaults {
			t.Fatalf("no faults but %v", err)
		}
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, fault := range faults {
			if fault.File == "x.yaml" && (fault.Line < 1 || fault.Line > lines) || fault.Problem == "" {
				t.Errorf("a file of %d lines has the fault %s", lines, fault)
			}
		}
	})
}
