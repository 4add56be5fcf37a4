package sip

import (
	"strings"
	"testing"
)

// TestSanitiseTextCutsBetweenCharacters: what a reader sees as one character
// is there or not, never half.
func TestSanitiseTextCutsBetweenCharacters(t *testing.T) {
	for _, one := range []string{"x", "e\u0301", "o\u0302\u0323", "\U0001f1e9\U0001f1ea", "\U0001f44b\U0001f3fd", "1\u20e3", "\u1112\u1161\u11ab", "\u0ba8\u0bbf"} {
		for limit := 4; limit < 20; limit++ {
			got := SanitiseText("A"+strings.Repeat(one, 20), limit)
			whole := strings.TrimPrefix(got, "A")
			if !strings.HasPrefix(got, "A") || whole == "" || strings.Repeat(one, len(whole)/len(one)) != whole {
				t.Errorf("%+q at %d: %+q", one, limit, got)
			}
		}
	}
	for in, want := range map[string]string{
		"\u0301\u0301\u0301\u0301\u0301": "\u0301\u0301\u0301\u0301", // nothing else
		"abc def":                        "abc",                      // two words are not made one
		"ab cdef":                        "ab c",
		"abcd":                           "abcd",
	} {
		if got := SanitiseText(in, 4); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
