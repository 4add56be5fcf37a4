package mediabench

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// system is what relays between the ends of calls, or stands in its place.
type system interface {
	pid() int // of its process; 0 where it has none
	// open sets the calls up, and says how their packets go.
	open(calls []call) ([]route, error)
	stop()
}

// row is one line of the table for each number of calls.
type row struct {
	name, suite string
	start       func(*bed, row) (system, error)
	sizes       []int // nil: all
	tiny        bool  // its figures are so small that one window a round tells too little
}

func rows() []row {
	srtp := []int{500, 1000, 2000}
	return []row{
		{name: "wire", start: startWire, tiny: true},
		{name: "rtpengine", start: startRtpengine},
		{name: "plain", start: startPlain},
		{name: "sockets", start: startOurs},
		{name: "kernel", start: startOurs, tiny: true},
		{name: "redirect", start: startRedirection, tiny: true},
		{name: "rtpengine-cm", suite: suiteCM, start: startRtpengine, sizes: srtp},
		{name: "sockets-cm", suite: suiteCM, start: startOurs, sizes: srtp},
		{name: "rtpengine-gcm", suite: suiteGCM, start: startRtpengine, sizes: srtp},
		{name: "sockets-gcm", suite: suiteGCM, start: startOurs, sizes: srtp},
	}
}

// settings are what the environment says.
type settings struct {
	only    []string // rows; none: all
	calls   []int
	window  time.Duration
	rounds  int
	profile string
	short   bool // SECONDS was given
}

func readSettings() (s settings, err error) {
	s = settings{calls: []int{100, 500, 1000, 2000}, window: 3 * time.Second, rounds: 3, profile: os.Getenv("PROFILE")}
	if v := os.Getenv("ONLY"); v != "" {
		s.only = strings.Split(v, ",")
	}
	for _, name := range s.only {
		if name != "churn" && !slices.ContainsFunc(rows(), func(r row) bool { return r.name == name }) {
			return s, fmt.Errorf("ONLY=%s: there is no such row", name)
		}
	}
	number := func(name string, to *int) {
		if v := os.Getenv(name); v != "" && err == nil {
			if *to, err = strconv.Atoi(v); err != nil || *to < 1 {
				err = fmt.Errorf("%s=%s: write a number above 0", name, v)
			}
		}
	}
	if v := os.Getenv("CALLS"); v != "" {
		s.calls = nil
		for text := range strings.SplitSeq(v, ",") {
			n, e := strconv.Atoi(text)
			if e != nil || n < 1 || n > 10000 {
				return s, fmt.Errorf("CALLS=%s: write numbers of calls from 1 to 10000, such as 500,1000", v)
			}
			s.calls = append(s.calls, n)
		}
		slices.Sort(s.calls)
	}
	s.short = os.Getenv("SECONDS") != ""
	seconds := int(s.window / time.Second)
	number("SECONDS", &seconds)
	number("ROUNDS", &s.rounds)
	s.window = time.Duration(seconds) * time.Second
	return s, err
}

func (s settings) wants(r row, calls int) bool {
	if len(s.only) > 0 {
		return slices.Contains(s.only, r.name)
	}
	return r.sizes == nil || slices.Contains(r.sizes, calls)
}

// BenchmarkMedia measures every row at every number of calls, in rounds, and leaves the table for TestMain to print.
func BenchmarkMedia(b *testing.B) {
	s, err := readSettings()
	if err != nil {
		b.Fatal(err)
	}
	if slices.Equal(s.only, []string{"churn"}) {
		b.Skip("ONLY=churn")
	}
	bed, err := newBed()
	if err != nil {
		b.Fatal(err)
	}
	defer bed.close()
	results := &table{settings: s, missing: map[string]error{}, cells: map[cell][]figures{}}
	for b.Loop() {
		for round := range s.rounds {
			for _, calls := range s.calls {
				bed.round(results, round, calls)
			}
		}
	}
	results.report(b)
	lastTable.Store(results)
	if len(results.cells) == 0 {
		b.Fatal("nothing could be measured")
	}
}

// tinyPasses is how often the tiny rows are measured in a round at the number of calls that targets are for.
const (
	tinyPasses  = 3
	targetCalls = 1000
)

