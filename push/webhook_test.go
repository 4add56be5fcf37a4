package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestWebhookRequest: the receiver, which checks signature, clock and form,
// takes the push, and has at hand what it needs.
func TestWebhookRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		m := testMessage("u1")
		out := w.send(m)
		if out.Verdict != Sent || out.Attempts != 1 || !strings.HasPrefix(out.ID, "got-wake_") || out.Status != 200 {
			t.Fatalf("outcome %+v", out)
		}
		got := <-w.service.Pushes()
		var body pushtest.WebhookBody
		if err := json.Unmarshal(got.Body, &body); err != nil {
			t.Fatal(err)
		}
		if body.Data.UUID != "u1" || body.Data.Device.PRID != hookToken || body.Data.Device.Param != "com.example.phone" ||
			!body.Data.ExpiresAt.Equal(m.ExpiresAt) || body.Data.Payload["handle"] != m.Handle || body.Data.Payload["call_id"] != m.CallID {
			t.Errorf("body %s", got.Body)
		}
		if got.Header.Get("User-Agent") != "Reveille" || len(got.Header.Values("X-Idempotency-Key")) != 0 {
			t.Errorf("header %v", got.Header)
		}
		w.noSecrets(out)
	})
}

// TestWebhookAnswers holds every answer against what is done about it. The
// service gives each for as long as it is asked.
func TestWebhookAnswers(t *testing.T) {
	const times = webhookAttempts
	tests := []struct {
		status   int
		verdict  Verdict
		alarm    bool
		requests int
		says     string
	}{
		{200, Sent, false, 1, ""},
		{201, Sent, false, 1, ""},
		{204, Sent, false, 1, ""},
		{301, Refused, true, 1, "redirects are not followed"},
		{307, Refused, true, 1, "redirects are not followed"},
		{400, Refused, true, 1, "its log should say why"},
		{401, Refused, true, 1, "secret_file"},
		{403, Refused, true, 1, "secret_file"},
		{404, Refused, true, 1, "push.webhook.url"},
		{405, Refused, true, 1, "push.webhook.url"},
		{408, Failed, false, times, "Timeout"},
		{410, Gone, false, 1, "token is dead"},
		{413, Refused, true, 1, "8 kB"},
		{422, Refused, true, 1, "its log should say why"},
		{429, Failed, false, times, "TooManyRequests"},
		{500, Failed, false, times, "InternalServerError"},
		{502, Failed, false, times, "BadGateway"},
		{503, Failed, false, times, "ServiceUnavailable"},
		{599, Failed, false, times, "answered 599"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newHookWorld(t, nil)
				defer w.close()
				for range times {
					w.service.Answer(hookToken, pushtest.Answer{Status: tt.status})
				}
				out := w.send(testMessage("u1"))
				if out.Verdict != tt.verdict || out.Alarm != tt.alarm || out.Attempts != tt.requests || out.Status != tt.status || out.Uncertain {
					t.Errorf("outcome %+v", out)
				}
				if (out.Err == nil) != (tt.verdict == Sent) || out.Err != nil && !strings.Contains(out.Err.Error(), tt.says) {
					t.Errorf("error %v", out.Err)
				}
				if c := w.service.Counts(); c.Requests != tt.requests {
					t.Errorf("%d requests", c.Requests)
				}
				w.noSecrets(out)
			})
		})
	}
}

// TestWebhookRepeats: what may help is repeated under the same id, so that a
// receiver that had it already does not take it twice.
func TestWebhookRepeats(t *testing.T) {
	tests := []struct {
		name       string
		answers    []pushtest.Answer
		verdict    Verdict
		requests   int
		duplicates int
		took       time.Duration
	}{
		{"503 once", []pushtest.Answer{{Status: 503}}, Sent, 2, 0, 300 * time.Millisecond},
		{"503 twice", []pushtest.Answer{{Status: 503}, {Status: 503}}, Sent, 3, 0, 900 * time.Millisecond},
		{"Retry-After within the deadline", []pushtest.Answer{{Status: 429, RetryAfter: "2"}}, Sent, 2, 0, 2 * time.Second},
		{"Retry-After beyond it", []pushtest.Answer{{Status: 503, RetryAfter: "30"}}, Failed, 1, 0, 0},
		{"cut off", []pushtest.Answer{{Do: pushtest.CutOff}}, Sent, 2, 0, 300 * time.Millisecond},
		{"cut off after it was taken", []pushtest.Answer{{Do: pushtest.CutOffAfter}}, Sent, 2, 1, 300 * time.Millisecond},
		{"no answer", []pushtest.Answer{{Do: pushtest.Stall}}, Sent, 2, 0, 2800 * time.Millisecond},
		{"late", []pushtest.Answer{{Delay: 2 * time.Second}}, Sent, 1, 0, 2 * time.Second},
		{"GOAWAY", []pushtest.Answer{{Do: pushtest.GoAway}}, Sent, 2, 0, 0},
		{"REFUSED_STREAM", []pushtest.Answer{{Do: pushtest.Refuse}}, Sent, 2, 0, 0},
		{"half an answer", []pushtest.Answer{{Do: pushtest.HalfAnswer}}, Sent, 1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newHookWorld(t, nil)
				defer w.close()
				w.service.Answer(hookToken, tt.answers...)
				out := w.send(testMessage("u1"))
				c := w.service.Counts()
				if out.Verdict != tt.verdict || out.Uncertain || c.Requests != tt.requests || c.Duplicates != tt.duplicates || c.Accepted > 1 {
					t.Errorf("outcome %+v, %+v", out, c)
				}
				if out.Took < tt.took || out.Took > tt.took+time.Second { // HTTP/2 pauses before it repeats by itself
					t.Errorf("took %v, want %v", out.Took, tt.took)
				}
				w.noSecrets(out)
			})
		})
	}
}

