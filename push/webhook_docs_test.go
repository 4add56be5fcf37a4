package push

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// docBlock is a fenced block of docs/webhook.md.
type docBlock struct{ lang, text string }

func webhookDoc(t *testing.T) []docBlock {
	t.Helper()
	text, err := os.ReadFile("../docs/webhook.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []docBlock
	for _, m := range regexp.MustCompile("(?s)```([a-z ]+)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, docBlock{m[1], m[2]})
	}
	return blocks
}

func docMessage() Message {
	issued := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	return Message{
		UUID: "7d444840-9dc0-11d1-b245-5ffdce74fad2", CallID: "a84b4c76e66710@reveille", Handle: "+4930123456", HandleType: "number",
		CallerName: "Ada Lovelace", To: "1001", Trunk: "carrier", Verstat: "verified", IssuedAt: issued, ExpiresAt: issued.Add(20 * time.Second),
	}
}

// docTarget is the device that a documented body is for.
func docTarget(provider string, body map[string]any) Target {
	if data, ok := body["data"].(map[string]any); ok {
		device := data["device"].(map[string]any)
		return Target{Provider: provider, Param: device["param"].(string), PRID: device["prid"].(string)}
	}
	return Target{Provider: provider, Param: body["AppId"].(string), PRID: fmt.Sprint(body["DeviceToken"], "&", body["Selector"])}
}

// TestWebhookDocConfigurations: each configuration in docs/webhook.md is valid
// and makes the body that stands behind it.
func TestWebhookDocConfigurations(t *testing.T) {
	secret := writeFile(t, "secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0o600)
	var cfg *WebhookConfig
	checked := 0
	for _, b := range webhookDoc(t) {
		switch b.lang {
		case "yaml":
			var file struct{ Push Config }
			text := regexp.MustCompile(`/etc/reveille/\S+`).ReplaceAllString(b.text, secret)
			dec := yaml.NewDecoder(strings.NewReader(text))
			dec.KnownFields(true)
			if err := dec.Decode(&file); err != nil || len(file.Push.Webhook) != 1 {
				t.Fatalf("%v in %s", err, b.text)
			}
			file.Push.Header = "X"
			file.Push.Validate(func(path, problem string) { t.Errorf("%s: %s in %s", path, problem, b.text) })
			cfg = &file.Push.Webhook[0]
		case "json":
			var want, got map[string]any
			if err := json.Unmarshal([]byte(b.text), &want); err != nil {
				t.Fatal(err)
			}
			f, err := cfg.webhookForm()
			if err != nil {
				t.Fatal(err)
			}
			body, _, err := f.body(docTarget(cfg.Provider, want), docMessage())
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(body, &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("the document says %s\nit is %s (%v)", b.text, body, err)
			}
			checked++
		}
	}
	if checked != 3 {
		t.Errorf("%d bodies", checked)
	}
}

// TestWebhookDocGo: what the document shows is the code that is tested here.
func TestWebhookDocGo(t *testing.T) {
	source, err := os.ReadFile("webhook_example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range webhookDoc(t) {
		if b.lang == "go" && !strings.Contains(string(source), b.text) {
			t.Errorf("not in webhook_example_test.go: %s", b.text)
		}
	}
}

// python runs a program with Python 3 until the test ends, and gives the lines
// that it prints.
func python(t *testing.T, program string, args ...string) <-chan string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here")
	}
	file := filepath.Join(t.TempDir(), "program.py")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{file}, args...)...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		cmd.Wait()
	}()
	return lines
}

// TestWebhookDocReceiver: the documented receiver in Python, as it stands,
// takes our pushes over HTTP/1.1, turns away those of another secret, and
// pushes once where it is asked twice.
func TestWebhookDocReceiver(t *testing.T) {
	var program string
	for _, b := range webhookDoc(t) {
		if b.lang == "python" {
			program = b.text
		}
	}
	secret := writeFile(t, "secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", 0o600)
	lines := python(t, program, secret, "0")
	var port int
	if _, err := fmt.Sscanf(<-lines, "listening on port %d", &port); err != nil {
		t.Fatal(err)
	}
	cfg := WebhookConfig{Provider: "mypush", URL: fmt.Sprintf("http://127.0.0.1:%d/", port), SecretFile: secret}
	logs := &logBuffer{}
	target := Target{Provider: "mypush", PRID: hookToken}
	send := func(s *Sender, m Message) Outcome {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return s.Send(ctx, "device-1", target, m)
	}
	m := testMessage("u1")
	for range 2 { // two Senders, as after a restart: the receiver knows the repetition
		if out := send(newHookSender(t, cfg, logs, nil), m); out.Verdict != Sent || out.Status != 200 {
			t.Fatalf("outcome %+v", out)
		}
	}
	if r := probed(t, newHookSender(t, cfg, logs, nil)); r.Err != nil || !strings.Contains(r.Proved, "204") {
		t.Errorf("ping: %+v", r)
	}
	cfg.SecretFile = writeFile(t, "other", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0o600)
	if out := send(newHookSender(t, cfg, logs, nil), testMessage("u2")); out.Verdict != Refused || out.Status != 401 || !out.Alarm {
		t.Errorf("another secret: %+v", out)
	}
	cfg.SecretFile = secret
	send(newHookSender(t, cfg, logs, nil), testMessage("u3"))
	for _, uuid := range []string{"u1", "u3"} {
		token, payload, _ := strings.Cut(strings.TrimPrefix(<-lines, "push "), " ")
		if token != hookToken || !strings.Contains(payload, fmt.Sprintf(`"uuid": %q`, uuid)) {
			t.Errorf("pushed %s %s, want %s", token, payload, uuid)
		}
	}
}

// TestWebhookDocHMS: the relay to Push Kit makes its body and reads its answers.
func TestWebhookDocHMS(t *testing.T) {
	var program string
	for _, b := range webhookDoc(t) {
		if b.lang == "python hms" {
			program = b.text
		}
	}
	program += `
request = hms_request({"prid": "TOKEN"}, {"uuid": "u1"}, "ACCESS")
print(request.get_method(), request.full_url, request.get_header("Authorization"))
print(request.data.decode())
print([hms_status(json.dumps({"code": code})) for code in ("80000000", "80300007", "80200003", "80300010")])
`
	lines := python(t, program)
	for _, want := range []string{
		"POST https://push-api.cloud.huawei.com/v1/100000001/messages:send Bearer ACCESS",
		`{"validate_only": false, "message": {"data": "{\"uuid\": \"u1\"}", "android": {"urgency": "HIGH", "ttl": "20s"}, "token": ["TOKEN"]}}`,
		"[200, 410, 503, 400]",
	} {
		if got := <-lines; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
