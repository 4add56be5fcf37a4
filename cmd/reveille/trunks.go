package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"reveille/cmd/reveille/admin"
	"reveille/sip"
)

func trunksCommand() *command {
	return &command{
		name: "trunks", summary: "the trunks of a running bridge, and why one is down",
		help: "Lists the trunks of a running bridge: whether each is up, since when, its live calls, the server and\nwhich of its addresses is in use, when it is tried next, and the last error." + askingHelp,
		run: func(ctx context.Context, p *process, c *command, args []string) int {
			flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
			a := askingFlags(flags)
			if _, err := p.parse(c, flags, args, 0, 0); err != nil {
				return code(err)
			}
			if err := ask(ctx, p, a, "/api/v1/trunks", func(l admin.TrunkList) { showTrunks(p.stdout, l, time.Now()) }); err != nil {
				return p.fail(c, err)
			}
			return exitOK
		},
	}
}

func showTrunks(w io.Writer, l admin.TrunkList, now time.Time) {
	if len(l.Trunks) == 0 {
		fmt.Fprintln(w, "no trunks: nobody can call; add one under trunks: in the configuration")
		return
	}
	rows := [][]string{{"TRUNK", "UP", "STATE", "SINCE", "CALLS", "UPSTREAMS", "SERVER", "TARGET", "NEXT", "LAST ERROR"}}
	for _, t := range l.Trunks {
		up := "up"
		if !t.Up {
			up = "DOWN"
		}
		failure := t.LastError
		if t.LastCode >= 300 && !strings.Contains(failure, fmt.Sprint(t.LastCode)) {
			failure = fmt.Sprintf("%d %s", t.LastCode, failure)
		}
		rows = append(rows, []string{t.Name, up, t.State, age(t.Since, now), fmt.Sprint(t.Calls), upstreams(t.Upstreams), t.Server, t.Target, in(t.NextTry, now), failure})
	}
	table(w, rows)
}

// upstreams says how many extensions are registered at a trunk as themselves.
func upstreams(c *sip.UpstreamCounts) string {
	if c == nil {
		return ""
	}
	s := fmt.Sprintf("%d of %d", c.Registered, c.Registered+c.Registering+c.Failed)
	if c.Failed > 0 {
		s += fmt.Sprintf(", %d failed", c.Failed)
	}
	return s
}
