package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// maxNodes bounds what aliases can multiply: a file of maxFile bytes without aliases stays below.
const maxNodes = 1 << 19

// document is one file on its way into a Config: where each path stands, and what was wrong.
type document struct {
	name     string
	dir      string // relative file names in the document start here
	env      func(string) (string, bool)
	sections map[string][]string // key → sections that know it, for hints

	last   int             // the document's last line
	lines  map[string]int  // path → line
	bad    map[string]bool // paths with a fault: what follows from it is not reported again
	faults Faults
	nodes  int
	inline string // path of the first secret that stands in the file itself
}

func newDocument(name string, env func(string) (string, bool)) *document {
	if env == nil {
		env = os.LookupEnv
	}
	return &document{
		name: name, dir: filepath.Dir(name), env: env,
		lines: map[string]int{"": 1}, bad: map[string]bool{},
	}
}

// fault records what is wrong at a path. What is found at or under a path that is faulty already follows from that fault, and is not told.
func (d *document) fault(path, problem string) {
	if !d.faulty(path) {
		d.bad[path] = true
		d.note(d.line(path), path, problem)
	}
}

func (d *document) faulty(path string) bool {
	for path != "" && !d.bad[path] {
		path = parent(path)
	}
	return d.bad[path]
}

func (d *document) note(line int, path, problem string) {
	if !d.full() {
		// YAML breaks lines at some characters where editors do not.
		d.faults = append(d.faults, Fault{File: d.name, Line: min(line, d.last), Path: path, Problem: problem})
	}
}

func (d *document) full() bool { return len(d.faults) >= maxFaults }

// line gives the line of a path, or of the nearest part of it that the file has.
func (d *document) line(path string) int {
	for {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = parent(path)
	}
}

// decode reads a node into v, whose value until then is the default. A node without a value leaves the default.
func (d *document) decode(path string, n *yaml.Node, v reflect.Value) {
	if d.exhausted(path) {
		return
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		d.fault(path, fmt.Sprintf("tags such as %s are not read; remove the tag", quote(n.Tag)))
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(path, n, v.Elem())
	case isSection(v.Type()):
		d.section(path, n, v)
	case isScalar(v.Type()):
		d.scalar(path, n, v)
	case v.Kind() == reflect.Slice:
		d.list(path, n, v)
	case v.Kind() == reflect.Map:
		d.table(path, n, v)
	default:
		panic("config: no way to read a " + v.Type().String())
	}
}

// exhausted counts a node against maxNodes and tells once when there were too many.
func (d *document) exhausted(path string) bool {
	if d.nodes++; d.nodes == maxNodes {
		d.fault(path, "aliases multiply the file beyond reason; write the values out")
	}
	return d.nodes >= maxNodes
}

func (d *document) section(path string, n *yaml.Node, v reflect.Value) {
	fields := fieldsOf(v.Type())
	keys := keysOf(fields)
	if n.Kind != yaml.MappingNode {
		d.fault(path, fmt.Sprintf("expected a section with keys such as %s, got %s", strings.Join(keys[:min(3, len(keys))], ", "), kind(n)))
		return
	}
	written := map[string]*yaml.Node{}
	misspelt := map[string]bool{}
	d.pairs(path, n, func(key string, value *yaml.Node) {
		if i := slices.Index(keys, key); i >= 0 {
			written[key] = value
			d.decode(join(path, key), value, v.FieldByIndex(fields[i].index))
		} else if !d.full() {
			problem, meant := unknown(key, keys, d.sections)
			d.fault(join(path, step(key)), problem)
			misspelt[meant] = true
		}
	})
	d.files(path, v, fields, written)
	for key := range misspelt {
		if key != "" && written[key] == nil { // that it is missing is no second fault
			d.bad[join(path, key)] = true
		}
	}
}

func (d *document) list(path string, n *yaml.Node, v reflect.Value) {
	if _, one := v.Interface().(oneOrMore); one && n.Kind == yaml.ScalarNode {
		n = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{n}}
	}
	if n.Kind != yaml.SequenceNode {
		d.fault(path, "expected a list such as "+example(v.Type(), n)+", got "+kind(n))
		return
	}
	v.SetZero()
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = item.Line
		entry := reflect.New(v.Type().Elem()).Elem()
		if item.Kind == yaml.ScalarNode && item.Tag == "!!null" {
			d.fault(at, "an empty entry; write a value or remove the line")
		}
		d.decode(at, item, entry)
		v.Set(reflect.Append(v, entry))
		if d.nodes >= maxNodes {
			return
		}
	}
}

// oneOrMore is a list that may be written as its only value.
type oneOrMore interface{ OneOrMore() }

func (d *document) table(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fault(path, "expected names with values such as {NAME: VALUE}, got "+kind(n))
		return
	}
	if v.SetZero(); len(n.Content) > 0 {
		v.Set(reflect.MakeMap(v.Type()))
	}
	d.pairs(path, n, func(key string, value *yaml.Node) {
		entry := reflect.New(v.Type().Elem()).Elem()
		d.decode(join(path, step(key)), value, entry)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), entry)
	})
}

// pairs calls each for every key that stands once, and notes the line of each.
func (d *document) pairs(path string, n *yaml.Node, each func(key string, value *yaml.Node)) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content) && !d.exhausted(path); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := name.Value
		at := join(path, step(key))
		switch line, twice := first[key]; {
		case name.Tag == "!!merge":
			d.lines[at] = name.Line
			d.fault(at, "merge keys (<<) are not read; write the keys out")
		case name.Kind != yaml.ScalarNode:
			d.lines[join(path, "?")] = name.Line
			d.fault(join(path, "?"), "expected a key, got "+kind(name)+"; write KEY: VALUE, and put a value that begins with { or [ in quotes")
		case twice:
			d.note(name.Line, at, fmt.Sprintf("the key stands twice, first on line %d; remove one", line))
		default:
			first[key] = name.Line
			d.lines[at] = name.Line
			each(key, value)
		}
	}
}

// field is one key of a section.
type field struct {
	key   string
	index []int
	typ   reflect.Type
}

// fieldsOf lists the keys of a section in the order of its struct; a field without a yaml tag is no key.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key != "" && key != "-" && f.IsExported() {
			fields = append(fields, field{key, f.Index, f.Type})
		}
	}
	return fields
}

func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

var durationType = reflect.TypeFor[time.Duration]()

func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct }

func isScalar(t reflect.Type) bool {
	return t == durationType || t.Kind() == reflect.String || t.Kind() == reflect.Bool || t.Kind() == reflect.Int
}

// kind names what a node is, never what it holds: it may be a secret.
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Tag == "!!int" || n.Tag == "!!float":
		return "a number"
	case n.Tag == "!!bool":
		return "true or false"
	case n.Tag == "!!null":
		return "nothing"
	}
	return "text"
}

// example shows how a list is written, with what was written in its place where that is one value.
func example(list reflect.Type, n *yaml.Node) string {
	switch {
	case isSection(list.Elem()):
		return `"- ` + keysOf(fieldsOf(list.Elem()))[0] + `: …"`
	case n.Kind == yaml.ScalarNode:
		return "[" + quote(n.Value) + "]"
	}
	return "[FIRST, SECOND]"
}
