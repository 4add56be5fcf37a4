package mediabench

import (
	"fmt"
	"io"
	"math"
)

// target is what we aim at: a figure of ours, and how much of another it may be.
type target struct {
	what  string
	value func(t *table) (value, limit float64, ok bool)
	unit  string
}

// resolution is what small differences repeat within, in µs. A ratio to less than that says nothing.
const resolution = .2

// ratio is that of two rows' figures; not a number where theirs is too small to tell.
func ratio(of func(*table, string) (float64, bool), ours, theirs string, limit float64) func(*table) (float64, float64, bool) {
	return func(t *table) (float64, float64, bool) {
		a, ok := of(t, ours)
		b, also := of(t, theirs)
		if b < resolution {
			a = math.NaN()
		}
		return a / b, limit, ok && also
	}
}

func processAt(calls int) func(*table, string) (float64, bool) {
	return func(t *table, name string) (float64, bool) { return t.median(name, calls, process1) }
}

// systemAt is that of the whole machine; by tasks where the machine does too much else.
func systemAt(calls int) func(*table, string) (float64, bool) {
	return func(t *table, name string) (float64, bool) {
		if t.busy() {
			return t.above(name, calls, tasks1)
		}
		return t.above(name, calls, system1)
	}
}

// fixed is a row's figure and its limit.
func fixed(of func(*table) (float64, bool), limit float64) func(*table) (float64, float64, bool) {
	return func(t *table) (float64, float64, bool) {
		v, ok := of(t)
		return v, limit, ok
	}
}

func targets() []target {
	return []target{
		{"sockets: process of rtpengine's, 1,000 calls", ratio(processAt(targetCalls), "sockets", "rtpengine", .65), "×"},
		{"SRTP, AES-CM: process of rtpengine's, 1,000 calls", ratio(processAt(targetCalls), "sockets-cm", "rtpengine-cm", .7), "×"},
		{"SRTP, AES-GCM: process of rtpengine's, 1,000 calls", ratio(processAt(targetCalls), "sockets-gcm", "rtpengine-gcm", .7), "×"},
		{"sockets: lost at 2,000 calls on one processor", fixed(func(t *table) (float64, bool) { return t.median("sockets", 2000, lost) }, 0), "%"},
		{"sockets: p99 at 1,000 calls", fixed(func(t *table) (float64, bool) { return t.delay("sockets", targetCalls, p99) }, 2), "ms"},
		{"sockets: allocations per packet, 1,000 calls", fixed(func(t *table) (float64, bool) { return t.median("sockets", targetCalls, allocs) }, .005), ""},
		{"sockets: resident a call", fixed(func(t *table) (float64, bool) {
			v, ok := t.perCall("sockets", rss, emptyRSS)
			return v / 1000, ok
		}, 12), "kB"},
		{"kernel: system of rtpengine's, 1,000 calls", ratio(systemAt(targetCalls), "kernel", "rtpengine", .15), "×"},
		{"kernel: system of a bare redirect's, 1,000 calls", ratio(systemAt(targetCalls), "kernel", "redirect", 2), "×"},
		{"kernel: p99 at 1,000 calls", fixed(func(t *table) (float64, bool) { return t.delay("kernel", targetCalls, p99) }, .05), "ms"},
		{"kernel: memory a call above that of sockets, maps included", fixed(func(t *table) (float64, bool) {
			k, ok := t.perCall("kernel", rss, emptyRSS)
			s, also := t.perCall("sockets", rss, emptyRSS)
			maps, _ := t.median("kernel", t.settings.calls[0], mapBytes)
			return (k - s + maps/relayCalls) / 1000, ok && also
		}, 1), "kB"},
	}
}

// judge compares with the targets.
func (t *table) judge(w io.Writer) {
	for _, g := range targets() {
		value, limit, ok := g.value(t)
		if !ok {
			continue
		}
		verdict := "met"
		switch {
		case math.IsNaN(value):
			fmt.Fprintf(w, "unclear %s: that is less than %g µs above the wire, which this machine cannot tell; measure again\n", g.what, resolution)
			continue
		case value > limit:
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%-6s  %-52s %7.3f %s (at most %g)\n", verdict, g.what, value, g.unit, limit)
	}
}

// keepsUp is the median delay up to which a relay does, in ms. At its processor's limit its sockets fill; it takes
// several packets of one at once then, each of which costs less, and comes later.
const keepsUp = 5

// compare shows what our rows cost of rtpengine's at every number of calls, and who is behind: the targets are for one
// number, at which one of them may be at its limit.
func (t *table) compare(w io.Writer) {
	for _, calls := range t.settings.calls {
		var text string
		for _, suite := range []string{"", "-cm", "-gcm"} {
			ours, theirs := "sockets"+suite, "rtpengine"+suite
			r, _, ok := ratio(processAt(calls), ours, theirs, 0)(t)
			if !ok {
				continue
			}
			text += fmt.Sprintf("  %s %.2f", ours, r)
			for _, name := range []string{ours, theirs} {
				if d, _ := t.delay(name, calls, p50); d > keepsUp {
					text += fmt.Sprintf(" (%s is %.0f ms behind)", name, d)
				}
			}
		}
		if text != "" {
			fmt.Fprintf(w, "process of rtpengine's, %5d calls %s\n", calls, text)
		}
	}
}
