package push

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// hostile makes texts that a caller may send: long ones, ones that cost much
// JSON, ones that rearrange a screen, and bytes that are no text.
type hostile struct{ *rand.Rand }

func (h hostile) text() string {
	pieces := []string{"Ada", " ", "\"", "\\", "<", "\x00", "\x1b[2J", "\r\n", "\t", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u2028", "\u0085",
		"\xff", "\xc0\xaf", "\xed\xa0\x80", "é", "e\u0301", "日本", "😀", "\U0001f1e9\U0001f1ea", "\U0001f44b\U0001f3fd", "\u0915\u094d\u0937",
		"{{.UUID}}", "\",\"uuid\":\"evil", "\U000e0041", "\u3164", "\ufdd0", "x", "+49301"}
	var b strings.Builder
	for range h.IntN(4) * h.IntN(120) {
		b.WriteString(pieces[h.IntN(len(pieces))])
		if h.IntN(3) == 0 {
			b.WriteRune(rune(h.IntN(utf8.MaxRune)))
		}
	}
	return b.String()
}

func (h hostile) message(headers []string) Message {
	m := Message{UUID: "7d444840-9dc0-11d1-b245-5ffdce74fad2", CallID: "9e1f6c9a0f5d4b7e@192.0.2.1", Handle: h.text(), HandleType: h.text(),
		CallerName: h.text(), To: h.text(), Trunk: h.text(), HasVideo: h.IntN(2) == 0, Verstat: h.text(), DivertedBy: h.text(),
		IssuedAt: time.Unix(h.Int64N(1<<40)-1<<39, 0), ExpiresAt: time.Unix(0, h.Int64()), Test: h.IntN(9) == 0, Headers: map[string]string{}}
	for _, name := range headers {
		if h.IntN(4) > 0 {
			m.Headers[canonicalHeader(name)] = h.text()
		}
	}
	return m
}

// TestPayloadsAreSoundWhateverTheCallerSends: in every preset and form a
// payload is JSON within the limit, keeps what identifies the call, shows no
// character that it must not, and is shortened in the fixed order.
func TestPayloadsAreSoundWhateverTheCallerSends(t *testing.T) {
	h := hostile{rand.New(rand.NewPCG(1, 2))}
	var names []string
	for i := range maxHeaders {
		names = append(names, "X-"+strings.Repeat("a", 1+i))
	}
	for _, c := range clients() {
		cfg := c.config
		cfg.Payload = c.preset
		for f := range formNames() {
			cfg.Headers = names[:h.IntN(maxHeaders+1)]
			l, err := newLayout(cfg, f)
			if err != nil {
				continue // no such form
			}
			for range 60 {
				m := h.message(cfg.Headers)
				body, shortened, err := l.build(m, Target{Param: "app", PRID: "token&selector"})
				if err != nil || len(body) > f.limit() || !utf8.Valid(body) {
					t.Fatalf("%s %v: %d bytes, %v: %s", c.preset, f, len(body), err, body)
				}
				holdOrder(t, shortened)
				holdSound(t, c, f, body, m)
				if least, err := l.minimal(m, Target{}); err != nil || len(least) > f.limit() || !json.Valid(least) {
					t.Fatalf("%s %v: at least %d bytes, %v: %s", c.preset, f, len(least), err, least)
				}
			}
		}
	}
}

func holdOrder(t *testing.T, shortened []string) {
	t.Helper()
	order := []string{"headers", "diverted_by", "trunk", "to", "caller_name", "template"}
	last := -1
	for _, field := range shortened {
		if at := slices.Index(order, field); at <= last {
			t.Fatalf("shortened %q", shortened)
		} else {
			last = at
		}
	}
}

func holdSound(t *testing.T, c client, f form, body []byte, m Message) {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatalf("%s %v: %v: %s", c.preset, f, err, body)
	}
	found := 0
	eachText(value, func(s string) {
		if s == m.UUID || s == m.CallID {
			found++
		}
		if strings.ContainsFunc(s, isHidden) || strings.Contains(s, "  ") || utf8.RuneCountInString(s) > maxVoIPPayload {
			t.Fatalf("%s %v: %q is not clean", c.preset, f, s)
		}
	})
	if found == 0 {
		t.Fatalf("%s %v: neither UUID nor Call-ID: %s", c.preset, f, body)
	}
	for key, v := range value {
		if _, text := v.(string); f == formFCM && !text {
			t.Fatalf("%s: %s is %T", c.preset, key, v)
		}
	}
}

// eachText visits the texts of a value, also those in JSON that is a text.
func eachText(value any, visit func(string)) {
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			visit(key)
			eachText(below, visit)
		}
	case []any:
		for _, below := range v {
			eachText(below, visit)
		}
	case string:
		var inner map[string]any
		if json.Unmarshal([]byte(v), &inner) == nil {
			eachText(inner, visit)
			return
		}
		visit(v)
	}
}

// FuzzPayload: the same for what a fuzzer makes of a caller.
func FuzzPayload(f *testing.F) {
	f.Add("u", "+49301", "Ada", "1001", "carrier", "b", uint8(0), int64(1e9))
	f.Add("\xff", "<>&\u2028", strings.Repeat("😀", 99), "\x00", "\\\"", strings.Repeat("<", 5000), uint8(17), int64(-1<<62))
	f.Fuzz(func(t *testing.T, uuid, handle, name, to, trunk, header string, which uint8, at int64) {
		all := clients()
		c := all[int(which)%len(all)]
		cfg, form := c.config, form(which/16%4)
		cfg.Payload, cfg.Headers = c.preset, []string{"X-A", "X-B"}
		l, err := newLayout(cfg, form)
		if err != nil {
			return
		}
		m := Message{UUID: "7d444840-9dc0-11d1-b245-5ffdce74fad2", CallID: "call@id", Handle: handle, CallerName: name, To: to, Trunk: trunk,
			Verstat: to, DivertedBy: handle, IssuedAt: time.Unix(at, 0), ExpiresAt: time.Unix(0, at), Headers: map[string]string{"X-A": header, "X-B": uuid}}
		body, _, err := l.build(m, Target{Param: "app", PRID: "token"})
		if err != nil || len(body) > form.limit() || !utf8.Valid(body) {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
		holdSound(t, c, form, body, m)
	})
}
