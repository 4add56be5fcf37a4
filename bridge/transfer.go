package bridge

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"reveille/rtp"
	"reveille/sip"
)

// transfer is a REFER of the device's that was taken by the trunk or by us.
type transfer struct {
	refer   *sip.Request
	device  sender // who asked, and hears how it goes
	first   bool   // of this call
	notices chan *sip.Notice
	over    chan struct{} // closed with the last word
	worked  atomic.Bool
}

// transferTime bounds a transfer by the trunk: longer than anyone lets a phone ring.
const transferTime = 3 * time.Minute

// noticeRoom is how many NOTIFYs of the trunk may wait; a transfer has three or four.
const noticeRoom = 8

// referred takes a REFER. Only a device may transfer: a trunk that wants its
// call elsewhere has its own means, and one that could send our phones' calls
// anywhere would be a way to toll fraud.
func (c *Call) referred(ctx context.Context, side rtp.Side, r *sip.Request) {
	switch {
	case side == rtp.Trunk:
		r.Answer(603, "")
	case c.transfer != nil && !c.transfer.isOver():
		r.Answer(491, "")
	case r.Refer.Replaces != nil:
		c.transferAttended(ctx, r)
	default:
		c.transferBlind(ctx, r)
	}
}

// transferBlind rings another extension of ours, or has the trunk connect its
// caller with a number.
func (c *Call) transferBlind(ctx context.Context, r *sip.Request) {
	if to := c.bridge.routes.Load().named(r.Refer.User); to != nil {
		c.handOver(r, to)
		return
	}
	if !c.in.Transfers() {
		r.Answer(403, "The Trunk Takes No Transfers")
		return
	}
	c.hand(ctx, r, r.Refer.User, func(ctx context.Context) sip.Reply { return c.in.Refer(ctx, r.Refer.User) })
}

// transferAttended has the trunk connect the callers of two calls that it has
// made to the same extension.
func (c *Call) transferAttended(ctx context.Context, r *sip.Request) {
	other := c.bridge.talkingTo(c.bridge.dial.Replaced(c.ext.Name, r.Refer.Replaces))
	switch {
	case other == nil || other == c:
		r.Answer(481, "No Such Call to Transfer to")
	case other.in.Trunk() != c.in.Trunk():
		r.Answer(603, "The Calls Are on Different Trunks")
	case !c.in.Transfers():
		r.Answer(403, "The Trunk Takes No Transfers")
	default:
		c.hand(ctx, r, other.id, func(ctx context.Context) sip.Reply { return c.in.Join(ctx, other.in) })
	}
}

// hand gives a transfer to the trunk; ask sends the REFER.
func (c *Call) hand(ctx context.Context, r *sip.Request, to string, ask func(context.Context) sip.Reply) {
	t := &transfer{refer: r, device: c.winner.out, first: c.transfer == nil,
		notices: make(chan *sip.Notice, noticeRoom), over: make(chan struct{})}
	c.transfer = t
	c.rec.step("REFER", c.winner.ID, to)
	go func() {
		defer close(t.over)
		code := t.run(ctx, ask)
		c.rec.step(fmt.Sprint("transfer ", code), "", "")
	}()
}

func (t *transfer) isOver() bool {
	select {
	case <-t.over:
		return true
	default:
		return false
	}
}

// run is the whole transfer, from the trunk's answer to its last NOTIFY. It
// gives the final status.
func (t *transfer) run(ctx context.Context, ask func(context.Context) sip.Reply) int {
	wait, cancel := context.WithTimeout(ctx, passTimeout)
	reply := ask(wait)
	cancel()
	if reply.Local || reply.Code/100 != 2 {
		code, phrase := passedOn(reply, rtp.Device)
		t.refer.Answer(code, phrase)
		return code
	}
	t.accept(ctx)
	if reply.NoSubscription { // the trunk will not tell more
		return t.last(ctx, 200)
	}
	return t.last(ctx, t.progress(ctx))
}

// accept answers 202; the first NOTIFY follows at once (RFC 3515 §2.4.4).
func (t *transfer) accept(ctx context.Context) {
	t.answer()
	t.tell(ctx, 100)
}

func (t *transfer) answer() {
	if t.refer.Refer.NoSubscription {
		t.refer.Answer(202, "", sip.Header{Name: "Refer-Sub", Value: "false"})
		return
	}
	t.refer.Answer(202, "")
}

// progress passes the trunk's NOTIFYs on and gives the last status. A
// subscription that ends without a final status has not told how the transfer
// went: 503, the nearest that RFC 3515 §2.4.5 has.
func (t *transfer) progress(ctx context.Context) int {
	deadline := time.NewTimer(transferTime)
	defer deadline.Stop()
	told := 100
	for {
		select {
		case n := <-t.notices:
			switch {
			case n.Code >= 200:
				return n.Code
			case n.Over:
				return 503
			case n.Code > told:
				told = n.Code
				t.tell(ctx, n.Code)
			}
		case <-deadline.C:
			return 504
		case <-ctx.Done():
			return 487
		}
	}
}

// last tells the device the final status.
func (t *transfer) last(ctx context.Context, code int) int {
	t.worked.Store(code/100 == 2)
	t.tell(ctx, code)
	return code
}

// tell sends a NOTIFY with nothing but a status line (RFC 3515 §2.4.5): what
// else the trunk has put into its own is not for the device.
func (t *transfer) tell(ctx context.Context, code int) {
	if t.refer.Refer.NoSubscription || ctx.Err() != nil {
		return
	}
	wait, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	t.device.Send(wait, t.refer.Refer.Notify(code, t.first))
}

// notified takes a NOTIFY: of the trunk about a transfer that it has taken;
// there is no other subscription (RFC 6665 §4.1.3).
func (c *Call) notified(side rtp.Side, r *sip.Request) {
	t := c.transfer
	if side != rtp.Trunk || t == nil || t.isOver() || r.Notice.Event != "refer" {
		r.Answer(481, "Subscription Does Not Exist")
		return
	}
	select {
	case t.notices <- r.Notice:
		r.Answer(200, "")
	default:
		r.Answer(500, "", sip.Header{Name: "Retry-After", Value: "2"})
	}
}

// afterTransfer: a call that was transferred ends by that, whoever sends the BYE.
func (c *Call) afterTransfer(e *Ending) *Ending {
	if c.transfer != nil && c.transfer.worked.Load() && (e.Name == EndCallerHungUp.Name || e.Name == EndCalleeHungUp.Name) {
		return EndTransferred.with(e.Trunk, e.Device)
	}
	return e
}

// talkingTo finds the call that a device leg is talking in; nil: none.
func (b *Bridge) talkingTo(out *sip.Outbound) *Call {
	if out == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.calls {
		if c.speaks.Load() == out {
			return c
		}
	}
	return nil
}
