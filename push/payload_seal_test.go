package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"reveille/push/pushtest"
)

// opened takes a payload apart as an app does: what stands outside, and what
// was sealed.
func opened(t *testing.T, body []byte) (outside map[string]any, inside []byte) {
	t.Helper()
	if err := json.Unmarshal(body, &outside); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	sealed, _ := outside["sealed"].(string)
	if sealed == "" {
		return outside, nil
	}
	inside, err := hpkeOpen(devicePrivate(t, readSealVectors(t).PrivateKey), outside["uuid"].(string), sealed)
	if err != nil {
		t.Fatal(err)
	}
	delete(outside, "sealed")
	return outside, bytes.TrimRight(inside, " ")
}

// TestSealedPayload: what is sealed is the payload as it would have been, but
// for aps; outside stand the routing fields, and nothing of the caller.
func TestSealedPayload(t *testing.T) {
	const routing = `"call_id":"abc@reveille","expires_at":"2026-03-01T11:00:20Z","issued_at":"2026-03-01T11:00:00Z","test":%s,` +
		`"uuid":"7d444840-9dc0-11d1-b245-5ffdce74fad2"}`
	target := Target{Key: readSealVectors(t).PublicKey}
	m := callMessage()
	m.Test = true
	for f, want := range map[form]string{
		formVoIP: `{"aps":{},` + fmt.Sprintf(routing, "true"),
		formAlert: `{"aps":{"alert":{"loc-key":"Incoming call"},"category":"INCOMING_CALL","mutable-content":1,"sound":"default"},` +
			fmt.Sprintf(routing, "true"),
		formFCM:     `{` + fmt.Sprintf(routing, `"true"`),
		formWebhook: `{` + fmt.Sprintf(routing, "true"),
	} {
		cfg := PayloadConfig{Headers: []string{"X-A"}}
		clear, _, err := mustLayout(t, cfg, f).build(m, target)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Encrypt = true
		body, shortened, err := mustLayout(t, cfg, f).build(m, target)
		if err != nil || shortened != nil {
			t.Fatalf("%v: %v, shortened %q", f, err, shortened)
		}
		outside, inside := opened(t, body)
		got, _ := json.Marshal(outside)
		if string(got) != want {
			t.Errorf("%v: outside\n%s, want\n%s", f, got, want)
		}
		if end := clear[bytes.Index(clear, []byte(`"uuid"`)):]; string(inside) != "{"+string(end) {
			t.Errorf("%v: sealed is\n%s, want\n%s", f, inside, end)
		}
		secretsStayInside(t, got)
	}
}

// secretsStayInside looks at what is not sealed.
func secretsStayInside(t *testing.T, outside []byte) {
	t.Helper()
	for _, secret := range []string{"4930123456", "Ada", "1001", "carrier", "49301", "verified", "X-A"} {
		if bytes.Contains(outside, []byte(secret)) {
			t.Errorf("%q stands outside: %s", secret, outside)
		}
	}
}

// TestNoKeyNoCallerData: a device that cannot be sealed to is woken all the
// same, and learns nothing that the push service would learn too.
func TestNoKeyNoCallerData(t *testing.T) {
	for f := formVoIP; f <= formWebhook; f++ {
		l := mustLayout(t, PayloadConfig{Encrypt: true, Headers: []string{"X-A"}}, f)
		for key, why := range map[string]string{"": shortNoKey, "no key": shortBadKey, strings.Repeat("A", 43): shortBadKey} {
			body, shortened, err := l.build(callMessage(), Target{Key: key})
			if err != nil || !slices.Equal(shortened, []string{why}) {
				t.Fatalf("%v, key %q: %v, shortened %q", f, key, err, shortened)
			}
			outside, inside := opened(t, body)
			if _, has := outside["sealed"]; has || inside != nil || outside["uuid"] != callMessage().UUID {
				t.Errorf("%v, key %q: %s", f, key, body)
			}
			secretsStayInside(t, body)
			least, err := l.minimal(callMessage(), Target{Key: key})
			if err != nil {
				t.Errorf("%v, key %q: %v", f, key, err)
			}
			secretsStayInside(t, least)
		}
	}
}

