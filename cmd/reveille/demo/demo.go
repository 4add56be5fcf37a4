// Package demo shows the whole path of a call on one machine: the real bridge
// over loopback sockets, with a simulated carrier, push service and phones
// around it. Each scenario draws its messages as they come, with
// milliseconds, and says what held.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
)

// Options of a demo.
type Options struct {
	Scenario string // one of Scenarios; "" and "all" are all of them
	Keep     bool   // leave the bridge running afterwards, until the context ends
	Out      io.Writer
	Log      *slog.Logger // of the bridge; nil: silent
}

// scenario is one story of a call.
type scenario struct {
	name, story string
	proof       string // what is certain if all of it held
	run         func(*stage)
}

// Scenarios are the names that Options.Scenario takes, in the order they run.
func Scenarios() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// choose finds what is to be run.
func choose(name string) ([]scenario, error) {
	if name == "" || name == "all" {
		return scenarios(), nil
	}
	for _, s := range scenarios() {
		if s.name == name {
			return []scenario{s}, nil
		}
	}
	return nil, fmt.Errorf("there is no scenario %q; choose all or one of: %s", name, strings.Join(Scenarios(), ", "))
}

// result is what came of one scenario.
type result struct {
	scenario
	took   time.Duration
	faults []string
}

// Run plays the scenarios and prints a table of verdicts. It fails if anything
// did not hold.
func Run(ctx context.Context, o Options) error {
	chosen, err := choose(o.Scenario)
	if err != nil {
		return err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	out := newPrinter(o.Out)
	dir, err := os.MkdirTemp("", "reveille-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w, err := newWorld(ctx, o.Log, dir)
	if err != nil {
		return err
	}
	defer w.close()
	out.intro(w)
	results := make([]result, 0, len(chosen))
	for i, s := range chosen {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		results = append(results, play(ctx, w, out, s, fmt.Sprintf("%d/%d", i+1, len(chosen))))
	}
	out.verdicts(results)
	if o.Keep {
		if err := keep(ctx, w, out); err != nil {
			return err
		}
	}
	return failures(results)
}

// play runs one scenario to its end.
func play(ctx context.Context, w *world, out *printer, s scenario, place string) result {
	start := time.Now()
	st := newStage(ctx, w, out, s.name)
	st.run(s, place)
	took := time.Since(start)
	return result{s, took, st.faults}
}

func failures(results []result) error {
	failed := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return len(r.faults) == 0 })
	if len(failed) == 0 {
		return nil
	}
	var names []string
	for _, r := range failed {
		names = append(names, r.name)
	}
	return errors.New("these scenarios did not hold: " + strings.Join(names, ", "))
}
