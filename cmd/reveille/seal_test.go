package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sealedText = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"

// sealingFiles are a credential and a directory with a new master key.
func sealingFiles(t *testing.T) (in, dir, key string) {
	t.Helper()
	t.Setenv("REVEILLE_MASTER_KEY", "")
	os.Unsetenv("REVEILLE_MASTER_KEY")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	in = write(t, "AuthKey.p8", sealedText)
	dir = t.TempDir()
	key = filepath.Join(dir, "master")
	reveille(t, "seal", "--new-key", key).wants(t, 0, key+" holds a new master key", "")
	return in, dir, key
}

func TestSealAndOpen(t *testing.T) {
	in, dir, key := sealingFiles(t)
	out, back := filepath.Join(dir, "sealed"), filepath.Join(dir, "back")
	r := reveille(t, "seal", "-k", key, in, out)
	r.wants(t, 0, out+" is "+in+", sealed with the master key ", "")
	text := read(t, out)
	if strings.Contains(text+r.stdout, "hunter2") || !strings.HasPrefix(text, "reveille-sealed-v1 ") {
		t.Errorf("sealed: %s", text)
	}
	verified := reveille(t, "seal", "--verify", "-k", key, out)
	verified.wants(t, 0, out+" can be opened with the master key ", "")
	opened := reveille(t, "seal", "--open", "-k", key, out, back)
	opened.wants(t, 0, back+" is what was in "+out, "")
	if got := read(t, back); got != sealedText {
		t.Errorf("opened: %q", got)
	}
	for _, s := range []string{r.stdout, verified.stdout, opened.stdout} {
		if strings.Contains(s, "hunter2") || strings.Contains(s, strings.TrimSpace(read(t, key))) {
			t.Errorf("a secret shows: %s", s)
		}
	}
	for _, file := range []string{key, out, back} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}

func TestSealByTheEnvironmentAndBySystemd(t *testing.T) {
	in, dir, key := sealingFiles(t)
	t.Setenv("REVEILLE_MASTER_KEY", read(t, key))
	reveille(t, "seal", in, filepath.Join(dir, "a")).wants(t, 0, "sealed", "")
	os.Unsetenv("REVEILLE_MASTER_KEY")
	if err := os.Rename(key, filepath.Join(dir, "reveille-master-key")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	reveille(t, "seal", "--verify", filepath.Join(dir, "a")).wants(t, 0, "can be opened", "")
	both := filepath.Join(dir, "both")
	reveille(t, "seal", "--new-key", both, in, filepath.Join(dir, "b")).wants(t, 0, "sealed", "")
	reveille(t, "seal", "--verify", "-k", both, filepath.Join(dir, "b")).wants(t, 0, "can be opened", "")
	reveille(t, "seal", "--verify", filepath.Join(dir, "b")).wants(t, 1, "", "use the right one")
}

func TestSealRefuses(t *testing.T) {
	in, dir, key := sealingFiles(t)
	out := filepath.Join(dir, "sealed")
	reveille(t, "seal", in, out).wants(t, 1, "", "-k FILE names it")
	reveille(t, "seal", "-k", key, "/none.p8", out).wants(t, 1, "", "/none.p8")
	reveille(t, "seal", "-k", key, dir, out).wants(t, 1, "", "no regular file")
	reveille(t, "seal", "-k", in, in, out).wants(t, 1, "", "holds no master key")
	reveille(t, "seal", "-k", key, write(t, "empty", "\n"), out).wants(t, 1, "", "is empty")
	reveille(t, "seal", "-k", key, write(t, "huge", strings.Repeat("x", 64<<10)), out).wants(t, 1, "", "too many bytes")
	if _, err := os.Stat(out); err == nil {
		t.Error("a refusal left a file behind")
	}
	reveille(t, "seal", "-k", key, in, out).wants(t, 0, "sealed", "")
	reveille(t, "seal", "-k", key, out, out+"2").wants(t, 1, "", "is sealed already")
	reveille(t, "seal", "-k", key, in, out).wants(t, 1, "", "is not overwritten")
	reveille(t, "seal", "--new-key", key).wants(t, 1, "", "is not overwritten")
	reveille(t, "seal", "--verify", "-k", key, in).wants(t, 1, "", "is no sealed file")
	reveille(t, "seal", "--open", "-k", key, in, out+"2").wants(t, 1, "", "is no sealed file")
	if err := os.Chmod(in, 0o644); err != nil {
		t.Fatal(err)
	}
	reveille(t, "seal", "-k", key, in, out+"3").wants(t, 0, "sealed", "who can log in here may have it already")
	for _, args := range []string{
		"seal", "seal a", "seal a b c", "seal --verify", "seal --verify a b", "seal --verify --open a", "seal --new-key k -k k",
		"seal --new-key k a", "seal --new-key k --verify a", "seal --new-key k --open a b",
	} {
		reveille(t, strings.Fields(args)...).wants(t, 2, "", "reveille seal")
	}
}

func TestCheckOpensSealedFiles(t *testing.T) {
	in, dir, key := sealingFiles(t)
	out := filepath.Join(dir, "sealed")
	reveille(t, "seal", "-k", key, in, out).wants(t, 0, "sealed", "")
	conf := func(master string) string {
		return write(t, "reveille.yaml", "push:\n  master_key_file: \""+master+"\"\n  apns:\n    - topic: com.example.phone\n      team_id: ABCDE12345\n      key_id: ABC123DEFG\n      key_file: "+out+"\n")
	}
	reveille(t, "check", "-c", conf("")).wants(t, 1, ":7: push.apns[0].key_file: "+out+" is sealed with the master key ", "")
	// Opened, it is judged like a plain one: what is in it is no real key.
	reveille(t, "check", "-c", conf(key)).wants(t, 1, ":7: push.apns[0].key_file: "+out+" is no .p8 key", "")
}
