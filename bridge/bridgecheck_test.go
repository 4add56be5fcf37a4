package bridge_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// record is the only CDR; there must be one. It is written when the call ends.
func (w *world) record() bridge.Record {
	w.t.Helper()
	all := w.records()
	if len(all) != 1 {
		w.t.Fatalf("%d CDRs, want one", len(all))
	}
	return all[0]
}

func (w *world) records() (all []bridge.Record) {
	w.t.Helper()
	text, err := os.ReadFile(w.cdr)
	w.must(err)
	for line := range strings.Lines(string(text)) {
		var r bridge.Record
		w.must(json.Unmarshal([]byte(line), &r))
		all = append(all, r)
	}
	return all
}

// ended lets all late messages pass and holds the call's ending.
func (w *world) ended(ending string, code int) bridge.Record {
	w.t.Helper()
	time.Sleep(40 * time.Second)
	r := w.record()
	if r.Ending != ending || r.Code != code {
		w.t.Errorf("the call ended as %q with %d, want %q with %d", r.Ending, r.Code, ending, code)
	}
	return r
}

// pushHeaders are the X-Reveille-Push of the 180s that the trunk got.
func pushHeaders(c *siptest.Call) (headers []string) {
	for _, m := range c.Got("180") {
		if s := m.Get("X-Reveille-Push"); s != "" {
			headers = append(headers, s)
		}
	}
	return headers
}

// pushStates are the first words of pushHeaders: all that a plain script reads.
func pushStates(c *siptest.Call) string {
	var states []string
	for _, h := range pushHeaders(c) {
		states = append(states, h[:strings.IndexAny(h+";", ";,")])
	}
	return strings.Join(states, " ")
}

// golden holds the ladder against testdata.
func (w *world) golden(name string) {
	w.t.Helper()
	file := filepath.Join("testdata", name+".ladder")
	got := w.ladder.String()
	if *update {
		w.must(os.MkdirAll("testdata", 0o755))
		w.must(os.WriteFile(file, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	w.must(err)
	if got != string(want) {
		w.t.Errorf("the ladder of %s is\n%sIt differs first at\n%s", name, got, firstDifference(string(want), got))
	}
}

func firstDifference(want, got string) string {
	a, b := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "want " + a[i] + "got  " + b[i]
		}
	}
	return "its end"
}

// equal reports a difference.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// sentPushes are the pushes that the service has accepted so far.
func (w *world) sentPushes() []pushtest.Push {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pushes)
}

// noneCounted holds that the gauges know of no live call.
func (w *world) noneCounted() {
	w.t.Helper()
	families, err := w.metrics.Gather()
	w.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "reveille_calls_active" && m.GetGauge().GetValue() != 0 {
				w.t.Errorf("%v calls are counted as %s", m.GetGauge().GetValue(), m.GetLabel()[0].GetValue())
			}
		}
	}
}
