package push

import (
	"strconv"
	"strings"
	"text/template/parse"
)

// piece is a part of a template that needs no text/template: a text, or a
// field of the call.
type piece struct {
	text  string
	field func(*call) string
}

// plainPieces are those of a template that has nothing else, as most have
// nothing else; nil where it does. They make what text/template would.
func plainPieces(root *parse.ListNode, typed bool) []piece {
	var pieces []piece
	for _, n := range root.Nodes {
		p := piece{}
		switch n := n.(type) {
		case *parse.TextNode:
			p.text = string(n.Text)
		case *parse.ActionNode:
			p.field = plainField(n, typed)
		}
		if p.text == "" && p.field == nil {
			return nil
		}
		pieces = append(pieces, p)
	}
	return pieces
}

// plainField is the value of {{.Field}}, or of {{json .Field}} where that is a
// switch or a number.
func plainField(n *parse.ActionNode, typed bool) func(*call) string {
	if len(n.Pipe.Cmds) != 1 {
		return nil
	}
	args := n.Pipe.Cmds[0].Args
	if header, ok := args[len(args)-1].(*parse.StringNode); ok && !typed && len(args) == 2 && args[0].String() == ".Header" {
		return func(c *call) string { return c.Header(header.Text) }
	}
	field, ok := args[len(args)-1].(*parse.FieldNode)
	name := ""
	if ok {
		name = strings.Join(field.Ident, ".")
	}
	switch {
	case typed && len(args) == 2:
		return switchOrNumber(name)
	case !typed && len(args) == 1:
		if of := textOf(name); of != nil {
			return of
		}
		return switchOrNumber(name)
	}
	return nil
}

func switchOrNumber(name string) func(*call) string {
	switch name {
	case "HasVideo":
		return func(c *call) string { return strconv.FormatBool(c.HasVideo) }
	case "Test":
		return func(c *call) string { return strconv.FormatBool(c.Test) }
	case "IssuedAt.Unix":
		return func(c *call) string { return strconv.FormatInt(c.IssuedAt.Unix(), 10) }
	case "ExpiresAt.Unix":
		return func(c *call) string { return strconv.FormatInt(c.ExpiresAt.Unix(), 10) }
	}
	return nil
}

func textOf(name string) func(*call) string {
	switch name {
	case "UUID":
		return func(c *call) string { return c.UUID }
	case "CallID":
		return func(c *call) string { return c.CallID }
	case "Handle":
		return func(c *call) string { return c.Handle }
	case "HandleType":
		return func(c *call) string { return c.HandleType }
	case "CallerName":
		return func(c *call) string { return c.CallerName }
	case "To":
		return func(c *call) string { return c.To }
	case "Trunk":
		return func(c *call) string { return c.Trunk }
	case "Verstat":
		return func(c *call) string { return c.Verstat }
	case "DivertedBy":
		return func(c *call) string { return c.DivertedBy }
	case "IssuedAt":
		return func(c *call) string { return c.IssuedAt.String() }
	case "ExpiresAt":
		return func(c *call) string { return c.ExpiresAt.String() }
	case "Title":
		return (*call).Title
	case "URI":
		return (*call).URI
	}
	return nil
}

// runPlain makes the value of a template that has only pieces.
func runPlain(pieces []piece, c *call, room int) string {
	if len(pieces) == 1 && pieces[0].field != nil {
		return cutBytes(pieces[0].field(c), room)
	}
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.text)
		if p.field != nil {
			b.WriteString(p.field(c))
		}
	}
	return cutBytes(b.String(), room)
}
