package push

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// item is one field of a payload: where it stands, and how its value is
// written. The path's steps are divided by dots; FCM, whose data is flat,
// takes them as one key.
type item struct {
	path string
	put  func(*encoder, *call)
	when func(*call) bool // nil: always
}

// node is an item in its place: an object if it has nodes below, else a value.
type node struct {
	key   string
	json  []byte // "key":
	put   func(*encoder, *call)
	when  func(*call) bool
	nodes []node
}

// tree sets items below each other by their paths, in the order in which they
// come first. Of two that stand in the same place the later one is taken.
func tree(items []item, f form) []node {
	var root []node
	for _, i := range items {
		steps := []string{i.path}
		if f != formFCM {
			steps = strings.Split(i.path, ".")
		}
		root = plant(root, steps, i)
	}
	return root
}

func plant(nodes []node, steps []string, i item) []node {
	at := len(nodes)
	for n := range nodes {
		if nodes[n].key == steps[0] {
			at = n
		}
	}
	if at == len(nodes) {
		nodes = append(nodes, node{key: steps[0], json: append(appendText(nil, steps[0]), ':')})
	}
	n := &nodes[at]
	if len(steps) == 1 {
		n.put, n.when, n.nodes = i.put, i.when, nil
	} else {
		n.put, n.when, n.nodes = nil, nil, plant(n.nodes, steps[1:], i)
	}
	return nodes
}

// encoder appends JSON. With strings set, as for FCM, every value is a string;
// an object within is then the JSON of it as a string.
type encoder struct {
	buf     []byte
	strings bool
}

func (e *encoder) object(nodes []node, c *call) {
	e.buf = append(e.buf, '{')
	for i := range nodes {
		n := &nodes[i]
		if n.when != nil && !n.when(c) {
			continue
		}
		e.comma()
		e.buf = append(e.buf, n.json...)
		if n.put != nil {
			n.put(e, c)
		} else {
			e.object(n.nodes, c)
		}
	}
	e.buf = append(e.buf, '}')
}

// comma divides the next member of an object or array from the one before.
func (e *encoder) comma() {
	if last := e.buf[len(e.buf)-1]; last != '{' && last != '[' {
		e.buf = append(e.buf, ',')
	}
}

func (e *encoder) text(s string) { e.buf = appendText(e.buf, s) }

// raw writes what is JSON already and needs no quotes but those of FCM.
func (e *encoder) raw(s string) {
	if e.strings {
		e.text(s)
		return
	}
	e.buf = append(e.buf, s...)
}

func (e *encoder) bool(b bool) { e.raw(strconv.FormatBool(b)) }

func (e *encoder) number(n int64) {
	if e.strings {
		e.buf = append(e.buf, '"')
	}
	e.buf = strconv.AppendInt(e.buf, n, 10)
	if e.strings {
		e.buf = append(e.buf, '"')
	}
}

func (e *encoder) time(s stamp) {
	e.buf = append(e.buf, '"')
	e.buf = s.append(e.buf)
	e.buf = append(e.buf, '"')
}

// nested writes an object or array: for FCM as the text of its JSON.
func (e *encoder) nested(write func(*encoder)) {
	if !e.strings {
		write(e)
		return
	}
	inner := encoder{}
	write(&inner)
	e.text(string(inner.buf))
}

const hexDigits = "0123456789abcdef"

// appendText appends s as a JSON string (RFC 8259 §7). Beside what must be
// escaped only invalid UTF-8 is changed, into U+FFFD.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}
