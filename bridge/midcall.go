package bridge

import (
	"context"
	"errors"
	"time"

	"reveille/rtp"
	"reveille/sip"
)

// midcall is what a call needs to change its session; made with the first
// change. It belongs to the call's goroutine.
type midcall struct {
	carrying *carry
	done     chan func() // what others have found out, for the call's goroutine
}

// carry is one side's wish on its way to the other. There is one at a time in
// a call: what comes from the other side meanwhile is answered here, so that
// the two never wait for each other (RFC 3261 §14.1 leaves glare to the legs).
type carry struct {
	from     rtp.Side
	to       leg         // that is asked
	change   *sip.Change // to be answered; nil if it has been
	refused  bool        // it was, because this took too long
	proposal *rtp.Proposal
	second   bool // it brings the one side what the other has said to the first
	cancel   context.CancelFunc
	slow     *time.Timer
}

// carryTime is how long the other side may take. A hold is then answered here:
// an UPDATE, and people, do not wait longer (RFC 3261 §17.1.2.2: 32 s).
const carryTime = 10 * time.Second

// leg is what both legs of a call can do once it is answered.
type leg interface {
	Changes() <-chan *sip.Change
	Propose(context.Context, sip.Proposal) ([]byte, error)
	Secret() bool
	RefusesInfo() bool
}

func (c *Call) leg(side rtp.Side) leg {
	if side == rtp.Trunk {
		return c.in
	}
	return c.winner.out
}

// midcall is the call's, made when there is need.
func (c *Call) midcall() *midcall {
	if c.mid == nil {
		c.mid = &midcall{done: make(chan func())}
	}
	return c.mid
}

// changesDone yields what is to be done by the call's goroutine.
func (c *Call) changesDone() <-chan func() {
	if c.mid == nil {
		return nil
	}
	return c.mid.done
}

// later has do run by the call's goroutine, or never, if the call is over.
func (m *midcall) later(ctx context.Context, do func()) {
	select {
	case m.done <- do:
	case <-ctx.Done():
	}
}

// changed takes a re-INVITE or UPDATE of one side. A refresh or a new address
// is answered here, as the audio is anchored here; another direction or codec
// is for the other side to agree to (RFC 3264 §8).
func (c *Call) changed(ctx context.Context, side rtp.Side, ch *sip.Change) {
	m := c.midcall()
	switch {
	case ch.Settled:
		if err := c.session.Refreshed(side, ch.SDP); err != nil {
			c.log().Info("the answer to a refresh cannot be used", "leg", side.String(), "err", err)
		}
		return
	}
	c.session.Secret(side, ch.Secret())
	c.session.SignalledFrom(side, ch.PeerAddress())
	if ch.SDP == nil {
		c.offerless(ctx, side, ch)
		return
	}
	p, err := c.session.Propose(side, ch.SDP)
	if err != nil {
		c.refuseChange(side, ch, err)
		return
	}
	k := &carry{from: side, change: ch, proposal: p}
	switch {
	case !p.Carry() || c.winner == nil:
		c.answerHere(k, nil)
	case m.carrying != nil:
		c.answerHere(k, &sip.Refused{Code: 491})
	default:
		c.carry(ctx, k)
	}
}

// refuseChange leaves the session as it was (RFC 3261 §14.2).
func (c *Call) refuseChange(side rtp.Side, ch *sip.Change, err error) {
	c.log().Info("a change of the session is refused", "leg", side.String(), "err", err)
	var r *sip.Refused
	switch {
	case errors.As(err, &r):
	case errors.Is(err, rtp.ErrBadSDP):
		r = &sip.Refused{Code: 400}
	default:
		r = &sip.Refused{Code: 488}
	}
	ch.Refuse(r)
}

// answerHere answers without the other side; where that cannot be, it refuses.
func (c *Call) answerHere(k *carry, refusal *sip.Refused) {
	ch := k.change
	k.change = nil
	sdp, err := k.proposal.Locally()
	switch {
	case err == nil:
		c.rec.step("session refreshed", "", k.from.String())
		c.accept(k.from, ch, sdp)
	case refusal != nil:
		c.refuseChange(k.from, ch, refusal)
	default:
		c.refuseChange(k.from, ch, err)
	}
}

func (c *Call) accept(side rtp.Side, ch *sip.Change, sdp []byte) {
	if err := ch.Accept(sdp); err != nil {
		c.log().Debug("a change could not be answered", "leg", side.String(), "err", err)
	}
}

// carry asks the other side. Nothing here waits: the answer comes by done.
func (c *Call) carry(ctx context.Context, k *carry) {
	m, other := c.midcall(), c.leg(k.from.Other())
	m.carrying, k.to = k, other
	c.rec.step("session change", "", "from the "+k.from.String())
	asked, cancel := context.WithCancel(ctx)
	k.cancel = cancel
	k.slow = time.AfterFunc(carryTime, func() { m.later(ctx, func() { c.carrySlow(k) }) })
	update := k.change != nil && k.change.Update
	if k.change != nil {
		go c.watchWithdrawn(asked, k.change, cancel)
	}
	go func() {
		offer := func() ([]byte, error) {
			c.session.Secret(k.from.Other(), other.Secret())
			return k.proposal.Offer()
		}
		answer, err := other.Propose(asked, sip.Proposal{SDP: offer, Update: update})
		m.later(ctx, func() { c.carried(ctx, k, answer, err) })
	}()
}

