package push

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestFCMWire holds the bytes of a message against Google's reference.
func TestFCMWire(t *testing.T) {
	w := newFCMSocketWorld(t)
	out := w.send(testMessage("u1"))
	if out.Verdict != Sent || out.Attempts != 1 || !strings.HasPrefix(out.ID, "0:") {
		t.Fatalf("outcome %+v", out)
	}
	got := <-w.service.Pushes()
	if !bytes.HasPrefix(got.Body, []byte(`{"message":{"token":"`+testRegistration+`","android":{"priority":"HIGH","ttl":"0s","data":{"`)) {
		t.Errorf("body %s", got.Body)
	}
	if got.Path != "/v1/projects/"+testProject+"/messages:send" || got.Header.Get("content-type") != "application/json" || !got.Expiration.IsZero() {
		t.Errorf("%+v", got)
	}
	for key, want := range map[string]string{"uuid": "u1", "handle": "+4930123456", "caller_name": "Ada Lovelace", "has_video": "false"} {
		if got.Payload[key] != want {
			t.Errorf("data %s = %q, want %q", key, got.Payload[key], want)
		}
	}
	w.noSecrets(out)
}

// TestFCMWireQuotes: whatever a registration token holds, it stays one JSON string.
func TestFCMWireQuotes(t *testing.T) {
	for _, prid := range []string{`a"b`, `a\`, `","topic":"x`, `<&>`} {
		j := fcmJob{project: &fcmProject{}, target: Target{PRID: prid}, data: []byte(`{"uuid":"u"}`)}
		var got struct {
			Message map[string]any `json:"message"`
		}
		if err := json.Unmarshal(j.body(time.Now()), &got); err != nil || got.Message["token"] != prid || len(got.Message) != 2 {
			t.Errorf("%q: %v, %v", prid, got, err)
		}
	}
}

// TestFCMTTL: Google keeps a push no longer than configured, nor than the call.
func TestFCMTTL(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		ttl  time.Duration
		ends time.Time
		want string
	}{
		{0, time.Time{}, `"0s"`},
		{0, now.Add(time.Minute), `"0s"`},
		{30 * time.Second, time.Time{}, `"30s"`},
		{30 * time.Second, now.Add(time.Minute), `"30s"`},
		{30 * time.Second, now.Add(7900 * time.Millisecond), `"7s"`},
		{30 * time.Second, now.Add(-time.Second), `"0s"`},
	} {
		j := fcmJob{project: &fcmProject{cfg: FCMConfig{TTL: tt.ttl}}, message: Message{ExpiresAt: tt.ends}, data: []byte("{}")}
		if body := j.body(now); !bytes.Contains(body, []byte(`"ttl":`+tt.want)) {
			t.Errorf("%v, call ends %v: %s, want %s", tt.ttl, tt.ends, body, tt.want)
		}
	}
}

func TestFCMProjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send, token := pushtest.NewPipeListener("fcm.test:443"), pushtest.NewPipeListener("oauth2.test:443")
		dial := pushtest.DialAny(send, token)
		w := newFCMWorld(t, pushtest.FCMOptions{Send: send, Token: token}, dial, nil)
		defer w.close()
		one := w.sender
		w.cfg.FCM[0].SenderID = "123456789012"
		w.cfg.FCM = append(w.cfg.FCM, w.project("second-phone"))
		two := w.newSender(dial)
		defer two.Close()
		w.service.AddToken("second-phone", "second-"+testRegistration)
		for _, tt := range []struct {
			sender *Sender
			param  string
			prid   string
			want   string // project
		}{
			{one, testProject, testRegistration, testProject},
			{one, "", testRegistration, testProject},
			{one, "123456789012", testRegistration, ""},
			{one, "second-phone", testRegistration, ""},
			{two, testProject, testRegistration, testProject},
			{two, "123456789012", testRegistration, testProject},
			{two, "second-phone", "second-" + testRegistration, "second-phone"},
			{two, "", testRegistration, ""},
			{two, "Second-Phone", testRegistration, ""},
		} {
			if got := tt.sender.Supports("FCM", tt.param); got != (tt.want != "") {
				t.Errorf("%q is served: %v", tt.param, got)
			}
			out := tt.sender.Send(t.Context(), "d", Target{Provider: "fcm", Param: tt.param, PRID: tt.prid}, testMessage(tt.param))
			if tt.want == "" {
				if out.Verdict != Refused || !out.Alarm || out.Attempts != 0 {
					t.Errorf("%q: %+v", tt.param, out)
				}
				continue
			}
			if got := <-w.service.Pushes(); out.Verdict != Sent || got.Topic != tt.want {
				t.Errorf("%q: %+v to %s, want %s", tt.param, out, got.Topic, tt.want)
			}
		}
		synctest.Wait() // the second connection is made beside the pushes
		if c := w.service.Counts(); c.Connections != 6 {
			t.Errorf("%d connections, want two for each account of each sender", c.Connections)
		}
	})
}

func TestFCMBesideAPNs(t *testing.T) {
	a, g := newSocketWorld(t), newFCMSocketWorld(t)
	cfg := a.cfg
	cfg.FCM = g.cfg.FCM
	s, err := NewSender(cfg, Options{Log: a.sender.log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := strings.Join(s.Providers(), " "); got != "apns fcm" {
		t.Errorf("providers %q", got)
	}
	if out := s.Send(t.Context(), "d", Target{Provider: "apns", Param: testParam, PRID: testToken}, testMessage("u1")); out.Verdict != Sent {
		t.Errorf("apns: %+v", out)
	}
	if out := s.Send(t.Context(), "e", Target{Provider: "Fcm", Param: testProject, PRID: testRegistration}, testMessage("u1")); out.Verdict != Sent {
		t.Errorf("fcm: %+v", out)
	}
}

func TestFCMCheckToken(t *testing.T) {
	w := newFCMSocketWorld(t)
	for prid, good := range map[string]bool{
		testRegistration:          true,
		strings.Repeat("x", 1024): true,
		strings.Repeat("x", 1025): false,
		"":                        false,
		"a b":                     false,
		"a\nb":                    false,
		"é":                       false,
	} {
		err := w.sender.CheckToken("fcm", prid)
		if (err == nil) != good || (err != nil && len(prid) > 3 && strings.Contains(err.Error(), prid)) {
			t.Errorf("%.20q: %v", prid, err)
		}
		if !good {
			if out := w.send(testMessage("u"+prid), func(t *Target) { t.PRID = prid }); out.Verdict != Gone || out.Reason != "MalformedToken" || out.Attempts != 0 {
				t.Errorf("%.20q: %+v", prid, out)
			}
		}
	}
}

func TestFCMExpiredCallIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		defer w.close()
		m := testMessage("u1")
		m.ExpiresAt = time.Now()
		if out := w.send(m); out.Verdict != Failed || out.Attempts != 0 || w.service.Counts().Requests != 0 {
			t.Errorf("outcome %+v", out)
		}
	})
}

// TestFCMMisbehaviour holds what a Send does with a service that fails one
// request in one way and is well otherwise.
func TestFCMMisbehaviour(t *testing.T) {
	big := strings.Repeat("x", 70_000)
	for _, tt := range []struct {
		name     string
		answer   pushtest.Answer
		verdict  Verdict
		accepted int
		took     time.Duration
		unsure   bool
	}{
		{"GOAWAY", pushtest.Answer{Do: pushtest.GoAway}, Sent, 1, 0, false},
		{"REFUSED_STREAM", pushtest.Answer{Do: pushtest.Refuse}, Sent, 1, 0, false},
		{"cut off", pushtest.Answer{Do: pushtest.CutOff}, Failed, 0, 0, true},
		{"accepted, then cut off", pushtest.Answer{Do: pushtest.CutOffAfter}, Failed, 1, 0, true},
		{"accepted, half an answer", pushtest.Answer{Do: pushtest.HalfAnswer}, Sent, 1, 0, false},
		{"no answer", pushtest.Answer{Do: pushtest.Stall}, Failed, 0, 5 * time.Second, true},
		{"slow", pushtest.Answer{Delay: 4 * time.Second}, Sent, 1, 4 * time.Second, false},
		{"accepted, no JSON", pushtest.Answer{Status: 200, Body: "OK"}, Sent, 1, 0, false},
		{"accepted, too large", pushtest.Answer{Status: 200, Body: big}, Sent, 1, 0, false},
		{"500, no JSON", pushtest.Answer{Status: 500, Body: "<html>Error 500 (Server Error)!!1"}, Sent, 1, retryAfterFailure, false},
		{"503, too large", pushtest.Answer{Status: 503, Body: big}, Sent, 1, retryAfterFailure, false},
		{"404, no JSON: the token stays", pushtest.Answer{Status: 404, Body: "<html>Error 404 (Not Found)!!1"}, Refused, 0, 0, false},
		{"400, no JSON: the token stays", pushtest.Answer{Status: 400, Body: "<html>"}, Sent, 1, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFCMPipeWorld(t, nil)
				defer w.close()
				synctest.Wait()
				w.service.Answer(testRegistration, tt.answer)
				out := w.send(testMessage("u1"))
				if out.Verdict != tt.verdict || out.Took != tt.took || out.Uncertain != tt.unsure {
					t.Errorf("outcome %+v, want %v after %v", out, tt.verdict, tt.took)
				}
				time.Sleep(10 * time.Second)
				if c := w.service.Counts(); c.Accepted != tt.accepted {
					t.Errorf("%d pushes accepted, want %d", c.Accepted, tt.accepted)
				}
				w.noSecrets(out)
				if again := w.send(testMessage("u2")); again.Verdict != Sent {
					t.Errorf("the next call: %+v", again)
				}
			})
		})
	}
}

// TestFCMServiceDown: a Send fails within its deadline, and works as soon as
// the service is there.
func TestFCMServiceDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		defer w.close()
		synctest.Wait()
		w.service.Deafen(true)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		target := Target{Provider: "fcm", PRID: testRegistration}
		if out := w.sender.Send(ctx, "d", target, testMessage("u1")); out.Verdict != Failed || out.Took > 3*time.Second {
			t.Errorf("outcome %+v", out)
		}
		time.Sleep(5 * time.Minute)
		w.service.Deafen(false)
		w.service.Drop()
		time.Sleep(redialMost + 10*time.Second)
		if out := w.sender.Send(t.Context(), "d", target, testMessage("u2")); out.Verdict != Sent || out.Took > 0 {
			t.Errorf("afterwards: %+v", out)
		}
	})
}
