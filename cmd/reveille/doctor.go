package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"reveille/cmd/reveille/doctor"
	"reveille/config"
)

func doctorCommand() *command {
	return &command{
		name: "doctor", summary: "try what a configuration needs: ports, names, trunks, push services",
		help: `Tries whether what the configuration needs is there, and prints one line for each check: ok, warn or FAIL, what was
checked, and the cause with the next step. It takes 15 s at most. A bridge may be running: it is not disturbed.

  files      the configuration as for check; state_dir; certificates and when they end
  sockets    sip.listen, http.listen, media.ports; whether the kernel may relay media; or each rtpengine, by a call that
             comes to nothing
  trunks     names (NAPTR, SRV, A, AAAA), OPTIONS, and the login by a REGISTER that only asks and changes nothing
  push       name, connection, certificate chain, clock, and the credentials: a push to a token that cannot exist

Run it as the user that the bridge runs as. Exit 0 without a FAIL, 1 with one, 2 wrong usage.

Examples:
  reveille doctor -c /etc/reveille/reveille.yaml
  reveille doctor --json | jq '.checks[] | select(.status != "ok")'`,
		run: runDoctor,
	}
}

func runDoctor(ctx context.Context, p *process, c *command, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	file := flags.String("c", "", "the configuration `FILE`; without it, the file that serve would take")
	asJSON := flags.Bool("json", false, "print one JSON object")
	if _, err := p.parse(c, flags, args, 0, 0); err != nil {
		return code(err)
	}
	if *file == "" {
		*file = findConfig()
	}
	if *file == "" {
		fmt.Fprintf(p.stderr, "reveille doctor: no file named, and neither of %s is there; use -c FILE\n", strings.Join(configFiles(), ", "))
		return exitUsage
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // the signals are ours to obey
		select {
		case <-p.signals:
			stop()
		case <-ctx.Done():
		}
	}()
	found := p.examine(ctx, *file)
	if *asJSON {
		printFindingsJSON(p.stdout, *file, found)
	} else {
		printFindings(p.stdout, found)
	}
	if doctor.Worst(found) == doctor.Fail {
		return exitFailed
	}
	return exitOK
}

// examine checks the file, and then what it asks for. With a fault in it there
// is nothing sound to try.
func (p *process) examine(ctx context.Context, file string) []doctor.Finding {
	cfg, err := p.load(file)
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		return []doctor.Finding{{Check: "configuration", Status: doctor.Fail, Detail: err.Error()}}
	}
	if err == nil {
		for _, f := range unusable(file, cfg) {
			if !strings.HasSuffix(f.Path, "certificate") { // those have checks of their own
				faults = append(faults, f)
			}
		}
	}
	var out []doctor.Finding
	for _, f := range faults {
		out = append(out, doctor.Finding{Check: "configuration", Status: doctor.Fail, Detail: f.String()})
	}
	if err != nil {
		return append(out, doctor.Finding{Check: "the rest", Status: doctor.Warn, Detail: "not tried: mend the configuration, then run this again"})
	}
	if len(out) == 0 {
		out = append(out, doctor.Finding{Check: "configuration", Status: doctor.OK, Detail: file + ": " + summary(cfg)})
	}
	bridge := ""
	if cfg.HTTP.Listen != "" {
		bridge = "http://" + reachable(cfg.HTTP.Listen)
	}
	return append(out, doctor.Run(ctx, cfg, doctor.Options{Bridge: bridge})...)
}

// printFindings prints a line for each, and the sum.
func printFindings(w io.Writer, found []doctor.Finding) {
	count := map[doctor.Status]int{}
	for _, f := range found {
		count[f.Status]++
		fmt.Fprintf(w, "%-4s  %s: %s\n", f.Status, clean(f.Check), clean(f.Detail))
	}
	switch {
	case count[doctor.Fail] > 0:
		fmt.Fprintf(w, "\n%d of %d checks failed; docs/troubleshooting.md has more on each\n", count[doctor.Fail], len(found))
	case count[doctor.Warn] > 0:
		fmt.Fprintf(w, "\nno check failed, %d of %d with a warning\n", count[doctor.Warn], len(found))
	default:
		fmt.Fprintf(w, "\nall %d checks are good\n", len(found))
	}
}

// report is what --json prints.
type report struct {
	File   string           `json:"file"`
	OK     bool             `json:"ok"` // nothing failed
	Checks []doctor.Finding `json:"checks"`
}

func printFindingsJSON(w io.Writer, file string, found []doctor.Finding) {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	if err := out.Encode(report{file, doctor.Worst(found) != doctor.Fail, found}); err != nil {
		fmt.Fprintln(os.Stderr, err) // strings always encode; the writer has failed
	}
}
