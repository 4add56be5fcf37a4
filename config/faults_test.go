package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// environment is what ${NAME} finds in these tests.
func environment(name string) (string, bool) {
	value, ok := map[string]string{
		"NODE":      "node-a",
		"SECRET":    "hunter2",
		"INJECTION": "a\ncalls:\n  ring_timeout: 1s",
		"PASSWORD":  "from the environment",
		"EMPTY":     "",
		"SECONDS":   "30s",
		"NUMBER":    "7",
	}[name]
	return value, ok
}

// directory holds the files that the configurations of these tests name.
func directory(t testing.TB) string {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"secret": "s3cret\n", "open": "s3cret\n", "group": "s3cret\n", "empty": "\n",
		"secret32":    strings.Repeat("s", 32) + "\n",
		"hmac":        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
		"long":        strings.Repeat("x", maxSecret+1),
		"more.yml":    "- name: \"1002\"\n  password: abc\n  nmbers: []\n- name: \"1001\"\n  password: abc\n",
		"section.yml": "extensions:\n  - name: \"1001\"\n",
		"broken.yml":  "- name: \"1002\"\n  password: [abc\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"open": 0o644, "group": 0o640} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestFaults holds each configuration of testdata/faults.txt against the faults that stand under it. UPDATE=1 writes them anew.
func TestFaults(t *testing.T) {
	const file = "testdata/faults.txt"
	dir := directory(t)
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cases := regexp.MustCompile(`(?m)^-- (.*) --\n`)
	starts := cases.FindAllSubmatchIndex(golden, -1)
	for i, at := range starts {
		end := len(golden)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		name, body := string(golden[at[2]:at[3]]), string(golden[at[1]:end])
		text, want, _ := strings.Cut(body, "==\n")
		got := faultsOf(t, dir, text)
		out.WriteString("-- " + name + " --\n" + text + "==\n" + got)
		if got != want && os.Getenv("UPDATE") == "" {
			t.Errorf("%s:\n%s\ngot:\n%swant:\n%s", name, text, got, want)
		}
	}
	if len(starts) < 30 {
		t.Errorf("only %d faulty configurations", len(starts))
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func faultsOf(t *testing.T, dir, text string) string {
	name := filepath.Join(dir, "reveille.yaml")
	_, err := Parse(name, []byte(strings.ReplaceAll(text, "{DIR}", dir)), environment)
	var faults Faults
	if !errors.As(err, &faults) {
		t.Errorf("no faults but %v in:\n%s", err, text)
		return ""
	}
	if strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a secret shows: %v", err)
	}
	return strings.ReplaceAll(strings.ReplaceAll(err.Error(), name+":", ""), dir, "{DIR}") + "\n"
}

func TestTenFaultsNameLineAndNearestKey(t *testing.T) {
	golden, err := os.ReadFile("testdata/faults.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, ten, _ := strings.Cut(string(golden), "-- ten different faults in one file --\n")
	text, _, _ := strings.Cut(ten, "==\n")
	got := faultsOf(t, directory(t), text)
	if n := strings.Count(got, "\n"); n < 10 {
		t.Errorf("only %d faults:\n%s", n, got)
	}
	for _, want := range []string{
		`1: stat_dir: unknown key "stat_dir"; did you mean "state_dir"?`,
		`5: sip.registration.defualt: unknown key "defualt"; did you mean "default"?`,
		`8: trunks[0].registrer: unknown key "registrer"; did you mean "registrar"?`,
		`21: htpp: unknown key "htpp"; did you mean "http"?`,
	} {
		if !strings.Contains("\n"+got, "\n"+want+"\n") {
			t.Errorf("missing %s in:\n%s", want, got)
		}
	}
}

func TestFaultsAreSortedByLine(t *testing.T) {
	_, err := Parse("x.yaml", []byte("http: {listen: \"0.0.0.0:1\"}\nsip: {limits: {idle: 1s}}\nbad: 1\n"), environment)
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 3 {
		t.Fatalf("got %v", err)
	}
	for i, f := range faults {
		if f.Line != i+1 || f.File != "x.yaml" {
			t.Errorf("fault %d: %+v", i, f)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0},
		{"listen", "lisetn", 1}, {"kitten", "sitting", 3}, {"numbers", "number", 1}, {"ab", "ba", 1},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
