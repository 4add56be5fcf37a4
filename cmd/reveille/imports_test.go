package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the module's directory, seen from here.
const root = "../.."

// rooms says which of our packages each may import, by the first element of its path. It is the whole architecture:
// cmd → config → bridge → {sip, push, rtp}.
var rooms = map[string][]string{
	"cmd":    {"cmd", "config", "bridge", "sip", "push", "rtp"},
	"config": {"config", "bridge", "sip", "push", "rtp"},
	"bridge": {"bridge", "sip", "push", "rtp"},
	"sip":    {"sip"},
	"push":   {"push"},
	"rtp":    {"rtp"},
}

// lodgers are libraries that one room alone knows, its tests included, so that another library can take their place.
var lodgers = map[string]string{
	"github.com/emiago/sipgo":   "sip",
	"github.com/icholy/digest":  "sip",
	"go.etcd.io/bbolt":          "sip",
	"github.com/sideshow/apns2": "push",
	"github.com/pion":           "rtp",
}

type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestImportsRunOneWay(t *testing.T) {
	for _, p := range listPackages(t) {
		room := roomOf(p.ImportPath)
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s is in no known room", p.ImportPath)
			continue
		}
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if other := roomOf(path); other != "" && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s; %s may import only %s", p.ImportPath, path, room, strings.Join(allowed, ", "))
			}
		}
	}
}

func TestLibrariesStayInTheirRoom(t *testing.T) {
	for _, p := range listPackages(t) {
		imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		if roomOf(p.ImportPath) == "cmd" {
			imports = p.Imports // its tests play the outside world, and better not with our own code
		}
		for _, path := range imports {
			for library, room := range lodgers {
				if (path == library || strings.HasPrefix(path, library+"/")) && roomOf(p.ImportPath) != room {
					t.Errorf("%s imports %s, which only %s/ may know", p.ImportPath, path, room)
				}
			}
		}
	}
}

// roomOf gives the first element of one of our paths below the module, "" for others'.
func roomOf(path string) string {
	below, ours := strings.CutPrefix(path, "reveille/")
	if !ours {
		return ""
	}
	room, _, _ := strings.Cut(below, "/")
	return room
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	list.Dir, list.Stderr = root, os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < len(rooms) {
		t.Fatalf("go list shows only %d packages", len(packages))
	}
	return packages
}

// budget is how long files and functions may be: what a reader takes in at a sitting, and what fits on a screen.
type budget struct{ file, function int }

func budgetOf(path string) budget {
	if strings.HasSuffix(path, "_test.go") {
		return budget{500, 100} // tables are long, and are not read from top to bottom
	}
	return budget{400, 80}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if lines := set.File(file.FileStart).LineCount(); lines > budgetOf(path).file {
			t.Errorf("%s has %d lines; %d are enough: split it", path, lines, budgetOf(path).file)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				checkFunction(t, set, path, f)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkFunction(t *testing.T, set *token.FileSet, path string, f *ast.FuncDecl) {
	lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1
	if enough := budgetOf(path).function; lines > enough {
		t.Errorf("%s: %s has %d lines; %d are enough: split it", path, f.Name.Name, lines, enough)
	}
	if f.Name.Name == "init" && f.Recv == nil {
		t.Errorf("%s: has an init; set things up where they are used", path)
	}
}
