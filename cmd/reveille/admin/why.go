package admin

import (
	"fmt"
	"slices"
	"strings"

	"reveille/bridge"
)

// Why answers "why did it not ring?" in one line: the verdict of a call that
// is over with the facts behind it, or what a live call waits for.
func Why(c bridge.Record) string {
	if !live(c) {
		return ended(c)
	}
	switch c.State {
	case "admitting":
		return "the call has just come in"
	case "waking":
		return "waiting for a device to register; " + pushes(c)
	case "alerting":
		return "ringing; waiting for an answer"
	case "connecting":
		return "answered; the audio is being connected"
	case "talking":
		return "in conversation"
	case "transferring":
		return "being transferred; waiting for the other extension to answer"
	}
	return c.State
}

func ended(c bridge.Record) string {
	if !c.Answer.IsZero() {
		return c.Verdict
	}
	var facts []string
	if len(c.Pushes) > 0 {
		facts = append(facts, pushes(c))
	}
	switch {
	case c.RingMS > 0:
		facts = append(facts, fmt.Sprintf("a device rang %s after the INVITE", seconds(c.RingMS)))
	case c.WakeMS > 0:
		facts = append(facts, fmt.Sprintf("a device registered %s after its push but did not ring", seconds(c.WakeMS)))
	}
	if len(facts) == 0 {
		return c.Verdict
	}
	return c.Verdict + " (" + strings.Join(facts, "; ") + ")"
}

// pushes sums the outcomes up, as in "push sent to 1 device, refused for 1
// (403 InvalidProviderToken)".
func pushes(c bridge.Record) string {
	if len(c.Pushes) == 0 {
		if slices.ContainsFunc(c.Timeline, func(s bridge.Step) bool { return s.Event == "push" }) {
			return "the push service has not answered yet"
		}
		return "no push was needed"
	}
	count := map[string]int{}
	cause := map[string]string{}
	var order []string
	for _, p := range c.Pushes {
		if count[p.Outcome]++; count[p.Outcome] == 1 {
			order = append(order, p.Outcome)
		}
		if p.Outcome != "sent" {
			cause[p.Outcome] = strings.TrimSpace(fmt.Sprintf("%s %s", status(p.Status), p.Reason))
		}
	}
	parts := make([]string, len(order))
	for i, outcome := range order {
		parts[i] = fmt.Sprintf("push %s for %d %s", outcome, count[outcome], plural(count[outcome], "device"))
		if cause[outcome] != "" {
			parts[i] += " (" + cause[outcome] + ")"
		}
	}
	return strings.Join(parts, ", ")
}

func status(code int) string {
	if code == 0 {
		return ""
	}
	return fmt.Sprint(code)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func seconds(ms float64) string { return fmt.Sprintf("%.1f s", ms/1000) }
