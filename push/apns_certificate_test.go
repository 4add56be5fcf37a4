package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"reveille/push/pushtest"
)

// TestPushByCertificate: the client certificate speaks for us, and no provider
// token goes out, in both environments.
func TestPushByCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCertificateWorld(t, pushtest.CertificateOptions{Topics: voipTopics()})
		defer w.close()
		w.service.AddToken(Sandbox, "aa"+testToken, testBundle)
		out := w.send(testMessage("u1"))
		if out.Verdict != Sent || out.Attempts != 1 {
			t.Fatalf("outcome %+v", out)
		}
		if got := <-w.service.Pushes(); len(got.Header.Values("authorization")) != 0 || got.Topic != testBundle+".voip" {
			t.Errorf("push %+v", got)
		}
		if out := w.send(testMessage("u2"), func(t *Target) { t.PRID = "aa" + testToken }); out.Verdict != Sent || out.Environment != Sandbox {
			t.Errorf("in the sandbox: %+v", out)
		}
		if c := w.service.Counts(); c.Bearers != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// TestCertificateIsRefused: what Apple says to a certificate that is not good
// is an alarm, and the device stays.
func TestCertificateIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		o      pushtest.CertificateOptions
		reason string
	}{
		"a stranger's":     {pushtest.CertificateOptions{Topics: voipTopics(), Stranger: true}, "BadCertificate"},
		"not yet valid":    {pushtest.CertificateOptions{Topics: voipTopics(), NotBefore: time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC)}, "BadCertificate"},
		"of another topic": {pushtest.CertificateOptions{}, "TopicDisallowed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCertificateWorld(t, tt.o)
				defer w.close()
				out := w.send(testMessage("u1"))
				if out.Verdict != Refused || !out.Alarm || out.Reason != tt.reason || out.Attempts != 1 {
					t.Errorf("outcome %+v", out)
				}
			})
		})
	}
}

// certificateFiles writes certificates of all kinds to a directory.
type certificateFiles struct {
	t       *testing.T
	service *pushtest.APNs
	dir     string
}

func (f certificateFiles) p12(name, password string, o pushtest.CertificateOptions) string {
	f.t.Helper()
	file, err := f.service.NewCertificate(f.dir, name, password, o)
	if err != nil {
		f.t.Fatal(err)
	}
	return file
}

// pem gives the blocks of a .p12 without a password.
func (f certificateFiles) pem(file string) (key, certificate string) {
	f.t.Helper()
	private, leaf, _, err := pkcs12.DecodeChain([]byte(contentOf(f.t, file)), "")
	if err != nil {
		f.t.Fatal(err)
	}
	return pemKey(f.t, private), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
}

