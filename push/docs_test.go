package push

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// fenced gives the blocks of a document that begin with ``` and these words.
func fenced(t *testing.T, document, words string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", document))
	if err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	within := false
	for line := range strings.SplitSeq(string(text), "\n") {
		switch {
		case within && line == "```":
			blocks = append(blocks, block.String())
			block.Reset()
			within = false
		case within:
			block.WriteString(line + "\n")
		case line == "```"+words:
			within = true
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("docs/%s has no block %q", document, words)
	}
	return blocks
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return b.String()
}

// docsCall is the call of the documents' examples, and of the first vector.
func docsCall() Message {
	at := time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)
	const id = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
	return Message{UUID: id, CallID: id + ".dev1@reveille", Handle: "+4930123456", HandleType: "number", CallerName: "Ada Lovelace",
		To: "1001", Trunk: "carrier", Verstat: "verified", IssuedAt: at, ExpiresAt: at.Add(20 * time.Second),
		Headers: map[string]string{"X-Queue": "sales"}}
}

func TestDocsPayloads(t *testing.T) {
	for _, c := range []struct {
		document, words string
		form            form
	}{
		{"ios.md", "json", formVoIP},
		{"ios.md", "json alert", formAlert},
		{"android.md", "json", formFCM},
	} {
		want, _, err := mustLayout(t, PayloadConfig{Headers: []string{"X-Queue"}}, c.form).build(docsCall(), Target{})
		if err != nil {
			t.Fatal(err)
		}
		if got := compact(t, fenced(t, c.document, c.words)[0]); got != string(want) {
			t.Errorf("docs/%s, %s, says\n%s, want\n%s", c.document, c.words, got, want)
		}
	}
}

// TestDocsSealedPayload opens the documents' sealed payload as they tell, and
// looks at it beside one that is made now.
func TestDocsSealedPayload(t *testing.T) {
	cfg := PayloadConfig{Headers: []string{"X-Queue"}}
	clear, _, err := mustLayout(t, cfg, formVoIP).build(docsCall(), Target{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Encrypt = true
	now, _, err := mustLayout(t, cfg, formVoIP).build(docsCall(), Target{Key: readSealVectors(t).PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	text := compact(t, fenced(t, "ios.md", "json sealed")[0])
	if len(text) != len(now) || text[:strings.Index(text, `"sealed"`)] != string(now[:bytes.Index(now, []byte(`"sealed"`))]) {
		t.Errorf("docs/ios.md says\n%s, want, but for what is sealed,\n%s", text, now)
	}
	if _, inside := opened(t, []byte(text)); string(inside) != strings.Replace(string(clear), `"aps":{},`, "", 1) {
		t.Errorf("sealed in docs/ios.md is %s", inside)
	}
}

func TestDocsVector(t *testing.T) {
	want := readSealVectors(t).Vectors[0]
	var got sealVector
	if err := json.Unmarshal([]byte(fenced(t, "encryption.md", "json vector")[0]), &got); err != nil {
		t.Fatal(err)
	}
	got.Ciphertext = want.Ciphertext // too long to be shown twice
	if got != want {
		t.Errorf("docs/encryption.md says %+v, want %+v", got, want)
	}
}

// TestDocsCodeReadsWhatIsThere: the fields that the documents' Swift and Kotlin
// read are fields of the payload, and both open what is sealed by the names of
// this suite.
func TestDocsCodeReadsWhatIsThere(t *testing.T) {
	m := docsCall()
	m.Test = true
	for document, c := range map[string]struct {
		language string
		form     form
		says     []string
		reads    *regexp.Regexp
	}{
		"ios.md": {"swift", formVoIP, []string{`.Curve25519_SHA256_ChachaPoly`, `"` + sealInfo + `\(call)"`, `blob.prefix(32)`},
			regexp.MustCompile(`(?:payload|fields)\["(\w+)"\]`)},
		"android.md": {"kotlin", formFCM, []string{`"DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_CHACHA20_POLY1305_RAW"`, `"` + sealInfo + `$uuid"`},
			regexp.MustCompile(`(?:data\[|field\()"(\w+)"`)},
	} {
		body, _, err := mustLayout(t, PayloadConfig{}, c.form).build(m, Target{})
		if err != nil {
			t.Fatal(err)
		}
		var payload map[string]any
		if err := json.Unmarshal(body, &payload); err != nil {
			t.Fatal(err)
		}
		payload["sealed"] = ""
		code := strings.Join(fenced(t, document, c.language), "\n")
		var read []string
		for _, match := range c.reads.FindAllStringSubmatch(code, -1) {
			read = append(read, match[1])
			if _, has := payload[match[1]]; !has {
				t.Errorf("docs/%s: the code reads %q, which is no field", document, match[1])
			}
		}
		for _, field := range []string{"uuid", "handle", "caller_name", "expires_at", "test", "sealed"} {
			if !slices.Contains(read, field) {
				t.Errorf("docs/%s: the code does not read %q", document, field)
			}
		}
		for _, text := range c.says {
			if !strings.Contains(code, text) {
				t.Errorf("docs/%s: the code lacks %s", document, text)
			}
		}
	}
}
