package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxFile bounds a configuration file. Two megabytes hold some twenty thousand extensions; more go into extension_files.
const maxFile = 2 << 20

// plainWords turns the YAML library's phrases into what a person can act on. The first that is found in the error wins.
var plainWords = []struct{ phrase, words string }{
	{"mapping values are not allowed", `a ": " where no key can stand; check the indentation of this line, or put a value that contains ": " in quotes`},
	{"did not find expected key", "the indentation does not fit the lines above; align this line with its neighbours"},
	{"did not find expected '-' indicator", "the indentation does not fit the list above; align this line with its neighbours, or begin it with \"- \""},
	{"block sequence entries are not allowed", `a "- " where no list can stand; begin the list on a line of its own`},
	{"did not find expected ',' or ']'", "a list that opens with [ is not closed; add the ]"},
	{"did not find expected ',' or '}'", "a section that opens with { is not closed; add the }"},
	{"did not find expected node content", "a value is missing or a bracket is not closed; complete the line"},
	{"cannot start any token", "a value cannot begin with this character; put the value in quotes"},
	{"could not find expected ':'", "a key without its colon; write KEY: VALUE"},
	{"found unexpected end of stream", "a quote is not closed; add the closing quote"},
	{"found unknown escape character", `a backslash in "double quotes" that YAML does not know; use 'single quotes'`},
	{"unknown anchor", "an alias (*NAME) without its anchor (&NAME) before it; put a value that begins with * in quotes"},
	{"alphabetic or numeric character", "a value cannot begin with * or & unless a name follows; put the value in quotes"},
	{"control characters are not allowed", "a control character that YAML forbids; remove it"},
	{"UTF-8", "the file is not UTF-8 text; save it as UTF-8"},
	{"UTF-16", "the file is not UTF-8 text; save it as UTF-8"},
	{"exceeded max depth", "nested too deeply; no key of ours is deeper than six levels"},
	{"simple key", "a key that is too long or spans lines; put the value in quotes"},
	{"contains itself", "an alias that contains itself; write the value out"},
	{"tag", "a tag (!) that YAML does not know; put a value that begins with ! in quotes"},
	{"directive", "a value cannot begin with %; put the value in quotes"},
}

// readYAML gives the file's one document, nil where it is empty, or the fault that keeps it from being YAML.
func readYAML(data []byte) (*yaml.Node, *Fault) {
	if len(data) > maxFile {
		return nil, &Fault{Line: 1, Problem: fmt.Sprintf("the file has %d bytes; at most %d are read: move extensions to extension_files", len(data), maxFile)}
	}
	root, err := parseYAML(data)
	if err == nil {
		return root, nil
	}
	line := lineOf(data, err.Error())
	if tab := tabbed(data, line); tab > 0 {
		return nil, &Fault{Line: tab, Problem: "the line is indented with a tab; YAML indents with spaces: replace the tab by two spaces"}
	}
	return nil, &Fault{Line: line, Problem: "not YAML: " + inPlainWords(err)}
}

var errSecond = errors.New("a second document begins (---); a configuration is one document: remove the line")

// parseYAML wraps the library: one document, and no panic of its parser gets out.
func parseYAML(data []byte) (root *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML library gave up: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := dec.Decode(&second); err == nil {
		return nil, errSecond
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(first.Content) == 0 {
		return nil, nil
	}
	return first.Content[0], nil
}

func inPlainWords(err error) string {
	for _, p := range plainWords {
		if strings.Contains(err.Error(), p.phrase) {
			return p.words
		}
	}
	return strings.TrimPrefix(err.Error(), "yaml: ")
}

var libraryLine = regexp.MustCompile(`line \d+: `)

// lineOf finds the line that breaks the file. The library names the line where the surrounding block began, at times off by one;
// the shortest beginning of the file that fails in the same way ends with the line that a person must look at.
func lineOf(data []byte, message string) int {
	message = libraryLine.ReplaceAllString(message, "")
	lines := bytes.SplitAfter(data, []byte("\n"))
	ends := make([]int, len(lines))
	for i, end := 0, 0; i < len(lines); i++ {
		end += len(lines[i])
		ends[i] = end
	}
	found := sort.Search(len(lines), func(i int) bool {
		_, err := parseYAML(data[:ends[i]])
		return err != nil && libraryLine.ReplaceAllString(err.Error(), "") == message
	})
	return min(found+1, len(lines))
}

// tabbed gives the first line up to the broken one, or one after, that is indented with a tab; 0 where there is none.
func tabbed(data []byte, broken int) int {
	for i, line := range strings.SplitN(string(data), "\n", broken+2) {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if i <= broken && strings.Contains(indent, "\t") && strings.TrimSpace(line) != "" {
			return i + 1
		}
	}
	return 0
}
