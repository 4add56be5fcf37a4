package push

import "slices"

// preset is a form of payload that a family of apps is known to read.
type preset struct {
	name  string
	items func(form) ([]item, error)
}

// presets are all that `payload` may name, but for `custom`.
func presets() []preset {
	return []preset{
		{presetReveille, func(form) ([]item, error) { return reveilleItems(), nil }},
	}
}

const (
	presetReveille = "reveille"
	presetCustom   = "custom"
)

func presetNames() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return append(names, presetCustom)
}

// presetItems are the fields of a preset; "" is reveille.
func presetItems(name string, f form) ([]item, bool, error) {
	if name == "" {
		name = presetReveille
	}
	all := presets()
	i := slices.IndexFunc(all, func(p preset) bool { return p.name == name })
	if i < 0 {
		return nil, false, nil
	}
	items, err := all[i].items(f)
	return items, true, err
}

// reveilleItems are the fields of our own preset. Every key but `test` is
// always present.
func reveilleItems() []item {
	return []item{
		{path: "uuid", put: text(func(c *call) string { return c.UUID })},
		{path: "call_id", put: text(func(c *call) string { return c.CallID })},
		{path: "handle", put: text(func(c *call) string { return c.Handle })},
		{path: "handle_type", put: text(func(c *call) string { return c.HandleType })},
		{path: "caller_name", put: text(func(c *call) string { return c.CallerName })},
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

// The ways to write a value.

func text(of func(*call) string) func(*encoder, *call) {
	return func(e *encoder, c *call) { e.text(of(c)) }
}

func constant(s string) func(*encoder, *call) {
	return func(e *encoder, _ *call) { e.text(s) }
}

func title(e *encoder, c *call)       { e.text(c.title()) }
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
