package mediabench

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// figures are those of one row at one number of calls in one round.
type figures struct {
	usage
	tally
	packets         float64 // that arrived within the window
	empty, resident int     // bytes of the process, without calls and with
	maps            int     // bytes of the kernel's maps that the process has open
	heap            uint64
	allocs          float64 // per packet
	goroutines      int
}

func (f figures) per(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / f.packets }

func (f figures) lost() float64 { return 100 * float64(f.Sent-f.Arrived) / float64(f.Sent) }

func (f figures) faults() (n uint64) {
	for _, count := range f.Bad {
		n += count
	}
	return n
}

func (f figures) String() string {
	return fmt.Sprintf("process %6.2f  machine %6.2f  tasks %6.2f µs  p50 %8v  p99 %8v  lost %.3f %%  twice %d  bad %v %s",
		f.per(f.row), f.per(f.system), f.per(f.tasks), f.P50.Round(100), f.P99.Round(100), f.lost(), f.Twice, f.Bad, f.Example)
}

// cell is a place in the table.
type cell struct {
	row   string
	calls int
}

// table collects all rounds.
type table struct {
	settings settings
	missing  map[string]error
	cells    map[cell][]figures
}

// lastTable is what the benchmark leaves for TestMain, which prints when go test's own lines are out.
var lastTable atomic.Pointer[table]

func (t *table) add(c cell, f figures) { t.cells[c] = append(t.cells[c], f) }

// median of one figure over the rounds; ok is false where the row was not measured.
func (t *table) median(name string, calls int, of func(figures) float64) (m float64, ok bool) {
	list := t.cells[cell{name, calls}]
	if len(list) == 0 {
		return 0, false
	}
	return median(list, of), true
}

func median(list []figures, of func(figures) float64) float64 {
	values := make([]float64, len(list))
	for i, f := range list {
		values[i] = of(f)
	}
	return middle(values)
}

// middle is the median; it sorts the values.
func middle(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[n/2] + values[(n-1)/2]) / 2
}

// What is shown of figures.
func process1(f figures) float64 { return f.per(f.row) }
func system1(f figures) float64  { return f.per(f.system) }
func tasks1(f figures) float64   { return f.per(f.tasks) }
func p50(f figures) float64      { return f.P50.Seconds() * 1000 }
func p99(f figures) float64      { return f.P99.Seconds() * 1000 }
func worst(f figures) float64    { return f.Max.Seconds() * 1000 }
func lost(f figures) float64     { return f.lost() }
func memory(f figures) float64   { return float64(f.resident) / 1e6 }
func allocs(f figures) float64   { return f.allocs }

// others is processor time of programs that are no part of the measurement, in hundredths of one processor.
func (t *table) others() (share float64) {
	for _, list := range t.cells {
		for _, f := range list {
			share = max(share, 100*(f.system-f.tasks).Seconds()/t.settings.window.Seconds())
		}
	}
	return share
}

// busy reports whether the machine does so much else that figures of all of it mean nothing.
func (t *table) busy() bool { return t.others() > 5 }

// above is a figure less the wire's. Rows that are measured as often as the wire are held against the wire of the same
// minute: the machine is faster and slower by the hour.
func (t *table) above(name string, calls int, of func(figures) float64) (float64, bool) {
	wires, list := t.cells[cell{"wire", calls}], t.cells[cell{name, calls}]
	if n := len(list); n > 0 && n == len(wires) {
		differences := make([]float64, n)
		for i := range list {
			differences[i] = of(list[i]) - of(wires[i])
		}
		return middle(differences), true
	}
	wire, ok := t.median("wire", calls, of)
	m, measured := t.median(name, calls, of)
	return m - wire, ok && measured
}

// delay is a latency in ms, less the wire's median where there is a wire.
func (t *table) delay(name string, calls int, of func(figures) float64) (float64, bool) {
	wire, _ := t.median("wire", calls, p50)
	m, ok := t.median(name, calls, of)
	if name != "wire" {
		m = max(m-wire, 0)
	}
	return m, ok
}

// perCall is the slope of a figure from the smallest to the largest number of calls, in bytes; with one number of
// calls, what they have added to the empty process.
func (t *table) perCall(name string, of, empty func(figures) float64) (float64, bool) {
	var sizes []int
	for _, n := range t.settings.calls {
		if len(t.cells[cell{name, n}]) > 0 {
			sizes = append(sizes, n)
		}
	}
	if len(sizes) == 0 {
		return 0, false
	}
	least, most := sizes[0], sizes[len(sizes)-1]
	high, _ := t.median(name, most, of)
	if least == most {
		low, _ := t.median(name, most, empty)
		return (high - low) / float64(most), empty(figures{empty: 1}) == 1
	}
	low, _ := t.median(name, least, of)
	return (high - low) / float64(most-least), true
}

func rss(f figures) float64      { return float64(f.resident) }
func emptyRSS(f figures) float64 { return float64(f.empty) }
func mapBytes(f figures) float64 { return float64(f.maps) }
func heap(f figures) float64     { return float64(f.heap) }

