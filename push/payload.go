package push

import (
	"fmt"
	"slices"
	"strings"
)

// form is what kind of push a payload is for: it decides the frame around the
// fields of the preset, and how large the whole may be.
type form int

const (
	formVoIP    form = iota // APNs, push type voip: an empty aps
	formAlert               // APNs, push type alert: aps with an alert that a notification service extension may change
	formFCM                 // the data of an FCM message: a flat object, every value a string
	formWebhook             // a JSON object
)

// The limits in bytes. Apple takes 5120 for a VoIP push and 4096 for any other,
// and answers 413 above. FCM counts 4096 over the keys and values of data; the
// object's JSON, which is never smaller than that, is held to it here.
const (
	maxVoIPPayload = 5120
	maxPayload     = 4096
)

func (f form) limit() int {
	if f == formVoIP {
		return maxVoIPPayload
	}
	return maxPayload
}

// String is how the form is named to an administrator.
func (f form) String() string {
	switch f {
	case formVoIP:
		return "apns"
	case formAlert:
		return "apns (alert)"
	case formFCM:
		return "fcm"
	}
	return "webhook"
}

// layout is how one app wants to be told of a call: made once from the
// configuration, safe for concurrent use.
type layout struct {
	form    form
	limit   int
	root    []node
	outer   []node    // what stands around root, which is sealed; nil: nothing is sealed
	headers []allowed // the trunk's headers that may be copied
}

// newLayout makes the layout of an app. What is wrong in cfg is an error here
// too, as validate tells it.
func newLayout(cfg PayloadConfig, f form) (*layout, error) {
	if err := cfg.first(f); err != nil {
		return nil, err
	}
	return cfg.layout(f)
}

// layout is that of a configuration that has been validated.
func (c PayloadConfig) layout(f form) (*layout, error) {
	items, err := c.items(f)
	if err != nil {
		return nil, err
	}
	further, err := c.templates()
	if err != nil {
		return nil, err
	}
	l := &layout{form: f, limit: f.limit(), headers: allowList(c.Headers)}
	if c.Encrypt {
		l.root, l.outer = tree(sealedItems(slices.Concat(items, further)), f), tree(outerItems(f), f)
	} else {
		l.root = tree(slices.Concat(framed(items, f), further), f)
	}
	return l, nil
}

// build renders m for the device t within the form's limit. What had to be
// shortened for it is named, in order.
func (l *layout) build(m Message, t Target) (body []byte, shortened []string, err error) {
	c := newCall(m, l.headers)
	c.target = t
	if l.outer == nil {
		return l.fit(c, l.limit)
	}
	return l.buildSealed(c, t)
}

// fit renders the call within limit.
func (l *layout) fit(c *call, limit int) (body []byte, shortened []string, err error) {
	if body = l.render(c, l.root); len(body) <= limit && c.failed == nil {
		return body, nil, nil
	}
	for _, step := range slices.Concat(shortenings(), []shortening{{"template", (*call).tighten}}) {
		for len(body) > limit && step.apply(c) {
			if len(shortened) == 0 || shortened[len(shortened)-1] != step.field {
				shortened = append(shortened, step.field)
			}
			body = l.render(c, l.root)
		}
	}
	if len(body) > limit {
		return nil, shortened, fmt.Errorf("a payload of %d bytes, where %d are allowed, is left when all is cut that can be: shorten the template", len(body), limit)
	}
	for _, key := range c.failed {
		shortened = append(shortened, "template "+key+": it could not be executed")
	}
	return body, shortened, nil
}

// minimal keeps what an app cannot ring without: for the one retry after the
// provider has called the payload too large or bad.
func (l *layout) minimal(m Message, t Target) ([]byte, error) {
	c := newCall(m, nil)
	c.target = t
	for _, step := range shortenings() {
		for step.apply(c) {
		}
	}
	if l.outer != nil {
		body, _, err := l.buildSealed(c, t)
		return body, err
	}
	return l.render(c, l.root), nil
}

// render writes the call as it is.
func (l *layout) render(c *call, root []node) []byte {
	c.failed = nil
	e := encoder{buf: make([]byte, 0, 768), strings: l.form == formFCM}
	e.object(root, c)
	return e.buf
}

// shortening is one way to make a payload smaller. apply returns false when it
// has nothing left to give.
type shortening struct {
	field string
	apply func(*call) bool
}

// shortenings in their fixed order: what the app needs least goes first. The
// UUID, the Call-ID and the handle are never touched.
func shortenings() []shortening {
	return []shortening{
		{"headers", (*call).dropLastHeader},
		{"diverted_by", func(c *call) bool { return blank(&c.DivertedBy) }},
		{"trunk", func(c *call) bool { return blank(&c.Trunk) }},
		{"to", func(c *call) bool { return blank(&c.To) }},
		{"caller_name", func(c *call) bool { return blank(&c.CallerName) }},
	}
}

func blank(s *string) bool {
	had := *s != ""
	*s = ""
	return had
}

// framed puts the frame of the form before the fields, where they bring none
// of their own.
func framed(items []item, f form) []item {
	has := slices.ContainsFunc(items, func(i item) bool { return i.path == "aps" || strings.HasPrefix(i.path, "aps.") })
	if has {
		return items
	}
	switch f {
	case formVoIP:
		return slices.Concat([]item{{path: "aps", put: emptyObject}}, items)
	case formAlert:
		return slices.Concat([]item{
			{path: "aps.alert.title", put: title},
			{path: "aps.alert.body", put: constant(alertBody)},
			{path: "aps.sound", put: constant("default")},
			{path: "aps.mutable-content", put: one},
			{path: "aps.category", put: constant(alertCategory)},
		}, items)
	}
	return items
}

// What the alert of a call says, and the category by which an app gives it
// buttons.
const (
	alertBody     = "Incoming call"
	alertCategory = "INCOMING_CALL"
)