// round measures all rows once, forwards and backwards in turns, and the tiny ones some more.
func (b *bed) round(t *table, round, calls int) {
	list := rows()
	if round%2 == 1 {
		slices.Reverse(list)
	}
	for pass := range tinyPasses {
		for _, r := range list {
			if pass == 0 || r.tiny && calls == targetCalls {
				b.one(t, r, round, calls)
			}
		}
	}
}

// one measures a row, unless it is not wanted or has failed before.
func (b *bed) one(t *table, r row, round, calls int) {
	if !t.settings.wants(r, calls) || t.missing[r.name] != nil {
		return
	}
	f, err := b.measure(r, calls, t.settings)
	if err != nil {
		t.missing[r.name] = err
		fmt.Fprintf(os.Stderr, "%-14s left out: %v\n", r.name, err)
		return
	}
	t.add(cell{r.name, calls}, f)
	fmt.Fprintf(os.Stderr, "round %d  %5d calls  %-14s %s\n", round+1, calls, r.name, f)
}

const (
	warm  = 1200 * time.Millisecond // all have latched, all stacks grown
	hot   = 10 * time.Second        // the kernel has all directions, at the latest
	drain = 500 * time.Millisecond  // for what is on its way when the window ends
)

// measure has one row relay calls for a window.
func (b *bed) measure(r row, calls int, s settings) (f figures, err error) {
	system, err := r.start(b, r)
	if err != nil {
		return f, err
	}
	defer system.stop()
	f.empty = resident(system.pid())
	routes, err := system.open(newCalls(calls, r.suite))
	if err != nil {
		return f, err
	}
	if err := b.play(routes); err != nil {
		return f, err
	}
	defer func() { err = cmp.Or(err, b.generator.call("stop", none{}, nil)) }()
	if system.pid() != 0 {
		time.Sleep(warm)
	}
	own, _ := system.(process)
	var before, after goMemory
	if r.name == "kernel" {
		own.heat(2 * calls)
	}
	if err := own.ask(true, &before, s.profile); err != nil {
		return f, err
	}
	if before.Fast < 2*calls && r.name == "kernel" {
		return f, fmt.Errorf("the kernel relays only %d of %d directions; docs/fastpath.md says what it needs", before.Fast, 2*calls)
	}
	time.Sleep(warm / 4) // what asking has disturbed
	if err := b.window(&f, system.pid(), s.window); err != nil {
		return f, err
	}
	f.resident, f.maps = resident(system.pid()), mapMemory(system.pid())
	if err := own.ask(false, &after, s.profile); err != nil {
		return f, err
	}
	if own.child != nil {
		f.heap, f.allocs, f.goroutines = before.Heap, float64(after.Allocated-before.Allocated)/f.packets, after.Goroutines
	}
	return f, nil
}

// heat waits until the kernel relays as many directions. The sockets have all of them first, which may be more than they
// can carry: that is when the kernel takes them over more slowly.
func (p process) heat(directions int) {
	var m goMemory
	for end := time.Now().Add(hot); time.Now().Before(end); time.Sleep(warm / 4) { // to ask takes time from the relay, too
		if p.child == nil || p.call("memory", false, &m) != nil || m.Fast >= directions {
			return // whoever asks next tells an error
		}
	}
}

// ask reads memory of a process that is ours. A profile spans the time between collecting and not.
func (p process) ask(collect bool, m *goMemory, profile string) error {
	if p.child == nil {
		return nil
	}
	err := p.call("memory", collect, m)
	if profile != "" && err == nil {
		if !collect {
			profile = ""
		}
		err = p.call("profile", profile, nil)
	}
	return err
}

// window counts for a while.
func (b *bed) window(f *figures, pid int, length time.Duration) error {
	var arrived [2]uint64
	generator := b.generator.cmd.Process.Pid
	if err := b.generator.call("open", none{}, &arrived[0]); err != nil {
		return err
	}
	start := used(pid, generator, b.ksoftirqd)
	time.Sleep(length)
	err := b.generator.call("shut", none{}, &arrived[1])
	f.usage = used(pid, generator, b.ksoftirqd).since(start)
	if err != nil {
		return err
	}
	time.Sleep(drain)
	f.packets = float64(arrived[1] - arrived[0])
	if err := b.generator.call("tally", none{}, &f.tally); err != nil {
		return err
	}
	if f.packets == 0 {
		return errors.New("no packet came back: " + f.tally.Example)
	}
	return nil
}
