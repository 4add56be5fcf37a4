package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeTrunkIsRead follows "Your first trunk" of the README to the letter.
func TestReadmeTrunkIsRead(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("no YAML in the README")
	}
	dir := t.TempDir()
	writeFile(t, dir, "1001.password", "s3cret\n", 0o600)
	if err := os.Rename(writeKey(t, dir), filepath.Join(dir, "AuthKey_ABC123DEFG.p8")); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(writeFile(t, dir, "reveille.yaml", string(block[1]), 0o644), environment)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Trunks) != 1 || len(cfg.Extensions) != 1 || len(cfg.Push.APNs) != 1 {
		t.Errorf("got %s", cfg)
	}
	if lines := strings.Count(string(block[1]), "\n"); lines > 10 {
		t.Errorf("ten lines are promised, it takes %d", lines)
	}
}
