package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/push"
	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// The token of a push service of one's own, and the same as phones write it.
const (
	ownToken     = "dQw4w9WgXcQ:APA91bF_x-Y&z=%41;/@"
	ownWritten   = "dQw4w9WgXcQ%3AAPA91bF_x-Y&z%3D%2541%3B/%40"
	ownWrittenTo = "dQw4w9WgXcQ:APA91bF_x-Y%26z%3d%2541%3b%2f%40"
)

// ownService adds a webhook to the push services of a world.
func ownService(to **pushtest.Webhook) func(*setup) {
	return func(s *setup) {
		s.services = func(w *world, c *push.Config) {
			ln, err := w.net.Host(pushIP).Listen(context.Background(), "tcp", pushIP+":445")
			w.must(err)
			hook, err := pushtest.NewWebhook(pushtest.WebhookOptions{Listener: ln})
			w.must(err)
			w.t.Cleanup(hook.Close)
			hook.AddToken(ownToken)
			secret, err := hook.SecretFile(w.t.TempDir())
			w.must(err)
			ca, err := hook.CAFile(w.t.TempDir())
			w.must(err)
			c.Webhook = append(c.Webhook, push.WebhookConfig{Provider: "MyPush", URL: hook.URL(), SecretFile: secret, RootCA: ca})
			*to = hook
		}
	}
}

// A phone whose push service is a webhook registers with the service's name,
// no pn-param, and a token that has to be escaped. The service gets the token
// as it is, the phone rings, and moves to another account with it.
func TestPhoneOfAPushServiceOfOnesOwn(t *testing.T) {
	var hook *pushtest.Webhook
	change := func(s *setup) { twoExtensions(s); ownService(&hook)(s) }
	call(t, change, func(w *world) {
		own := func(o *siptest.PhoneOptions) { o.Provider, o.Param, o.PRID = "mypush", "", ownWritten }
		p := w.sleeping(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second), change: own})
		if d := w.location.Devices("1001"); len(d) != 1 || d[0].Target.PRID != ownToken {
			t.Fatalf("devices %v", d)
		}
		w.work.Go(func() {
			for range hook.Pushes() {
				time.Sleep(400 * time.Millisecond)
				w.must(p.Register(context.Background()))
			}
		})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		w.talk(c, w.taken(p))
		c.Bye()
		r := w.ended("caller_hung_up", 200)
		if len(r.Pushes) != 1 || r.Pushes[0].Provider != "mypush" {
			t.Errorf("pushes on record: %+v", r.Pushes)
		}
		equal(t, "wakes by mypush", w.wakesBy("mypush"), 1)
		w.awake(phoneOptions{name: "desk", digit: "2", wakes: -1, change: func(o *siptest.PhoneOptions) {
			own(o)
			as("1002")(o)
			o.PRID = ownWrittenTo
		}})
		for _, d := range w.location.Devices("1001") {
			if !d.Target.IsZero() {
				t.Error("the token is still its former owner's")
			}
		}
		hook.Close()
	})
}

// wakesBy is how many reveille_wake_seconds has of a provider.
func (w *world) wakesBy(provider string) (n uint64) {
	w.t.Helper()
	families, err := w.metrics.Gather()
	w.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "reveille_wake_seconds" && m.GetLabel()[0].GetValue() == provider {
				n += m.GetHistogram().GetSampleCount()
			}
		}
	}
	return n
}