// watchWithdrawn passes the CANCEL of a re-INVITE on.
func (c *Call) watchWithdrawn(asked context.Context, ch *sip.Change, cancel context.CancelFunc) {
	select {
	case <-ch.Withdrawn():
		cancel()
	case <-asked.Done():
	}
}

// carrySlow: the other side has not answered in time. A hold needs nobody's
// consent, and the other side goes on being asked; for a codec it would be a
// promise that we could not keep.
// The other side is then put back, should it agree after all.
func (c *Call) carrySlow(k *carry) {
	if c.mid.carrying != k || k.change == nil {
		return
	}
	c.rec.step("session change answered here", "", "the "+k.from.Other().String()+" is slow")
	ch := k.change
	k.change = nil
	if sdp, err := k.proposal.Locally(); err == nil {
		c.accept(k.from, ch, sdp)
		return
	}
	k.refused = true
	k.cancel()
	c.refuseChange(k.from, ch, &sip.Refused{Code: 504})
}

// carried takes the other side's answer.
func (c *Call) carried(ctx context.Context, k *carry, answer []byte, err error) {
	k.slow.Stop()
	k.cancel()
	c.mid.carrying = nil
	switch {
	case k.to != c.leg(k.from.Other()): // whose description is another than the offer was made for
		c.overtaken(ctx, k)
		return
	case err == nil:
		c.agreed(ctx, k, answer)
		return
	}
	c.log().Info("the other side does not take a change", "leg", k.from.Other().String(), "err", err)
	c.rec.step("session change not taken", "", "by the "+k.from.Other().String()+": "+err.Error())
	var r *sip.Refused
	switch {
	case k.change == nil:
	case errors.As(err, &r) && counts(r.Code):
		ch := k.change
		k.change = nil
		c.refuseChange(k.from, ch, &sip.Refused{Code: r.Code, Reason: r.Reason})
	default: // nobody has decided anything
		c.answerHere(k, &sip.Refused{Code: 488})
	}
}

// overtaken: the leg that was asked has been replaced meanwhile, and the new one
// is to hear what holds.
func (c *Call) overtaken(ctx context.Context, k *carry) {
	if k.change != nil {
		c.answerHere(k, &sip.Refused{Code: 491})
	}
	c.passOn(ctx, k.from)
}

// counts: the refusal is a decision about the change, and the one that asked
// gets it. Others say that the far end cannot be asked: it does not know the
// method, is busy with a change of its own, or out of order.
func counts(code int) bool {
	switch code {
	case 401, 405, 407, 408, 481, 487, 491, 501:
		return false
	}
	return code < 500 || code >= 600
}

// agreed: both sides change. Where the one that asked has gone meanwhile, the
// other one is put back to what holds.
func (c *Call) agreed(ctx context.Context, k *carry, answer []byte) {
	ch := k.change
	if k.refused || ch != nil && isClosed(ch.Withdrawn()) {
		if err := k.proposal.AcceptAlone(answer); err == nil {
			c.passOn(ctx, k.from)
		}
		return
	}
	sdp, err := k.proposal.Accept(answer)
	switch {
	case ch == nil && err != nil:
		c.log().Info("the answer to a change cannot be used", "leg", k.from.Other().String(), "err", err)
	case ch == nil && !k.second:
		c.passBack(ctx, k.from.Other())
	case ch == nil:
	case err != nil:
		c.refuseChange(k.from, ch, err)
	default:
		c.accept(k.from, ch, sdp)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// passOn brings what one side has said to the other, if that does not know it,
// and then what the other has said back.
func (c *Call) passOn(ctx context.Context, from rtp.Side) { c.bring(ctx, from, false) }

// passBack is passOn for after the other side has been told.
func (c *Call) passBack(ctx context.Context, from rtp.Side) { c.bring(ctx, from, true) }

func (c *Call) bring(ctx context.Context, from rtp.Side, second bool) {
	if c.mid != nil && c.mid.carrying != nil || c.winner == nil {
		return
	}
	if p := c.session.Follow(from); p != nil {
		c.carry(ctx, &carry{from: from, proposal: p, second: second})
	}
}

// offerless: a re-INVITE without an offer gets ours, of what the other side
// can do; the answer in its ACK is carried on (RFC 3261 §14.2).
func (c *Call) offerless(ctx context.Context, side rtp.Side, ch *sip.Change) {
	sdp, err := c.session.Reoffer(side, nil)
	if err != nil {
		c.refuseChange(side, ch, err)
		return
	}
	c.rec.step("session offered", "", "to the "+side.String())
	if err := ch.Accept(sdp); err != nil {
		return
	}
	m := c.midcall()
	go func() {
		select {
		case sdp := <-ch.Acked():
			m.later(ctx, func() { c.offerAnswered(ctx, side, sdp) })
		case <-ctx.Done():
		}
	}()
}

func (c *Call) offerAnswered(ctx context.Context, side rtp.Side, sdp []byte) {
	if err := c.session.ReofferAnswer(side, sdp); err != nil {
		c.log().Info("the answer in the ACK cannot be used", "leg", side.String(), "err", err)
		return
	}
	c.passOn(ctx, side)
}