func TestLoadCertificate(t *testing.T) {
	service, err := pushtest.NewAPNs(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	f := certificateFiles{t, service, t.TempDir()}
	good := pushtest.CertificateOptions{Topics: voipTopics()}
	open, closed := f.p12("open", "", good), f.p12("closed", "sesame", good)
	key, certificate := f.pem(open)
	otherKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	write := func(name, content string) string {
		file := filepath.Join(f.dir, name)
		put(t, file, content)
		return file
	}
	password, wrong := write("password", "sesame\n"), write("wrong", "melon")
	mixed := write("mixed.p12", mixedP12(t, service, f.dir))
	readable := write("readable.p12", contentOf(t, open))
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, file, password, want string }{
		{"without a password", open, "", ""},
		{"with a password", closed, password, ""},
		{"PEM", write("good.pem", key+certificate), "", ""},
		{"PEM, the other way round", write("good2.pem", "Bag Attributes\n"+certificate+key), "", ""},
		{"password missing", closed, "", "certificate_password_file"},
		{"wrong password", closed, wrong, "does not open with the password"},
		{"password file missing", closed, "/none", "/none"},
		{"cut off", write("cut.p12", contentOf(t, open)[:500]), "", "openssl pkcs12 -export"},
		{"garbage", write("garbage.p12", "garbage"), "", "openssl pkcs12 -export"},
		{"key of another", mixed, "", "do not belong together"},
		{"PEM without a key", write("nokey.pem", certificate), "", "no private key"},
		{"PEM without a certificate", write("nocert.pem", key), "", "no certificate"},
		{"PEM with the key of another", write("mixed.pem", pemKey(t, otherKey)+certificate), "", "do not belong together"},
		{"PEM with an encrypted key", write("locked.pem", certificate+"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "", "encrypted key"},
		{"readable by others", readable, "", "chmod o="},
		{"missing", "/none.p12", "", "/none.p12"},
	} {
		c, err := loadCertificate(tt.file, tt.password, "")
		switch {
		case tt.want == "" && (err != nil || c.team() != "TESTTEAM01"):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "sesame"):
			t.Errorf("%s: the password is told: %v", tt.name, err)
		}
	}
}

// mixedP12 holds a certificate and the key of another.
func mixedP12(t *testing.T, service *pushtest.APNs, dir string) string {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	file, err := service.NewCertificate(dir, "whole", "", pushtest.CertificateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, leaf, _, err := pkcs12.DecodeChain([]byte(contentOf(t, file)), "")
	if err != nil {
		t.Fatal(err)
	}
	mixed, err := pkcs12.Passwordless.Encode(key, leaf, []*x509.Certificate{}, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(mixed)
}

// TestCertificateFitsItsApp: by Apple's list of topics, or by the subject.
func TestCertificateFitsItsApp(t *testing.T) {
	service, err := pushtest.NewAPNs(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	f := certificateFiles{t, service, t.TempDir()}
	other := []string{"com.example.other", "com.example.other.voip"}
	for name, tt := range map[string]struct {
		o      pushtest.CertificateOptions
		change func(*APNsConfig)
		want   string
	}{
		"both topics":                {pushtest.CertificateOptions{Topics: voipTopics()}, nil, ""},
		"VoIP Services, by the UID":  {pushtest.CertificateOptions{Topics: []string{testBundle + ".voip"}, OnlyUID: true}, nil, ""},
		"a relay's own":              {pushtest.CertificateOptions{}, nil, ""},
		"its team":                   {pushtest.CertificateOptions{Topics: voipTopics()}, func(c *APNsConfig) { c.TeamID = "TESTTEAM01" }, ""},
		"the sandbox's":              {pushtest.CertificateOptions{Topics: voipTopics(), Sandbox: true}, func(c *APNsConfig) { c.Environment = Sandbox }, ""},
		"alerts":                     {pushtest.CertificateOptions{Topics: []string{testBundle}}, func(c *APNsConfig) { c.PushType = pushTypeAlert }, ""},
		"another app's":              {pushtest.CertificateOptions{Topics: other}, nil, "by its list of topics it is for com.example.other, com.example.other.voip"},
		"another app's, by the UID":  {pushtest.CertificateOptions{Topics: other[1:], OnlyUID: true}, nil, "by its subject's UID it is for com.example.other.voip"},
		"no VoIP":                    {pushtest.CertificateOptions{Topics: voipTopics()[:1]}, nil, "is not for " + testBundle + ".voip"},
		"another team's":             {pushtest.CertificateOptions{Topics: voipTopics()}, func(c *APNsConfig) { c.TeamID = "OTHERTEAM1" }, "of team TESTTEAM01"},
		"the sandbox's, for auto":    {pushtest.CertificateOptions{Topics: voipTopics(), Sandbox: true}, nil, "for the sandbox alone"},
		"a key beside it":            {pushtest.CertificateOptions{Topics: voipTopics()}, func(c *APNsConfig) { c.KeyID = "ABCDE12345" }, "both set"},
		"a password for nothing":     {pushtest.CertificateOptions{}, func(c *APNsConfig) { c.Certificate = "" }, "team_id"},
		"a team that cannot be":      {pushtest.CertificateOptions{}, func(c *APNsConfig) { c.TeamID = "x" }, "may be left out"},
		"a push type that cannot be": {pushtest.CertificateOptions{}, func(c *APNsConfig) { c.PushType = "x" }, "push_type"},
	} {
		cfg := APNsConfig{Topic: testBundle, Certificate: f.p12("x", "", tt.o)}
		if tt.change != nil {
			tt.change(&cfg)
		}
		var got []string
		cfg.Validate(func(path, problem string) { got = append(got, path+": "+problem) })
		if all := strings.Join(got, "\n"); (tt.want == "") != (all == "") || !strings.Contains(all, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// FuzzCertificateTopics: a damaged extension names no topic.
func FuzzCertificateTopics(f *testing.F) {
	f.Add([]byte{0x30, 0x00})
	f.Add([]byte{0x30, 0x0a, 0x0c, 0x03, 'a', '.', 'b', 0x30, 0x03, 0x0c, 0x01, 'x'})
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, topic := range parseTopics(der) {
			if !strings.Contains(string(der), topic) {
				t.Fatalf("%q is not in %x", topic, der)
			}
		}
	})
}

// FuzzCertificateFile: no file ends the bridge.
func FuzzCertificateFile(f *testing.F) {
	service, err := pushtest.NewAPNs(pushtest.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(service.Close)
	dir := f.TempDir()
	file, err := service.NewCertificate(dir, "seed", "", pushtest.CertificateOptions{Topics: voipTopics()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(contentOf(f, file)))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		name := filepath.Join(t.TempDir(), "x.p12")
		put(t, name, string(raw))
		if c, err := loadCertificate(name, "", ""); err == nil {
			c.topics()
			_ = c.fits(APNsConfig{Topic: testBundle})
		}
	})
}
