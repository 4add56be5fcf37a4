package push

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"reveille/push/pushtest"
)

// TestPayloadFaults: each is reported under its key, with the mend.
func TestPayloadFaults(t *testing.T) {
	many := map[string]string{}
	large := map[string]string{}
	for i := range maxTemplateKeys + 1 {
		key := strings.Repeat("x", 50) + strconv.Itoa(i)
		many[key] = ""
		if i < maxTemplateKeys {
			large[key] = strings.Repeat("x", 200)
		}
	}
	for _, tt := range []struct {
		path, want string
		forms      []form
		cfg        PayloadConfig
	}{
		{"payload", `"flutter" is unknown: use one of reveille, apple, flutter_callkit_incoming,`, nil, PayloadConfig{Payload: "flutter"}},
		{"payload", "configure them under push.webhook, with provider: acrobits and url: https://pnm.cloudsoftphone.com/pnm2/send", nil, PayloadConfig{Payload: "acrobits"}},
		{"payload", "configure them under push.webhook", []form{formFCM}, PayloadConfig{Payload: "acrobits"}},
		{"template", "payload: custom has no fields without it", nil, PayloadConfig{Payload: "custom"}},
		{"template", "payload: vialer needs response_api: Vialer apps answer every push to this URL", nil, PayloadConfig{Payload: "vialer"}},
		{"template", "65 fields: at most 64 are sent", nil, PayloadConfig{Template: many}},
		{"template", "where 5120 are allowed, is left when all is cut that can be: shorten the template", nil, PayloadConfig{Template: large}},
		{"encrypt", "the apps that payload: linphone is for cannot open what is sealed", nil, PayloadConfig{Payload: "linphone", Encrypt: true}},
		{`template."a b"`, "is no field: use letters, digits", nil, PayloadConfig{Template: map[string]string{"a b": ""}}},
		{`template.""`, "is no field", nil, PayloadConfig{Template: map[string]string{"": ""}}},
		{`template."a..b"`, "is no field", nil, PayloadConfig{Template: map[string]string{"a..b": ""}}},
		{`template."a.b.c.d.e"`, "at most 4 deep", nil, PayloadConfig{Template: map[string]string{"a.b.c.d.e": ""}}},
		{"template.a", "cannot be a text and an object: a.b is below it", nil, PayloadConfig{Template: map[string]string{"a": "", "a.b": ""}}},
		{"template.aps", "aps is an object", nil, PayloadConfig{Template: map[string]string{"aps": ""}}},
		{"template.from", "FCM takes no key from", []form{formFCM}, PayloadConfig{Template: map[string]string{"from": ""}}},
		{`template."google.x"`, "FCM takes no key from", []form{formFCM}, PayloadConfig{Template: map[string]string{"google.x": ""}}},
		{"template.k", "line 1, column 3: there is no field .X", nil, PayloadConfig{Template: map[string]string{"k": "{{.X}}"}}},
		{"headers", "33 names: at most 32 headers are copied", nil, PayloadConfig{Headers: slices.Repeat([]string{"X-A"}, 33)}},
		{"headers[1]", `"X A" is no SIP header name`, nil, PayloadConfig{Headers: []string{"X-A", "X A"}}},
		{"headers[0]", "is too long: at most 64 characters", nil, PayloadConfig{Headers: []string{strings.Repeat("x", 65)}}},
		{"headers[0]", `"proxy-AUTHORIZATION" never leaves this machine in a push`, nil, PayloadConfig{Headers: []string{"proxy-AUTHORIZATION"}}},
	} {
		if tt.forms == nil {
			tt.forms = []form{formVoIP, formAlert}
		}
		got := map[string]string{}
		tt.cfg.validate(func(path, problem string) { got[path] = problem }, tt.forms...)
		if len(got) != 1 || !strings.Contains(got[tt.path], tt.want) {
			t.Errorf("%v\nwant %s: %s", got, tt.path, tt.want)
		}
		if _, err := newLayout(tt.cfg, tt.forms[0]); err == nil {
			t.Errorf("%s: there is a layout all the same", tt.want)
		}
	}
}

func TestHeadersThatNeverLeave(t *testing.T) {
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Via", "v", "Record-Route", "Route", "Contact", "m", "Identity", "y", "From", "f",
		"P-Asserted-Identity", "Call-ID", "i", "Security-Client", "P-Access-Network-Info", "Geolocation", "History-Info",
		"Diversion", "reply-to", "In-Reply-To", "Cellular-Network-Info", "P-Visited-Network-ID", "Replaces", "Join", "Target-Dialog"} {
		n := 0
		PayloadConfig{Headers: []string{strings.ToLower(name)}}.validate(func(string, string) { n++ }, formVoIP)
		if n != 1 {
			t.Errorf("%s may be copied", name)
		}
	}
}

// TestFlatKeysOfFCM: there a dot is part of the key, and nothing is below another.
func TestFlatKeysOfFCM(t *testing.T) {
	l := mustLayout(t, PayloadConfig{Payload: presetCustom, Template: map[string]string{"a": "1", "a.b": "2"}}, formFCM)
	if body, _, err := l.build(Message{}, Target{}); err != nil || string(body) != `{"a":"1","a.b":"2"}` {
		t.Errorf("%s, %v", body, err)
	}
}

// TestTemplateReplacesAField: of a preset, and of the frame around it.
func TestTemplateReplacesAField(t *testing.T) {
	cfg := PayloadConfig{Payload: presetApple, Template: map[string]string{"handle": "x", "aps.sound": "ring.caf", "trunk.name": "y", "new": "z"}}
	for f, want := range map[form]string{
		formVoIP: `{"aps":{"sound":"ring.caf"},"callUUID":"","handle":"x",`,
		formAlert: `{"aps":{"alert":{"title":"Unknown","body":"Incoming call"},"sound":"ring.caf","mutable-content":1,"category":"INCOMING_CALL"},` +
			`"callUUID":"","handle":"x",`,
	} {
		body, _, err := mustLayout(t, cfg, f).build(Message{}, Target{})
		if err != nil || !strings.HasPrefix(string(body), want) || !strings.Contains(string(body), `"trunk":{"name":"y"}`) || !strings.HasSuffix(string(body), `"new":"z"}`) {
			t.Errorf("%v: %s, %v", f, body, err)
		}
	}
}

// TestSenderHeaders: the names of all apps, whatever their provider, each once.
func TestSenderHeaders(t *testing.T) {
	w := newWorld(t, pushtest.Options{}, Options{}, func(c *APNsConfig) { c.Headers = []string{"x-b", "X-A", "x-a"} })
	if got := w.sender.Headers(); !slices.Equal(got, []string{"X-A", "X-B"}) {
		t.Errorf("%q", got)
	}
	var cfg Config
	var want []string
	for i := range reflect.TypeFor[Config]().NumField() {
		list := reflect.ValueOf(&cfg).Elem().Field(i)
		if list.Kind() != reflect.Slice || list.Type().Elem().Kind() != reflect.Struct {
			continue
		}
		name := "X-" + canonicalHeader(reflect.TypeFor[Config]().Field(i).Name)
		entry := reflect.New(list.Type().Elem()).Elem()
		entry.FieldByName("Headers").Set(reflect.ValueOf([]string{name}))
		list.Set(reflect.Append(list, entry))
		want = append(want, name)
	}
	slices.Sort(want)
	if got := cfg.headers(); len(want) < 2 || !slices.Equal(got, want) {
		t.Errorf("Config.payloads leaves some out: headers %q, want %q", got, want)
	}
}
