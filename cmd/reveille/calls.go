package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"reveille/bridge"
	"reveille/cmd/reveille/admin"
)

func callsCommand() *command {
	return &command{
		name: "calls", args: "[CALL]", summary: "live and recent calls; one call's timeline: why did it not ring?",
		help: `Lists the live calls and the latest that ended, newest first. With CALL, a UUID or its beginning, it shows that
call's timeline and answers in one line why it did not ring.

Examples:
  reveille calls
  reveille calls 3f2a91c0` + "\n" + askingHelp,
		run: runCalls,
	}
}

func runCalls(ctx context.Context, p *process, c *command, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	a := askingFlags(flags)
	limit := flags.Int("limit", 30, "how many calls to list, `N`")
	rest, err := p.parse(c, flags, args, 0, 1)
	if err != nil {
		return code(err)
	}
	if len(rest) == 1 {
		err = p.oneCall(ctx, a, rest[0])
	} else {
		err = ask(ctx, p, a, fmt.Sprintf("/api/v1/calls?limit=%d", *limit), func(l admin.CallList) { showCalls(p.stdout, l, time.Now()) })
	}
	if err != nil {
		return p.fail(c, err)
	}
	return exitOK
}

func showCalls(w io.Writer, l admin.CallList, now time.Time) {
	if len(l.Calls) == 0 {
		fmt.Fprintln(w, "no calls yet")
		return
	}
	rows := [][]string{{"CALL", "STATE", "FROM", "TO", "DEVICE", "AGE", "LASTED", "WHY"}}
	for _, c := range l.Calls {
		state, end := c.State, now
		if !c.End.IsZero() {
			state, end = c.Ending, c.End
		}
		to := c.To
		if c.Extension != "" && c.Extension != c.To {
			to += " → " + c.Extension
		}
		rows = append(rows, []string{short(c.Call), state, who(c.From, c.FromName), to, short(c.Device), age(c.Start, now), age(c.Start, end), c.Why})
	}
	table(w, rows)
}

// uuidLength is that of a whole UUID in text.
const uuidLength = 36

// oneCall shows a call by its UUID, or by a beginning that only one has.
func (p *process) oneCall(ctx context.Context, a asking, id string) error {
	c, err := p.client(a)
	if err != nil {
		return err
	}
	if len(id) < uuidLength {
		if id, err = c.complete(ctx, id); err != nil {
			return err
		}
	}
	body, err := c.get(ctx, "/api/v1/calls/"+url.PathEscape(id))
	if err != nil {
		return err
	}
	return p.present(a, body, func() error {
		return decode(body, func(d admin.CallDetail) { showCall(p.stdout, d, time.Local) })
	})
}

func (c *client) complete(ctx context.Context, beginning string) (string, error) {
	body, err := c.get(ctx, "/api/v1/calls?limit=1000000")
	if err != nil {
		return "", err
	}
	var list admin.CallList
	if err := json.Unmarshal(body, &list); err != nil {
		return "", err
	}
	found := ""
	for _, call := range list.Calls {
		if !strings.HasPrefix(call.Call, strings.ToLower(beginning)) {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("several calls begin with %s; write more of the UUID", beginning)
		}
		found = call.Call
	}
	if found == "" {
		return "", fmt.Errorf("no live or recent call begins with %s; older ones are in the CDR file", beginning)
	}
	return found, nil
}

func showCall(w io.Writer, c admin.CallDetail, zone *time.Location) {
	fmt.Fprintf(w, "call   %s\n", clean(c.Call))
	fmt.Fprintf(w, "from   %s by trunk %s, %s\n", clean(who(c.From, c.FromName)), clean(c.Trunk), c.Start.In(zone).Format("2006-01-02 15:04:05.000 MST"))
	fmt.Fprintf(w, "to     %s (extension %s)\n", clean(c.To), clean(orDash(c.Extension)))
	state := c.State
	if c.Ending != "" {
		state = fmt.Sprintf("%s, the trunk was told %d", c.Ending, c.Code)
	}
	fmt.Fprintf(w, "state  %s\n", clean(state))
	fmt.Fprintf(w, "why    %s\n\n", clean(c.Why))
	rows := [][]string{}
	last := 0.0
	for _, s := range c.Timeline {
		rows = append(rows, []string{fmt.Sprintf("%12.1f ms", s.Millis), fmt.Sprintf("%+.1f", s.Millis-last), s.Event, short(s.Device), s.Detail})
		last = s.Millis
	}
	columns(w, rows)
	for _, side := range []string{"trunk", "device"} {
		if m, ok := c.Media[side]; ok {
			fmt.Fprintf(w, "\naudio from the %-7s %s", side+":", clean(audioLine(m)))
			if m.Hears != nil {
				fmt.Fprintf(w, "\n      which hears:   %s", hearsLine(m.Hears))
			}
		}
	}
	if len(c.Media) > 0 {
		fmt.Fprintln(w)
	}
}

// audioLine is one direction of the audio, up to the bridge.
func audioLine(m bridge.MediaRecord) string {
	line := fmt.Sprintf("%d packets, %d lost, jitter %.1f ms", m.Packets, m.Lost, m.JitterMS)
	if m.Codec != "" {
		line += ", " + m.Codec
	}
	if m.RTTMillis > 0 {
		line += fmt.Sprintf(", round trip %.0f ms", m.RTTMillis)
	}
	if m.LongestGapMS >= 1000 {
		line += fmt.Sprintf(", longest gap %.1f s", m.LongestGapMS/1000)
	}
	if m.MOS > 0 {
		line += fmt.Sprintf(", MOS %.1f", m.MOS)
	}
	return line
}

// hearsLine is what a side says of the audio that it got.
func hearsLine(h *bridge.HearingRecord) string {
	line := fmt.Sprintf("%d lost (%.1f %%), jitter %.1f ms", h.Lost, 100*h.LossRatio, h.JitterMS)
	if h.MOS > 0 {
		line += fmt.Sprintf(", MOS %.1f", h.MOS)
	}
	return line
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
