package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
	"unicode/utf8"
)

// Limits of a `template`. With them and without loops, variables and printf no
// template takes long or much memory, whatever a caller sends.
const (
	maxTemplateKeys  = 64
	maxTemplateKey   = 60   // bytes
	maxTemplateText  = 1024 // bytes of one template
	maxTemplateValue = 512  // bytes that one template makes; the rest is cut
	maxTemplateJSON  = 1 << 16
	maxTemplateDepth = 4 // steps of a key
)

// templateRooms are the bytes of a text that a template makes, as the payload
// gets tighter. A UUID always fits.
func templateRooms() []int { return []int{maxTemplateValue, 128, 40} }

// tighten makes less room for the texts of templates.
func (c *call) tighten() bool {
	if c.tight == len(templateRooms())-1 {
		return false
	}
	c.tight++
	return true
}

// templated is a field of a payload that the administrator has written.
type templated struct {
	key   string
	tmpl  *template.Template
	typed bool // the template is one {{json …}}: its value is no text
	plain []piece
}

// parseTemplate reads one template of the configuration; its errors say where
// in the template, and how to mend it.
func parseTemplate(key, source string) (*templated, error) {
	if len(source) > maxTemplateText {
		return nil, fmt.Errorf("has %d bytes: at most %d are read", len(source), maxTemplateText)
	}
	t, err := template.New(key).Option("missingkey=error").Funcs(templateFuncs()).Parse(source)
	if err != nil {
		return nil, errors.New(where(key, err) + ": a field is written {{.CallerName}}, a condition {{if .HasVideo}}…{{end}}")
	}
	p := &templated{key: key, tmpl: t, typed: isTyped(t.Tree.Root)}
	if len(t.Templates()) > 1 {
		return nil, errors.New("{{define}} and {{block}} cannot be used here: write the text out")
	}
	c := &checker{tree: t.Tree, typed: p.typed}
	if c.check(t.Tree.Root); c.err != nil {
		return nil, errors.New(where(key, c.err))
	}
	for _, sample := range []*call{{}, sampleCall()} {
		if _, err := p.run(sample); err != nil {
			return nil, errors.New(where(key, err))
		}
	}
	p.plain = plainPieces(t.Tree.Root, p.typed)
	return p, nil
}

// where says what is wrong with a template in the form "line 1, column 2: …".
func where(key string, err error) string {
	text, ours := strings.CutPrefix(err.Error(), "template: "+key+":")
	if !ours {
		return text
	}
	line, text, _ := strings.Cut(text, ":")
	at := "line " + line
	if column, after, ok := strings.Cut(text, ":"); ok {
		if n, err := strconv.Atoi(column); err == nil { // counted from 0
			at, text = fmt.Sprintf("%s, column %d", at, n+1), after
		}
	}
	_, after, ok := strings.Cut(text, "executing "+strconv.Quote(key)+" at ")
	if ok {
		text = after
	}
	return at + ": " + strings.TrimSpace(text)
}

// put writes the value of the field. One that fails all the same, which the
// checks at the start leave no way for, is empty: the device is woken anyway.
func (p *templated) put(e *encoder, c *call) {
	value, err := p.run(c)
	switch {
	case err != nil && p.typed:
		c.failed = append(c.failed, p.key)
		e.raw("null")
	case p.typed:
		e.raw(value)
	default:
		if err != nil {
			c.failed = append(c.failed, p.key)
		}
		e.text(value)
	}
}

func (p *templated) run(c *call) (string, error) {
	room := templateRooms()[c.tight]
	if p.plain != nil {
		return runPlain(p.plain, c, room), nil
	}
	w := bounded{limit: room + utf8.UTFMax} // to see whether more would come
	if p.typed {
		w.limit = maxTemplateJSON // half a JSON value is none
	}
	if err := p.tmpl.Execute(&w, c); err != nil && !errors.Is(err, errFull) {
		return "", err
	}
	value := w.buf.String()
	if p.typed && !json.Valid(w.buf.Bytes()) {
		return "", errors.New("the value is no JSON")
	}
	if !p.typed {
		value = cutBytes(value, room)
	}
	return value, nil
}

// bounded takes so many bytes, and then no more: whole runes of them.
type bounded struct {
	buf   bytes.Buffer
	limit int
}

var errFull = errors.New("the template makes no more than it may")

func (w *bounded) Write(p []byte) (int, error) {
	room := w.limit - w.buf.Len()
	if len(p) <= room {
		return w.buf.Write(p)
	}
	for room > 0 && !utf8.RuneStart(p[room]) {
		room--
	}
	w.buf.Write(p[:room])
	return room, errFull
}

