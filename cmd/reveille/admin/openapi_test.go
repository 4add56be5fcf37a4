package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// schema is what openapi.yaml uses of JSON Schema.
type schema struct {
	Ref        string            `yaml:"$ref"`
	Type       string            `yaml:"type"`
	Enum       []string          `yaml:"enum"`
	Required   []string          `yaml:"required"`
	Properties map[string]schema `yaml:"properties"`
	Additional *schema           `yaml:"additionalProperties"`
	Items      *schema           `yaml:"items"`
}

type content map[string]struct{ Schema schema }

type reply struct {
	Ref     string `yaml:"$ref"`
	Content content
}

type document struct {
	Paths      map[string]map[string]yaml.Node
	Components struct {
		Responses map[string]reply
		Schemas   map[string]schema
	}
}

func readDescription(t *testing.T) document {
	t.Helper()
	var d document
	if err := yaml.Unmarshal(description, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDescriptionHasEveryOperation(t *testing.T) {
	var described, served []string
	for path, item := range readDescription(t).Paths {
		for key := range item {
			if key != "parameters" {
				described = append(described, strings.ToUpper(key)+" "+path)
			}
		}
	}
	for _, r := range (&server{}).routes() {
		served = append(served, r.method+" "+r.path)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("openapi.yaml has\n%s\nthe server has\n%s", strings.Join(described, "\n"), strings.Join(served, "\n"))
	}
}

// schemaOf is the schema of a path's answer: that of 200, or of errors.
func (d document) schemaOf(t *testing.T, path, method, status string) schema {
	t.Helper()
	var op struct{ Responses map[string]reply }
	node := d.Paths[path][method]
	if err := node.Decode(&op); err != nil {
		t.Fatal(err)
	}
	r, ok := op.Responses[status]
	if !ok {
		t.Fatalf("%s %s has no %s in openapi.yaml", method, path, status)
	}
	if r.Ref != "" {
		r = d.Components.Responses[r.Ref[strings.LastIndex(r.Ref, "/")+1:]]
	}
	for _, c := range r.Content {
		return c.Schema
	}
	t.Fatalf("%s %s has no content for %s", method, path, status)
	return schema{}
}

// check lists in what v differs from its schema; a key that is not described
// is a difference.
func (d document) check(at string, s schema, v any) (wrong []string) {
	if s.Ref != "" {
		return d.check(at, d.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]], v)
	}
	if got := typeOf(v, s.Type); got != s.Type {
		return []string{fmt.Sprintf("%s is %s, described as %q", at, got, s.Type)}
	}
	switch v := v.(type) {
	case string:
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not one of %v", at, v, s.Enum))
		}
	case []any:
		for i, item := range v {
			wrong = append(wrong, d.check(fmt.Sprintf("%s[%d]", at, i), *s.Items, item)...)
		}
	case map[string]any:
		for _, key := range s.Required {
			if _, ok := v[key]; !ok {
				wrong = append(wrong, at+"."+key+" is missing")
			}
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			property, described := s.Properties[key]
			if !described && s.Additional != nil {
				property, described = *s.Additional, true
			}
			if !described {
				wrong = append(wrong, at+"."+key+" is not described")
				continue
			}
			wrong = append(wrong, d.check(at+"."+key, property, v[key])...)
		}
	}
	return wrong
}

// typeOf is v's type in JSON Schema; a whole number is a number too.
func typeOf(v any, want string) string {
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	case float64:
		if want == "integer" && v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	}
	return "null"
}

func TestAnswersAreAsDescribed(t *testing.T) {
	d := readDescription(t)
	a := serve(t, nil)
	fill := strings.NewReplacer("{uuid}", "22222222-0000-4000-8000-000000000002", "{name}", "1001")
	for _, r := range (&server{}).routes() {
		if r.method == "DELETE" || r.method == "PUT" || r.path == "/metrics" || strings.HasSuffix(r.path, ".yaml") {
			continue
		}
		_, body := a.do(r.method, fill.Replace(r.path))
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatalf("%s: %v", r.path, err)
		}
		for _, wrong := range d.check("answer", d.schemaOf(t, r.path, strings.ToLower(r.method), "200"), v) {
			t.Errorf("%s %s: %s", r.method, r.path, wrong)
		}
	}
	_, body := a.do("GET", "/api/v1/calls/nobody")
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	if wrong := d.check("problem", d.schemaOf(t, "/api/v1/calls/{uuid}", "get", "default"), v); len(wrong) > 0 {
		t.Errorf("the problem document: %v", wrong)
	}
}

func TestDescriptionIsServed(t *testing.T) {
	res, body := serve(t, nil).do("GET", "/api/v1/openapi.yaml")
	if body != string(description) || res.Header.Get("Content-Type") != "application/yaml" {
		t.Errorf("%s, %d bytes", res.Header.Get("Content-Type"), len(body))
	}
}
