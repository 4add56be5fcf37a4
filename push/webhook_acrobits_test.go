package push

import (
	"context"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// pnmWorld is a Sender and Acrobits' mediator.
type pnmWorld struct {
	service *pushtest.PNM
	sender  *Sender
	logs    *logBuffer
}

func newPNMWorld(t testing.TB) *pnmWorld {
	t.Helper()
	ln := pushtest.NewPipeListener("pnm.example.test:443")
	service, err := pushtest.NewPNM(pushtest.WebhookOptions{Listener: ln})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	service.AddDevice(pnmAppID, pnmToken)
	ca, err := service.CAFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	logs := &logBuffer{}
	cfg := WebhookConfig{Provider: "acrobits", URL: service.URL(), RootCA: ca, PayloadConfig: PayloadConfig{Payload: presetAcrobits}}
	return &pnmWorld{service, newHookSender(t, cfg, logs, pushtest.DialAny(ln)), logs}
}

func (w *pnmWorld) send(m Message) Outcome { return w.sendTo(pnmWholeToken, m) }

func (w *pnmWorld) sendTo(prid string, m Message) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return w.sender.Send(ctx, "device-1", Target{Provider: "acrobits", Param: pnmAppID, PRID: prid}, m)
}

func (w *pnmWorld) close() {
	w.sender.Close()
	w.service.Close()
}

// TestAcrobitsRequest: the mediator takes the push, whose body is the preset's
// alone, as in testdata/payload/acrobits.webhook.json.
func TestAcrobitsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPNMWorld(t)
		defer w.close()
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Attempts != 1 {
			t.Fatalf("outcome %+v", out)
		}
		got := <-w.service.Pushes()
		want := map[string]any{"verb": "NotifyIncomingCall", "AppId": pnmAppID, "DeviceToken": pnmToken, "Selector": pnmSelector,
			"Id": "call-id@reveille", "UserName": "+4930123456", "UserDisplayName": "Ada Lovelace"}
		if !maps.Equal(got.Payload, want) {
			t.Errorf("body %s", got.Body)
		}
		if s := got.Header.Get("Webhook-Signature"); s != "" {
			t.Errorf("signed without a secret: %q", s)
		}
	})
}

// TestAcrobitsAnswers holds the mediator's own status, under HTTP 200, and
// HTTP's, against what is done about them.
func TestAcrobitsAnswers(t *testing.T) {
	tests := []struct {
		name     string
		answer   pushtest.Answer
		verdict  Verdict
		alarm    bool
		requests int
		says     string
	}{
		{"accepted", pushtest.Answer{Status: 200, Code: 200}, Sent, false, 1, ""},
		{"accepted, the other edition's name", pushtest.Answer{Status: 202, Body: `{"status":200,"response":"OK"}`}, Sent, false, 1, ""},
		{"token dead", pushtest.Answer{Status: 200, Code: 404}, Gone, false, 1, ""},
		{"bad parameters", pushtest.Answer{Status: 200, Code: 400}, Refused, true, 1, "AppId"},
		{"mediator in trouble", pushtest.Answer{Status: 200, Code: 500}, Failed, false, 2, "answered 200 500"},
		{"service in trouble", pushtest.Answer{Status: 500}, Failed, false, 2, "answered 500"},
		{"not understood", pushtest.Answer{Status: 400}, Refused, true, 1, "answered 400"},
		{"wrong address", pushtest.Answer{Status: 404}, Refused, true, 1, "push.webhook.url"},
		{"no mediator", pushtest.Answer{Status: 200, Body: "<html>"}, Refused, true, 1, "push mediator"},
		{"JSON of something else", pushtest.Answer{Status: 200, Body: `{"ok":true}`}, Refused, true, 1, "push mediator"},
		{"too much of it", pushtest.Answer{Status: 200, Body: `{"code":200,"response":"` + strings.Repeat("x", maxAnswer) + `"}`}, Refused, true, 1, "push mediator"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPNMWorld(t)
				defer w.close()
				w.service.Answer(pnmToken, tt.answer, tt.answer, tt.answer)
				out := w.send(testMessage("u1"))
				if out.Verdict != tt.verdict || out.Alarm != tt.alarm || out.Attempts != tt.requests || out.Uncertain {
					t.Errorf("outcome %+v", out)
				}
				if (out.Err == nil) != (tt.verdict == Sent) || out.Err != nil && !strings.Contains(out.Err.Error(), tt.says) {
					t.Errorf("error %v", out.Err)
				}
				if strings.Contains(w.logs.String(), pnmToken) {
					t.Errorf("the token is in %s", w.logs)
				}
			})
		})
	}
}

// TestAcrobitsIsNotRepeated: the mediator knows no repetitions, so what may
// have been accepted is not sent again.
func TestAcrobitsIsNotRepeated(t *testing.T) {
	for _, do := range []pushtest.Misdeed{pushtest.CutOff, pushtest.CutOffAfter, pushtest.HalfAnswer, pushtest.Stall} {
		synctest.Test(t, func(t *testing.T) {
			w := newPNMWorld(t)
			defer w.close()
			w.service.Answer(pnmToken, pushtest.Answer{Do: do})
			out := w.send(testMessage("u1"))
			if c := w.service.Counts(); out.Verdict != Failed || !out.Uncertain || c.Requests != 1 {
				t.Errorf("%v: outcome %+v, %+v", do, out, c)
			}
		})
	}
}

func TestAcrobitsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPNMWorld(t)
		defer w.close()
		for _, prid := range []string{"", pnmToken, "&" + pnmSelector, pnmToken + "&", pnmToken + "&a b"} {
			if err := w.sender.CheckToken("Acrobits", prid); err == nil || strings.Contains(err.Error(), pnmToken) {
				t.Errorf("%q: %v", prid, err)
			}
			if out := w.sendTo(prid, testMessage("u"+prid)); out.Verdict != Gone || out.Reason != "MalformedToken" {
				t.Errorf("%q: %+v", prid, out)
			}
		}
		if err := w.sender.CheckToken("acrobits", pnmWholeToken); err != nil {
			t.Error(err)
		}
		if w.sender.Supports("acrobits", "") || !w.sender.Supports("ACROBITS", pnmAppID) || w.sender.Supports("apns", pnmAppID) {
			t.Error("Supports")
		}
		if c := w.service.Counts(); c.Requests != 0 {
			t.Errorf("%d requests", c.Requests)
		}
	})
}
