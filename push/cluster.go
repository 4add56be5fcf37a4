package push

import (
	"unicode"
	"unicode/utf8"
)

// joins says that r belongs to the rune before it: between the two a text must
// not be cut, or what is left of it shows something else, or half of something.
// It is the part of Unicode's grapheme clusters (UAX #29) that is left when the
// joiners and variation selectors are gone, which clean takes out. flags is
// how many regional indicators stand right before r.
func joins(before, r rune, flags int) bool {
	switch {
	case r < 0x300:
		return false
	case unicode.In(r, unicode.M), r >= 0x1f3fb && r <= 0x1f3ff, r == 0x0e33, r == 0x0eb3: // marks; skin tones; Thai and Lao am
		return true
	case isFlagLetter(r):
		return flags%2 == 1
	case r >= 0x1160 && r <= 0x11ff, r >= 0xd7b0 && r <= 0xd7fb: // Hangul vowels and finals
		return true
	}
	return isVirama(before) && unicode.Is(unicode.Lo, r)
}

func isFlagLetter(r rune) bool { return r >= 0x1f1e6 && r <= 0x1f1ff }

// isVirama: a sign that makes one conjunct of the consonants around it.
func isVirama(r rune) bool {
	switch r {
	case 0x094d, 0x09cd, 0x0a4d, 0x0acd, 0x0b4d, 0x0c4d, 0x0ccd, 0x0d4d, 0x0dca, 0x1039, 0x17d2, 0x1a60, 0x1b44, 0xa9c0:
		return true
	}
	return false
}

// clusters follows a text rune by rune and knows where the last cluster began.
type clusters struct {
	start  int // of the last cluster, in bytes
	before rune
	flags  int
}

// next takes the rune that stands at this byte; it begins a cluster or not.
func (c *clusters) next(r rune, at int) (begins bool) {
	begins = at == 0 || !joins(c.before, r, c.flags)
	if begins {
		c.start = at
	}
	c.before = r
	if isFlagLetter(r) {
		c.flags++
	} else {
		c.flags = 0
	}
	return begins
}

// cutBytes is as much of s as fits into limit bytes without half a cluster. A
// first cluster that alone is too long is cut at a rune.
func cutBytes(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	var c clusters
	end := 0
	for at, r := range s {
		begins := c.next(r, at)
		if at > limit {
			break
		}
		if begins {
			end = at
		}
	}
	if end == 0 {
		for end = limit; end > 0 && !utf8.RuneStart(s[end]); end-- {
		}
	}
	return s[:end]
}
