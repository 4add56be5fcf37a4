package config

import (
	"os"
	"regexp"
	"testing"
)

// Every example of docs/trunks.md is a configuration.
func TestTrunkExamplesAreRead(t *testing.T) {
	doc, err := os.ReadFile("../docs/trunks.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(blocks) < 6 {
		t.Fatalf("%d examples", len(blocks))
	}
	dir := t.TempDir()
	for _, name := range []string{"carrier.password", "ssp.password", "1001.password", "1001.pbx.password"} {
		writeFile(t, dir, name, "s3cret\n", 0o600)
	}
	writeFile(t, dir, "paris.al", "sound", 0o644)
	for _, block := range blocks {
		cfg, err := Load(writeFile(t, dir, "reveille.yaml", string(block[1]), 0o644), environment)
		if err != nil {
			t.Errorf("%s%v", block[1], err)
		} else if len(cfg.Trunks) != 1 {
			t.Errorf("%s has %d trunks", block[1], len(cfg.Trunks))
		}
	}
}

// The key of a client certificate is a secret: others must not read it.
func TestClientKeyOfATrunkMustBePrivate(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "cert.pem", "cert", 0o644)
	text := "trunks:\n  - name: c\n    peers: [192.0.2.1]\n    transport: tls\n    client_certificate: cert.pem\n    client_key: key.pem\n"
	for _, mode := range []os.FileMode{0o600, 0o644} {
		writeFile(t, dir, "key.pem", "key", mode)
		os.Chmod(dir+"/key.pem", mode)
		_, err := Load(writeFile(t, dir, "reveille.yaml", text, 0o644), environment)
		if private := mode == 0o600; private != (err == nil) {
			t.Errorf("%v: %v", mode, err)
		}
	}
}
