package app

import (
	"fmt"
	"testing"
	"testing/synctest"

	"reveille/rtp"
)

// TestReloadOfEngines: daemons come, go and are drained without a restart.
func TestReloadOfEngines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, next := testConfig(), testConfig()
		cfg.Media.Engine, next.Media.Engine = "rtpengine", "rtpengine"
		cfg.Media.RTPEngine.Address = rtp.Addresses{"udp://127.0.0.1:1", "udp://127.0.0.1:2"}
		next.Media.RTPEngine.Address = rtp.Addresses{"udp://127.0.0.1:2", "udp://127.0.0.1:3"}
		next.Media.RTPEngine.Drain = []string{"udp://127.0.0.1:2"}
		w := newWorld(t, cfg)
		waiting, err := w.app.Reload(next)
		if err != nil || len(waiting) > 0 {
			t.Fatalf("%v waits for a restart, %v", waiting, err)
		}
		got := ""
		for _, e := range w.app.engines() {
			got += fmt.Sprintln(e.URL, e.Drain)
		}
		if want := "udp://127.0.0.1:2 true\nudp://127.0.0.1:3 false\n"; got != want {
			t.Errorf("engines\n%swant\n%s", got, want)
		}
	})
}
