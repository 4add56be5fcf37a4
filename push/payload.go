package push

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Limits of the payload. Apple takes 5120 bytes for a VoIP push and answers
// 413 above it. The rune limits keep every field but the headers within that
// even when each rune costs six bytes of JSON (\u003c).
const (
	maxVoIPPayload = 5120
	maxText        = 64  // runes of a caller-controlled field
	maxID          = 128 // runes of UUID and Call-ID, which we choose ourselves
	maxHeaderText  = 256 // runes of a header's value
	maxHeaders     = 32
)

// reveillePayload is the preset `reveille`. Every key is always present; times
// are RFC 3339 in UTC with whole seconds, which ISO8601DateFormatter and
// Instant.parse read as they are.
type reveillePayload struct {
	APS        struct{}          `json:"aps"`
	UUID       string            `json:"uuid"`
	CallID     string            `json:"call_id"`
	Handle     string            `json:"handle"`
	HandleType string            `json:"handle_type"`
	CallerName string            `json:"caller_name"`
	To         string            `json:"to"`
	Trunk      string            `json:"trunk"`
	HasVideo   bool              `json:"has_video"`
	Verstat    string            `json:"verstat"`
	DivertedBy string            `json:"diverted_by"`
	IssuedAt   string            `json:"issued_at"`
	ExpiresAt  string            `json:"expires_at"`
	Headers    map[string]string `json:"headers"`
}

// buildPayload renders m as the preset `reveille` in at most limit bytes of
// JSON. What had to be shortened for it is named, in order.
func buildPayload(m Message, limit int) (body []byte, shortened []string, err error) {
	p := newReveillePayload(m)
	if body, err = json.Marshal(&p); err != nil || len(body) <= limit {
		return body, nil, err
	}
	for _, step := range shortenings() {
		for len(body) > limit && step.apply(&p) {
			if len(shortened) == 0 || shortened[len(shortened)-1] != step.field {
				shortened = append(shortened, step.field)
			}
			if body, err = json.Marshal(&p); err != nil {
				return nil, shortened, err
			}
		}
	}
	return body, shortened, nil
}

// minimalPayload keeps what an app cannot ring without: for the one retry
// after the provider has called the payload too large or bad.
func minimalPayload(m Message) ([]byte, error) {
	p := newReveillePayload(m)
	for _, step := range shortenings() {
		for step.apply(&p) {
		}
	}
	return json.Marshal(&p)
}

func newReveillePayload(m Message) reveillePayload {
	p := reveillePayload{
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
		IssuedAt:   rfc3339(m.IssuedAt),
		ExpiresAt:  rfc3339(m.ExpiresAt),
		Headers:    make(map[string]string, min(len(m.Headers), maxHeaders)),
	}
	for _, name := range headerNames(m.Headers) {
		if key := clean(name, maxText); key != "" {
			p.Headers[key] = clean(m.Headers[name], maxHeaderText)
		}
	}
	return p
}

// headerNames are the names of at most maxHeaders headers, in their sorted order.
func headerNames(h map[string]string) []string {
	if len(h) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(h))
	return names[:min(len(names), maxHeaders)]
}

// shortening is one way to make a payload smaller. apply returns false when it
// has nothing left to give.
type shortening struct {
	field string
	apply func(*reveillePayload) bool
}

// shortenings in their fixed order: what the app needs least goes first.
// uuid, call_id and handle are never touched.
func shortenings() []shortening {
	blank := func(field func(*reveillePayload) *string) func(*reveillePayload) bool {
		return func(p *reveillePayload) bool {
			s := field(p)
			had := *s != ""
			*s = ""
			return had
		}
	}
	return []shortening{
		{"headers", dropLastHeader},
		{"diverted_by", blank(func(p *reveillePayload) *string { return &p.DivertedBy })},
		{"trunk", blank(func(p *reveillePayload) *string { return &p.Trunk })},
		{"to", blank(func(p *reveillePayload) *string { return &p.To })},
		{"caller_name", blank(func(p *reveillePayload) *string { return &p.CallerName })},
	}
}

func dropLastHeader(p *reveillePayload) bool {
	names := slices.Sorted(maps.Keys(p.Headers))
	if len(names) == 0 {
		return false
	}
	delete(p.Headers, names[len(names)-1])
	return true
}

func oneOf(s, otherwise string, known ...string) string {
	if slices.Contains(known, s) {
		return s
	}
	return otherwise
}

func rfc3339(t time.Time) string {
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
