package push

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sealed seals content under a new master key and writes both.
func sealed(t testing.TB, content string) (file, masterFile string) {
	t.Helper()
	masterFile = writeFile(t, "master", string(NewMasterKey()), 0o600)
	text, _, err := SealCredential([]byte(content), masterFile)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "sealed", string(text), 0o600), masterFile
}

// noMasterKey makes sure that the machine's own does not take part.
func noMasterKey(t *testing.T) {
	t.Helper()
	t.Setenv(masterVariable, "")
	os.Unsetenv(masterVariable)
	t.Setenv("CREDENTIALS_DIRECTORY", "")
}

func TestSealedCredentialIsReadLikeAPlainOne(t *testing.T) {
	noMasterKey(t)
	for name, content := range map[string]string{
		"text": "-----BEGIN PRIVATE KEY-----\n", "one byte": "x", "binary": "\x00\xff\x30\x82", "large": strings.Repeat("0123456789", 4000),
	} {
		file, master := sealed(t, content)
		got, err := readCredential(file, master)
		if err != nil || string(got) != content {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		plain := writeFile(t, "plain", content, 0o600)
		if got, err := readCredential(plain, ""); err != nil || string(got) != content {
			t.Errorf("%s, plain: %d bytes, %v", name, len(got), err)
		}
		text, _ := os.ReadFile(file)
		if len(content) > 1 && bytes.Contains(text, []byte(content[:2])) && name == "binary" {
			t.Errorf("%s: the content shows", name)
		}
		crlf := writeFile(t, "crlf", strings.ReplaceAll(string(text), "\n", "\r\n"), 0o600)
		if got, err := readCredential(crlf, master); err != nil || string(got) != content {
			t.Errorf("%s, after Windows: %v", name, err)
		}
	}
}

// TestSealingNeverRepeats: the same content under the same key is another
// ciphertext each time.
func TestSealingNeverRepeats(t *testing.T) {
	master := writeFile(t, "master", string(NewMasterKey()), 0o600)
	seen := map[string]bool{}
	for range 100 {
		text, _, err := SealCredential([]byte("secret"), master)
		if err != nil || seen[string(text)] {
			t.Fatalf("%v: %s", err, text)
		}
		seen[string(text)] = true
	}
	if bytes.Equal(NewMasterKey(), NewMasterKey()) {
		t.Error("two master keys are the same")
	}
}

func TestSealedCredentialFaults(t *testing.T) {
	noMasterKey(t)
	const secret = "hunter2hunter2hunter2hunter2hunter2"
	file, master := sealed(t, secret)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	header, body, _ := strings.Cut(text, "\n")
	other := writeFile(t, "other", string(NewMasterKey()), 0o600)
	flipped := []byte(body)
	flipped[20] ^= 1
	for name, tt := range map[string]struct{ content, master, want string }{
		"no master key":     {text, "", "name its file in push.master_key_file"},
		"wrong master key":  {text, other, "use the right one, or seal the original again"},
		"cut off":           {text[:len(text)-12], master, "is damaged"},
		"only the header":   {header + "\n", master, "is damaged"},
		"half a header":     {header[:20], master, "is damaged"},
		"no key id":         {keyFilePrefix + "v1\n" + body, master, "is damaged"},
		"changed":           {header + "\n" + string(flipped), master, "is damaged"},
		"no base64":         {header + "\n!!!!", master, "is damaged"},
		"something after":   {text + "AAAA", master, "is damaged"},
		"of another header": {strings.ToUpper(header[:20]) + header[20:] + "\n" + body, master, ""},
		"newer form":        {keyFilePrefix + "v2 00000000\nAAAA", master, "does not know (reveille-sealed-v2)"},
		"huge":              {text + strings.Repeat("\n", maxCredential), master, "bytes"},
	} {
		damaged := writeFile(t, "damaged", tt.content, 0o600)
		got, err := readCredential(damaged, tt.master)
		if tt.want == "" {
			if err != nil || string(got) != tt.content {
				t.Errorf("%s: no sealed file, so it is its own content: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), damaged) {
			t.Errorf("%s: %v", name, err)
		}
		if got != nil || err != nil && (strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), body[:20])) {
			t.Errorf("%s: content shows: %v", name, err)
		}
	}
	open := writeFile(t, "open", text, 0o644)
	if _, err := readCredential(open, master); err == nil || !strings.Contains(err.Error(), "chmod o= "+open) {
		t.Errorf("readable by others: %v", err)
	}
	if _, err := readCredential(file, writeFile(t, "master", string(NewMasterKey()), 0o644)); err == nil || !strings.Contains(err.Error(), "chmod o= ") {
		t.Errorf("master key readable by others: %v", err)
	}
}

// TestEveryBitIsAuthenticated: no change of a sealed file goes unnoticed,
// whitespace at its end apart.
func TestEveryBitIsAuthenticated(t *testing.T) {
	noMasterKey(t)
	file, master := sealed(t, "secret")
	text, _ := os.ReadFile(file)
	text = bytes.TrimRight(text, "\n")
	for i := range text {
		for bit := range 8 {
			changed := bytes.Clone(text)
			changed[i] ^= 1 << bit
			if bytes.HasPrefix(changed, []byte(keyFilePrefix)) {
				if plain, err := openKeyFile(changed, master); err == nil {
					t.Fatalf("byte %d, bit %d: opened %q: %s", i, bit, plain, changed)
				}
			}
		}
	}
}

func TestMasterKeyForms(t *testing.T) {
	key := make([]byte, masterBytes)
	_, _ = rand.Read(key)
	for name, tt := range map[string]struct {
		text string
		good bool
	}{
		"base64":          {base64.StdEncoding.EncodeToString(key), true},
		"with line end":   {base64.StdEncoding.EncodeToString(key) + "\r\n", true},
		"without padding": {base64.RawStdEncoding.EncodeToString(key), true},
		"hex":             {hex.EncodeToString(key), true},
		"HEX":             {strings.ToUpper(hex.EncodeToString(key)), true},
		"raw bytes":       {string(key), false},
		"empty":           {"", false},
		"a passphrase":    {"correct horse battery staple", false},
		"44 characters":   {"correct horse battery staple, and some more.", false},
		"64 characters":   {strings.Repeat("z", 64), false},
		"31 bytes":        {hex.EncodeToString(key[1:]), false},
		"33 bytes":        {base64.StdEncoding.EncodeToString(append([]byte{1}, key...)), false},
	} {
		m, err := parseMasterKey([]byte(tt.text), "SOURCE")
		if tt.good && (err != nil || !bytes.Equal(m.key, key)) {
			t.Errorf("%s: %v", name, err)
		}
		if !tt.good && (err == nil || !strings.HasPrefix(err.Error(), "SOURCE holds no master key") || tt.text != "" && strings.Contains(err.Error(), tt.text)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMasterKeySources: the configured file first, then the environment, then
// systemd's credential.
func TestMasterKeySources(t *testing.T) {
	noMasterKey(t)
	dir := t.TempDir()
	inSystemd, inEnv := NewMasterKey(), NewMasterKey()
	inFile := writeFile(t, "master", string(NewMasterKey()), 0o600)
	if _, err := loadMasterKey(""); err == nil || !strings.Contains(err.Error(), "REVEILLE_MASTER_KEY") {
		t.Errorf("none: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if _, err := loadMasterKey(""); err == nil || !strings.Contains(err.Error(), "there is no master key") {
		t.Errorf("systemd without it: %v", err)
	}
	credential := filepath.Join(dir, masterCredential)
	if err := os.WriteFile(credential, inSystemd, 0o400); err != nil {
		t.Fatal(err)
	}
	if m, err := loadMasterKey(""); err != nil || m.source != credential {
		t.Errorf("systemd: %v", err)
	}
	t.Setenv(masterVariable, string(inEnv))
	if m, err := loadMasterKey(""); err != nil || m.source != masterVariable {
		t.Errorf("environment: %v", err)
	}
	if m, err := loadMasterKey(inFile); err != nil || m.source != inFile {
		t.Errorf("file: %v", err)
	}
	if _, err := loadMasterKey(inFile + "x"); err == nil {
		t.Error("a file that is named and not there was passed over")
	}
	t.Setenv(masterVariable, "password")
	if _, err := loadMasterKey(""); err == nil || strings.Contains(err.Error(), "password ") {
		t.Errorf("a faulty one in the environment: %v", err)
	}
}

func FuzzSealedFile(f *testing.F) {
	file, master := sealed(f, "secret")
	text, _ := os.ReadFile(file)
	f.Add(text)
	f.Add([]byte(keyFileMagic + "00000000\n"))
	f.Add([]byte(keyFilePrefix + "v2 x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		plain, err := openKeyFile(text, master)
		if err == nil && string(plain) != "secret" {
			t.Errorf("opened %q", plain)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	})
}

// TestSealedKeyPushes: a signing key that is sealed signs like a plain one,
// and the configuration's check opens it as well.
func TestSealedKeyPushes(t *testing.T) {
	noMasterKey(t)
	w := newSocketWorld(t)
	key, err := os.ReadFile(w.cfg.APNs[0].KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.APNs[0].KeyFile, w.cfg.MasterKeyFile = sealed(t, string(key))
	w.cfg.Validate(func(path, problem string) { t.Errorf("%s: %s", path, problem) })
	sender, err := NewSender(w.cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	if out := sender.Send(t.Context(), "device-1", Target{Provider: "apns", Param: testParam, PRID: testToken}, testMessage("u1")); out.Verdict != Sent {
		t.Errorf("%+v", out)
	}
	right := w.cfg.MasterKeyFile
	for want, master := range map[string]string{
		"key_file:": writeFile(t, "other", string(NewMasterKey()), 0o600), "master_key_file:": writeFile(t, "none", "x", 0o600),
		"there is no master key": "", "/none": "/none",
	} {
		w.cfg.MasterKeyFile = master
		if err := w.cfg.first(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	raw, _ := os.ReadFile(right)
	t.Setenv(masterVariable, string(raw))
	w.cfg.MasterKeyFile = ""
	if err := w.cfg.first(); err != nil {
		t.Errorf("by the environment: %v", err)
	}
}