// TestSealedPayloadAlwaysFits also shows that the size of the push does not
// tell how long the caller's name is.
func TestSealedPayloadAlwaysFits(t *testing.T) {
	target := Target{Key: readSealVectors(t).PublicKey}
	for _, headers := range []int{0, 1, maxHeaders} {
		for f := formVoIP; f <= formWebhook; f++ {
			m, cfg := bulky(headers)
			cfg.Encrypt = true
			body, shortened, err := mustLayout(t, cfg, f).build(m, target)
			if err != nil || len(body) > f.limit() {
				t.Fatalf("%v, %d headers: %d bytes, %v", f, headers, len(body), err)
			}
			if _, inside := opened(t, body); !json.Valid(inside) || headers > 0 && (len(shortened) == 0 || shortened[0] != "headers") {
				t.Errorf("%v, %d headers: shortened %q, %s", f, headers, shortened, inside)
			}
			if least, err := mustLayout(t, cfg, f).minimal(m, target); err != nil || len(least) > len(body) {
				t.Errorf("%v, %d headers: minimal has %d bytes of %d, %v", f, headers, len(least), len(body), err)
			}
		}
	}
	l := mustLayout(t, PayloadConfig{Encrypt: true}, formVoIP)
	sizes := map[int]int{}
	for n := range maxText {
		m := callMessage()
		m.CallerName = strings.Repeat("x", n)
		body, _, err := l.build(m, target)
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(body)]++
	}
	if len(sizes) > 2 {
		t.Errorf("%d sizes for %d lengths of a name: %v", len(sizes), maxText, sizes)
	}
}

// accepted is the body of the push that was just sent.
func accepted(t *testing.T, pushes <-chan pushtest.Push, out Outcome) (Outcome, []byte) {
	t.Helper()
	if out.Verdict != Sent {
		t.Fatalf("outcome %+v", out)
	}
	return out, (<-pushes).Body
}

// TestSealedPush is a sealed push to each service and back to the app.
func TestSealedPush(t *testing.T) {
	key := readSealVectors(t).PublicKey
	seals := PayloadConfig{Payload: presetReveille, Encrypt: true}
	m := callMessage()
	for name, send := range map[string]func(*testing.T, Message, string) (Outcome, []byte){
		"voip": func(t *testing.T, m Message, key string) (Outcome, []byte) {
			w := newPipeWorld(t, func(c *APNsConfig) { c.PayloadConfig = seals })
			defer w.close()
			return accepted(t, w.service.Pushes(), w.send(m, func(t *Target) { t.Key = key }))
		},
		"alert": func(t *testing.T, m Message, key string) (Outcome, []byte) {
			w := newPipeWorld(t, func(c *APNsConfig) { c.PayloadConfig = seals })
			defer w.close()
			token := strings.Repeat("a1", 32)
			w.service.AddAlertToken(pushtest.Production, token, testBundle)
			return accepted(t, w.service.Pushes(), w.send(m, func(t *Target) { t.Key, t.PRID = key, token+":remote" }))
		},
		"fcm": func(t *testing.T, m Message, key string) (Outcome, []byte) {
			w := newFCMPipeWorld(t, func(_ *pushtest.FCMOptions, c *FCMConfig) { c.PayloadConfig = seals })
			defer w.close()
			out, body := accepted(t, w.service.Pushes(), w.send(m, func(t *Target) { t.Key = key }))
			var message struct {
				Message struct {
					Android struct{ Data json.RawMessage }
				}
			}
			if err := json.Unmarshal(body, &message); err != nil {
				t.Fatal(err)
			}
			return out, message.Message.Android.Data
		},
		"webhook": func(t *testing.T, m Message, key string) (Outcome, []byte) {
			w := newHookWorld(t, func(c *WebhookConfig) { c.PayloadConfig = seals })
			defer w.close()
			out, body := accepted(t, w.service.Pushes(),
				w.sender.Send(t.Context(), "d", Target{Provider: "mypush", PRID: hookToken, Key: key}, m))
			var event struct {
				Data struct{ Payload json.RawMessage }
			}
			if err := json.Unmarshal(body, &event); err != nil {
				t.Fatal(err)
			}
			return out, event.Data.Payload
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			out, body := send(t, m, key)
			if out.Verdict != Sent || out.Shortened != nil {
				t.Fatalf("%s: outcome %+v", name, out)
			}
			outside, inside := opened(t, body)
			if !bytes.Contains(inside, []byte(`"caller_name":"Ada"`)) {
				t.Errorf("%s: sealed is %s", name, inside)
			}
			clear, _ := json.Marshal(outside)
			secretsStayInside(t, clear)
			out, body = send(t, m, "")
			if out.Verdict != Sent || !slices.Equal(out.Shortened, []string{shortNoKey}) {
				t.Errorf("%s, without a key: %+v", name, out)
			}
			secretsStayInside(t, body)
		})
	}
}

// BenchmarkSealedPayload is a whole payload with its caller data sealed.
func BenchmarkSealedPayload(b *testing.B) {
	l := mustLayout(b, PayloadConfig{Encrypt: true}, formVoIP)
	target := Target{Key: readSealVectors(b).PublicKey}
	m := callMessage()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := l.build(m, target); err != nil {
			b.Fatal(err)
		}
	}
}
