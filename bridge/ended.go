package bridge

import (
	"time"

	"reveille/rtp"
	"reveille/sip"
)

// endedByTrunk is the ending of an answered call whose trunk leg is over.
func (c *Call) endedByTrunk() *Ending {
	switch end := c.in.End(); end.Kind {
	case sip.EndNoAck:
		return EndNoAck
	case sip.EndExpired:
		return EndSessionExpired
	case sip.EndGone:
		return EndCallerGone
	case sip.EndCancelled, sip.EndNoPrack: // our 200 still waited for a PRACK
		c.rec.update(func(r *Record) { r.Answer = time.Time{} })
		return unanswered(end)
	default:
		return EndCallerHungUp.with(sip.Reason{}, end.Reason)
	}
}

// notSent: our 200 still waited for a PRACK, and the trunk got a refusal in its
// place. Such a call was not answered.
func (c *Call) notSent(refusal *sip.Refused) {
	if end := c.in.End(); !c.answer.IsZero() && end.Kind == sip.EndLocal && end.Code != 0 {
		refusal.Code = end.Code
		c.rec.update(func(r *Record) { r.Answer = time.Time{} })
	}
}

// endedByDevice is that of one whose device leg is over.
func endedByDevice(end sip.End) *Ending {
	switch end.Kind {
	case sip.EndExpired:
		return EndSessionExpired
	case sip.EndGone, sip.EndNoAck, sip.EndFlowLost:
		return EndCalleeGone
	default:
		return EndCalleeHungUp.with(end.Reason, sip.Reason{})
	}
}

// completed ends the legs of those that did not win, and what the winner has
// of the call on a flow that died: a word on that would reach the same app, and
// close the screen of the call that it has.
func (c *Call) completed() {
	c.dropLost(c.winner)
	for _, d := range c.devices {
		if d != c.winner {
			d.end(sip.CompletedElsewhere())
		}
	}
}

// release ends all that the devices have of the call; who did not win hears that
// another one has, if one has.
func (c *Call) release(why sip.Reason) {
	for _, d := range c.devices {
		if c.winner != nil && d != c.winner {
			d.end(sip.CompletedElsewhere())
		} else {
			d.end(why)
		}
		if d.stopPush != nil {
			d.stopPush()
		}
	}
}

// end ends a device's legs, also the one that rings on a dead flow: the CANCEL
// goes by the newest flow that there is.
func (d *device) end(why sip.Reason) {
	for _, out := range []*sip.Outbound{d.out, d.lost} {
		if out != nil {
			out.Cancel(why)
		}
	}
	d.lost = nil
}

// finishRecord closes the audio and writes the CDR.
func (c *Call) finishRecord(e *Ending, refusal *sip.Refused) {
	var stats rtp.Stats
	if c.session != nil {
		stats = c.session.Close()
		c.rec.hears(nil)
	}
	trunk, device := c.in.End(), sip.End{} // not under the record's lock: the legs ask for it under theirs
	if c.winner != nil && c.winner.out != nil {
		device = c.winner.out.End()
	}
	now := time.Now()
	c.rec.step("over", "", e.Name)
	c.rec.update(func(r *Record) {
		r.State, r.End, r.Ending, r.Q850, r.Verdict = "over", now, e.Name, e.q850(), e.Verdict
		if r.Answer.IsZero() {
			r.Code = refusal.Code
		} else {
			r.Code, r.Seconds = 200, now.Sub(r.Answer).Seconds()
			r.Media = mediaRecords(stats, r.Answer)
			told(r.Media, rtp.Trunk, trunk)
			told(r.Media, rtp.Device, device)
		}
	})
	c.bridge.metrics.calls.WithLabelValues(c.in.Trunk().Name(), e.Name).Inc()
	last := c.rec.snapshot()
	c.log().Info("call is over", "ending", e.Name, "code", last.Code, "verdict", e.Verdict, "duration", now.Sub(c.started))
	c.bridge.cdr.Write(last)
}