// templateFuncs are the functions of the language; none makes its argument
// much longer.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json":    toJSON,
		"default": func(otherwise, s string) string { return map[bool]string{true: otherwise, false: s}[s == ""] },
		"cut":     func(n int, s string) string { return clean(s, max(0, n)) },
		"lower":   strings.ToLower,
		"upper":   strings.ToUpper,
	}
}

// sampleMessage is a call of which everything is known, at its longest.
func sampleMessage() Message {
	long := strings.Repeat("\U0001f600", maxText)
	at := time.Unix(1<<31, 0)
	return Message{UUID: "7d444840-9dc0-11d1-b245-5ffdce74fad2", CallID: "7d444840-9dc0-11d1-b245-5ffdce74fad2@reveille", Handle: long,
		HandleType: "number", CallerName: long, To: long, Trunk: long, HasVideo: true, Verstat: "verified", DivertedBy: long,
		IssuedAt: at, ExpiresAt: at, Test: true}
}

func sampleCall() *call { return newCall(sampleMessage(), nil) }

// toJSON is a value as JSON: for fields that are no texts.
func toJSON(v any) (string, error) {
	if s, ok := v.(stamp); ok {
		v = s.String()
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// isTyped: the template is one action whose last step is json.
func isTyped(root *parse.ListNode) bool {
	if len(root.Nodes) != 1 {
		return false
	}
	action, ok := root.Nodes[0].(*parse.ActionNode)
	if !ok || len(action.Pipe.Cmds) == 0 {
		return false
	}
	last, ok := action.Pipe.Cmds[len(action.Pipe.Cmds)-1].Args[0].(*parse.IdentifierNode)
	return ok && last.Ident == "json"
}

// checker finds what a template must not have. The language is that of Go's
// text/template without loops, variables, other templates and the functions
// that can make a text grow.
type checker struct {
	tree  *parse.Tree
	typed bool
	err   error
}

func (c *checker) fault(n parse.Node, format string, args ...any) {
	if c.err == nil {
		at, _ := c.tree.ErrorContext(n)
		c.err = fmt.Errorf("template: %s: %s", at, fmt.Sprintf(format, args...))
	}
}

func (c *checker) check(n parse.Node) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, each := range n.Nodes {
				c.check(each)
			}
		}
	case *parse.TextNode, *parse.CommentNode:
	case *parse.ActionNode:
		c.pipe(n.Pipe)
	case *parse.IfNode:
		c.pipe(n.Pipe)
		c.check(n.List)
		c.check(n.ElseList)
	default:
		c.fault(n, "%s cannot be used here: a template has texts, {{.Fields}}, {{if}}, {{else}} and {{end}}", n)
	}
}

func (c *checker) pipe(p *parse.PipeNode) {
	if len(p.Decl) > 0 {
		c.fault(p, "variables cannot be used here: write the field where it is needed")
	}
	for _, cmd := range p.Cmds {
		for _, arg := range cmd.Args {
			c.arg(arg)
		}
	}
}

func (c *checker) arg(n parse.Node) {
	switch n := n.(type) {
	case *parse.StringNode, *parse.NumberNode, *parse.BoolNode:
	case *parse.FieldNode:
		c.field(n)
	case *parse.IdentifierNode:
		switch n.Ident {
		case "json":
			if !c.typed {
				c.fault(n, "json must be the last step of a template that is nothing else, as in {{json .HasVideo}}")
			}
		case "and", "or", "not", "eq", "ne", "default", "cut", "lower", "upper":
		default:
			c.fault(n, "the function %s cannot be used here: use and, or, not, eq, ne, default, cut, lower, upper or json", n.Ident)
		}
	case *parse.PipeNode:
		c.pipe(n)
	default:
		c.fault(n, "%s cannot be used here: write a field such as .CallerName, a text in quotes or a number", n)
	}
}

func (c *checker) field(n *parse.FieldNode) {
	fields := callFields()
	if !slices.Contains(fields, n.Ident[0]) {
		c.fault(n, "there is no field .%s: use one of .%s", n.Ident[0], strings.Join(fields, ", ."))
		return
	}
	times := n.Ident[0] == "IssuedAt" || n.Ident[0] == "ExpiresAt"
	if len(n.Ident) > 1 && (len(n.Ident) > 2 || !times || n.Ident[1] != "Unix") {
		c.fault(n, ".%s has no parts: only .IssuedAt.Unix and .ExpiresAt.Unix do", n.Ident[0])
	}
}

// callFields are the fields and methods of a call that a template may use.
func callFields() []string {
	var names []string
	t := reflect.TypeFor[*call]()
	for _, f := range reflect.VisibleFields(t.Elem()) {
		if f.IsExported() {
			names = append(names, f.Name)
		}
	}
	for i := range t.NumMethod() {
		names = append(names, t.Method(i).Name)
	}
	return names
}
