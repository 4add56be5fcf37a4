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
	if text := out.Err.Error(); redact(text, t.PRID) != text {
		out.Err = errors.New(redact(text, t.PRID))
	}
	return out
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
