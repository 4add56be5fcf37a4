package push

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"reveille/push/pushtest"
)

// newCertificateWorld is a world whose app has a client certificate.
func newCertificateWorld(t testing.TB, o pushtest.CertificateOptions) *world {
	production, sandbox := pushtest.NewPipeListener("api.push.test:443"), pushtest.NewPipeListener("api.sandbox.push.test:443")
	service, err := pushtest.NewAPNs(pushtest.Options{Production: production, Sandbox: sandbox})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, err := service.NewCertificate(dir, "voip", "open sesame", o)
	if err != nil {
		t.Fatal(err)
	}
	return newWorldAt(t, service, Options{Dial: pushtest.DialAny(production, sandbox)}, func(c *APNsConfig) {
		c.KeyFile, c.KeyID, c.TeamID = "", "", ""
		c.Certificate, c.CertificatePasswordFile = file, writeFile(t, "password", "open sesame\n", 0o600)
	})
}

func voipTopics() []string { return []string{testBundle, testBundle + ".voip"} }

// TestCertificateEnds: a metric says when, the log once a day from 30 days
// before on, and after the end too; a new file ends the alarm.
func TestCertificateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(alarmBefore + time.Hour)
		o := pushtest.CertificateOptions{Topics: voipTopics(), NotAfter: ends}
		w := newCertificateWorld(t, o)
		defer w.close()
		said := func() int { return strings.Count(w.logs.String(), "a push certificate") }
		if got := testutil.ToFloat64(w.sender.metrics.expiry.WithLabelValues("apns", testBundle)); got != float64(ends.Unix()) {
			t.Errorf("the metric says %v, want %v", got, ends.Unix())
		}
		time.Sleep(59 * time.Minute)
		if said() != 0 {
			t.Errorf("too early:\n%s", w.logs)
		}
		time.Sleep(2 * time.Minute)
		if said() != 1 {
			t.Errorf("%d lines 30 days before", said())
		}
		time.Sleep(2*24*time.Hour + time.Hour)
		if n := said(); n != 3 {
			t.Errorf("%d lines in two days", n)
		}
		w.rollCertificate(o, time.Now().Add(time.Hour))
		time.Sleep(25 * time.Hour)
		if n := strings.Count(w.logs.String(), "level=ERROR msg=\"a push certificate has ended"); n != 1 {
			t.Errorf("%d lines in the day of the end:\n%s", n, w.logs)
		}
		if out := w.send(testMessage("u1")); out.Verdict != Refused || out.Reason != "BadCertificate" || !out.Alarm {
			t.Errorf("by one that has ended: %+v", out)
		}
		w.rollCertificate(o, time.Now().Add(400*24*time.Hour))
		before := said()
		time.Sleep(2 * 24 * time.Hour)
		if said() != before || testutil.CollectAndCount(w.sender.metrics.expiry) != 2 { // with that of root_ca
			t.Errorf("still told of:\n%s", w.logs)
		}
		if out := w.send(testMessage("u2")); out.Verdict != Sent {
			t.Errorf("by the new one: %+v", out)
		}
	})
}

// rollCertificate puts another certificate in the place of the one in use.
func (w *world) rollCertificate(o pushtest.CertificateOptions, ends time.Time) {
	w.t.Helper()
	o.NotAfter = ends
	file, err := w.service.NewCertificate(w.t.TempDir(), "next", "open sesame", o)
	if err != nil {
		w.t.Fatal(err)
	}
	put(w.t, w.cfg.APNs[0].Certificate, contentOf(w.t, file))
	time.Sleep(2*lookEvery + time.Second)
}

// TestRootCAEnds: of several authorities in a file the last to end counts.
func TestRootCAEnds(t *testing.T) {
	w := newSocketWorld(t)
	all := w.cfg.Expiries()
	if len(all) != 1 || all[0].Path != "apns[0].root_ca" || all[0].NotAfter.Year() != 2199 || all[0].Mend == "" {
		t.Errorf("%+v", all)
	}
	if err := os.Remove(w.cfg.APNs[0].RootCA); err != nil {
		t.Fatal(err)
	}
	if all := w.cfg.Expiries(); len(all) != 0 {
		t.Errorf("of a missing file: %+v", all)
	}
}

// Each provider's further authorities are watched.
func TestRootCAOfEachProvider(t *testing.T) {
	w := newSocketWorld(t)
	ca := w.cfg.APNs[0].RootCA
	all := Config{FCM: []FCMConfig{{Project: "example-phone", RootCA: ca}}, Webhook: []WebhookConfig{{Provider: "mypush", RootCA: ca}}}.Expiries()
	for i, path := range []string{"fcm[0].root_ca", "webhook[0].root_ca"} {
		if len(all) != 2 || all[i].Path != path || all[i].NotAfter.Year() != 2199 {
			t.Fatalf("%+v", all)
		}
	}
}
