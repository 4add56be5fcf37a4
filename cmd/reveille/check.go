package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"reveille/config"
	"reveille/push"
)

func checkCommand() *command {
	return &command{
		name: "check", summary: "validate a configuration: every fault with its line",
		help: `Reads a configuration as serve would, opens no socket and changes nothing. Prints every fault as
FILE:LINE: key: what is wrong; how to mend it. Exit 0 if the file is fine, 1 if it has a fault or cannot be read.
Certificates, keys, WAV files, password files and extension_files that it names are read too.

Example:
  reveille check -c /etc/reveille/reveille.yaml`,
		run: check,
	}
}

func check(_ context.Context, p *process, c *command, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	file := flags.String("c", "", "the configuration `FILE`; without it, the file that serve would take")
	if _, err := p.parse(c, flags, args, 0, 0); err != nil {
		return code(err)
	}
	if *file == "" {
		*file = findConfig()
	}
	if *file == "" {
		fmt.Fprintf(p.stderr, "reveille check: no file named, and neither of %s is there; use -c FILE\n", strings.Join(configFiles(), ", "))
		return exitUsage
	}
	cfg, err := p.load(*file)
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		return p.fail(c, err)
	}
	if err == nil {
		faults = unusable(*file, cfg)
	}
	if len(faults) > 0 {
		fmt.Fprintln(p.stdout, faults.Error())
		return exitFailed
	}
	fmt.Fprintf(p.stdout, "%s is fine: %s\n", *file, summary(cfg))
	return exitOK
}

// summary says what a configuration has, so that its owner sees what was read.
func summary(cfg *config.Config) string {
	parts := []string{
		count(len(cfg.Trunks), "trunk"), count(len(cfg.Extensions), "extension"),
		"SIP on " + strings.Join(cfg.SIP.Listen, " "),
	}
	parts = append(parts, pushSummary(cfg.Push))
	if cfg.HTTP.Listen != "" {
		parts = append(parts, "HTTP on "+cfg.HTTP.Listen)
	}
	return strings.Join(parts, ", ")
}

func pushSummary(cfg push.Config) string {
	var to []string
	if n := len(cfg.APNs); n > 0 {
		to = append(to, count(n, "APNs topic"))
	}
	if n := len(cfg.FCM); n > 0 {
		to = append(to, count(n, "FCM project"))
	}
	if n := len(cfg.Webhook); n > 0 {
		to = append(to, count(n, "webhook"))
	}
	if to == nil {
		return "no push service: pushes will be printed"
	}
	return "push to " + strings.Join(to, " and ")
}

func count(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}
