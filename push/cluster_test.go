package push

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestCutsLeaveWholeCharacters: what a reader sees as one character is there
// or not, never half, wherever a text is cut.
func TestCutsLeaveWholeCharacters(t *testing.T) {
	for name, one := range map[string]string{
		"letter":           "x",
		"accent":           "e\u0301",
		"two accents":      "o\u0302\u0323",
		"flag":             "\U0001f1e9\U0001f1ea",
		"skin tone":        "\U0001f44b\U0001f3fd",
		"keycap":           "1\u20e3",
		"Hangul in jamo":   "\u1112\u1161\u11ab",
		"Devanagari":       "\u0915\u094d\u0937\u093f",
		"Tamil vowel sign": "\u0ba8\u0bbf",
		"Thai":             "\u0e01\u0e33",
	} {
		text := strings.Repeat(one, maxText)
		for limit := range 40 {
			for _, got := range []string{clean("A"+text, limit+2), cutBytes("A"+text, max(limit, 1)*utf8.UTFMax)} {
				whole := strings.TrimPrefix(got, "A")
				if !strings.HasPrefix(got, "A") || strings.Repeat(one, len(whole)/len(one)) != whole {
					t.Errorf("%s, limit %d: %+q", name, limit, got)
				}
			}
		}
		if got := clean(text, 1000); got != text {
			t.Errorf("%s: %+q", name, got)
		}
	}
	// Nothing but marks: they are cut where they are, and something is left.
	zalgo := "a" + strings.Repeat("\u0301", 200)
	if got := clean(zalgo, maxText); utf8.RuneCountInString(got) != maxText {
		t.Errorf("%d runes", utf8.RuneCountInString(got))
	}
	if got := cutBytes(zalgo, 10); len(got) > 10 || len(got) < 9 || !utf8.ValidString(got) {
		t.Errorf("%+q", got)
	}
	if got := clean("one two", 4); got != "one" {
		t.Errorf("%q ends in a blank", got)
	}
}
