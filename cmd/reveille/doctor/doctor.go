// Package doctor tries, before the bridge is started or beside one that runs,
// whether what the configuration needs is there: ports, certificates, names,
// trunks, push services. It changes nothing, and a running bridge does not
// notice it.
package doctor

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"reveille/config"
	"reveille/sip"
)

// Status is how a check has ended.
type Status string

// The statuses, as they are printed.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it runs, but look at it
	Fail Status = "FAIL"
)

// Finding is one line: what was checked, and what came of it.
type Finding struct {
	Check  string `json:"check"` // such as "sip.listen udp://0.0.0.0:5060"
	Status Status `json:"status"`
	// Detail is what is known to be good; else the cause, and the next step.
	Detail string `json:"detail"`
}

// Options are what a run works with. The zero value is the real world.
type Options struct {
	Network  sip.Network // nil: the system's
	PushDial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Bridge is the base URL of the API of a bridge that may be running with
	// this configuration; "": it has none.
	Bridge string
}

// limit is how long all checks together may take.
const limit = 15 * time.Second

// check is one group of findings.
type check struct {
	name string
	run  func(ctx context.Context) []Finding
}

// Run makes all checks side by side and gives their findings in a fixed order.
// It takes 15 s at most.
func Run(ctx context.Context, cfg *config.Config, o Options) []Finding {
	if o.Network == nil {
		o.Network = sip.SystemNetwork()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	e := &examination{Config: cfg, Options: o, running: askBridge(ctx, o.Bridge, cfg.HTTP.Token)}
	checks := []check{
		{"state_dir", e.state},
		{"sip.listen", e.sipSockets},
		{"http.listen", e.httpSocket},
		{"media", e.media},
		{"open files", func(context.Context) []Finding { return e.files(openFiles()) }},
		{"media.fast_path", e.fastPath},
		{"certificates", e.certificates},
		{"names", e.names},
		{"trunks", e.trunks},
		{"push", e.push},
	}
	found := make([]chan []Finding, len(checks))
	for i, c := range checks {
		found[i] = make(chan []Finding, 1)
		go func() { found[i] <- c.run(ctx) }()
	}
	var out []Finding
	for i, c := range checks {
		select {
		case f := <-found[i]:
			out = append(out, f...)
		case <-ctx.Done():
			out = append(out, late(found[i], c.name)...)
		}
	}
	return out
}

// late takes what has come in the meantime.
func late(found <-chan []Finding, name string) []Finding {
	select {
	case f := <-found:
		return f
	case <-time.After(100 * time.Millisecond):
		return []Finding{fail(name, "this took longer than %v and was given up; try again, and look at the name servers first", limit)}
	}
}

// examination is what the checks share.
type examination struct {
	*config.Config
	Options
	running *bridge // nil: none answers
}

func good(check, format string, args ...any) Finding {
	return Finding{check, OK, oneLine(format, args)}
}

func warn(check, format string, args ...any) Finding {
	return Finding{check, Warn, oneLine(format, args)}
}

func fail(check, format string, args ...any) Finding {
	return Finding{check, Fail, oneLine(format, args)}
}

// judged is a finding of a check that gives an error.
func judged(check, proved string, err error, doubtful bool) Finding {
	switch {
	case err == nil:
		return good(check, "%s", proved)
	case doubtful:
		return warn(check, "%v", err)
	}
	return fail(check, "%v", err)
}

func oneLine(format string, args []any) string {
	return strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
}

// Worst is the gravest status of them.
func Worst(all []Finding) Status {
	worst := OK
	for _, f := range all {
		if f.Status == Fail || f.Status == Warn && worst == OK {
			worst = f.Status
		}
	}
	return worst
}
