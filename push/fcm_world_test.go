package push

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"reveille/push/pushtest"
)

const (
	testProject      = "example-phone"
	testRegistration = "cAbC_0123456789:APA91b-0123456789abcdefghijklmnopqrstuvwxyz"
)

// fcmTestKey is the key of all test service accounts: making one takes a tenth
// of a second.
var fcmTestKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// fcmWorld is a Sender and the FCM service that it talks to.
type fcmWorld struct {
	t       testing.TB
	service *pushtest.FCM
	sender  *Sender
	cfg     Config
	logs    *logBuffer

	patience time.Duration // a push has this long
}

// newFCMPipeWorld is a world in memory, for synctest bubbles. The access
// tokens that are asked for get the answers.
func newFCMPipeWorld(t testing.TB, change func(*pushtest.FCMOptions, *FCMConfig), answers ...pushtest.Answer) *fcmWorld {
	send, token := pushtest.NewPipeListener("fcm.googleapis.test:443"), pushtest.NewPipeListener("oauth2.googleapis.test:443")
	return newFCMWorld(t, pushtest.FCMOptions{Send: send, Token: token}, pushtest.DialAny(send, token), change, answers...)
}

// newFCMSocketWorld is a world on loopback sockets.
func newFCMSocketWorld(t testing.TB) *fcmWorld {
	return newFCMWorld(t, pushtest.FCMOptions{}, nil, nil)
}

func newFCMWorld(t testing.TB, po pushtest.FCMOptions, dial DialFunc, change func(*pushtest.FCMOptions, *FCMConfig), answers ...pushtest.Answer) *fcmWorld {
	t.Helper()
	w := &fcmWorld{t: t, logs: &logBuffer{}, cfg: DefaultConfig(), patience: callPatience}
	if po.Send == nil {
		w.patience = realPatience
	}
	var err error
	if po.Key, err = fcmTestKey(); err != nil {
		t.Fatal(err)
	}
	var cfg FCMConfig
	if change != nil {
		change(&po, &cfg)
	}
	if w.service, err = pushtest.NewFCM(po); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.service.Close)
	w.service.AnswerToken(answers...) // before the Sender, which asks at once
	w.cfg.FCM = []FCMConfig{w.project(testProject)}
	if change != nil {
		change(&po, &w.cfg.FCM[0])
	}
	w.sender = w.newSender(dial)
	w.service.AddToken(testProject, testRegistration)
	return w
}

func (w *fcmWorld) newSender(dial DialFunc) *Sender {
	w.t.Helper()
	s, err := NewSender(w.cfg, Options{Dial: dial, Log: slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

// project is a project's configuration, with a service account made for it.
func (w *fcmWorld) project(id string) FCMConfig {
	w.t.Helper()
	dir := w.t.TempDir()
	ca, err := w.service.CAFile(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	file, err := w.service.ServiceAccount(dir, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return FCMConfig{Project: id, ServiceAccountFile: file, Endpoint: w.service.URL(), RootCA: ca}
}

// send pushes with the time that a push has.
func (w *fcmWorld) send(m Message, change ...func(*Target)) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), w.patience)
	defer cancel()
	t := Target{Provider: "fcm", Param: testProject, PRID: testRegistration}
	for _, f := range change {
		f(&t)
	}
	return w.sender.Send(ctx, "device-1", t, m)
}

// close ends both sides; in a bubble that must happen before it ends.
func (w *fcmWorld) close() {
	w.sender.Close()
	w.service.Close()
}

// noSecrets holds that no token and no key material was logged or returned.
func (w *fcmWorld) noSecrets(outs ...Outcome) {
	w.t.Helper()
	texts := []string{w.logs.String()}
	for _, out := range outs {
		texts = append(texts, out.Reason, out.ID)
		if out.Err != nil {
			texts = append(texts, out.Err.Error())
		}
	}
	for _, text := range texts {
		for _, secret := range []string{testRegistration, "APA91b", "ya29.", "eyJ", "assertion", "PRIVATE"} {
			if strings.Contains(text, secret) {
				w.t.Errorf("a secret (%s) is in: %s", secret, text)
			}
		}
	}
}
