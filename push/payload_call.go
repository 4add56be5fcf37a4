package push

import (
	"slices"
	"strings"
	"time"
)

// Limits of what goes into a payload, in runes.
const (
	maxText       = 64  // a field that the caller controls
	maxID         = 128 // UUID and Call-ID, which we choose ourselves
	maxHeaderText = 256 // a header's value
	maxHeaders    = 32
)

// call is what payloads are made of, and what templates see: a Message that
// is cleaned and cut.
type call struct {
	UUID       string // the call's UUID, the same as in X-Call-UUID
	CallID     string // the Call-ID of the INVITE that the device will get
	Handle     string // the caller's number or address; "" when withheld
	HandleType string // "number" or "generic"
	CallerName string // the caller's display name; may be ""
	To         string // what was dialled
	Trunk      string // the trunk's name
	HasVideo   bool
	Verstat    string // "verified", "failed" or "none"
	DivertedBy string // who sent the call on, if anybody
	IssuedAt   stamp
	ExpiresAt  stamp
	Test       bool // no call: a test by an administrator
	headers    []header
	sealed     string   // the other fields, encrypted for the device; "": they are not, or not yet
	target     Target   // whom the push is for
	tight      int      // how far the values of templates are cut: see templateRoom
	failed     []string // templates that could not be executed
}

// header is a header of the trunk's INVITE under the name that the app gave it.
type header struct{ name, value string }

// allowed is a name of an app's `headers`.
type allowed struct {
	name      string // as it is configured, which is how the payload has it
	canonical string // as Message.Headers has it
}

func newCall(m Message, names []allowed) *call {
	c := &call{
		UUID:       clean(m.UUID, maxID),
		CallID:     clean(m.CallID, maxID),
		Handle:     clean(m.Handle, maxText),
		HandleType: oneOf(m.HandleType, "generic", "number"),
		CallerName: clean(m.CallerName, maxText),
		To:         clean(m.To, maxText),
		Trunk:      clean(m.Trunk, maxText),
		HasVideo:   m.HasVideo,
		Verstat:    oneOf(m.Verstat, "none", "verified", "failed"),
		DivertedBy: clean(m.DivertedBy, maxText),
		IssuedAt:   stamp{m.IssuedAt},
		ExpiresAt:  stamp{m.ExpiresAt},
		Test:       m.Test,
	}
	for _, a := range names {
		if value, ok := m.Headers[a.canonical]; ok && len(m.Headers) > 0 {
			c.headers = append(c.headers, header{a.name, clean(value, maxHeaderText)})
		}
	}
	return c
}

func (c *call) dropLastHeader() bool {
	if len(c.headers) == 0 {
		return false
	}
	c.headers = c.headers[:len(c.headers)-1]
	return true
}

// Header is the value of a header of the trunk's INVITE, by its name without
// case; "" if the INVITE had none, or the app's `headers` does not list it.
func (c *call) Header(name string) string {
	i := slices.IndexFunc(c.headers, func(h header) bool { return strings.EqualFold(h.name, name) })
	if i < 0 {
		return ""
	}
	return c.headers[i].value
}

// Title is what stands above everything else: the best name of the caller.
func (c *call) Title() string {
	switch {
	case c.CallerName != "":
		return c.CallerName
	case c.Handle != "":
		return c.Handle
	}
	return "Unknown"
}

// Headers are the headers of the trunk's INVITE that the app's `headers` lists.
func (c *call) Headers() map[string]string {
	headers := make(map[string]string, len(c.headers))
	for _, h := range c.headers {
		headers[h.name] = h.value
	}
	return headers
}

// stamp is a time as payloads have it.
type stamp struct{ at time.Time }

// String is RFC 3339 in UTC with whole seconds, which ISO8601DateFormatter and
// Instant.parse read as it is; "" when not known.
func (s stamp) String() string { return string(s.append(nil)) }

func (s stamp) append(b []byte) []byte {
	if s.none() {
		return b
	}
	return s.at.UTC().AppendFormat(b, time.RFC3339)
}

func (s stamp) none() bool { return s.at.IsZero() || s.at.Year() < 0 || s.at.Year() > 9999 }

// Unix is the time in seconds since 1970; 0 when not known.
func (s stamp) Unix() int64 {
	if s.none() {
		return 0
	}
	return s.at.Unix()
}

func oneOf(s, otherwise string, known ...string) string {
	if slices.Contains(known, s) {
		return s
	}
	return otherwise
}
