package push

import (
	"errors"
	"slices"
)

// preset is a form of payload that a family of apps is known to read.
type preset struct {
	name  string
	items func(form) ([]item, error)
	// needs are keys that `template` must give, as only the administrator
	// knows their values; what they are for.
	needs map[string]string
	// closed: an app that nobody teaches to open a sealed payload.
	closed bool
}

// The names of the presets, as `payload` has them.
const (
	presetReveille   = "reveille"
	presetApple      = "apple"
	presetFlutter    = "flutter_callkit_incoming"
	presetReact      = "react_native_voip"
	presetFlutterRTC = "flutter_webrtc_callkeep"
	presetLinphone   = "linphone"
	presetVialer     = "vialer"
	presetAcrobits   = "acrobits"
	presetCustom     = "custom"
)

// presets are all that `payload` may name.
func presets() []preset {
	return []preset{
		{name: presetReveille, items: everywhere(superset)},
		{name: presetApple, items: everywhere(appleItems)},
		{name: presetFlutter, items: flutterItems},
		{name: presetReact, items: everywhere(reactItems)},
		{name: presetFlutterRTC, items: flutterRTCItems, closed: true},
		{name: presetLinphone, items: linphoneItems, closed: true},
		{name: presetVialer, items: everywhere(vialerItems), closed: true, needs: map[string]string{
			"response_api": "Vialer apps answer every push to this URL, and end the call where nobody takes the answer",
		}},
		{name: presetAcrobits, items: acrobitsItems, closed: true},
		{name: presetCustom, items: everywhere(func() []item { return nil })},
	}
}

// everywhere is a preset whose fields are the same in every form.
func everywhere(items func() []item) func(form) ([]item, error) {
	return func(form) ([]item, error) { return items(), nil }
}

func presetNames() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// findPreset finds a preset; "" is reveille.
func findPreset(name string) (preset, bool) {
	if name == "" {
		name = presetReveille
	}
	all := presets()
	i := slices.IndexFunc(all, func(p preset) bool { return p.name == name })
	if i < 0 {
		return preset{}, false
	}
	return all[i], true
}

var errAcrobitsForm = errors.New("apps of Acrobits are pushed by its own service, which holds their credentials: configure them under push.webhook, " +
	"with provider: acrobits and url: https://pnm.cloudsoftphone.com/pnm2/send")

// superset are our own fields. Every key but `test` is always present.
func superset() []item {
	return []item{
		{path: "uuid", put: callUUID},
		{path: "call_id", put: callID},
		{path: "handle", put: handle},
		{path: "handle_type", put: handleType},
		{path: "caller_name", put: callerName},
		{path: "to", put: text(func(c *call) string { return c.To })},
		{path: "trunk", put: text(func(c *call) string { return c.Trunk })},
		{path: "has_video", put: hasVideo},
		{path: "verstat", put: text(func(c *call) string { return c.Verstat })},
		{path: "diverted_by", put: text(func(c *call) string { return c.DivertedBy })},
		{path: "issued_at", put: func(e *encoder, c *call) { e.time(c.IssuedAt) }},
		{path: "expires_at", put: func(e *encoder, c *call) { e.time(c.ExpiresAt) }},
		{path: "test", put: func(e *encoder, _ *call) { e.bool(true) }, when: func(c *call) bool { return c.Test }},
		{path: "headers", put: headersOf},
	}
}

// rest are our own fields but for those that the app has under names of its own.
func rest(but ...string) []item {
	return slices.DeleteFunc(superset(), func(i item) bool { return slices.Contains(but, i.path) })
}

// inside puts items below a key. In FCM's flat data that is the text of their
// JSON.
func inside(f form, key string, items []item) []item {
	if f == formFCM {
		nodes := tree(items, formWebhook)
		return []item{{path: key, put: func(e *encoder, c *call) {
			e.nested(func(e *encoder) { e.object(nodes, c) })
		}}}
	}
	below := slices.Clone(items)
	for i := range below {
		below[i].path = key + "." + below[i].path
	}
	return below
}

// noFrame stands for an aps that is left out.
func noFrame() item {
	return item{path: "aps", put: emptyObject, when: func(*call) bool { return false }}
}

// The ways to write a value.

func text(of func(*call) string) func(*encoder, *call) {
	return func(e *encoder, c *call) { e.text(of(c)) }
}

func constant(s string) func(*encoder, *call) {
	return func(e *encoder, _ *call) { e.text(s) }
}

func callUUID(e *encoder, c *call)    { e.text(c.UUID) }
func callID(e *encoder, c *call)      { e.text(c.CallID) }
func handle(e *encoder, c *call)      { e.text(c.Handle) }
func handleType(e *encoder, c *call)  { e.text(c.HandleType) }
func callerName(e *encoder, c *call)  { e.text(c.CallerName) }
func title(e *encoder, c *call)       { e.text(c.Title()) }
func one(e *encoder, _ *call)         { e.number(1) }
func emptyObject(e *encoder, _ *call) { e.raw("{}") }
func hasVideo(e *encoder, c *call)    { e.bool(c.HasVideo) }

func headersOf(e *encoder, c *call) {
	e.nested(func(e *encoder) {
		e.buf = append(e.buf, '{')
		for _, h := range c.headers {
			e.comma()
			e.text(h.name)
			e.buf = append(e.buf, ':')
			e.text(h.value)
		}
		e.buf = append(e.buf, '}')
	})
}
