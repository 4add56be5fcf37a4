package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+(?:\([^)]*\)[^)\s]*)?)\)`)
	heading      = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInAnchor  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestDocsLinksLeadSomewhere: every link of README and docs to a file, and to
// a heading in one, is good.
func TestDocsLinksLeadSomewhere(t *testing.T) {
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(documents) == 0 {
		t.Fatal("no documents", err)
	}
	for _, document := range append(documents, filepath.Join(root, "README.md")) {
		for _, match := range markdownLink.FindAllStringSubmatch(read(t, document), -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := document
			if target != "" {
				file = filepath.Join(filepath.Dir(document), filepath.FromSlash(target))
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: the link %s leads nowhere: %v", filepath.Base(document), match[1], err)
			} else if anchor != "" && !slices.Contains(headings(read(t, file)), anchor) {
				t.Errorf("%s: the link %s names no heading; there are %q", filepath.Base(document), match[1], headings(read(t, file)))
			}
		}
	}
}

// headings are the headings as links name them.
func headings(text string) (names []string) {
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		name := notInAnchor.ReplaceAllString(strings.ToLower(match[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
