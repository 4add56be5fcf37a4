package push

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestTemplateFaults: each says where it is and how to mend it.
func TestTemplateFaults(t *testing.T) {
	long := strings.Repeat("x", maxTemplateText+1)
	for _, tt := range []struct{ source, want string }{
		{"{{.Caller}}", "line 1, column 3: there is no field .Caller: use one of .UUID, .CallID, .Handle, .HandleType, .CallerName,"},
		{"a\n  {{if .HasVideo}}{{.headers}}{{end}}", "line 2, column 21: there is no field .headers"},
		{"{{if .HasVideo}}{{else}}{{.X}}{{end}}", "line 1, column 27: there is no field .X"},
		{"{{", "line 1: unclosed action: a field is written {{.CallerName}}"},
		{"{{.UUID", "line 1: unclosed action"},
		{"{{if .HasVideo}}", "line 1: unexpected EOF"},
		{"{{nosuch .UUID}}", `line 1: function "nosuch" not defined`},
		{"{{printf \"%999999d\" 1}}", "line 1, column 3: the function printf cannot be used here: use and, or, not, eq, ne, default, cut, lower, upper or json"},
		{"{{js .UUID}}", "the function js cannot be used here"},
		{"{{call .UUID}}", "the function call cannot be used here"},
		{"{{index .Headers \"x\"}}", "the function index cannot be used here"},
		{"{{range .Headers}}{{end}}", "line 1, column 9: {{range .Headers}}{{end}} cannot be used here"},
		{"{{with .To}}{{.}}{{end}}", "cannot be used here: a template has texts"},
		{"{{template \"x\"}}", "cannot be used here"},
		{"{{define \"x\"}}{{end}}", "{{define}} and {{block}} cannot be used here"},
		{"{{$x := .To}}", "variables cannot be used here"},
		{"{{.}}", ". cannot be used here: write a field such as .CallerName"},
		{"{{nil}}", "line 1, column 3: nil cannot be used here"},
		{"{{(.Header \"a\").X}}", "cannot be used here"},
		{"{{.UUID.X}}", "line 1, column 8: .UUID has no parts: only .IssuedAt.Unix and .ExpiresAt.Unix do"},
		{"{{.IssuedAt.Year}}", ".IssuedAt has no parts"},
		{"{{.Header}}", "wrong number of args for Header: want 1 got 0"},
		{"{{.Header 1}}", "line 1, column 11: <1>: expected string; found 1"},
		{"{{cut \"a\" .To}}", "expected integer; found \"a\""},
		{"{{eq .HasVideo \"x\"}}", "error calling eq: incompatible types for comparison"},
		{"{{json .HasVideo}} ", "json must be the last step of a template that is nothing else"},
		{"{{json .To | upper}}", "json must be the last step"},
		{"{{default (json .To) .Handle}}", "json must be the last step"},
		{long, "has 1025 bytes: at most 1024 are read"},
	} {
		_, err := parseTemplate("k", tt.source)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: %v\nwant %s", tt.source, err, tt.want)
		}
	}
}

