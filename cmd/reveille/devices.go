package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"reveille/cmd/reveille/admin"
)

func devicesCommand() *command {
	return &command{
		name: "devices", args: "[EXTENSION]", summary: "the devices of a running bridge: registered, asleep, or unreachable",
		help: `Lists the devices that have registered or were provisioned, of all extensions or of one. A device is
  registered   it has a live binding: a call goes there at once
  asleep       it has a push target: a call wakes it
  unreachable  it has neither: open the app once
TOKENS are what it gave to be woken by: voip (calls) and alert of Apple's, yes where a service has but
one kind, key for sealed caller data.
WAKES IN is the time from a push to its REGISTER, of its last eight wakes the middle one and the slowest.` + "\n" + askingHelp,
		run: func(ctx context.Context, p *process, c *command, args []string) int {
			flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
			a := askingFlags(flags)
			rest, err := p.parse(c, flags, args, 0, 1)
			if err != nil {
				return code(err)
			}
			path := "/api/v1/devices"
			if len(rest) == 1 {
				path += "?extension=" + url.QueryEscape(rest[0])
			}
			if err := ask(ctx, p, a, path, func(l admin.DeviceList) { showDevices(p.stdout, l, time.Now()) }); err != nil {
				return p.fail(c, err)
			}
			return exitOK
		},
	}
}

func showDevices(w io.Writer, l admin.DeviceList, now time.Time) {
	if len(l.Devices) == 0 {
		fmt.Fprintln(w, "no devices: nothing has registered yet, nor was provisioned")
		return
	}
	rows := [][]string{{"EXTENSION", "DEVICE", "STATE", "PUSH", "TOKENS", "LAST PUSH", "WAKES IN", "SEEN", "ADDRESS", "EXPIRES", "APP"}}
	for _, d := range l.Devices {
		state, push, address, expires := "unreachable", "", "", ""
		if d.Push != nil {
			state, push = "asleep", words(d.Push.Provider, d.Push.Param, d.Push.Environment)
		}
		if len(d.Bindings) > 0 {
			b := d.Bindings[0]
			state, address, expires = "registered", b.Transport+" "+b.Remote, in(b.Expires, now)
		}
		rows = append(rows, []string{d.Extension, short(d.ID), state, push, tokens(d.Push), lastPush(d.LastPush, now), wakesIn(d.WakeMS), age(d.Seen, now), address, expires, d.UserAgent})
	}
	table(w, rows)
}

// tokens says what a device gave with its push target: "voip alert key".
func tokens(t *admin.Target) string {
	if t == nil {
		return ""
	}
	list := t.Kinds
	if len(list) == 0 {
		list = []string{"yes"}
	}
	if t.Key {
		list = append(slices.Clip(list), "key")
	}
	return strings.Join(list, " ")
}

// lastPush is "sent 3m00s ago", or why not.
func lastPush(p *admin.LastPush, now time.Time) string {
	if p == nil {
		return ""
	}
	return words(p.Outcome, p.Reason, age(p.At, now), "ago")
}

// wakesIn is "0.9s, 4.0s at most": the middle one of the last wakes, and the slowest.
func wakesIn(ms []float64) string {
	if len(ms) == 0 {
		return ""
	}
	ms = slices.Sorted(slices.Values(ms))
	middle, slowest := ms[(len(ms)-1)/2]/1000, ms[len(ms)-1]/1000
	if len(ms) == 1 {
		return fmt.Sprintf("%.1fs", middle)
	}
	return fmt.Sprintf("%.1fs, %.1fs at most", middle, slowest)
}

// words joins those that are not empty.
func words(list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), " ")
}
