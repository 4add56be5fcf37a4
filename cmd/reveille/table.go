package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table prints rows in columns, the first row being the heads; what is empty
// shows as a hyphen.
func table(w io.Writer, rows [][]string) {
	for _, row := range rows {
		for i := range row {
			if row[i] == "" {
				row[i] = "-"
			}
		}
	}
	columns(w, rows)
}

// columns prints rows in columns.
func columns(w io.Writer, rows [][]string) {
	var out strings.Builder
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = clean(row[i])
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
	for line := range strings.Lines(out.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// clean keeps what callers and phones chose for themselves from steering the
// terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsGraphic(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// age is a duration to read at a glance: 4s, 12m, 3h05m, 5d.
func age(since, now time.Time) string {
	if since.IsZero() {
		return ""
	}
	d := max(now.Sub(since), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// in is the time until at, "" when it is past.
func in(at, now time.Time) string {
	if !at.After(now) {
		return ""
	}
	return "in " + age(now, at)
}

// short is enough of an id to tell it from others and to name it by.
func short(id string) string { return id[:min(8, len(id))] }

// who is a number with its name.
func who(number, name string) string {
	if number == "" {
		number = "anonymous"
	}
	if name == "" || name == number {
		return number
	}
	return number + " (" + name + ")"
}
