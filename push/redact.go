package push

import (
	"errors"
	"strings"
)

// shortToken is the least that counts as a token, or as one of those within a
// pn-prid; a shorter one might be any word.
const shortToken = 8

// redacted is an outcome without the token: a push service may send back what
// it was asked with, whole or in part.
func (t Target) redacted(out Outcome) Outcome {
	out.Reason, out.ID = redact(out.Reason, t.PRID), redact(out.ID, t.PRID)
	if out.Err == nil {
		return out
	}
	text := out.Err.Error()
	if said := redact(unquoted(text), t.PRID); said != text {
		out.Err = errors.New(said)
	}
	return out
}

// What an error may say. Those of net/http quote a peer that speaks no HTTP, or
// why it ends a connection: its own words, up to 64 kB of them, and what it was
// sent: tokens, signatures, the assertion that an access token is given for.
const (
	maxRun   = 64 // characters without a space or quotation mark; a JWT has some 200
	maxError = 600
)

// unquoted takes out of an error's text what is too long to be a word, and
// bounds the whole.
func unquoted(text string) string {
	if len(text) <= maxRun {
		return text
	}
	var b strings.Builder
	for len(text) > 0 && b.Len() <= maxError {
		n := strings.IndexAny(text, " \"")
		if n < 0 {
			n = len(text)
		}
		if n > maxRun && !isHost(text[:n]) {
			b.WriteString("[redacted]")
		} else {
			b.WriteString(text[:n])
		}
		if text = text[n:]; text != "" {
			b.WriteByte(text[0])
			text = text[1:]
		}
	}
	if b.Len() > maxError {
		return strings.ToValidUTF8(b.String()[:maxError], "") + "…"
	}
	return b.String()
}

// isHost: a host's name, perhaps with its port, may be longer than any word.
func isHost(s string) bool {
	label := 0
	for _, c := range []byte(s) {
		if label++; c == '.' {
			label = 0
		}
		if label > 63 || (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != ':' {
			return false
		}
	}
	return len(s) < 264 // RFC 1035 §2.3.4
}

// redact takes the tokens of a pn-prid, and longer parts of them, out of a text.
func redact(text, prid string) string {
	var hidden []bool
	for _, token := range strings.FieldsFunc(lowerASCII(prid), func(r rune) bool { return strings.ContainsRune(":&;,", r) }) {
		window := min(len(token), echoWindow)
		if window < shortToken {
			continue
		}
		lower := lowerASCII(text)
		for i := 0; i+window <= len(lower); i++ {
			if !strings.Contains(token, lower[i:i+window]) {
				continue
			}
			if hidden == nil {
				hidden = make([]bool, len(text))
			}
			for j := i; j < i+window; j++ {
				hidden[j] = true
			}
		}
	}
	if hidden == nil {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !hidden[i]:
			b.WriteByte(text[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString("[redacted]")
		}
	}
	return b.String()
}

// lowerASCII is strings.ToLower that never changes the length.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
