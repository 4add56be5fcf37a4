package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"reveille/bridge"
	"reveille/cmd/reveille/admin"
)

func pushTestCommand() *command {
	return &command{
		name: "push-test", args: "EXTENSION", summary: "send a test push to an extension's devices; what did the provider say?",
		help: `Has a running bridge send a test push, which starts no call, to each device of the extension, and prints what the
push service answered. Exit 0 if every push was accepted, 1 if one was not or no device has a push target.
On an iPhone the app shows the call that a VoIP push must show; it ends by itself as no INVITE follows.

Example:
  reveille push-test 1001` + "\n" + askingHelp,
		run: runPushTest,
	}
}

func runPushTest(ctx context.Context, p *process, c *command, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	a := askingFlags(flags)
	rest, err := p.parse(c, flags, args, 1, 1)
	if err != nil {
		return code(err)
	}
	bridge, err := p.client(a)
	if err != nil {
		return p.fail(c, err)
	}
	body, err := bridge.do(ctx, http.MethodPost, "/api/v1/extensions/"+url.PathEscape(rest[0])+"/push-test")
	if err != nil {
		return p.fail(c, err)
	}
	all := false
	if err := decode(body, func(t admin.PushTest) { all = accepted(t) }); err != nil {
		return p.fail(c, err)
	}
	err = p.present(a, body, func() error {
		return decode(body, func(t admin.PushTest) { showPushTest(p.stdout, rest[0], t) })
	})
	if err != nil {
		return p.fail(c, err)
	}
	if !all {
		return exitFailed
	}
	return exitOK
}

// accepted holds when there was a push and none was turned down.
func accepted(t admin.PushTest) bool {
	for _, r := range t.Pushes {
		if r.Outcome != "sent" {
			return false
		}
	}
	return len(t.Pushes) > 0
}

func showPushTest(w io.Writer, extension string, t admin.PushTest) {
	if len(t.Pushes) == 0 {
		fmt.Fprintf(w, "extension %s has no device with a push target; open the app so that it registers with its pn- parameters\n", clean(extension))
		return
	}
	for _, r := range t.Pushes {
		fmt.Fprintf(w, "device %s: %s\n", clean(short(r.Device)), clean(pushLine(r)))
	}
}

func pushLine(r bridge.PushRecord) string {
	line := fmt.Sprintf("%s by %s after %.0f ms", r.Outcome, r.Provider, r.Millis)
	if r.Status != 0 {
		line += fmt.Sprintf(", status %d", r.Status)
	}
	if r.Reason != "" {
		line += ", reason " + r.Reason
	}
	if r.ID != "" {
		line += ", id " + r.ID
	}
	switch r.Outcome {
	case "gone":
		line += "; the token is dead, the app must register again"
	case "refused":
		line += "; the configuration under push: is at fault, or the app's topic"
	case "failed":
		line += "; the push service could not be reached in time, see the log"
	}
	return line
}
