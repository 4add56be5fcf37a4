// Command reveille turns inbound calls into VoIP pushes. This package knows
// flags, signals and exit codes; package app puts the bridge together.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes: a contract with scripts.
const (
	exitOK     = 0
	exitFailed = 1 // a check failed, or the service did
	exitUsage  = 2
)

// command is one word after `reveille`.
type command struct {
	name    string
	args    string // shown after the name in the usage line
	summary string // one line of the overview
	help    string // what --help says beside the flags
	run     func(ctx context.Context, p *process, c *command, args []string) int
}

// process is what a command sees of its surroundings.
type process struct {
	stdout, stderr io.Writer
	env            func(name string) (string, bool)
	signals        <-chan os.Signal
}

func main() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	p := &process{stdout: os.Stdout, stderr: os.Stderr, env: os.LookupEnv, signals: signals}
	os.Exit(p.main(context.Background(), os.Args[1:]))
}

// commands are all there are, in the order of the overview.
func commands() []*command {
	return []*command{
		serveCommand(), demoCommand(), checkCommand(), doctorCommand(), sealCommand(),
		statusCommand(), callsCommand(), trunksCommand(), devicesCommand(),
		pushTestCommand(), versionCommand(),
	}
}

// main runs the command that args name and gives the exit code.
func (p *process) main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		p.overview(p.stderr)
		return exitUsage
	}
	switch args[0] {
	case "help":
		if len(args) == 1 {
			p.overview(p.stdout)
			return exitOK
		}
		args = []string{args[1], "--help"}
	case "-h", "-help", "--help":
		p.overview(p.stdout)
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, p, c, args[1:])
		}
	}
	fmt.Fprintf(p.stderr, "reveille: there is no command %q; see: reveille --help\n", args[0])
	return exitUsage
}

func (p *process) overview(w io.Writer) {
	fmt.Fprint(w, "Reveille turns inbound calls into VoIP pushes: a PBX or carrier calls, the sleeping phone is woken, and rings.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  reveille %-28s %s\n", strings.TrimSpace(c.name+" "+c.args), c.summary)
	}
	fmt.Fprint(w, "\nSee how a call goes, with nothing configured:  reveille demo\n"+
		"Flags and examples of a command:                reveille COMMAND --help\n"+
		"Exit status: 0 success, 1 a check or the service failed, 2 wrong usage.\n")
}

// errUsage: the command line is wrong, and that has been said.
var errUsage = errors.New("usage")

// parse reads a command's flags; they may stand before and after its
// arguments. flag.ErrHelp and errUsage have been answered already.
func (p *process) parse(c *command, flags *flag.FlagSet, args []string, least, most int) ([]string, error) {
	flags.SetOutput(io.Discard) // we say it ourselves, in the right place
	var rest []string
	for {
		if err := flags.Parse(args); err != nil {
			return nil, p.badFlags(c, flags, err)
		}
		left := flags.Args()
		if len(left) == 0 {
			break
		}
		if stop := len(args) - len(left) - 1; stop >= 0 && args[stop] == "--" {
			rest = append(rest, left...)
			break
		}
		rest, args = append(rest, left[0]), left[1:]
	}
	if len(rest) < least || len(rest) > most {
		return nil, p.badFlags(c, flags, fmt.Errorf("%s, not %d", wanted(c, least, most), len(rest)))
	}
	return rest, nil
}

func wanted(c *command, least, most int) string {
	switch {
	case most == 0:
		return "it takes no arguments"
	case least == most && most == 1:
		return "it takes one argument, " + c.args
	}
	return fmt.Sprintf("it takes %d to %d arguments", least, most)
}

func (p *process) badFlags(c *command, flags *flag.FlagSet, err error) error {
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(p.stdout, "Usage: reveille %s\n\n%s\n", strings.TrimSpace(c.name+" [flags] "+c.args), c.help)
		printFlags(p.stdout, flags)
		return err
	}
	fmt.Fprintf(p.stderr, "reveille %s: %v\nSee: reveille %s --help\n", c.name, err, c.name)
	return errUsage
}

// printFlags lists the flags in the form that people type.
func printFlags(w io.Writer, flags *flag.FlagSet) {
	first := true
	flags.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(w, "\nFlags:\n")
			first = false
		}
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		value, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  %-22s %s", strings.TrimSpace(dashes+f.Name+" "+value), usage)
		if f.DefValue != "" && f.DefValue != "false" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// code is the exit code of a command line that could not be parsed.
func code(err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	return exitUsage
}

// fail says what went wrong and gives the exit code for it.
func (p *process) fail(c *command, err error) int {
	fmt.Fprintf(p.stderr, "reveille %s: %v\n", c.name, err)
	return exitFailed
}
