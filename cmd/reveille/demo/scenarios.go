package demo

import (
	"context"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// Times of the simulated people and phones.
const (
	wake = 350 * time.Millisecond  // from the push to the start of the app
	ring = 700 * time.Millisecond  // until somebody takes the phone
	late = 1500 * time.Millisecond // a slow wake

	settle = 100 * time.Millisecond // for the last answers of an exchange
)

// Reasons that the bridge gives to devices (RFC 3326).
const (
	completedElsewhere = "SIP;cause=200"
	declinedElsewhere  = "SIP;cause=600"
)

func scenarios() []scenario {
	return []scenario{
		{"answered", "The phone sleeps. The push wakes it, it registers, rings and answers.",
			"one push, woken, answered, audio both ways bit for bit", answered},
		{"awake", "The app is open: the INVITE goes out at once, without a push.",
			"no push, rings at once, audio both ways bit for bit", awake},
		{"two-devices", "Phone and tablet ring. The phone answers, the tablet stops ringing.",
			"one push each; the phone talks, the tablet got CANCEL", twoDevices},
		{"cancelled-before-wake", "The caller gives up before the phone is awake. It must not ring on.",
			"the late phone got INVITE and CANCEL, once", cancelledBeforeWake},
		{"answered-elsewhere", "The phone answers while the tablet still wakes. The tablet is told.",
			"the late tablet got INVITE and CANCEL, cause=200", answeredElsewhere},
		{"declined", "The callee declines on the phone: the call ends on the tablet too.",
			"the caller got 603, the tablet CANCEL", declined},
		{"busy", "The phone is busy; the caller hears so.",
			"the caller got 486", busy},
		{"dead-token", "The app was deleted: the push service says 410, the caller hears at once.",
			"480 within a second, the token was dropped", deadToken},
		{"nobody-wakes", "The push is accepted, but no phone comes (here after 2 s, not 20).",
			"480 at wake_timeout", nobodyWakes},
		{"caller-hangs-up", "The phone rings; the caller hangs up.",
			"the phone got CANCEL", callerHangsUp},
		{"callee-hangs-up", "They talk; the callee hangs up.",
			"audio both ways bit for bit, the carrier got BYE", calleeHangsUp},
	}
}

func answered(st *stage) {
	p := st.sleeping("phone", wake, siptest.AnswerAfter(ring))
	st.invite()
	st.answered(200)
	c := st.taken(p)
	st.talk(c)
	st.hangUp(c)
	r := st.over("caller_hung_up")
	st.hold(r.WakeMS > 0, "awake %.0f ms after the push", r.WakeMS)
	st.hold(len(r.Pushes) == 1, "one push")
	st.hold(c.UUID() == r.Call, "the INVITE names the call of the push")
}

func awake(st *stage) {
	p := st.awake("phone", -1, siptest.AnswerAfter(ring))
	st.sleep(settle)
	st.invite()
	st.answered(200)
	c := st.taken(p)
	st.talk(c)
	st.hangUp(c)
	r := st.over("caller_hung_up")
	st.hold(len(r.Pushes) == 0, "no push")
	st.hold(r.RingMS < 1000, "ringing %.1f ms after the INVITE", r.RingMS)
}

func twoDevices(st *stage) {
	st.two()
	tablet := st.sleeping("tablet", wake+150*time.Millisecond, siptest.RingOnly)
	p := st.sleeping("phone", wake, siptest.AnswerAfter(ring))
	st.invite()
	st.answered(200)
	other := st.taken(tablet)
	st.told(other, "CANCEL", completedElsewhere)
	st.must(other.AwaitOver(patience))
	st.fact("the tablet stopped: completed elsewhere")
	c := st.taken(p)
	st.talk(c)
	st.hangUp(c)
	r := st.over("caller_hung_up")
	st.hold(len(r.Pushes) == 2, "one push for each device")
}

func cancelledBeforeWake(st *stage) {
	p := st.sleeping("phone", late, siptest.RingOnly)
	st.invite()
	st.sleep(500 * time.Millisecond)
	st.trunk.Cancel(st.call)
	st.answered(487)
	r := st.over("cancelled")
	c := st.taken(p)
	st.told(c, "CANCEL", "")
	st.must(c.AwaitOver(patience))
	st.hold(c.UUID() == r.Call, "the late phone got INVITE and CANCEL of the call in its push")
	ctx, cancel := context.WithTimeout(st.ctx, patience)
	defer cancel()
	st.must(p.Register(ctx))
	st.sleep(settle)
	st.hold(len(p.Calls()) == 0, "once: its next REGISTER brings nothing")
}

func answeredElsewhere(st *stage) {
	st.two()
	tablet := st.sleeping("tablet", late+500*time.Millisecond, siptest.RingOnly)
	p := st.sleeping("phone", wake, siptest.AnswerAfter(ring))
	st.invite()
	st.answered(200)
	c := st.taken(p)
	st.talk(c)
	other := st.taken(tablet)
	st.told(other, "CANCEL", completedElsewhere)
	st.must(other.AwaitOver(patience))
	st.fact("the late tablet was told: completed elsewhere")
	st.hangUp(c)
	st.over("caller_hung_up")
}

func declined(st *stage) {
	st.two()
	tablet := st.sleeping("tablet", wake+150*time.Millisecond, siptest.RingOnly)
	st.sleeping("phone", wake, siptest.RefuseAfter(ring, 603))
	st.invite()
	m := st.answered(603)
	st.hold(m.Get("Reason") != "", "the caller got 603, %s", m.Get("Reason"))
	other := st.taken(tablet)
	st.told(other, "CANCEL", declinedElsewhere)
	st.must(other.AwaitOver(patience))
	st.over("declined")
}

func busy(st *stage) {
	st.sleeping("phone", wake, siptest.RefuseAfter(0, 486))
	st.invite()
	m := st.answered(486)
	st.hold(m.Get("Reason") != "", "the caller got 486, %s", m.Get("Reason"))
	st.over("busy")
}

func deadToken(st *stage) {
	p := st.sleeping("phone", -1, nil)
	st.sleep(settle) // the 410 says since when; the phone must have registered before
	st.world.service.Unregister(pushtest.Production, p.token, time.Now())
	start := time.Now()
	st.invite()
	m := st.answered(480)
	took := time.Since(start)
	st.hold(took < time.Second, "480 after %d ms, %s", took.Milliseconds(), m.Get("Reason"))
	st.over("push_gone")
	gone := true
	for _, d := range st.world.app.Location().Devices(st.name) {
		gone = gone && d.Target.IsZero()
	}
	st.hold(gone, "the dead token was dropped")
}

func nobodyWakes(st *stage) {
	st.sleeping("phone", -1, nil)
	start := time.Now()
	st.invite()
	m := st.answered(480)
	took := time.Since(start)
	st.hold(took > wakeTimeout && took < wakeTimeout+time.Second, "480 after %d ms, %s", took.Milliseconds(), m.Get("Reason"))
	st.over("no_wake")
}

func callerHangsUp(st *stage) {
	p := st.sleeping("phone", wake, siptest.RingOnly)
	st.invite()
	c := st.taken(p)
	st.sleep(ring)
	st.trunk.Cancel(st.call)
	st.answered(487)
	st.told(c, "CANCEL", "")
	st.must(c.AwaitOver(patience))
	st.fact("the phone stopped ringing")
	st.over("cancelled")
}

func calleeHangsUp(st *stage) {
	p := st.sleeping("phone", wake, siptest.AnswerAfter(ring))
	st.invite()
	st.answered(200)
	c := st.taken(p)
	st.talk(c)
	c.Bye()
	_, err := st.call.Await(patience, "BYE")
	st.must(err)
	st.fact("the carrier got BYE")
	st.over("callee_hung_up")
}