func TestTemplateValues(t *testing.T) {
	m := callMessage()
	m.CallerName, m.Headers = "", map[string]string{"X-A": "\"quoted\" \\ \x00\u202e"}
	for _, tt := range []struct{ source, want, fcm string }{
		{"{{.UUID}}", `"7d444840-9dc0-11d1-b245-5ffdce74fad2"`, ""},
		{"", `""`, ""},
		{"a \"text\"", `"a \"text\""`, ""},
		{"{{.CallerName | default \"nobody\"}} {{cut 3 .Handle}} {{lower .Verstat}}{{upper .Trunk}}", `"nobody +49 verifiedCARRIER"`, ""},
		{"{{.Title}} {{.URI}}", `"+4930123456 tel:+4930123456"`, ""},
		{"{{if eq .HandleType \"number\"}}number{{else if .HasVideo}}video{{else}}no{{end}}", `"number"`, ""},
		{"{{if not (or .Test (ne .To \"1001\"))}}{{/* why not */}}yes{{end}}", `"yes"`, ""},
		{"{{.IssuedAt}} {{.ExpiresAt.Unix}} {{.HasVideo}}", `"2026-03-01T11:00:00Z 1772362820 true"`, ""},
		{"{{.Header \"x-a\"}}", `"\"quoted\" \\"`, ""},
		{"{{.Header \"nobody\"}}", `""`, ""},
		{"{{json .HasVideo}}", `true`, `"true"`},
		{"{{.HasVideo | json}}", `true`, `"true"`},
		{"{{json 3}}", `3`, `"3"`},
		{"{{json .IssuedAt.Unix}}", `1772362800`, `"1772362800"`},
		{"{{json .IssuedAt}}", `"2026-03-01T11:00:00Z"`, `"\"2026-03-01T11:00:00Z\""`},
		{"{{json .Headers}}", `{"X-A":"\"quoted\" \\"}`, `"{\"X-A\":\"\\\"quoted\\\" \\\\\"}"`},
	} {
		cfg := PayloadConfig{Payload: presetCustom, Template: map[string]string{"k": tt.source}, Headers: []string{"X-A"}}
		for f, want := range map[form]string{formWebhook: tt.want, formFCM: tt.fcm} {
			if want == "" {
				want = tt.want
			}
			body, shortened, err := mustLayout(t, cfg, f).build(m, Target{})
			if err != nil || shortened != nil || string(body) != `{"k":`+want+"}" {
				t.Errorf("%v %s: %s (%v, %v), want %s", f, tt.source, body, shortened, err, want)
			}
		}
	}
}

// TestPlainTemplates: what is made without text/template is the same.
func TestPlainTemplates(t *testing.T) {
	m := callMessage()
	m.Handle = "a@b"
	samples := []*call{newCall(m, []allowed{{"X-a", "X-A"}}), newCall(Message{}, nil), sampleCall()}
	sources := []string{"a text", "{{.UUID}} and {{.To}}", "{{json .HasVideo}}", "{{json .Test}}", "{{json .IssuedAt.Unix}}", "{{json .ExpiresAt.Unix}}"}
	for _, field := range callFields() {
		if field != "Header" && field != "Headers" {
			sources = append(sources, "{{."+field+"}}", "x{{."+field+"}}y")
		}
	}
	for _, source := range append(sources, `{{.Header "x-A"}}`, "{{.IssuedAt.Unix}}", "{{.ExpiresAt.Unix}}") {
		p, err := parseTemplate("k", source)
		if err != nil || p.plain == nil {
			t.Fatalf("%s: %v, %v", source, p, err)
		}
		for _, c := range samples {
			for c.tight = range templateRooms() {
				fast, err := p.run(c)
				slow := *p
				slow.plain = nil
				want, err2 := slow.run(c)
				if fast != want || err != nil || err2 != nil {
					t.Errorf("%s: %q, want %q (%v, %v)", source, fast, want, err, err2)
				}
			}
		}
	}
	for _, source := range []string{"{{.Headers}}", "{{upper .To}}", "{{json .To}}", "{{.To | json}}", "{{if .Test}}a{{end}}", "{{1}}", "{{default \"a\" \"b\"}}"} {
		if p, err := parseTemplate("k", source); err != nil || p.plain != nil {
			t.Errorf("%s is plain: %v", source, err)
		}
	}
}

// TestTemplateFails: a template that cannot be executed for one call, which no
// check at the start could see, leaves its field empty and is named.
func TestTemplateFails(t *testing.T) {
	cfg := PayloadConfig{Template: map[string]string{
		"text": `{{if eq .To "4711"}}{{eq .HasVideo "x"}}{{end}}`, "number": `{{json (and (eq .To "4711") (eq .HasVideo "x"))}}`,
	}}
	l := mustLayout(t, cfg, formVoIP)
	m := callMessage()
	if _, shortened, err := l.build(m, Target{}); err != nil || shortened != nil {
		t.Error(shortened, err)
	}
	m.To = "4711"
	body, shortened, err := l.build(m, Target{})
	want := []string{"template number: it could not be executed", "template text: it could not be executed"}
	if err != nil || !slices.Equal(shortened, want) || !strings.HasSuffix(string(body), `"number":null,"text":""}`) {
		t.Errorf("%s %q %v", body, shortened, err)
	}
}

