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

// finishRecord closes the audio and writes the CDR.
func (c *Call) finishRecord(e *Ending, refusal *sip.Refused) {
	var stats rtp.Stats
	if c.session != nil {
		stats = c.session.Close()
	}
	now := time.Now()
	c.rec.step("over", "", e.Name)
	c.rec.update(func(r *Record) {
		r.State, r.End, r.Ending, r.Q850, r.Verdict = "over", now, e.Name, e.q850(), e.Verdict
		if r.Answer.IsZero() {
			r.Code = refusal.Code
		} else {
			r.Code, r.Seconds = 200, now.Sub(r.Answer).Seconds()
			r.Media = map[string]MediaRecord{
				"trunk":  mediaRecord(stats.Trunk, r.Answer),
				"device": mediaRecord(stats.Device, r.Answer),
			}
		}
	})
	c.bridge.metrics.calls.WithLabelValues(c.in.Trunk().Name(), e.Name).Inc()
	c.log().Info("call is over", "ending", e.Name, "code", refusal.Code, "verdict", e.Verdict, "duration", now.Sub(c.started))
	c.bridge.cdr.Write(c.rec.snapshot())
}