// printResults prints the table and what was aimed at.
func printResults() {
	if t := lastTable.Load(); t != nil {
		t.print(os.Stdout)
		t.compare(os.Stdout)
		t.judge(os.Stdout)
	}
	if list := lastChurn.Load(); list != nil {
		for _, c := range *list {
			c.print(os.Stdout)
		}
	}
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\nMedia relays: n calls, 2 × 50 packets/s each; medians of %d rounds of %v; µs of processor time per packet\n",
		t.settings.rounds, t.settings.window)
	fmt.Fprintf(w, "%-14s %5s  %8s %8s %8s  %8s %8s %8s  %8s %5s %4s  %8s %7s\n", "", "calls", "process", "system*", "tasks*",
		"p50 ms", "p99 ms", "max ms", "lost %", "twice", "bad", "resident", "allocs")
	for _, calls := range t.settings.calls {
		for _, r := range rows() {
			t.line(w, r, calls)
		}
	}
	fmt.Fprintln(w, "* above the wire's, which is shown whole")
	for _, r := range rows() {
		resident, ok := t.perCall(r.name, rss, emptyRSS)
		if !ok || resident == 0 {
			continue
		}
		text := fmt.Sprintf("%-14s resident %.1f kB a call", r.name, resident/1000)
		if h, ok := t.perCall(r.name, heap, func(figures) float64 { return 0 }); ok && h > 0 {
			text += fmt.Sprintf(", Go heap %.1f kB", h/1000)
		}
		if maps, _ := t.median(r.name, t.settings.calls[0], mapBytes); maps > 0 {
			text += fmt.Sprintf(", and the kernel's maps %.1f kB for each call that the port range holds", maps/relayCalls/1000)
		}
		fmt.Fprintln(w, text)
	}
	for _, r := range rows() {
		if err := t.missing[r.name]; err != nil {
			fmt.Fprintf(w, "%-14s left out: %v\n", r.name, err)
		}
	}
	t.doubts(w)
}

// line prints one row at one number of calls.
func (t *table) line(w io.Writer, r row, calls int) {
	list := t.cells[cell{r.name, calls}]
	if len(list) == 0 {
		return
	}
	value := func(format string) func(float64, bool) string {
		return func(v float64, ok bool) string {
			if !ok {
				return "-"
			}
			return fmt.Sprintf(format, v)
		}
	}
	cost, ms := value("%.2f"), value("%.3f")
	above := t.above
	if r.name == "wire" {
		above = t.median
	}
	process, mem, alloc := "-", "-", "-"
	if list[0].resident > 0 {
		process, mem = cost(t.median(r.name, calls, process1)), value("%.1f MB")(t.median(r.name, calls, memory))
	}
	if list[0].heap > 0 {
		alloc = value("%.4f")(t.median(r.name, calls, allocs))
	}
	var twice, bad uint64
	for _, f := range list {
		twice, bad = twice+f.Twice, bad+f.faults()
	}
	fmt.Fprintf(w, "%-14s %5d  %8s %8s %8s  %8s %8s %8s  %8s %5d %4d  %8s %7s\n", r.name, calls, process,
		cost(above(r.name, calls, system1)), cost(above(r.name, calls, tasks1)),
		ms(t.delay(r.name, calls, p50)), ms(t.delay(r.name, calls, p99)), ms(t.delay(r.name, calls, worst)),
		ms(t.median(r.name, calls, lost)), twice, bad, mem, alloc)
}

// doubts says what makes the figures worth less.
func (t *table) doubts(w io.Writer) {
	fmt.Fprintf(w, "others: up to %.0f %% of one processor in a window", t.others())
	if t.busy() {
		fmt.Fprint(w, "; this machine is busy: system means nothing (tasks is compared instead), p99 and max little")
	}
	fmt.Fprintln(w)
	var late time.Duration
	overruns, stalls := 0, 0
	for _, list := range t.cells {
		late = max(late, slices.MaxFunc(list, func(a, b figures) int { return cmp.Compare(a.Late, b.Late) }).Late)
		for _, f := range list {
			overruns, stalls = overruns+f.Overruns, stalls+f.Stalls
		}
	}
	fmt.Fprintf(w, "generator: packets left up to %v after their time (p99)", late.Round(time.Microsecond))
	if stalls > 0 {
		fmt.Fprintf(w, "; it was held up %d times by more than %v, and left out what was due", stalls, stall)
	}
	if overruns > 0 {
		fmt.Fprintf(w, "; it lost %d itself: count lost as less", overruns)
	}
	fmt.Fprintln(w)
}

// report gives go test the most important figures.
func (t *table) report(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	for c, list := range t.cells {
		if list[0].resident > 0 {
			b.ReportMetric(median(list, process1), fmt.Sprintf("%s-%d-µs/packet", c.row, c.calls))
		}
	}
}