// TestTemplateIsBounded: whatever the caller sends, the values of templates are
// cut as the payload gets too large, at last to what holds a UUID.
func TestTemplateIsBounded(t *testing.T) {
	cfg := PayloadConfig{Payload: presetCustom, Template: map[string]string{"id": "{{.UUID}}"}, Headers: []string{"X-A", "X-B"}}
	for i := range 30 {
		cfg.Template[fmt.Sprintf("k%02d", i)] = strings.Repeat(`{{.Header "X-A"}}{{.CallerName}}{{.Handle}}`, 20)
	}
	m, _ := bulky(0)
	m.UUID = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
	m.Headers = map[string]string{"X-A": strings.Repeat("\\\"😀", 1000), "X-B": "b"}
	for f := range formNames() {
		body, shortened, err := mustLayout(t, cfg, f).build(m, Target{})
		var p map[string]any
		if err != nil || len(body) > f.limit() || !utf8.Valid(body) || json.Unmarshal(body, &p) != nil || p["id"] != m.UUID {
			t.Errorf("%v: %d bytes, %v: %s", f, len(body), err, body)
		}
		if last := shortened[len(shortened)-1]; last != "template" || shortened[0] != "headers" {
			t.Errorf("%v: shortened %q", f, shortened)
		}
	}
}

// TestTemplateValueIsCutBetweenCharacters: a long one ends where a reader sees
// a character end.
func TestTemplateValueIsCutBetweenCharacters(t *testing.T) {
	const wave = "\U0001f44b\U0001f3fd"
	cfg := PayloadConfig{Payload: presetCustom, Template: map[string]string{"k": "a" + strings.Repeat("{{.CallerName}}", 9)}}
	body, _, err := mustLayout(t, cfg, formWebhook).build(Message{CallerName: strings.Repeat(wave, 30)}, Target{})
	var p struct{ K string }
	if err != nil || json.Unmarshal(body, &p) != nil || p.K != "a"+strings.Repeat(wave, (maxTemplateValue-1)/len(wave)) {
		t.Errorf("%s, %v", body, err)
	}
}

// FuzzTemplate: a template that is taken works for every call, in little time
// and space, and what it makes is JSON.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{{.UUID}}", "{{json .HasVideo}}", "{{if and .Test .HasVideo}}a{{else}}{{.To}}{{end}}", "{{upper (cut 3 .Title)}}",
		"{{range .Headers}}", "{{printf \"%d\" 1}}", "{{.Header \"X-A\" | lower | default .URI}}", "{{json .Headers}}", "{{.IssuedAt.Unix}}", "{{- 1 -}}"} {
		f.Add("k", s, "+4930", "Ada", "b")
		f.Add("a.b", s, "\xff\u202e", "\"\\", strings.Repeat("😀", 500))
	}
	f.Fuzz(func(t *testing.T, key, source, handle, name, value string) {
		cfg := PayloadConfig{Payload: presetCustom, Template: map[string]string{key: source}, Headers: []string{"X-A"}}
		for form := formVoIP; form <= formWebhook; form++ {
			l, err := newLayout(cfg, form)
			if err != nil {
				continue
			}
			m := callMessage()
			m.Handle, m.CallerName, m.Headers["X-A"] = handle, name, value
			body, _, err := l.build(m, Target{})
			if err != nil || len(body) > form.limit() || !utf8.Valid(body) || !json.Valid(body) {
				t.Fatalf("%v %q: %d bytes, %v: %s", form, source, len(body), err, body)
			}
		}
	})
}
