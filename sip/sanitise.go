package sip

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text from one peer that is shown to or sent to another crosses here: it may
// carry line breaks that forge headers, or characters that rearrange a screen.

// Longest texts that we pass on.
const (
	maxCallerName = 64 // runes; a CallKit screen shows about 30
	maxNumber     = 32 // E.164 has 15 digits; PBX prefixes and codes need more
)

// SanitiseText makes untrusted text safe for one line of a header, a log or a
// screen: invalid UTF-8, control characters (C0, C1, DEL), line and paragraph
// separators, bidirectional and zero-width characters are dropped, runs of
// blanks become one, and no more than limit runes stay, the last of them with
// all its marks.
func SanitiseText(s string, limit int) string {
	var b strings.Builder
	runes, blank := 0, false
	for _, r := range s {
		if unicode.IsSpace(r) {
			blank = b.Len() > 0
			continue
		}
		if r == utf8.RuneError || invisible(r) {
			continue
		}
		if blank && runes+1 >= limit {
			return b.String()
		}
		if blank {
			b.WriteByte(' ')
			runes++
		}
		blank = false
		if runes >= limit {
			return unbroken(b.String(), r)
		}
		b.WriteRune(r)
		runes++
	}
	return b.String()
}

// unbroken takes off the end of s what makes one character with next, which
// is cut off: a letter whose accent would be missing is another letter.
func unbroken(s string, next rune) string {
	whole := s
	for whole != "" && extends(whole, next) {
		last, size := utf8.DecodeLastRuneInString(whole)
		whole, next = whole[:len(whole)-size], last
	}
	if whole = strings.TrimRight(whole, " "); whole == "" {
		return s // nothing but marks
	}
	return whole
}

// extends: marks, skin tones, Hangul vowels and finals, and the second letter
// of a flag belong to the rune before them (UAX #29).
func extends(before string, r rune) bool {
	if r >= 0x1f1e6 && r <= 0x1f1ff {
		rest := strings.TrimRightFunc(before, func(r rune) bool { return r >= 0x1f1e6 && r <= 0x1f1ff })
		return utf8.RuneCountInString(before[len(rest):])%2 == 1
	}
	return unicode.Is(unicode.M, r) || r >= 0x1f3fb && r <= 0x1f3ff || r >= 0x1160 && r <= 0x11ff
}

// invisible reports whether r has no picture of its own: control and format
// characters (which include the bidirectional overrides and the zero-width
// ones), surrogates and private use.
func invisible(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp) ||
		r == '\u034f' || r == '\u115f' || r == '\u1160' || r == '\u3164' || r == '\uffa0'
}

// SanitiseName is SanitiseText for a caller's display name: the quotes and
// backslashes of a quoted-string are taken off first.
func SanitiseName(s string) string {
	return SanitiseText(unescapeQuoted(strings.TrimSpace(s)), maxCallerName)
}

// SanitiseNumber returns s without visual separators (blanks, "-", ".", "(",
// ")"), and whether the rest is a telephone number: 1 to 32 of +0-9*#, with a
// plus sign only in front.
func SanitiseNumber(s string) (number string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '-' || c == '.' || c == '(' || c == ')':
		case c >= '0' && c <= '9' || c == '*' || c == '#' || c == '+' && b.Len() == 0:
			b.WriteByte(c)
		default:
			return "", false
		}
	}
	n := b.String()
	return n, n != "" && n != "+" && len(n) <= maxNumber
}

// SanitiseToken returns s if it holds only the characters of an RFC 3261 token
// or word that are safe inside a header parameter, else "". At most limit bytes.
func SanitiseToken(s string, limit int) string {
	if len(s) > limit {
		return ""
	}
	for i := 0; i < len(s); i++ {
		if !isTokenByte(s[i]) && !strings.ContainsRune("@:/", rune(s[i])) {
			return ""
		}
	}
	return s
}

// Quote gives s as a quoted-string (RFC 3261 §25.1). The text must have been
// sanitised: control characters are dropped here too, so that no caller can
// break a line.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case unicode.IsControl(r) || r == utf8.RuneError:
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// unescapeQuoted takes the quotes, where there are any, and the backslashes off
// a quoted-string. sipgo hands display names over without quotes but with
// their backslashes.
func unescapeQuoted(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isTokenByte reports whether c may stand in a token (RFC 3261 §25.1).
func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("-.!%*_+`'~", c) >= 0
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}
