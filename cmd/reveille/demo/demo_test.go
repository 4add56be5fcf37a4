package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	said := &prompt{word: "Ctrl-C.", done: cancel}
	if err := Run(ctx, Options{Scenario: "dead-token", Keep: true, Out: said}); err != nil {
		t.Error(err)
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("it did not keep running: %v\n%s", ctx.Err(), said.text.String())
	}
}

// prompt is output that says when a word is in it.
type prompt struct {
	text bytes.Buffer
	word string
	done func()
}

func (p *prompt) Write(b []byte) (int, error) {
	p.text.Write(b)
	if strings.Contains(p.text.String(), p.word) {
		time.AfterFunc(200*time.Millisecond, p.done) // it is to go on by itself
	}
	return len(b), nil
}