// TestWebhookUncertainStays: a lost answer is not forgotten because a later
// attempt failed for sure.
func TestWebhookUncertainStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		w.service.Answer(hookToken, pushtest.Answer{Do: pushtest.CutOffAfter}, pushtest.Answer{Status: 503}, pushtest.Answer{Status: 503})
		out := w.send(testMessage("u1"))
		if out.Verdict != Failed || !out.Uncertain || out.Status != 503 {
			t.Errorf("outcome %+v", out)
		}
		again := w.send(testMessage("u1"))
		if c := w.service.Counts(); !again.Uncertain || c.Requests != 3 || c.Accepted != 1 {
			t.Errorf("again %+v, %+v", again, c)
		}
	})
}

// TestWebhookIDs: one id for each call, device and target, whatever happens to
// be the same.
func TestWebhookIDs(t *testing.T) {
	target := Target{Provider: "p", Param: "a", PRID: "token"}
	id := wakeID(target, Message{UUID: "u"})
	if id != wakeID(target, Message{UUID: "u", CallerName: "x"}) || strings.Contains(id, ".") || len(id) != len("wake_")+24 {
		t.Errorf("id %q", id)
	}
	for name, other := range map[string]string{
		"call":    wakeID(target, Message{UUID: "v"}),
		"again":   wakeID(target, Message{UUID: "u", Again: true}),
		"token":   wakeID(Target{Provider: "p", Param: "a", PRID: "token2"}, Message{UUID: "u"}),
		"borders": wakeID(Target{Provider: "p", Param: "at", PRID: "oken"}, Message{UUID: "u"}),
	} {
		if other == id {
			t.Errorf("%s: the same id", name)
		}
	}
}

// TestWebhookRotation: with two secrets in the file, a receiver that knows the
// old or the new one takes the request.
func TestWebhookRotation(t *testing.T) {
	const old, fresh = "an old secret of 24 bytes", "a fresh one of 24 bytes, or more"
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, func(c *WebhookConfig) { c.SecretFile = writeFile(t, "secret", old+"\n\n"+fresh+"\n", 0o600) })
		defer w.close()
		for i, secret := range []string{old, fresh} {
			w.service.SetSecrets([]byte(secret))
			if out := w.send(testMessage(fmt.Sprint("u", i))); out.Verdict != Sent {
				t.Errorf("%s: %+v", secret, out)
			}
			got := <-w.service.Pushes()
			if n := len(strings.Fields(got.Header.Get("Webhook-Signature"))); n != 2 {
				t.Errorf("%d signatures", n)
			}
		}
		w.service.SetSecrets([]byte("neither of them, but long enough"))
		if out := w.send(testMessage("u9")); out.Verdict != Refused || !out.Alarm || out.Reason != "signature" {
			t.Errorf("outcome %+v", out)
		}
	})
}

// TestWebhookUnreachable: nothing left, so nothing is uncertain.
func TestWebhookUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		refused := func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		}
		s := newHookSender(t, w.cfg, w.logs, refused)
		defer s.Close()
		out := s.Send(t.Context(), "d", Target{Provider: "mypush", PRID: hookToken}, testMessage("u1"))
		if out.Verdict != Failed || out.Uncertain || out.Reason != "Unreachable" || out.Attempts != webhookAttempts || out.Took != 900*time.Millisecond {
			t.Errorf("outcome %+v", out)
		}
	})
}

// TestWebhookBound: a receiver that hangs holds no more than webhookAtOnce
// requests, and the pushes beyond them have certainly not been sent.
func TestWebhookBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		for range webhookAttempts * (webhookAtOnce + 20) {
			w.service.Answer(hookToken, pushtest.Answer{Do: pushtest.Stall})
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		certain := 0
		for i := range webhookAtOnce + 20 {
			wg.Go(func() {
				out := w.send(testMessage(fmt.Sprint("u", i)))
				mu.Lock()
				defer mu.Unlock()
				if out.Verdict != Failed {
					t.Errorf("outcome %+v", out)
				}
				if !out.Uncertain {
					certain++
				}
			})
		}
		synctest.Wait()
		if c := w.service.Counts(); c.Requests != webhookAtOnce {
			t.Errorf("%d requests at once", c.Requests)
		}
		wg.Wait()
		if certain > 20 {
			t.Errorf("%d pushes are certain not to have been sent", certain)
		}
	})
}

