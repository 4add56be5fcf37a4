package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"reveille/cmd/reveille/demo"
)

func demoCommand() *command {
	return &command{
		name: "demo", summary: "the whole path of a call on this machine, nothing to configure",
		help: `Runs the real bridge on loopback sockets with a simulated carrier, push service and phone, and shows each
call as a ladder with milliseconds: INVITE, push, wake, REGISTER, ringing, audio both ways, BYE. It ends with a table of
verdicts; exit 0 only if all scenarios held.

Scenarios:
  ` + strings.Join(demo.Scenarios(), "\n  ") + `

Examples:
  reveille demo
  reveille demo --scenario declined --log-level debug`,
		run: runDemo,
	}
}

func runDemo(ctx context.Context, p *process, c *command, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	scenario := flags.String("scenario", "all", "the `NAME` of a scenario, or all")
	keep := flags.Bool("keep", false, "keep the bridge running afterwards, until Ctrl-C")
	level := &levelFlag{slog.LevelError}
	flags.Var(level, "log-level", "`LEVEL` of the bridge's own log, on stderr: debug, info, warn or error")
	if _, err := p.parse(c, flags, args, 0, 0); err != nil {
		return code(err)
	}
	if *scenario != "all" && !slices.Contains(demo.Scenarios(), *scenario) {
		fmt.Fprintf(p.stderr, "reveille demo: there is no scenario %q; use all, or one of: %s\n", *scenario, strings.Join(demo.Scenarios(), ", "))
		return exitUsage
	}
	ctx, stop := p.untilSignal(ctx)
	defer stop()
	if err := demo.Run(ctx, demo.Options{Scenario: *scenario, Keep: *keep, Out: p.stdout, Log: newLogger(p.stderr, level.Level)}); err != nil {
		return p.fail(c, err)
	}
	return exitOK
}

// untilSignal is a context that ends with the first signal.
func (p *process) untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		select {
		case <-p.signals:
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}
