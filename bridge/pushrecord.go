package bridge

import (
	"fmt"
	"strings"

	"reveille/push"
	"reveille/sip/location"
)

// PushRecord is what became of one push.
type PushRecord struct {
	Device      string   `json:"device"`
	Provider    string   `json:"provider"`
	Environment string   `json:"environment,omitempty"` // of APNs: the one that took the token
	Outcome     string   `json:"outcome"`               // sent, gone, refused, failed; budget: none was sent
	Status      int      `json:"status,omitempty"`
	Reason      string   `json:"reason,omitempty"`
	ID          string   `json:"id,omitempty"`
	Attempts    int      `json:"attempts,omitempty"`  // requests made
	Uncertain   bool     `json:"uncertain,omitempty"` // no answer came: the push may have been accepted
	Duplicate   bool     `json:"duplicate,omitempty"` // it had been accepted already, and was not sent again
	Shortened   []string `json:"shortened,omitempty"` // payload fields that were cut to fit
	Error       string   `json:"error,omitempty"`     // one line: the cause, and how to mend it
	Millis      float64  `json:"ms"`
	WakeMS      float64  `json:"wake_ms,omitempty"` // push sent -> REGISTER of this device
}

func pushRecord(d location.Device, o push.Outcome) PushRecord {
	r := PushRecord{Device: d.ID, Provider: d.Target.Provider, Environment: o.Environment, Outcome: o.Verdict.String(), Status: o.Status,
		Reason: o.Reason, ID: o.ID, Attempts: o.Attempts, Uncertain: o.Uncertain, Duplicate: o.Duplicate, Shortened: o.Shortened, Millis: millis(o.Took)}
	if o.Err != nil {
		r.Error = oneLine(o.Err.Error())
	}
	return r
}

// maxErrorLine bounds a cause in runes; our own have under 300.
const maxErrorLine = 500

// oneLine is an error as the timeline, the CDR and the administrator see it.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if runes := []rune(text); len(runes) > maxErrorLine {
		text = string(runes[:maxErrorLine]) + "…"
	}
	return text
}

// line is a push's outcome in the timeline: "apns 410 Unregistered, 2 requests".
func (r PushRecord) line() string {
	parts := []string{r.Provider}
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(r.Status != 0, "%d", r.Status)
	add(r.Reason != "", "%s", r.Reason)
	add(r.Environment != "", "(%s)", r.Environment)
	text := strings.Join(parts, " ")
	if r.Attempts > 1 {
		text += fmt.Sprintf(", %d requests", r.Attempts)
	}
	if len(r.Shortened) > 0 {
		text += ", shortened: " + strings.Join(r.Shortened, " ")
	}
	if r.Error != "" {
		text += ": " + r.Error
	}
	return text
}

// woke notes a device's wake time with its push; the first one is the call's.
func (r *record) woke(deviceID string, ms float64) {
	r.update(func(rec *Record) {
		if rec.WakeMS == 0 {
			rec.WakeMS = ms
		}
		for i := len(rec.Pushes) - 1; i >= 0; i-- {
			if p := &rec.Pushes[i]; p.Device == deviceID && p.WakeMS == 0 {
				p.WakeMS = ms
				return
			}
		}
	})
}
