package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// onALAN is an iPhone on a network without the internet, a minute after its
// app was suspended: the app's connection is open and silent, that of its network
// extension is kept alive. Both have one +sip.instance, with reg-id 1 and 2
// (RFC 5626); only the app has told a push token. The push service is out of reach.
func onALAN(w *world, extensionFirst bool, script func(*siptest.Call)) (app, extension *phone) {
	w.t.Helper()
	holdOpen := func() {
		extension = w.awake(phoneOptions{name: "extension", digit: "2", script: script, change: func(o *siptest.PhoneOptions) {
			o.Instance, o.RegID, o.Provider = "urn:uuid:00000000-0000-4000-8000-000000000001", 2, ""
		}})
	}
	if extensionFirst {
		holdOpen()
	}
	time.Sleep(time.Second)
	app = w.awake(phoneOptions{name: "app", wakes: -1, script: siptest.AnswerAfter(time.Second)})
	time.Sleep(time.Second)
	if !extensionFirst {
		holdOpen()
	}
	app.Deafen(true)
	w.net.Partition(pushIP, true)
	for range 2 {
		time.Sleep(25 * time.Second)
		w.must(extension.Ping())
	}
	time.Sleep(15 * time.Second) // longer than what counts as surely awake
	return app, extension
}

func lan(s *setup) {
	s.columns = []string{"trunk", siptest.Bridge, "push", "extension", "app"}
}

// reopen starts the suspended app: it registers by a connection of its own.
func (w *world) reopen(app *phone) {
	w.t.Helper()
	w.must(app.Reconnect(context.Background()))
	app.Deafen(false)
	w.must(app.Register(context.Background()))
}

// The extension rings the phone and answers in the app's name, while the app
// comes up. That no push gets out neither delays nor ends the call.
func TestNetworkExtensionIsRungWithoutAPush(t *testing.T) {
	for name, extensionFirst := range map[string]bool{"extension registered first": true, "app registered first": false} {
		t.Run(name, func(t *testing.T) {
			call(t, lan, func(w *world) {
				app, extension := onALAN(w, extensionFirst, siptest.AnswerAfter(12*time.Second))
				start := time.Now()
				c := w.invite(siptest.Invitation{})
				taken := w.taken(extension)
				if took := time.Since(start); took > 200*time.Millisecond {
					t.Errorf("the extension's INVITE came after %v", took)
				}
				time.Sleep(time.Second)
				w.reopen(app)
				w.await(c, 15*time.Second, "200")
				w.talk(c, taken)
				c.Bye()
				w.await(taken, time.Second, "BYE")
				r := w.ended("caller_hung_up", 200)
				w.notTaken(extension)
				w.notTaken(app)
				if r.RingMS > 200 || len(r.Pushes) != 1 || r.Pushes[0].Outcome != "failed" {
					t.Errorf("ring delay %v ms, pushes %+v", r.RingMS, r.Pushes)
				}
				w.net.Partition(pushIP, false)
				if extensionFirst {
					w.golden("local_push_connectivity")
				}
			})
		})
	}
}

// An extension that only wakes its app says nothing to the INVITE: the app is
// rung over the connection that it opens.
func TestAppIsRungWhenItsNetworkExtensionSaysNothing(t *testing.T) {
	call(t, lan, func(w *world) {
		app, extension := onALAN(w, true, siptest.SayNothing)
		c := w.invite(siptest.Invitation{})
		w.taken(extension)
		time.Sleep(time.Second)
		w.reopen(app)
		taken := w.taken(app)
		w.await(c, 5*time.Second, "200")
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
		w.notTaken(extension)
		w.notTaken(app)
		w.net.Partition(pushIP, false)
		w.golden("local_push_wakes_app")
	})
}

// The extension as a device of its own, with another +sip.instance: it rings and
// never answers, the app takes the call.
func TestNetworkExtensionAsADeviceOfItsOwn(t *testing.T) {
	call(t, lan, func(w *world) {
		app := w.awake(phoneOptions{name: "app", wakes: -1, script: siptest.AnswerAfter(time.Second)})
		extension := w.awake(phoneOptions{name: "extension", digit: "2", script: siptest.RingOnly, change: func(o *siptest.PhoneOptions) { o.Provider = "" }})
		app.Deafen(true)
		w.net.Partition(pushIP, true)
		time.Sleep(time.Minute)
		c := w.invite(siptest.Invitation{})
		rings := w.taken(extension)
		time.Sleep(6 * time.Second) // the push has failed by now
		w.reopen(app)
		taken := w.taken(app)
		w.await(c, 5*time.Second, "200")
		equal(t, "Reason", w.await(rings, time.Second, "CANCEL").Get("Reason"), elsewhere)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
		w.notTaken(app)
		w.net.Partition(pushIP, false)
	})
}

// What the app prefers goes first, also where it was heard longer ago.
func TestPreferredFlowOfADeviceIsRungFirst(t *testing.T) {
	call(t, lan, func(w *world) {
		extension := w.awake(phoneOptions{name: "extension", digit: "2", script: siptest.AnswerAfter(time.Second), change: func(o *siptest.PhoneOptions) {
			o.Instance, o.RegID, o.Provider, o.Q = "urn:uuid:00000000-0000-4000-8000-000000000001", 2, "", "0.5"
		}})
		app := w.awake(phoneOptions{name: "app", wakes: -1, script: siptest.AnswerAfter(time.Second)})
		time.Sleep(time.Minute)
		w.must(extension.Ping())
		time.Sleep(15 * time.Second)
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		w.taken(app)
		w.notTaken(extension)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}
