package bridge

import (
	"reveille/push"
	"reveille/sip"
)

// Ending is why a call ended: a closed vocabulary that alone fixes the status
// the caller gets, the Reason on both sides, the CDR field and the metric label.
type Ending struct {
	Name    string     // label and CDR field
	Code    int        // final status to the trunk while the call is unanswered
	Trunk   sip.Reason // Reason towards the trunk
	Device  sip.Reason // Reason towards the devices
	Q850    int        // cause in the CDR, where Trunk and Device have none
	Missed  bool       // nobody could be reached: the fallback applies
	Asleep  bool       // no device could be woken: X-Reveille-Push says why
	Verdict string     // one line for the administrator
}

func q850(cause int, text string) sip.Reason {
	return sip.Reason{Protocol: "Q.850", Cause: cause, Text: text}.Both()
}

// Endings of an unanswered call.
var (
	EndCancelled     = &Ending{Name: "cancelled", Code: 487, Q850: 16, Verdict: "the caller hung up before anybody answered"}
	EndBusy          = &Ending{Name: "busy", Code: 486, Trunk: q850(17, "User busy"), Missed: true, Verdict: "the callee is busy"}
	EndDeclined      = &Ending{Name: "declined", Code: 603, Trunk: q850(21, "Call rejected"), Device: sip.Declined(), Verdict: "the callee declined"}
	EndNoAnswer      = &Ending{Name: "no_answer", Code: 480, Trunk: q850(19, "No answer"), Missed: true, Verdict: "a device rang, nobody answered"}
	EndNoWake        = &Ending{Name: "no_wake", Code: 480, Trunk: q850(20, "Subscriber absent"), Missed: true, Asleep: true, Verdict: "a push was sent, but no device registered in time"}
	EndDeviceSilent  = &Ending{Name: "device_silent", Code: 480, Trunk: q850(18, "No user responding"), Missed: true, Asleep: true, Verdict: "a device is registered, but gave no answer to the INVITE"}
	EndPushGone      = &Ending{Name: "push_gone", Code: 480, Trunk: q850(20, "Subscriber absent"), Missed: true, Asleep: true, Verdict: "no device is connected, and the push service knows their tokens no more"}
	EndPushRefused   = &Ending{Name: "push_refused", Code: 480, Trunk: q850(38, "Push refused"), Missed: true, Asleep: true, Verdict: "no device is connected, and the push service refuses our pushes: the configuration is at fault"}
	EndPushFailed    = &Ending{Name: "push_failed", Code: 480, Trunk: q850(41, "Push failed"), Missed: true, Asleep: true, Verdict: "no device is connected, and the push service failed, or could not be reached"}
	EndNoDevice      = &Ending{Name: "no_device", Code: 480, Trunk: q850(20, "Subscriber absent"), Missed: true, Asleep: true, Verdict: "the extension has no device that is connected or can be pushed"}
	EndFailed        = &Ending{Name: "device_failed", Code: 480, Trunk: q850(31, "Normal, unspecified"), Missed: true, Verdict: "every device refused the call"}
	EndUnknownNumber = &Ending{Name: "unknown_number", Code: 404, Trunk: q850(1, "Unallocated number"), Verdict: "no extension has the dialled number"}
	EndTooManyCalls  = &Ending{Name: "too_many_calls", Code: 486, Trunk: q850(34, "No circuit available"), Missed: true, Verdict: "the trunk's max_calls is reached"}
	EndNoPorts       = &Ending{Name: "no_ports", Code: 503, Trunk: q850(34, "No circuit available"), Verdict: "media.ports is exhausted: widen the range"}
	EndNoSockets     = &Ending{Name: "no_sockets", Code: 503, Trunk: q850(34, "No circuit available"), Verdict: "the system gives no media socket, though ports are free; the timeline says why"}
	EndNoEngine      = &Ending{Name: "no_media_engine", Code: 503, Trunk: q850(34, "No circuit available"), Verdict: "no rtpengine takes calls: none answers, or all are drained"}
	EndBadOffer      = &Ending{Name: "bad_offer", Code: 400, Trunk: q850(111, "Protocol error"), Verdict: "the trunk's SDP cannot be read"}
	EndNoCodec       = &Ending{Name: "no_codec", Code: 488, Trunk: q850(88, "Incompatible destination"), Verdict: "trunk and device have no codec in common"}
	EndCalleeBusy    = &Ending{Name: "callee_limit", Code: 486, Trunk: q850(17, "Too many calls at a time"), Missed: true, Verdict: "the callee has as many calls at a time as calls.limits.calls_per_callee allows"}
	EndPushBudget    = &Ending{Name: "push_budget", Code: 480, Trunk: q850(20, "Too many pushes"), Missed: true, Asleep: true, Verdict: "no device is connected, and they may not be pushed again so soon (calls.limits)"}
	EndAnonymous     = &Ending{Name: "anonymous_rejected", Code: 433, Trunk: q850(21, "Anonymous calls are rejected"), Verdict: "the caller withholds the number, and the extension takes no such calls"}
	EndDuplicate     = &Ending{Name: "duplicate_call", Code: 482, Trunk: q850(25, "The same call came twice"), Verdict: "the same call came a second time, by another trunk or branch"}
	EndCallerLost    = &Ending{Name: "caller_lost", Code: 480, Q850: 41, Verdict: "the trunk's connection died before the answer"}
	EndNoPrack       = &Ending{Name: "no_prack", Code: 504, Device: q850(102, "Recovery on timer expiry"), Verdict: "the trunk never acknowledged our reliable 180 (PRACK, RFC 3262)"}
	EndShutdown      = &Ending{Name: "shutdown", Code: 503, Trunk: q850(41, "Temporary failure"), Device: q850(41, "Temporary failure"), Verdict: "the bridge was stopped"}
	EndInternal      = &Ending{Name: "internal", Code: 500, Trunk: q850(41, "Temporary failure"), Verdict: "a defect of the bridge; see the log"}
)

