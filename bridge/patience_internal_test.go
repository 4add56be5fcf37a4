package bridge

import (
	"testing"
	"time"

	"reveille/sip/location"
)

func TestPatience(t *testing.T) {
	wakes := func(seconds ...float64) (w location.Wakes) {
		for _, s := range seconds {
			w = w.Add(time.Duration(s * float64(time.Second)))
		}
		return w
	}
	for name, c := range map[string]struct {
		wakes location.Wakes
		want  time.Duration
	}{
		"a device that never woke":        {wakes(), 20 * time.Second},
		"two wakes":                       {wakes(1, 1), 20 * time.Second},
		"three quick ones":                {wakes(.5, .6, .4), 8 * time.Second},
		"the slowest rules":               {wakes(1, 5, 1), 12 * time.Second},
		"of the newest":                   {wakes(1, 1, 1, 1, 5), 12 * time.Second},
		"for eight wakes":                 {wakes(5, 1, 1, 1, 1, 1, 1, 1), 12 * time.Second},
		"and then no more":                {wakes(5, 1, 1, 1, 1, 1, 1, 1, 1), 8 * time.Second},
		"never above wake_timeout":        {wakes(1, 19, 1), 20 * time.Second},
		"nor with any wake there can be":  {wakes(600, 600, 600), 20 * time.Second},
		"nor below wake_timeout_min":      {wakes(.01, .01, .01), 8 * time.Second},
		"clocks that jumped are no wakes": {wakes(1, -3600, 1e9, 0, 1, 1), 8 * time.Second},
	} {
		if got := DefaultConfig().patience(location.Device{Wakes: c.wakes}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	off := DefaultConfig()
	off.WakeTimeoutMin = off.WakeTimeout
	short := DefaultConfig()
	short.WakeTimeout = 5 * time.Second
	quick := location.Device{Wakes: wakes(1, 1, 1)}
	if off.patience(quick) != 20*time.Second || short.patience(quick) != 5*time.Second {
		t.Error("wake_timeout_min at or above wake_timeout must leave all of it")
	}
}
