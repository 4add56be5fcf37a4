package push

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestPayloadReveille(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 900e6, time.FixedZone("", 3600))
	m := Message{
		UUID: "7d444840-9dc0-11d1-b245-5ffdce74fad2", CallID: "abc@reveille", Handle: "+4930123456", HandleType: "number",
		CallerName: "Ada", To: "1001", Trunk: "carrier", HasVideo: true, Verstat: "verified", DivertedBy: "+49301",
		IssuedAt: at, ExpiresAt: at.Add(20 * time.Second), Headers: map[string]string{"X-A": "b"},
	}
	got, shortened, err := buildPayload(m, maxVoIPPayload)
	if err != nil || shortened != nil {
		t.Fatal(err, shortened)
	}
	const want = `{"aps":{},"uuid":"7d444840-9dc0-11d1-b245-5ffdce74fad2","call_id":"abc@reveille","handle":"+4930123456",` +
		`"handle_type":"number","caller_name":"Ada","to":"1001","trunk":"carrier","has_video":true,"verstat":"verified",` +
		`"diverted_by":"+49301","issued_at":"2026-03-01T11:00:00Z","expires_at":"2026-03-01T11:00:20Z","headers":{"X-A":"b"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPayloadOfNothing(t *testing.T) {
	got, _, err := buildPayload(Message{HandleType: "sip", Verstat: "maybe"}, maxVoIPPayload)
	const want = `{"aps":{},"uuid":"","call_id":"","handle":"","handle_type":"generic","caller_name":"","to":"","trunk":"",` +
		`"has_video":false,"verstat":"none","diverted_by":"","issued_at":"","expires_at":"","headers":{}}`
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
		"x\U000e0041\U000e007fend": "xend", // tags
	} {
		if got := clean(in, maxText); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

// bulky is a message whose every field costs as much JSON as it can.
func bulky(headers int) Message {
	dear := strings.Repeat("<", 10000)
	m := Message{UUID: dear, CallID: dear, Handle: dear, CallerName: dear, To: dear, Trunk: dear, DivertedBy: dear,
		IssuedAt: time.Unix(0, 0), ExpiresAt: time.Unix(0, 0), Headers: map[string]string{}}
	for i := range headers {
		m.Headers[fmt.Sprintf("%03d%s", i, dear)] = dear
	}
	return m
}

func TestPayloadAlwaysFits(t *testing.T) {
	for headers := range 40 {
		body, shortened, err := buildPayload(bulky(headers), maxVoIPPayload)
		if err != nil || len(body) > maxVoIPPayload || !json.Valid(body) {
			t.Fatalf("%d headers: %d bytes, %v", headers, len(body), err)
		}
		if headers > 2 && !slices.Equal(shortened, []string{"headers"}) {
			t.Errorf("%d headers: shortened %q", headers, shortened)
		}
	}
}

// TestPayloadShortensInOrder holds the order in which fields go as the room
// gets less, and that the call's identity and the caller's handle never do.
func TestPayloadShortensInOrder(t *testing.T) {
	m := bulky(3)
	full, _, err := buildPayload(m, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	order := []string{"headers", "diverted_by", "trunk", "to", "caller_name"}
	longest := 0
	for limit := len(full); limit > 0; limit -= 50 {
		body, shortened, err := buildPayload(m, limit)
		if err != nil || !slices.Equal(shortened, order[:len(shortened)]) || len(shortened) < longest {
			t.Fatalf("limit %d: shortened %q, %v", limit, shortened, err)
		}
		longest = len(shortened)
		var p reveillePayload
		if err := json.Unmarshal(body, &p); err != nil || p.UUID == "" || p.CallID == "" || p.Handle == "" {
			t.Fatalf("limit %d: %v %s", limit, err, body)
		}
	}
	least, err := minimalPayload(m)
	if err != nil || longest != len(order) || len(least) > 2500 {
		t.Errorf("at last %d bytes, %d fields shortened, %v", len(least), longest, err)
	}
}

func FuzzPayload(f *testing.F) {
	f.Add("u", "c", "+49301", "number", "Ada", "1001", "carrier", "verified", "", "X-A", "b", int64(1e9))
	f.Add("\xff", "\u202e", "<>&\u2028", "", strings.Repeat("😀", 99), "\x00", "\\\"", "no", "\u200b", strings.Repeat("<", 5000), strings.Repeat("\x01", 5000), int64(-1<<62))
	f.Fuzz(func(t *testing.T, uuid, callID, handle, kind, name, to, trunk, verstat, diverted, key, value string, at int64) {
		m := Message{UUID: uuid, CallID: callID, Handle: handle, HandleType: kind, CallerName: name, To: to, Trunk: trunk,
			Verstat: verstat, DivertedBy: diverted, IssuedAt: time.Unix(at, 0), ExpiresAt: time.Unix(0, at),
			Headers: map[string]string{key: value, value: key, key + value: value + key}}
		body, _, err := buildPayload(m, maxVoIPPayload)
		if err != nil || len(body) > maxVoIPPayload || !utf8.Valid(body) {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
		var p reveillePayload
		if err := json.Unmarshal(body, &p); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		for _, s := range []string{p.Handle, p.CallerName, p.To, p.Trunk, p.DivertedBy} {
			if utf8.RuneCountInString(s) > maxText || strings.ContainsFunc(s, isHidden) || clean(s, maxText) != s {
				t.Fatalf("%q is not clean", s)
			}
		}
		again, err := json.Marshal(&p)
		if err != nil || !reflect.DeepEqual(again, body) {
			t.Fatalf("not stable: %s, %s", body, again)
		}
	})
}

func BenchmarkPayload(b *testing.B) {
	m := testMessage("7d444840-9dc0-11d1-b245-5ffdce74fad2")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := buildPayload(m, maxVoIPPayload); err != nil {
			b.Fatal(err)
		}
	}
}
