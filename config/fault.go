package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxFaults bounds a report: nobody mends more than a hundred lines in one go, and a hostile file must not fill the log.
const maxFaults = 100

// Fault is one thing wrong in a configuration file.
type Fault struct {
	File    string // as it was named to Load, or as extension_files resolved it
	Line    int    // 1 is the first line
	Path    string // "trunks[0].registrar"; empty where the text is no YAML at all
	Problem string // what is wrong; how to mend it
}

// String gives "FILE:LINE: path: problem".
func (f Fault) String() string {
	if f.Path == "" {
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Problem)
	}
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Path, f.Problem)
}

// Faults is the error of Load and Parse: every fault at once, by file and line.
type Faults []Fault

// Error gives one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	if len(f) >= maxFaults {
		lines = append(lines, "and perhaps more; mend these first")
	}
	return strings.Join(lines, "\n")
}

// sorted orders by line and keeps the order of files and of equal lines as found.
func (f Faults) sorted() Faults {
	order := map[string]int{}
	for _, fault := range f {
		if _, seen := order[fault.File]; !seen {
			order[fault.File] = len(order)
		}
	}
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line))
	})
	return f
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// step is a key as it stands in a path: quoted where it is not what a key looks like.
func step(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	return quote(key)
}

// parent gives the path one step up: "a[1].b" → "a[1]" → "a" → "".
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// join appends a key, or an index such as "[2]", to a path.
func join(path, next string) string {
	if path == "" || next == "" || strings.HasPrefix(next, "[") {
		return path + next
	}
	return path + "." + next
}
