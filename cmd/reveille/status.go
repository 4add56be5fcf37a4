package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"reveille/cmd/reveille/admin"
)

func statusCommand() *command {
	return &command{
		name: "status", summary: "how a running bridge stands",
		help: "Shows how a running bridge stands. Exit 1 if none answers." + askingHelp,
		run: func(ctx context.Context, p *process, c *command, args []string) int {
			flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
			a := askingFlags(flags)
			if _, err := p.parse(c, flags, args, 0, 0); err != nil {
				return code(err)
			}
			if err := ask(ctx, p, a, "/api/v1/status", func(s admin.Status) { showStatus(p.stdout, s, time.Now()) }); err != nil {
				return p.fail(c, err)
			}
			return exitOK
		},
	}
}

func showStatus(w io.Writer, s admin.Status, now time.Time) {
	line := func(key, value string) { fmt.Fprintf(w, "%-9s %s\n", key, clean(value)) }
	line("bridge", fmt.Sprintf("%s for %s on %s, version %s", s.Phase, age(s.Started, now), s.Node, s.Version))
	line("SIP", strings.Join(s.SIP, " "))
	line("push", strings.Join(s.Push, " "))
	trunks := fmt.Sprintf("%d up", s.Trunks.Up)
	if len(s.Trunks.Down) > 0 {
		trunks += fmt.Sprintf(", %d DOWN: %s (see: reveille trunks)", len(s.Trunks.Down), strings.Join(s.Trunks.Down, ", "))
	}
	line("trunks", trunks)
	for _, e := range s.Engines {
		line("rtpengine", engineLine(e, now))
	}
	line("calls", tally(s.Calls, "live"))
	line("devices", tally(s.Devices, "known"))
	line("bindings", tally(s.Bindings, "live"))
	if s.Banned > 0 {
		line("banned", fmt.Sprintf("%d addresses (the log says which and why)", s.Banned))
	}
}

// engineLine is how an rtpengine is.
func engineLine(e admin.Engine, now time.Time) string {
	state := "up"
	if !e.Up {
		state = "DOWN"
	}
	text := fmt.Sprintf("%s %s for %s, %d calls", e.URL, state, age(e.Since, now), e.Calls)
	if e.Drain {
		text += ", drained"
	}
	if !e.Up {
		text += ": " + e.Cause
	}
	return text
}

// tally prints counts as "3 live: 2 waking, 1 talking".
func tally(counts map[string]int, what string) string {
	total := 0
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		total += counts[key]
		parts = append(parts, fmt.Sprintf("%d %s", counts[key], key))
	}
	if total == 0 {
		return "none"
	}
	return fmt.Sprintf("%d %s: %s", total, what, strings.Join(parts, ", "))
}
