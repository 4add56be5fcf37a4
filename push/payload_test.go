package push

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// mustLayout is the layout of a configuration that has no fault.
func mustLayout(t testing.TB, cfg PayloadConfig, f form) *layout {
	t.Helper()
	l, err := newLayout(cfg, f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// callMessage is a call of which everything is known.
func callMessage() Message {
	at := time.Date(2026, 3, 1, 12, 0, 0, 900e6, time.FixedZone("", 3600))
	return Message{
		UUID: "7d444840-9dc0-11d1-b245-5ffdce74fad2", CallID: "abc@reveille", Handle: "+4930123456", HandleType: "number",
		CallerName: "Ada", To: "1001", Trunk: "carrier", HasVideo: true, Verstat: "verified", DivertedBy: "+49301",
		IssuedAt: at, ExpiresAt: at.Add(20 * time.Second), Headers: map[string]string{"X-A": "b", "X-Secret": "not listed"},
	}
}

func TestPayloadReveille(t *testing.T) {
	const fields = `"uuid":"7d444840-9dc0-11d1-b245-5ffdce74fad2","call_id":"abc@reveille","handle":"+4930123456",` +
		`"handle_type":"number","caller_name":"Ada","to":"1001","trunk":"carrier","has_video":true,"verstat":"verified",` +
		`"diverted_by":"+49301","issued_at":"2026-03-01T11:00:00Z","expires_at":"2026-03-01T11:00:20Z","headers":{"x-A":"b"}}`
	for f, want := range map[form]string{
		formVoIP: `{"aps":{},` + fields,
		formAlert: `{"aps":{"alert":{"title":"Ada","body":"Incoming call"},"sound":"default","mutable-content":1,` +
			`"category":"INCOMING_CALL"},` + fields,
		formFCM:     strings.NewReplacer(`:true`, `:"true"`, `{"x-A":"b"}`, `"{\"x-A\":\"b\"}"`).Replace("{" + fields),
		formWebhook: "{" + fields,
	} {
		got, shortened, err := mustLayout(t, PayloadConfig{Headers: []string{"x-A"}}, f).build(callMessage(), Target{})
		if err != nil || shortened != nil || string(got) != want {
			t.Errorf("%v: got  %s (%v, %v)\nwant %s", f, got, shortened, err, want)
		}
	}
}

func TestPayloadOfNothing(t *testing.T) {
	got, _, err := mustLayout(t, PayloadConfig{}, formVoIP).build(Message{HandleType: "sip", Verstat: "maybe", Test: true}, Target{})
	const want = `{"aps":{},"uuid":"","call_id":"","handle":"","handle_type":"generic","caller_name":"","to":"","trunk":"",` +
		`"has_video":false,"verstat":"none","diverted_by":"","issued_at":"","expires_at":"","test":true,"headers":{}}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"Ada":                      "Ada",
		"":                         "",
		"  Ada \t Lovelace\r\n":    "Ada Lovelace",
		"a\x00b\x1bc\x7fd\u0080e":  "abcde",
		"a\u202eb\u2066c\u200fd":   "abcd", // bidirectional
		"a\u200bb\u200dc\ufeffd":   "abcd", // zero width
		"a\u2060b\u3164c\ufe0fd":   "abcd", // invisible
		"a\u2028b\u2029c\u00a0d":   "a b c d",
		"a\xffb\xc0\xafc":          "a\ufffdb\ufffd\ufffdc",
		"\xed\xa0\x80":             "\ufffd\ufffd\ufffd", // a surrogate in UTF-8
		"Ünï 日本 😀":                 "Ünï 日本 😀",
		strings.Repeat("é", 100):   strings.Repeat("é", 64),
		strings.Repeat("a ", 100):  strings.TrimSpace(strings.Repeat("a ", 32)),
		strings.Repeat("x", 64):    strings.Repeat("x", 64),
		strings.Repeat(" ", 1000):  "",
		"<script>\"&'\\":           "<script>\"&'\\",
		"x\U000e0041\U000e007fend": "xend",  // tags
		"\uf8ff Apple\U000f0000":   "Apple", // private use
	} {
		if got := clean(in, maxText); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

// bulky is a message whose every field costs as much JSON as it can, and the
// headers that it wants copied.
func bulky(headers int) (Message, PayloadConfig) {
	dear := strings.Repeat("😀", 10000)
	m := Message{UUID: dear, CallID: dear, Handle: dear, CallerName: dear, To: dear, Trunk: dear, DivertedBy: dear,
		IssuedAt: time.Unix(0, 0), ExpiresAt: time.Unix(0, 0), Headers: map[string]string{}}
	var cfg PayloadConfig
	for i := range headers {
		name := fmt.Sprintf("x-%03d-%s", i, strings.Repeat("a", 50))
		m.Headers[canonicalHeader(name)] = dear
		cfg.Headers = append(cfg.Headers, name)
	}
	return m, cfg
}

func TestPayloadAlwaysFits(t *testing.T) {
	for headers := range maxHeaders + 1 {
		for f := formVoIP; f <= formWebhook; f++ {
			m, cfg := bulky(headers)
			body, shortened, err := mustLayout(t, cfg, f).build(m, Target{})
			if err != nil || len(body) > f.limit() || !json.Valid(body) {
				t.Fatalf("%v, %d headers: %d bytes, %v", f, headers, len(body), err)
			}
			if headers > 2 && !slices.Equal(shortened, []string{"headers"}) {
				t.Errorf("%v, %d headers: shortened %q", f, headers, shortened)
			}
		}
	}
}

// TestPayloadShortensInOrder holds the order in which fields go as the room
// gets less, and that the call's identity and the caller's handle never do.
func TestPayloadShortensInOrder(t *testing.T) {
	m, cfg := bulky(3)
	l := mustLayout(t, cfg, formVoIP)
	l.limit = 1 << 20
	full, _, err := l.build(m, Target{})
	if err != nil {
		t.Fatal(err)
	}
	least, err := l.minimal(m, Target{})
	if err != nil || len(least) > 2500 {
		t.Fatalf("at last %d bytes, %v", len(least), err)
	}
	order := []string{"headers", "diverted_by", "trunk", "to", "caller_name"}
	longest := 0
	for l.limit = len(full); l.limit >= len(least); l.limit -= 10 {
		body, shortened, err := l.build(m, Target{})
		if err != nil || len(body) > l.limit || !slices.Equal(shortened, order[:len(shortened)]) || len(shortened) < longest {
			t.Fatalf("limit %d: shortened %q, %v", l.limit, shortened, err)
		}
		longest = len(shortened)
		var p struct {
			UUID   string
			CallID string `json:"call_id"`
			Handle string
		}
		if err := json.Unmarshal(body, &p); err != nil || p.UUID == "" || p.CallID == "" || p.Handle == "" {
			t.Fatalf("limit %d: %v %s", l.limit, err, body)
		}
	}
	if longest != len(order) {
		t.Errorf("at last %d fields shortened", longest)
	}
	l.limit = len(least) - 1
	if body, _, err := l.build(m, Target{}); err == nil {
		t.Errorf("limit %d: %s", l.limit, body)
	}
}

// FuzzText holds our JSON of texts against the standard library's.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\/", "\x00\x1f\x7f", "\xff\xc0", "é😀\u2028", "<>&"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendText(nil, s), &got); err != nil || got != string([]rune(s)) {
			t.Fatalf("%q came back as %q, %v", s, got, err)
		}
	})
}

// BenchmarkPayload is one payload of each preset, where its form is VoIP.
func BenchmarkPayload(b *testing.B) {
	for _, c := range clients() {
		cfg := c.config
		cfg.Payload = c.preset
		l, err := newLayout(cfg, formVoIP)
		if err != nil {
			continue
		}
		b.Run(c.preset, func(b *testing.B) {
			m := testMessage("7d444840-9dc0-11d1-b245-5ffdce74fad2")
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := l.build(m, Target{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
