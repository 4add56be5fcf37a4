package doctor

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"time"

	callbridge "reveille/bridge"
	"reveille/push"
	"reveille/sip"
)

// How far the clock may be off: provider tokens and Google's JWTs are refused
// some minutes either way.
const (
	skewWarn = time.Minute
	skewFail = 5 * time.Minute
)

// push tries the credentials at the push services, and holds the clock
// against theirs.
func (e *examination) push(ctx context.Context) []Finding {
	sender, err := push.NewSender(e.Push, push.Options{Log: slog.New(slog.DiscardHandler), Dial: e.PushDial, LogTo: io.Discard})
	if err != nil {
		return []Finding{fail("push", "%v", err)}
	}
	defer sender.Close()
	results := sender.Probe(ctx)
	if len(results) == 0 {
		return []Finding{warn("push", "no push service is configured: pushes are printed, and no phone wakes; add one under push:")}
	}
	var out []Finding
	for _, r := range results {
		kind := "push "
		if r.Provider != "apns" && r.Provider != "fcm" {
			kind += "webhook "
		}
		name := strings.Join(strings.Fields(kind+r.Provider+" "+r.App+" "+r.Environment), " ")
		out = append(out, judged(name, r.Proved, r.Err, r.Doubtful))
	}
	return append(clock(results), out...)
}

// clock takes the service that is nearest to us: one may have a wrong clock of
// its own.
func clock(results []push.ProbeResult) []Finding {
	var best *push.ProbeResult
	for i, r := range results {
		if r.Dated && (best == nil || r.Skew.Abs() < best.Skew.Abs()) {
			best = &results[i]
		}
	}
	if best == nil {
		return nil
	}
	ahead := "ahead of"
	if best.Skew < 0 {
		ahead = "behind"
	}
	switch off := best.Skew.Abs(); {
	case off > skewFail:
		return []Finding{fail("clock", "this machine is %v %s %s: push services refuse its tokens; set it (timedatectl set-ntp true)", off, ahead, best.Host)}
	case off > skewWarn:
		return []Finding{warn("clock", "this machine is %v %s %s; set it before it gets worse (timedatectl set-ntp true)", off, ahead, best.Host)}
	}
	return []Finding{good("clock", "it agrees with %s", best.Host)}
}

func (e *examination) upstreams() []sip.Upstream { return callbridge.Upstreams(e.Extensions) }
