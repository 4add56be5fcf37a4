package bridge_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

func reasons(m *siptest.Message) string { return strings.Join(m.All("Reason"), ", ") }

// Whatever protocol the caller's side speaks, the device is told in both.
func TestCallersReasonReachesTheDeviceInBothProtocols(t *testing.T) {
	for given, want := range map[string]struct {
		told string
		q850 int
	}{
		`Q.850;cause=41;text="x"`:                       {`SIP;cause=503;text="Service Unavailable", Q.850;cause=41;text="x"`, 41},
		`SIP;cause=480`:                                 {`SIP;cause=480, Q.850;cause=18;text="No user responding"`, 18},
		`SIP;cause=487, Q.850;cause=16`:                 {`SIP;cause=487, Q.850;cause=16;text="Normal call clearing"`, 16},
		`SIP;cause=200;text="Call completed elsewhere"`: {`SIP;cause=200;text="Call completed elsewhere"`, 16},
		`X.25;cause=7`:                                  {``, 16},
		``:                                              {``, 16},
		`Q.850;cause=16;text="Terminated", preemption; cause=1`: {`Q.850;cause=16;text="Terminated"`, 16},
	} {
		call(t, nil, func(w *world) {
			p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
			c := w.invite(siptest.Invitation{})
			taken := w.taken(p)
			time.Sleep(time.Second)
			var extra []siptest.Field
			if given != "" {
				extra = header("Reason: " + given)
			}
			w.trunk.Cancel(c, extra...)
			equal(t, "Reasons for "+given, reasons(w.await(taken, time.Second, "CANCEL")), want.told)
			equal(t, "cause on record for "+given, w.ended("cancelled", 487).Q850, want.q850)
		})
	}
}

func TestCallersByeReachesTheDeviceInBothProtocols(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		c.Bye(header("Reason: Q.850;cause=38")...)
		equal(t, "Reasons", reasons(w.await(w.taken(p), time.Second, "BYE")), `SIP;cause=503;text="Service Unavailable", Q.850;cause=38`)
		equal(t, "cause on record", w.ended("caller_hung_up", 200).Q850, 38)
	})
}

func TestCalleesByeReachesTheTrunkInBothProtocols(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		time.Sleep(time.Second)
		w.taken(p).Bye(header(`Reason: SIP;cause=504;text="lost"`)...)
		equal(t, "Reasons", reasons(w.await(c, time.Second, "BYE")), `SIP;cause=504;text="lost", Q.850;cause=102;text="Recovery on timer expiry"`)
		equal(t, "cause on record", w.ended("callee_hung_up", 200).Q850, 102)
	})
}

// A response carries Q.850 only: its status is the SIP cause.
func TestDevicesRefusalReachesTheTrunkAsQ850(t *testing.T) {
	for _, c := range []struct {
		device, trunk   int
		given, reason   string
		ending          string
		alsoOnTheRecord int
	}{
		{486, 486, "", `Q.850;cause=17;text="User busy"`, "busy", 17},
		{486, 486, `Q.850;cause=34;text="full"`, `Q.850;cause=34;text="full"`, "busy", 34},
		{600, 600, "", `Q.850;cause=17;text="User busy"`, "busy", 17},
		{603, 603, `SIP;cause=603;text="Nope"`, `Q.850;cause=21;text="Call rejected"`, "declined", 21},
		{480, 480, "", `Q.850;cause=18;text="No user responding"`, "device_failed", 18},
		{404, 480, "", `Q.850;cause=1;text="Unallocated number"`, "device_failed", 1},
		{480, 480, `Q.850;cause=20`, `Q.850;cause=20`, "device_failed", 20},
	} {
		call(t, nil, func(w *world) {
			w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: func(k *siptest.Call) {
				var extra []siptest.Field
				if c.given != "" {
					extra = header("Reason: " + c.given)
				}
				k.Respond(c.device, nil, extra...)
			}})
			k := w.invite(siptest.Invitation{})
			final := w.await(k, 5*time.Second, strconv.Itoa(c.trunk))
			equal(t, "Reasons", reasons(final), c.reason)
			equal(t, "cause on record", w.ended(c.ending, c.trunk).Q850, c.alsoOnTheRecord)
		})
	}
}

// The losers' and the decliners' reasons stand alone, as phones expect them.
func TestReasonsOfTheBridgeStandAlone(t *testing.T) {
	call(t, func(s *setup) { s.columns = []string{"trunk", siptest.Bridge, "push", "first", "second"} }, func(w *world) {
		w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(time.Second, 603)})
		p := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "603")
		equal(t, "Reasons", reasons(w.await(w.taken(p), time.Second, "CANCEL")), `SIP;cause=600;text="Busy Everywhere"`)
		w.ended("declined", 603)
	})
}
