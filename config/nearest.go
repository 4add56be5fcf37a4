package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// distance is the edit distance of two keys: an insertion, a deletion, a substitution or a swap of neighbours costs one.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := rows[0], rows[1], rows[2]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		rows = [3][]int{last, row, before}
	}
	return rows[1][len(b)]
}

// nearest gives the key closest to what was written; near says whether it is close enough to be what was meant:
// a third of its letters may be wrong, and two always may.
func nearest(written string, keys []string) (key string, near bool) {
	written = strings.ToLower(written[:min(len(written), 64)])
	best := -1
	for _, k := range keys {
		if d := distance(strings.ReplaceAll(written, "-", "_"), k); best < 0 || d < best {
			key, best = k, d
		}
	}
	return key, best >= 0 && best <= max(2, len(key)/3)
}

// unknown says that a key is not known, and which one was likely meant: the same key in another section, or a neighbour.
func unknown(written string, keys []string, sections map[string][]string) (problem, meant string) {
	if homes := sections[written]; len(homes) > 0 {
		return fmt.Sprintf("unknown key %s; it belongs under %s", quote(written), strings.Join(homes, " or ")), ""
	}
	best, near := nearest(written, keys)
	if near {
		return fmt.Sprintf("unknown key %s; did you mean %q?", quote(written), best), best
	}
	return fmt.Sprintf("unknown key %s; the nearest known key is %q (known here: %s)", quote(written), best, strings.Join(keys, ", ")), ""
}

// sectionsOf lists, for each key anywhere under t, the paths that know it ("name" → "trunks[]", "extensions[]").
func sectionsOf(t reflect.Type) map[string][]string {
	sections := map[string][]string{}
	var walk func(path string, t reflect.Type)
	walk = func(path string, t reflect.Type) {
		switch {
		case t.Kind() == reflect.Slice:
			walk(path+"[]", t.Elem())
		case isSection(t):
			for _, f := range fieldsOf(t) {
				if path != "" && !slices.Contains(sections[f.key], path) {
					sections[f.key] = append(sections[f.key], path)
				}
				walk(join(path, f.key), f.typ)
			}
		}
	}
	walk("", t)
	return sections
}

// quote shows text from the file in a message: quoted, and cut where it is long.
func quote(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
