package bridge

import (
	"time"

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

// endedByDevice is that of one whose device leg is over.
func endedByDevice(end sip.End) *Ending {
	switch end.Kind {
	case sip.EndExpired:
		return EndSessionExpired
	case sip.EndGone:
		return EndCalleeGone
	default:
		return EndCalleeHungUp.with(end.Reason, sip.Reason{})
	}
}
