package app

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/config"
	"reveille/push"
	"reveille/push/pushtest"
	"reveille/sip/location"
)

const (
	pushToken = "00112233445566778899aabbccddeeff"
	pushTopic = "com.example.phone"
	pushParam = "TESTTEAM01." + pushTopic + ".voip"
)

// sleepingPhone is a store with one device that APNs can reach.
func sleepingPhone(t *testing.T) location.Store {
	store := location.NewMemory()
	d := location.Device{ID: "d1", AOR: "1001", Instance: "urn:uuid:1", Seen: time.Now(), Registered: time.Now(),
		Target: location.Target{Provider: "apns", Param: pushParam, PRID: pushToken}}
	if err := store.Apply(location.Batch{Devices: map[location.DeviceKey]*location.Device{{AOR: d.AOR, ID: d.ID}: &d}}); err != nil {
		t.Fatal(err)
	}
	return store
}

// appleConfig is testConfig with a topic at the service.
func appleConfig(t *testing.T, service *pushtest.APNs) *config.Config {
	t.Helper()
	dir := t.TempDir()
	ca, err := service.CAFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	keyFile, keyID, teamID, err := service.NewKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	cfg.Push.APNs = []push.APNsConfig{{Topic: pushTopic, TeamID: teamID, KeyID: keyID, KeyFile: keyFile, Endpoint: service.URL(), RootCA: ca}}
	return cfg
}

// TestReloadOfPushProviders: a SIGHUP brings a provider and takes it away, for
// calls, for the registrar and for the API; the header waits for a restart.
func TestReloadOfPushProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := pushtest.NewPipeListener("api.push.test:443")
		service, err := pushtest.NewAPNs(pushtest.Options{Production: host, Sandbox: pushtest.NewPipeListener("sandbox.test:443")})
		if err != nil {
			t.Fatal(err)
		}
		defer service.Close()
		service.AddToken(pushtest.Production, pushToken, pushTopic)
		w := newWorld(t, testConfig(), func(o *Options) { o.Store, o.PushDial = sleepingPhone(t), pushtest.DialAny(host) })
		if _, body := w.get("/api/v1/status"); !strings.Contains(body, `"log"`) {
			t.Errorf("before: %s", body)
		}
		next := appleConfig(t, service)
		if waiting, err := w.app.Reload(next); err != nil || len(waiting) > 0 {
			t.Fatalf("%v, waiting: %q", err, waiting)
		}
		w.invite("one")
		w.answer("one", 180)
		if got := <-service.Pushes(); got.Token != pushToken {
			t.Errorf("push %+v", got)
		}
		if _, body := w.get("/api/v1/status"); !strings.Contains(body, `"apns"`) || w.app.sender.Supports("apns", "com.example.other") {
			t.Errorf("after: %s", body)
		}
		bad := appleConfig(t, service)
		bad.Push.APNs[0].KeyFile, bad.Extensions = "/none.p8", nil
		if _, err := w.app.Reload(bad); err == nil || !strings.Contains(err.Error(), "push.apns[0].key_file") || len(w.app.Config().Extensions) != 1 {
			t.Errorf("of a faulty one: %v", err)
		}
		last := testConfig()
		last.Push.Header = "X-UUID"
		if waiting, err := w.app.Reload(last); err != nil || len(waiting) != 1 || waiting[0] != "push.header" || w.app.Config().Push.Header != "X-Call-UUID" {
			t.Errorf("%v, waiting: %q", err, waiting)
		}
		synctest.Wait()
		if n := service.Counts().Open; n != 0 {
			t.Errorf("%d connections are left", n)
		}
		w.stop()
		if err := w.ended(); err != nil {
			t.Error(err)
		}
	})
}
