package app

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/bridge"
	"reveille/config"
	"reveille/sip"
	"reveille/sip/siptest"
)

const officeIP = "192.0.2.40"

// officeConfig has a PBX where 1001 has an account.
func officeConfig() *config.Config {
	cfg := testConfig()
	cfg.Trunks = append(cfg.Trunks, sip.TrunkConfig{Name: "office", Registrar: "sip:" + officeIP, Transport: "udp"}.WithDefaults())
	cfg.Extensions[0].Upstream = sip.UpstreamConfig{Trunk: "office", Username: "7001", Password: "secret"}
	return cfg
}

func TestReloadAddsChangesAndRemovesUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, officeConfig())
		pbx, err := siptest.NewTrunk(t.Context(), siptest.TrunkOptions{Sockets: w.net.Host(officeIP), Local: officeIP + ":5060", Bridge: bridgeIP + ":5060"})
		if err != nil {
			t.Fatal(err)
		}
		defer pbx.Close()
		pbx.Registrar()
		first := pbx.Registered("7001", time.Minute)
		if first == "" {
			t.Fatal("the extension has not registered")
		}
		next := officeConfig()
		next.Extensions = append(next.Extensions, bridge.Extension{Name: "1002", Password: "other", Numbers: []string{"1002"},
			Upstream: sip.UpstreamConfig{Trunk: "office", Username: "7002", Password: "secret"}})
		if _, err := w.app.Reload(next); err != nil {
			t.Fatal(err)
		}
		if pbx.Registered("7002", time.Minute) == "" || pbx.Registered("7001", time.Second) != first {
			t.Error("the new one is not registered, or the old one was touched")
		}
		if _, body := w.get("/api/v1/extensions"); strings.Count(body, `"state": "registered"`) != 2 {
			t.Errorf("the extensions are %s", body)
		}
		if _, body := w.get("/metrics"); !strings.Contains(body, `reveille_upstream_registrations{state="registered",trunk="office"} 2`) {
			t.Error("the metrics do not count them")
		}
		if _, err := w.app.Reload(testConfig()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if left := pbx.Registered("7001", time.Second) + pbx.Registered("7002", time.Second); left != "" {
			t.Errorf("still registered: %s", left)
		}
		w.stop()
		if err := w.ended(); err != nil {
			t.Error(err)
		}
	})
}

func TestReloadOfAnUpstreamAtATrunkThatIsNotRunningChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testConfig())
		next := officeConfig()
		next.Extensions[0].Name = "2002"
		if _, err := w.app.Reload(next); err == nil || !strings.Contains(err.Error(), "restart") {
			t.Errorf("Reload gives %v", err)
		}
		if _, known := w.app.accounts.HA1("1001", "realm", "MD5"); !known {
			t.Error("the extensions have changed")
		}
		w.stop()
		if err := w.ended(); err != nil {
			t.Error(err)
		}
	})
}
