package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go/ast"
)

// requirement is one row of docs/conformance.md.
type requirement struct {
	line  int
	rfcs  []string
	what  string
	rank  string
	tests []string
}

var (
	rfcNumber = regexp.MustCompile(`\bRFC (\d{4})\b`)
	testName  = regexp.MustCompile("`([a-z]+)\\.((?:Test|Fuzz|Benchmark)\\w*)`")
)

// TestConformanceTableNamesTestsThatExist holds docs/conformance.md against
// the code: each requirement names tests, and each of them is there.
func TestConformanceTableNamesTestsThatExist(t *testing.T) {
	have := testsOfTheModule(t)
	rows := requirements(t)
	if len(rows) < 100 {
		t.Errorf("%d requirements were read; the table has more", len(rows))
	}
	seen := map[string]int{}
	for _, r := range rows {
		if len(r.rfcs) == 0 || len(r.what) < 10 || r.rank != "P0" && r.rank != "P1" {
			t.Errorf("docs/conformance.md:%d: a row has a document, a requirement, a rank and tests", r.line)
		}
		if first, twice := seen[r.what]; twice {
			t.Errorf("docs/conformance.md:%d: stands in line %d already", r.line, first)
		}
		seen[r.what] = r.line
		if len(r.tests) == 0 {
			t.Errorf("docs/conformance.md:%d: no test holds %q", r.line, r.what)
		}
		for _, name := range r.tests {
			if !have[name] {
				t.Errorf("docs/conformance.md:%d: there is no test %s", r.line, name)
			}
		}
	}
}

// TestConformanceTableHasEveryRFCOfThePackages: what a package says that it
// implements stands in the table.
func TestConformanceTableHasEveryRFCOfThePackages(t *testing.T) {
	listed := map[string]bool{}
	for _, r := range requirements(t) {
		for _, n := range r.rfcs {
			listed[n] = true
		}
	}
	for _, dir := range []string{"sip", "sip/location"} {
		for _, n := range documented(t, dir) {
			if !listed[n] {
				t.Errorf("package %s says that it implements RFC %s, which docs/conformance.md does not have", dir, n)
			}
		}
	}
}

func requirements(t *testing.T) (rows []requirement) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs/conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) != 4 || strings.Contains(cells[2], "Rank") {
			continue
		}
		r := requirement{line: i + 1, what: strings.TrimSpace(cells[1]), rank: strings.TrimSpace(cells[2])}
		for _, m := range rfcNumber.FindAllStringSubmatch(cells[0], -1) {
			r.rfcs = append(r.rfcs, m[1])
		}
		for _, m := range testName.FindAllStringSubmatch(cells[3], -1) {
			r.tests = append(r.tests, m[1]+"."+m[2])
		}
		rows = append(rows, r)
	}
	return rows
}

// testsOfTheModule lists every test function as package.Name.
func testsOfTheModule(t *testing.T) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				have[path.Base(filepath.ToSlash(filepath.Dir(file)))+"."+f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// documented lists the RFCs that a package's doc names.
func documented(t *testing.T, dir string) (numbers []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Doc == nil || strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range rfcNumber.FindAllStringSubmatch(parsed.Doc.Text(), -1) {
			if !slices.Contains(numbers, m[1]) {
				numbers = append(numbers, m[1])
			}
		}
	}
	return numbers
}