// TestWebhookCloseEndsAll: a push under way fails, and nothing is left behind.
func TestWebhookCloseEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		w.service.Answer(hookToken, pushtest.Answer{Do: pushtest.Stall})
		done := make(chan Outcome)
		go func() { done <- w.send(testMessage("u1")) }()
		synctest.Wait()
		start := time.Now()
		w.sender.Close()
		if out := <-done; out.Verdict != Failed || !out.Uncertain || time.Since(start) != 0 {
			t.Errorf("outcome %+v after %v", out, time.Since(start))
		}
		if out := w.send(testMessage("u2")); out.Verdict != Failed || out.Uncertain || out.Reason != "Closed" {
			t.Errorf("after Close: %+v", out)
		}
		w.service.Close()
	})
}

// TestWebhookEcho: a receiver that sends the token back does not get it into
// our logs.
func TestWebhookEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		spaced := strings.Join(strings.Split(hookToken, ""), " ")
		for i, reason := range []string{hookToken, "x" + hookToken[:20], hookToken[10:40], spaced} {
			said, err := json.Marshal(map[string]string{"reason": reason, "id": reason})
			if err != nil {
				t.Fatal(err)
			}
			w.service.Answer(hookToken, pushtest.Answer{Status: 400, Body: string(said)})
			out := w.send(testMessage(fmt.Sprint("u", i)))
			if out.Reason != "BadRequest" || out.ID != "" || out.Verdict != Refused {
				t.Errorf("outcome %+v", out)
			}
			w.noSecrets(out)
		}
		w.service.Answer(hookToken, pushtest.Answer{Status: 400, Body: `{"reason": 17, "id": {}}`})
		if out := w.send(testMessage("n")); out.Reason != "17" {
			t.Errorf("outcome %+v", out)
		}
	})
}

// FuzzWebhookAnswer: whatever a receiver answers, the outcome is one of the
// four, only those that fail have an error, and the token stays here.
func FuzzWebhookAnswer(f *testing.F) {
	f.Add(200, `{"id":"x"}`)
	f.Add(410, `{"reason":"unregistered"}`)
	f.Add(200, `{"code":404,"response":"gone"}`)
	f.Add(200, `{"status":200}`)
	f.Add(503, "<html>")
	f.Add(400, `{"reason":"`+hookToken+`"}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		target := Target{PRID: hookToken}
		for _, form := range []webhookForm{standardForm{}, acrobitsForm{}} {
			w, err := newWebhook(WebhookConfig{Provider: "p", URL: "https://x.example", PayloadConfig: PayloadConfig{Payload: presetAcrobits}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			w.form = form
			a := &answer{status: status, body: []byte(body), whole: len(body) < maxAnswer}
			out, retry := w.conclude(t.Context(), a, target)
			w.Close()
			if (out.Verdict == Sent) != (out.Err == nil) || (out.Verdict != Failed && retry) || len(out.Reason) > maxReason {
				t.Errorf("%+v, retry %v", out, retry)
			}
			if out.Err != nil && strings.Contains(out.Err.Error(), hookToken) || strings.Contains(out.Reason+out.ID, hookToken) {
				t.Errorf("the token is in %+v", out)
			}
		}
	})
}

// TestWebhookSecretReloads: a changed secret file is used without a restart.
func TestWebhookSecretReloads(t *testing.T) {
	const fresh = "a fresh one of 24 bytes, or more"
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		if out := w.send(testMessage("u1")); out.Verdict != Sent {
			t.Fatalf("outcome %+v", out)
		}
		if err := os.WriteFile(w.cfg.SecretFile, []byte(fresh), 0o600); err != nil {
			t.Fatal(err)
		}
		w.service.SetSecrets([]byte(fresh))
		time.Sleep(3 * lookEvery)
		if out := w.send(testMessage("u2")); out.Verdict != Sent {
			t.Errorf("outcome %+v", out)
		}
	})
}

// TestWebhookMovedToken: a target that has gone to another device meanwhile is
// not posted to again.
func TestWebhookMovedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		w.service.Answer(hookToken, pushtest.Answer{Status: 503})
		m := testMessage("u1")
		m.Still = func() bool { return false }
		if out := w.send(m); out.Verdict != Failed || out.Reason != "TargetMoved" || w.service.Counts().Requests != 1 {
			t.Errorf("outcome %+v", out)
		}
	})
}

// TestWebhookCloseEndsHandshakes: a host that takes connections and says
// nothing does not keep them beyond Close.
func TestWebhookCloseEndsHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		silent := pushtest.NewPipeListener("push.example.test:443")
		defer silent.Close()
		s := newHookSender(t, w.cfg, w.logs, pushtest.DialAny(silent))
		go s.Send(t.Context(), "d", Target{Provider: "mypush", PRID: hookToken}, testMessage("u1"))
		nc, err := silent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan time.Time)
		go func() {
			io.Copy(io.Discard, nc)
			ended <- time.Now()
		}()
		synctest.Wait()
		start := time.Now()
		s.Close()
		if at := <-ended; at.Sub(start) > 0 {
			t.Errorf("the connection ended %v after Close", at.Sub(start))
		}
	})
}
