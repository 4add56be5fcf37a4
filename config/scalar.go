package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// scalar reads text, a number, a duration or a switch.
func (d *document) scalar(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.fault(path, "expected "+expected(v.Type())+", got "+kind(n))
		return
	}
	text, problem := expand(n.Value, d.env)
	if problem == "" {
		problem = set(v, text, n)
	}
	if problem != "" {
		d.fault(path, problem)
	}
}

// set stores text into v and says what is wrong with it. The value shown is the one in the file, before the environment's went in.
func set(v reflect.Value, text string, n *yaml.Node) (problem string) {
	switch t := v.Type(); {
	case t == durationType:
		return setDuration(v, text, n)
	case t.Kind() == reflect.String:
		if n.Tag == "!!bool" {
			return "expected text, got true or false; put it in quotes"
		}
		v.SetString(text) // numbers too, as they are written: "name: 0100" keeps its zeros
	case t.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return "expected true or false, got " + quote(n.Value)
		}
		v.SetBool(text == "true")
	default:
		i, err := strconv.Atoi(text)
		if err != nil {
			return "expected " + expected(t) + ", got " + quote(n.Value)
		}
		v.SetInt(int64(i))
	}
	return ""
}

func setDuration(v reflect.Value, text string, n *yaml.Node) (problem string) {
	d, err := time.ParseDuration(text)
	if _, bare := strconv.ParseFloat(text, 64); err != nil && bare == nil {
		return fmt.Sprintf("a duration needs a unit: write %ss or %sm in place of %s", n.Value, n.Value, n.Value)
	}
	if err != nil {
		return `expected a duration such as "5s", "10m" or "1h30m", got ` + quote(n.Value)
	}
	v.SetInt(int64(d))
	return ""
}

// expected says what a scalar of type t looks like.
func expected(t reflect.Type) string {
	switch {
	case t == durationType:
		return `a duration such as "5s"`
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number such as 10"
	}
	return "text"
}

var variable = regexp.MustCompile(`\$?\$\{[^}]*\}?`)
var variableName = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// expand replaces each ${NAME} by the environment's value; $${ stands for ${. Values come in after the YAML is parsed,
// so that whatever they hold they cannot add keys.
func expand(text string, env func(string) (string, bool)) (expanded, problem string) {
	expanded = variable.ReplaceAllStringFunc(text, func(ref string) string {
		if strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		name := variableName.FindStringSubmatch(ref)
		if name == nil {
			problem = fmt.Sprintf("%s names no environment variable; write ${NAME}, or $${ for a literal ${", quote(ref))
			return ""
		}
		value, ok := env(name[1])
		if !ok {
			problem = fmt.Sprintf("the environment variable %s is not set; set it, or write $${%s} for that literal text", name[1], name[1])
		}
		return value
	})
	return expanded, problem
}

// onlyVariables says that text takes all it holds from the environment.
func onlyVariables(text string) bool {
	return text != "" && variable.ReplaceAllStringFunc(text, func(ref string) string {
		if variableName.MatchString(ref) {
			return ""
		}
		return ref
	}) == ""
}
