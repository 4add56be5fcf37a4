package sip

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a password or key that no log line, dump, error or API reply may
// show: every way of printing it gives "[redacted]". Reveal returns the value.
type Secret string

// Reveal returns the secret itself, for the one place that computes with it.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]", or "" when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString covers the %#v of a struct that holds a Secret.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// Format covers every verb: without it %d would print the value as a mistake.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || (verb == 'v' && f.Flag('#')) {
		io.WriteString(f, s.GoString())
		return
	}
	io.WriteString(f, s.String())
}

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(s.GoString()), nil }

// MarshalYAML implements yaml.Marshaler.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
