package bridge_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip"
	"reveille/sip/location"
	"reveille/sip/siptest"
)

// provisioned makes a phone that was never started: its backend has told its
// push token. It registers without one.
func (w *world) provisioned(o phoneOptions) (*phone, sip.Provision) {
	w.t.Helper()
	w.distance("192.0.2.11", siptest.Link{Delay: phoneDelay})
	po := siptest.PhoneOptions{Sockets: w.net.Host("192.0.2.11"), Local: "192.0.2.11", Bridge: bridgeSIP, Ladder: w.ladder, User: "1001",
		Password: "secret", Instance: "urn:uuid:00000000-0000-4000-8000-000000000001", RegID: 1, Script: o.script}
	p := &phone{Phone: siptest.NewPhone(po), token: strings.Repeat("1", 64), wakes: o.wakes}
	w.service.AddToken(pushtest.Production, p.token, bundle)
	w.mu.Lock()
	w.phones[p.token] = p
	w.mu.Unlock()
	pr := sip.Provision{AOR: "1001", DeviceID: location.DeviceIDOf(po.Instance), Instance: po.Instance,
		Target: location.Target{Provider: "apns", Param: w.teamID + "." + bundle + ".voip", PRID: p.token}}
	_, made, err := w.sip.Provision(w.t.Context(), pr)
	w.must(err)
	equal(w.t, "the device is new", made, true)
	return p, pr
}

func TestDeviceThatWasProvisionedAndNeverRegisteredIsWoken(t *testing.T) {
	call(t, func(s *setup) { s.state = t.TempDir() }, func(w *world) {
		p, _ := w.provisioned(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		w.stopBridge() // what was provisioned is on disk
		w.start()
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		w.talk(c, w.taken(p))
		c.Bye()
		r := w.ended("caller_hung_up", 200)
		equal(t, "push states", pushStates(c), "sent accepted awake")
		equal(t, "pushes on record", len(r.Pushes), 1)
		w.golden("provisioned")
	})
}

func TestDeviceThatWasUnprovisionedIsNotPushed(t *testing.T) {
	call(t, nil, func(w *world) {
		_, pr := w.provisioned(phoneOptions{wakes: 400 * time.Millisecond})
		w.must(w.sip.Unprovision(w.t.Context(), pr.AOR, pr.DeviceID))
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Second, "480")
		w.ended("no_device", 480)
		equal(t, "pushes", len(w.sentPushes()), 0)
	})
}

// A push token that is of no use to the push service is refused before it is needed.
func TestProvisionedTokenMustLookLikeOne(t *testing.T) {
	call(t, nil, func(w *world) {
		_, pr := w.provisioned(phoneOptions{})
		pr.Target.PRID = "token-of-another-service"
		if _, _, err := w.sip.Provision(w.t.Context(), pr); err == nil || strings.Contains(err.Error(), pr.Target.PRID) {
			t.Errorf("%v", err)
		}
	})
}

// The same in a REGISTER: 555, which its developer sees, in place of a phone that never wakes.
func TestRegisteredTokenMustLookLikeOne(t *testing.T) {
	call(t, nil, func(w *world) {
		voip, alert := strings.Repeat("0A", 32), strings.Repeat("ff", 32)
		for prid, kinds := range map[string]string{
			"token-of-another-service":                "555",
			strings.Repeat("0", 63):                   "555",
			voip + ":other":                           "555",
			voip:                                      "[voip]",
			alert + ":remote&" + voip + ":voip":       "[voip alert]",
			alert + "%3Aremote%26" + voip + "%3avoip": "[voip alert]",
			alert + ":remote":                         "[alert]",
		} {
			p := siptest.NewPhone(siptest.PhoneOptions{Sockets: w.net.Host("192.0.2.19"), Local: "192.0.2.19", Bridge: bridgeSIP, User: "1001",
				Password: "secret", Instance: "urn:uuid:" + prid[:9], Provider: "apns", Param: w.teamID + "." + bundle + ".voip&remote", PRID: prid})
			err := p.Register(w.t.Context())
			devices := w.location.Devices("1001")
			switch {
			case kinds == "555" && (err == nil || !strings.Contains(err.Error(), "555") || len(devices) != 0):
				t.Errorf("%s: %v, %d devices", prid, err, len(devices))
			case kinds != "555" && (err != nil || len(devices) != 1 || fmt.Sprint(devices[0].Target.Kinds()) != kinds):
				t.Errorf("%s: %v, devices %v", prid, err, devices)
			}
			if err == nil {
				w.must(p.Unregister(w.t.Context()))
			}
			p.Close()
		}
	})
}
