package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"reveille/bridge"
	"reveille/cmd/reveille/admin"
)

func pushTestCommand() *command {
	return &command{
		name: "push-test", args: "EXTENSION", summary: "send a test push to an extension's devices; what did the provider say?",
		help: `Has a running bridge send a test push, which starts no call, to each device of the extension, to all at the same time,
and prints a line for each: what the push service answered, in which time, and what to do about it. Exit 0 if every push
was accepted, 1 if one was not or no device has a push target. A device gets six test pushes a minute.
The payload has "test": true. On an iPhone the app must show a call all the same; it should end that at once, since no
INVITE follows.

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

// pushLine is what became of a push, its cause, and the next step.
func pushLine(r bridge.PushRecord) string {
	line := fmt.Sprintf("%s by %s", r.Outcome, r.Provider)
	if r.Environment != "" {
		line += " (" + r.Environment + ")"
	}
	line += fmt.Sprintf(" after %.0f ms", r.Millis)
	if r.Status != 0 {
		line += fmt.Sprintf(", status %d", r.Status)
	}
	if r.Reason != "" {
		line += ", reason " + r.Reason
	}
	if r.ID != "" {
		line += ", id " + r.ID
	}
	if r.Attempts > 1 {
		line += fmt.Sprintf(", %d requests", r.Attempts)
	}
	if len(r.Shortened) > 0 {
		line += ", shortened: " + strings.Join(r.Shortened, " ")
	}
	if r.Error != "" {
		line += ": " + r.Error
	}
	if next := nextStep(r); next != "" {
		line += "; " + next
	}
	return line
}

// nextStep is what to do about an outcome, where its cause does not say so.
func nextStep(r bridge.PushRecord) string {
	switch {
	case r.Outcome == "gone":
		return "the token was dropped: open the app on that device, so that it registers again"
	case r.Outcome == "refused" && r.Error == "":
		return "the configuration under push: is at fault, or the app's topic"
	case r.Outcome == "budget":
		return "wait a minute"
	case r.Outcome != "failed":
		return ""
	case r.Uncertain:
		return "the push service is slow or in trouble: did the phone ring? Try again"
	case r.Status == http.StatusTooManyRequests:
		return "does something else push this device? Wait, and try again"
	case r.Status != 0:
		return "the push service is in trouble: try again"
	case r.Reason == "Certificate":
		return ""
	}
	return "reveille doctor tries each step of the way"
}
