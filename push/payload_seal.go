package push

import (
	"slices"
	"strings"
)

// Under `encrypt: true` a payload is two objects. The one that the app would
// get without is sealed whole to the device's key, but for its aps. Around it
// stands what routes the push and tells an app that cannot open it that a call
// comes; nothing there is from the caller.

// What Outcome.Shortened says of a push that went without caller data.
const (
	shortNoKey  = "caller data: the device has no key"
	shortBadKey = "caller data: nothing can be sealed to the device's key"
)

// sealedItems are the fields that are sealed: all but aps, which Apple reads.
// A preset's own aps is not taken, as it may name the caller.
func sealedItems(items []item) []item {
	return slices.DeleteFunc(slices.Clone(items), func(i item) bool { return i.path == "aps" || strings.HasPrefix(i.path, "aps.") })
}

// outerItems are what stands around the sealed ones.
func outerItems(f form) []item {
	var aps []item
	switch f {
	case formVoIP:
		aps = []item{{path: "aps", put: emptyObject}}
	case formAlert:
		aps = []item{
			// Apple shows a loc-key that the app does not translate as it is.
			{path: "aps.alert.loc-key", put: constant(alertBody)},
			{path: "aps.sound", put: constant("default")},
			{path: "aps.mutable-content", put: one},
			{path: "aps.category", put: constant(alertCategory)},
		}
	}
	outside := slices.DeleteFunc(superset(), func(i item) bool {
		return !slices.Contains([]string{"uuid", "call_id", "issued_at", "expires_at", "test"}, i.path)
	})
	return slices.Concat(aps, outside, []item{{
		path: "sealed",
		put:  text(func(c *call) string { return c.sealed }),
		when: func(c *call) bool { return c.sealed != "" },
	}})
}

// buildSealed renders the call for the device t. One whose key is missing or
// worthless is woken without the caller data: it never leaves in the clear.
func (l *layout) buildSealed(c *call, t Target) (body []byte, shortened []string, err error) {
	if t.Key == "" {
		return l.render(c, l.outer), []string{shortNoKey}, nil
	}
	fields, shortened, err := l.fit(c, l.roomToSeal(c))
	if err != nil {
		return nil, shortened, err
	}
	if c.sealed, err = hpkeSeal(t.Key, c.UUID, fields); err != nil {
		shortened = append(shortened, shortBadKey)
	}
	return l.render(c, l.outer), shortened, nil
}

// roomToSeal is how many bytes of JSON can be sealed into a payload.
func (l *layout) roomToSeal(c *call) int {
	probe := *c
	probe.sealed = "x"
	body := l.render(&probe, l.outer)
	return sealable(l.limit - len(body) + len(probe.sealed))
}
