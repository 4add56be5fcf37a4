package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"reveille/push"
	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

const (
	project      = "example-phone"
	senderID     = "929724111839"
	registration = "cAbC_0123456789:APA91b-0123456789abcdefghijklmnopqrstuvwxyz"
)

// androidService adds a Firebase project to the push services of a world.
func androidService(to **pushtest.FCM) func(*setup) {
	return func(s *setup) {
		s.services = func(w *world, c *push.Config) {
			host := w.net.Host(pushIP)
			send, err := host.Listen(context.Background(), "tcp", pushIP+":446")
			w.must(err)
			token, err := host.Listen(context.Background(), "tcp", pushIP+":447")
			w.must(err)
			fcm, err := pushtest.NewFCM(pushtest.FCMOptions{Send: send, Token: token})
			w.must(err)
			w.t.Cleanup(fcm.Close)
			fcm.AddToken(project, registration)
			account, err := fcm.ServiceAccount(w.t.TempDir(), project)
			w.must(err)
			ca, err := fcm.CAFile(w.t.TempDir())
			w.must(err)
			c.FCM = []push.FCMConfig{{Project: project, SenderID: senderID, ServiceAccountFile: account, Endpoint: fcm.URL(), RootCA: ca}}
			*to = fcm
		}
	}
}

// An Android phone names its project by id, by number as Linphone does, or not
// at all, and writes the colon of its token as it likes: each is woken. When
// Google says that the token is dead, the device is not pushed any more.
func TestAndroidPhoneIsWokenHoweverItRegisters(t *testing.T) {
	for name, o := range map[string]siptest.PhoneOptions{
		"project":    {Provider: "fcm", Param: project, PRID: registration},
		"number":     {Provider: "FCM", Param: senderID, PRID: strings.ReplaceAll(registration, ":", "%3A")},
		"no project": {Provider: "fcm", Param: "", PRID: strings.ReplaceAll(registration, ":", "%3a")},
	} {
		t.Run(name, func(t *testing.T) {
			var fcm *pushtest.FCM
			call(t, androidService(&fcm), func(w *world) {
				p := w.sleeping(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second), change: func(po *siptest.PhoneOptions) {
					po.Provider, po.Param, po.PRID = o.Provider, o.Param, o.PRID
				}})
				w.work.Go(func() {
					for range fcm.Pushes() {
						time.Sleep(400 * time.Millisecond)
						w.must(p.Register(context.Background()))
					}
				})
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				w.talk(c, w.taken(p))
				c.Bye()
				r := w.ended("caller_hung_up", 200)
				if d := w.location.Devices("1001"); len(r.Pushes) != 1 || r.Pushes[0].Provider != "fcm" || len(d) != 1 || d[0].Target.PRID != registration {
					t.Errorf("pushes on record: %+v, devices %v", r.Pushes, d)
				}
				p.Drop()
				time.Sleep(time.Minute)
				fcm.Unregister(registration)
				failsFast(w, absent)
				equal(t, "devices that are left", len(w.location.Devices("1001")), 0)
				time.Sleep(40 * time.Second)
				fcm.Close()
			})
		})
	}
}
