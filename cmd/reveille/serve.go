package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"reveille/cmd/reveille/app"
	"reveille/config"
)

func serveCommand() *command {
	return &command{
		name: "serve", summary: "run the bridge",
		help: `Runs the bridge. Without -c it takes ./reveille.yaml or /etc/reveille/reveille.yaml; where neither is there it runs
with defaults: calls are taken from this machine, for the one extension 1001, whose password is shown at the start.

Signals:
  HUP          reads the file again: extensions, push and drain_timeout change at once, for the rest the log says what
               needs a restart; a file with faults changes nothing
  TERM, INT    drains: no new calls (503), live calls may go on for drain_timeout, trunks unregister last; exit 0
  a second one ends at once: live calls are hung up; exit 1

Logs go to stderr: text on a terminal, JSON lines otherwise.

Examples:
  reveille serve
  reveille serve -c /etc/reveille/reveille.yaml --log-level debug`,
		run: serve,
	}
}

func serve(ctx context.Context, p *process, c *command, args []string) int {
	go saveMemory(ctx, p.env)
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	file := flags.String("c", "", "the configuration `FILE`")
	level := &levelFlag{slog.LevelInfo}
	flags.Var(level, "log-level", "`LEVEL`: debug, info, warn or error")
	if _, err := p.parse(c, flags, args, 0, 0); err != nil {
		return code(err)
	}
	if *file == "" {
		*file = findConfig()
	}
	s := &service{process: p, file: *file, log: newLogger(p.stderr, level.Level)}
	cfg, err := s.configure()
	if err != nil {
		return p.fail(c, err)
	}
	if s.app, err = app.New(cfg, app.Options{Log: s.log, Version: version(), LogTo: p.stdout}); err != nil {
		return p.fail(c, err)
	}
	if err := s.run(ctx); err != nil {
		return p.fail(c, err)
	}
	return exitOK
}

// service is a running `serve`.
type service struct {
	*process
	file string // "": the embedded defaults
	log  *slog.Logger
	app  *app.App

	password string // of the embedded extension, until it has been shown
	name     string // of that extension
}

func (s *service) configure() (*config.Config, error) {
	if s.file == "" {
		var cfg *config.Config
		cfg, s.name, s.password = config.Embedded()
		return cfg, nil
	}
	cfg, err := s.load(s.file)
	var faults config.Faults
	if errors.As(err, &faults) {
		return nil, fmt.Errorf("%s cannot be used:\n%w", s.file, err)
	}
	return cfg, err
}

// lastWords is how long an end at once may take: calls are told, trunks are
// told, each within 2 s.
const lastWords = 5 * time.Second

// errCutShort: a second signal did not let the drain come to its end.
var errCutShort = errors.New("ended at once by a second signal, before the drain was over")

// run serves until a signal ends it.
func (s *service) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.app.Run(ctx) }()
	ready := s.app.Ready()
	draining, cut := false, false
	var late <-chan time.Time // runs from the second signal on
	for {
		select {
		case <-ready:
			ready = nil
			s.log.Info("reveille is running", "version", version(), "config", s.source(), "pid", os.Getpid())
			s.welcome()
		case sig := <-s.signals:
			switch {
			case sig == syscall.SIGHUP:
				s.reload()
			case draining:
				s.log.Warn("second signal: ending at once", "signal", sig.String())
				cut = true
				late = time.After(lastWords)
				stop()
			default:
				s.log.Info("signal: draining; a second one ends at once", "signal", sig.String())
				draining = true
				s.app.Drain()
			}
		case <-late:
			return errCutShort
		case err := <-done:
			if err == nil && cut {
				return errCutShort
			}
			s.log.Info("reveille has ended")
			return err
		}
	}
}

func (s *service) source() string {
	if s.file == "" {
		return "embedded defaults"
	}
	return s.file
}

// reload reads the file again. Whatever is wrong with it, the bridge goes on.
func (s *service) reload() {
	if s.file == "" {
		s.log.Warn("nothing to reload: the bridge runs with embedded defaults")
		return
	}
	cfg, err := s.load(s.file)
	var faults config.Faults
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			s.log.Error("the configuration was not reloaded; the old one stays in force", "err", f.String())
		}
		return
	case err != nil:
		s.log.Error("the configuration was not reloaded; the old one stays in force", "err", err)
		return
	}
	waiting, err := s.app.Reload(cfg)
	if err != nil {
		s.log.Error("the configuration was not reloaded; the old one stays in force", "err", err)
		return
	}
	s.log.Info("configuration reloaded", "config", s.file, "extensions", len(cfg.Extensions))
	if len(waiting) > 0 {
		s.log.Warn("changes that need a restart: "+strings.Join(waiting, ", "), "config", s.file)
	}
}