// EndBusyEverywhere is EndBusy from a device that speaks for all (600).
var EndBusyEverywhere = &Ending{Name: "busy", Code: 600, Trunk: q850(17, "User busy"), Device: sip.Declined(), Verdict: "the callee is busy"}

// Endings of an answered call.
var (
	EndCallerHungUp   = &Ending{Name: "caller_hung_up", Q850: 16, Verdict: "answered; the caller hung up"}
	EndCalleeHungUp   = &Ending{Name: "callee_hung_up", Q850: 16, Verdict: "answered; the callee hung up"}
	EndNoAck          = &Ending{Name: "no_ack", Device: q850(102, "Recovery on timer expiry"), Verdict: "the trunk never acknowledged our 200"}
	EndMediaTimeout   = &Ending{Name: "media_timeout", Trunk: q850(41, "No media"), Device: q850(41, "No media"), Verdict: "no audio came from either side"}
	EndEngineLost     = &Ending{Name: "media_engine_lost", Trunk: q850(41, "Temporary failure"), Device: q850(41, "Temporary failure"), Verdict: "the rtpengine that had the call's audio is gone, or has forgotten the call"}
	EndTooLong        = &Ending{Name: "max_duration", Trunk: q850(16, "Normal call clearing"), Device: q850(16, "Normal call clearing"), Verdict: "calls.max_duration was reached"}
	EndByAdmin        = &Ending{Name: "hung_up_by_admin", Code: 480, Trunk: q850(16, "Normal call clearing"), Device: q850(16, "Normal call clearing"), Verdict: "an administrator hung up"}
	EndSessionExpired = &Ending{Name: "session_expired", Trunk: q850(102, "Recovery on timer expiry"), Device: q850(102, "Recovery on timer expiry"), Verdict: "answered; the session was not refreshed in time (RFC 4028)"}
	EndCallerGone     = &Ending{Name: "caller_gone", Device: q850(102, "Recovery on timer expiry"), Verdict: "answered; the trunk did not know the call any more, or gave no answer within it"}
	EndCalleeGone     = &Ending{Name: "callee_gone", Trunk: q850(102, "Recovery on timer expiry"), Verdict: "answered; the device did not know the call any more, or gave no answer within it"}
	EndTransferFailed = &Ending{Name: "transfer_failed", Trunk: q850(19, "No answer"), Device: q850(19, "No answer"), Verdict: "answered; the callee transferred the call to an extension that did not take it, and had hung up"}
	EndTransferred    = &Ending{Name: "transferred", Q850: 16, Verdict: "answered; the callee transferred the call"}
)

// pushEnding is the ending of a call whose last hope was the push of this
// device, with the cause of ITU-T Q.850 §2.2.5 that says what a further call
// would bring: 20, subscriber absent, until the app is there again; 38, network
// out of order, "likely to last a relatively long period", until the
// configuration is mended; 41, temporary failure, for which another try "almost
// immediately" may do. A push that no answer came to has failed. A device that
// came and then said nothing to its INVITE is 18, no user responding.
func (d *device) pushEnding() *Ending {
	if d.woke {
		return EndDeviceSilent
	}
	switch d.outcome.verdict {
	case push.Sent:
		return EndNoWake
	case push.Gone:
		return EndPushGone
	case push.Refused:
		return EndPushRefused
	}
	return EndPushFailed
}

// likelier is the one of two endings of pushes that leaves the next call more
// hope: one device that might be reached is enough for it.
func likelier(a, b *Ending) *Ending {
	for _, e := range []*Ending{EndDeviceSilent, EndNoWake, EndPushFailed, EndPushRefused, EndPushGone} {
		if a == e || b == e {
			return e
		}
	}
	return EndPushFailed
}

// Error makes an ending the cause of a call's cancellation.
func (e *Ending) Error() string { return e.Verdict }

// with passes on the reason the far end gave, in both protocols: one side may
// know SIP causes only, the other Q.850 ones only.
func (e *Ending) with(trunk, device sip.Reason) *Ending {
	passed := *e
	if !trunk.IsZero() {
		passed.Trunk = trunk.Both()
	}
	if !device.IsZero() {
		passed.Device = device.Both()
	}
	return &passed
}

// refusedBy passes on the Q.850 cause of a device's refusal: as the device gave
// it, or as its status means it where the ending says nothing better.
func (e *Ending) refusedBy(p sip.Progress) *Ending {
	reason := p.Reason
	if reason.Q850() == 0 && e.Name == EndFailed.Name && p.Code >= 400 {
		reason = sip.StatusReason(p.Code)
	}
	if reason.Q850() == 0 {
		return e
	}
	return e.with(reason, sip.Reason{})
}

// q850 is the cause for the CDR: what the trunk was told, or told us.
func (e *Ending) q850() int {
	for _, cause := range []int{e.Trunk.Q850(), e.Device.Q850()} {
		if cause != 0 {
			return cause
		}
	}
	return e.Q850
}

// refusal is the final answer to the trunk. A call that reached nobody goes to
// the fallback: a status in place of ours, or 302 to a URI (RFC 3261 §21.3.3).
func (e *Ending) refusal(fallback string) *sip.Refused {
	r := &sip.Refused{Code: e.Code, Reason: e.Trunk.ForResponse()}
	if !e.Missed {
		return r
	}
	// A fallback that cannot be read has been refused with the configuration.
	switch code, uri, err := sip.ParseFallback(fallback); {
	case err != nil:
	case uri != "":
		r.Code, r.Contact = 302, uri
	case code != 0:
		r.Code = code
	}
	return r
}
