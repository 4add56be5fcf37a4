package main

import (
	"strings"
	"testing"
	"time"

	"reveille/config"
	"reveille/push"
	"reveille/push/pushtest"
)

// TestCheckTellsOfAPushCertificateThatHasEnded: serve starts with it and
// alarms, check says so.
func TestCheckTellsOfAPushCertificateThatHasEnded(t *testing.T) {
	service, err := pushtest.NewAPNs(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	for ended, want := range map[time.Duration]int{time.Hour: 0, -time.Hour: 1} {
		file, err := service.NewCertificate(t.TempDir(), "voip", "", pushtest.CertificateOptions{NotAfter: time.Now().Add(ended)})
		if err != nil {
			t.Fatal(err)
		}
		cfg := config.Default()
		cfg.Push.APNs = []push.APNsConfig{{Topic: "com.example.phone", Certificate: file}}
		cfg.Push.Validate(func(path, problem string) { t.Errorf("%s: %s", path, problem) })
		faults := unusable("reveille.yaml", cfg)
		if len(faults) != want || want == 1 && (faults[0].Path != "push.apns[0].certificate" || !strings.Contains(faults[0].Problem, "has ended on")) {
			t.Errorf("%v: %v", ended, faults)
		}
	}
}
