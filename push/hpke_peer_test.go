package push

import (
	"context"
	"encoding/base64"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// sealPeer runs another implementation of HPKE over requests, one a line.
func sealPeer(t *testing.T, requests []string, command ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(requests, "\n") + "\n")
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, failed.String())
	}
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(answers) != len(requests) {
		t.Fatalf("%d answers to %d requests: %q", len(answers), len(requests), out)
	}
	return answers
}

// openRequests asks to open the recorded vectors, and what is sealed now.
func openRequests(t *testing.T, v sealVectors) (requests, want []string) {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	for _, c := range v.Vectors {
		now, err := hpkeSeal(v.PublicKey, c.UUID, []byte(c.Plaintext))
		if err != nil {
			t.Fatal(err)
		}
		for _, sealed := range []string{c.Sealed, now} {
			requests = append(requests, "open "+v.PrivateKey+" "+b64([]byte(c.Info))+" "+sealed)
			want = append(want, b64([]byte(c.Plaintext)))
		}
	}
	return requests, want
}

func TestSealPeerPython(t *testing.T) {
	if out, err := exec.Command("python3", "-c", "import cryptography.hazmat.primitives.hpke").CombinedOutput(); err != nil {
		t.Skipf("not held against python3's HPKE: pip install 'cryptography>=48' (%v %s)", err, out)
	}
	v := readSealVectors(t)
	requests, want := openRequests(t, v)
	const info, plain = "reveille push v1 by-the-peer", `{"caller_name":"Ada"}`
	b64 := base64.RawURLEncoding.EncodeToString
	got := sealPeer(t, append(requests, "seal "+v.PublicKey+" "+b64([]byte(info))+" "+b64([]byte(plain))), "python3", "testdata/hpke/peer.py")
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("request %d: the peer opens %q, want %q", i, got[i], want[i])
		}
	}
	if opened, err := hpkeOpen(devicePrivate(t, v.PrivateKey), "by-the-peer", got[len(want)]); err != nil || string(opened) != plain {
		t.Errorf("the peer's: %q, %v", opened, err)
	}
}

// TestSealPeerJava holds it against RFC 9180 written out on the platform's own
// primitives, which is also what an Android app without Tink would do.
func TestSealPeerJava(t *testing.T) {
	if out, err := exec.Command("javac", "-version").CombinedOutput(); err != nil {
		t.Skipf("not held against Java's primitives: apt-get install default-jdk-headless (%v %s)", err, out)
	}
	requests, want := openRequests(t, readSealVectors(t))
	for i, got := range sealPeer(t, requests, "java", "testdata/hpke/Peer.java") {
		if got != want[i] {
			t.Errorf("request %d: the peer opens %q, want %q", i, got, want[i])
		}
	}
}
