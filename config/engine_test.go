package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestOneAddressNeedsNoList: a value may stand for a list of one, where the list says so.
func TestOneAddressNeedsNoList(t *testing.T) {
	for text, want := range map[string][]string{
		"udp://10.0.0.11:2223":                            {"udp://10.0.0.11:2223"},
		"[udp://10.0.0.11:2223]":                          {"udp://10.0.0.11:2223"},
		"[udp://10.0.0.11:2223, 'udp://[2001:db8::1]:1']": {"udp://10.0.0.11:2223", "udp://[2001:db8::1]:1"},
		"": {"udp://127.0.0.1:2223"},
	} {
		name := filepath.Join(t.TempDir(), "reveille.yaml")
		if err := os.WriteFile(name, []byte("media:\n  engine: rtpengine\n  rtpengine:\n    address: "+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load(name, nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := cfg.Media.RTPEngine.Address; !slices.Equal(got, want) {
			t.Errorf("%s is read as %v", text, got)
		}
	}
}
