package push

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes untrusted text fit to be shown on a lock screen: valid UTF-8, no
// control, bidirectional, zero-width or otherwise invisible characters, white
// space as single spaces, at most limit runes, and the last of them whole.
//
// Invalid bytes become U+FFFD, so that a reader sees that something was there.
func clean(s string, limit int) string {
	if isPlain(s) && len(s) <= limit {
		return s
	}
	var b strings.Builder
	b.Grow(min(len(s), limit*utf8.UTFMax))
	var c clusters
	n, space := 0, false
	for _, r := range s { // an invalid byte is ranged over as U+FFFD
		switch {
		case isSpace(r):
			space = n > 0
			continue
		case isHidden(r):
			continue
		}
		if space {
			if n+2 > limit {
				break
			}
			c.next(' ', b.Len())
			b.WriteByte(' ')
			n++
		}
		if begins := c.next(r, b.Len()); n >= limit {
			if !begins && c.start > 0 {
				return strings.TrimSuffix(b.String()[:c.start], " ")
			}
			break
		}
		b.WriteRune(r)
		n++
		space = false
	}
	return b.String()
}

// isPlain: printable ASCII without leading, trailing or double spaces, the
// common case that needs no work.
func isPlain(s string) bool {
	space := true
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || (c == ' ' && space) {
			return false
		}
		space = c == ' '
	}
	return s == "" || !space
}

func isSpace(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Z, r) }

// isHidden: C0, DEL, C1 (Cc); format characters (Cf: bidirectional marks,
// embeddings and isolates, zero-width space and joiners, tags, BOM); the
// invisible ones outside Cf (fillers, variation selectors); non-characters; and
// private use, where each maker of phones has signs of its own: U+F8FF is Apple's.
func isHidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs,
		unicode.Other_Default_Ignorable_Code_Point,
		unicode.Variation_Selector,
		unicode.Noncharacter_Code_Point)
}
