package push

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

const (
	alarmBefore = 30 * 24 * time.Hour // before a certificate ends
	alarmEvery  = 24 * time.Hour
)

// Expiry is when a certificate of the configuration ends.
type Expiry struct {
	Path     string // of its key below `push`, such as apns[0].certificate
	Provider string // "apns", "fcm", or a webhook's
	Name     string // what it is for: the topic; "root_ca of" the topic
	File     string
	NotAfter time.Time
	Mend     string // what to do about it
}

// Expiries are the ends of all certificates that the configuration names, for
// checks and alarms. Files that cannot be read have none.
func (c Config) Expiries() []Expiry {
	var all []Expiry
	for i, a := range c.complete().APNs {
		for _, e := range a.expiries() {
			e.Path = fmt.Sprintf("apns[%d].%s", i, e.Path)
			all = append(all, e)
		}
	}
	for i, f := range c.FCM {
		if end, ok := rootsEnd(f.RootCA); ok {
			all = append(all, Expiry{Path: fmt.Sprintf("fcm[%d].root_ca", i), Provider: fcmName, Name: f.Project + " root_ca", File: f.RootCA, NotAfter: end,
				Mend: "put the endpoint's new authority into the file beside the old one"})
		}
	}
	for i, w := range c.Webhook {
		if end, ok := rootsEnd(w.RootCA); ok {
			all = append(all, Expiry{Path: fmt.Sprintf("webhook[%d].root_ca", i), Provider: w.name(), Name: w.name() + " root_ca", File: w.RootCA, NotAfter: end,
				Mend: "put the receiver's new authority into the file beside the old one"})
		}
	}
	return all
}

// alarms tells of certificates that end, and of those that have ended, once a
// day each.
type alarms struct {
	log     *slog.Logger
	metrics *metrics
	told    map[Expiry]time.Time
	all     []Expiry // as the metrics have it
}

func newAlarms(log *slog.Logger, m *metrics) *alarms {
	return &alarms{log: log, metrics: m, told: map[Expiry]time.Time{}}
}

// look is called at each change and from time to time, never twice at once.
func (a *alarms) look(all []Expiry, now time.Time) {
	if !slices.Equal(all, a.all) {
		a.all = all
		a.metrics.ends(all)
		for e := range a.told {
			if !slices.Contains(all, e) {
				delete(a.told, e)
			}
		}
	}
	for _, e := range all {
		last, told := a.told[e]
		if now.Before(e.NotAfter.Add(-alarmBefore)) || (told && now.Sub(last) < alarmEvery) {
			continue
		}
		a.told[e] = now
		a.tell(e, e.NotAfter.Sub(now))
	}
}

func (a *alarms) tell(e Expiry, left time.Duration) {
	level, text := slog.LevelWarn, "a push certificate ends soon"
	if left <= 0 {
		level, text = slog.LevelError, "a push certificate has ended: what needs it fails"
	}
	a.log.Log(context.Background(), level, text, "provider", e.Provider, "name", e.Name, "file", e.File,
		"ends", e.NotAfter.UTC().Format(time.DateOnly), "days", int(left/(24*time.Hour)), "mend", e.Mend)
}
