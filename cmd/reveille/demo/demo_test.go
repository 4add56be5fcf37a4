package demo

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestScenarios(t *testing.T) {
	for _, name := range Scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := Run(t.Context(), Options{Scenario: name, Out: &out})
			if err != nil {
				t.Errorf("%v\n%s", err, out.String())
			}
			if !strings.Contains(out.String(), "1 of 1 scenarios held") {
				t.Errorf("no verdict:\n%s", out.String())
			}
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > lineWidth || strings.Contains(line, "\x1b") {
					t.Errorf("a line of %d columns, or with colours: %q", n, line)
				}
			}
		})
	}
}

func TestUnknownScenario(t *testing.T) {
	err := Run(t.Context(), Options{Scenario: "answred", Out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "answered") {
		t.Errorf("%v", err)
	}
}

func TestFailureIsAnError(t *testing.T) {
	err := failures([]result{{scenario: scenario{name: "busy"}}, {scenario: scenario{name: "awake"}, faults: []string{"x"}}})
	if err == nil || !strings.Contains(err.Error(), "awake") || strings.Contains(err.Error(), "busy") {
		t.Errorf("%v", err)
	}
}

func TestKeepRunsUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var out bytes.Buffer
	if err := Run(ctx, Options{Scenario: "dead-token", Keep: true, Out: &out}); err != nil {
		t.Error(err)
	}
	if ctx.Err() == nil || !slices.Contains(strings.Fields(out.String()), "Ctrl-C.") {
		t.Errorf("it did not keep running:\n%s", out.String())
	}
}
