package location

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestWakesKeepTheLastEight(t *testing.T) {
	var w Wakes
	for i := range 10 {
		w = w.Add(time.Duration(i+1) * time.Second)
	}
	if got, want := fmt.Sprint(w.List()), "[10s 9s 8s 7s 6s 5s 4s 3s]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if longest, n := w.Slowest(); longest != 10*time.Second || n != 8 {
		t.Errorf("slowest %v of %d", longest, n)
	}
}

func TestWakesLeaveOutWhatNoWakeCanHaveTaken(t *testing.T) {
	w := Wakes{}.Add(time.Second)
	for _, took := range []time.Duration{0, -time.Second, -50 * 365 * 24 * time.Hour, maxWake + 1, 1 << 62} {
		if got := w.Add(took); got != w {
			t.Errorf("%v was kept: %v", took, got.List())
		}
	}
	for took, want := range map[time.Duration]time.Duration{1: wakeGrain, 4 * time.Millisecond: wakeGrain, 1234 * time.Millisecond: 1230 * time.Millisecond, maxWake: maxWake} {
		if got := w.Add(took).List()[0]; got != want {
			t.Errorf("%v is kept as %v, want %v", took, got, want)
		}
	}
}

// A row that was damaged, or written by another version, costs the wake times
// and not the device.
func TestWakesReadAnything(t *testing.T) {
	for text, want := range map[string]string{
		`[93,87]`: "[930ms 870ms]", `[]`: "[]", `null`: "[]", `{"a":1}`: "[]", `"x"`: "[]",
		`[0,-5,1e9,70000,5]`: "[50ms]", `[1,2,3,4,5,6,7,8,9,10]`: "[10ms 20ms 30ms 40ms 50ms 60ms 70ms 80ms]",
	} {
		var w Wakes
		if err := json.Unmarshal([]byte(text), &w); err != nil || fmt.Sprint(w.List()) != want {
			t.Errorf("%s: %v, %v; want %s", text, w.List(), err, want)
		}
	}
}

// counting counts the writes of a store.
type counting struct {
	Store
	writes int
}

func (c *counting) Apply(b Batch) error {
	c.writes++
	return c.Store.Apply(b)
}

func TestWakesSurviveARestart(t *testing.T) {
	for kind, make := range storeKinds {
		t.Run(kind, func(t *testing.T) {
			reopen := make(t)
			l := open(t, reopen())
			ada().register(t, l, time.Hour)
			id := l.Devices("1001")[0].ID
			l.Woke("1001", id, 930*time.Millisecond)
			l.Woke("1001", id, 1200*time.Millisecond)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, reopen())
			if got, want := fmt.Sprint(l.Devices("1001")[0].Wakes.List()), "[1.2s 930ms]"; got != want {
				t.Errorf("%s after a restart, want %s", got, want)
			}
			l.Close()
		})
	}
}

// A wake time costs no write: it goes with the next REGISTER that is written,
// whosever it is.
func TestWakesAreWrittenWithTheNextRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := NewMemory()
		store := &counting{Store: memory}
		l := open(t, store)
		ada().register(t, l, time.Hour)
		id, before := l.Devices("1001")[0].ID, store.writes
		l.Woke("1001", id, time.Second)
		synctest.Wait()
		if store.writes != before {
			t.Errorf("%d writes for a wake time", store.writes-before)
		}
		bob := ada()
		bob.aor, bob.instance, bob.prid, bob.flow = "1002", "urn:uuid:BOB", "tokenB", "tcp/9"
		bob.register(t, l, time.Hour)
		if store.writes != before+1 {
			t.Errorf("%d writes for a REGISTER", store.writes-before)
		}
		for _, d := range load(t, memory).Devices {
			if longest, n := d.Wakes.Slowest(); d.AOR == "1001" && (n != 1 || longest != time.Second) {
				t.Errorf("stored: %v", d.Wakes.List())
			}
		}
		l.Close()
	})
}

func TestWokeOfADeviceThatIsNotThere(t *testing.T) {
	store := NewMemory()
	l := open(t, store)
	l.Woke("1001", "nobody", time.Second)
	p := ada()
	p.register(t, l, time.Hour)
	id := l.Devices("1001")[0].ID
	l.DropTarget("1001", id)
	l.Woke("1001", id, time.Second) // bound, without a target: not stored
	l.Close()
	l.Woke("1001", id, time.Second)
	if s := load(t, store); len(s.Devices) != 0 {
		t.Errorf("stored: %v", s.Devices)
	}
}
