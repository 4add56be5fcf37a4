package sip

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// maxReACKs bounds how often a repeated refusal of an INVITE is acknowledged:
// more than the 11 that Timer G makes in 32 s means that two ends chase each other.
const maxReACKs = 20

// clientTx is one request that we sent: the state machines of RFC 3261 §17.1.1
// and §17.1.2, with the 2xx of RFC 6026.
type clientTx struct {
	t   *transactions
	f   *flow
	key txKey
	on  func(*sipgo.Response, error)

	final atomic.Int32 // status of the final answer; 0 before it
	over  atomic.Bool  // nothing is reported any more

	mu       sync.Mutex // guards the following, and orders what on hears
	req      *sipgo.Request
	wire     []byte // the request as it was sent, to send it again over UDP
	ack      []byte // to a refusal of an INVITE
	reacks   int
	timer    *time.Timer   // Timers A and B, or E and F
	interval time.Duration // Timer A or E; 0: an INVITE that a provisional has stopped
	waited   time.Duration // of Timer B or F
}

// begin sends the request. The lock is held meanwhile: an answer that comes at
// once waits for it.
func (c *clientTx) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wire = wireOf(c.req)
	if err := c.f.write(c.wire); err != nil {
		c.over.Store(true)
		c.t.removeClient(c)
		return fmt.Errorf("%s to %s: %w", c.req.Method, c.f, err)
	}
	c.interval = timerT1
	if c.f.reliable() {
		c.wire, c.interval = nil, timer64T1
	}
	c.timer = time.AfterFunc(c.interval, c.repeat)
	return nil
}

// repeat is Timer A or E, and Timer B or F when it has been long enough.
func (c *clientTx) repeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over.Load() || c.final.Load() != 0 || c.interval == 0 { // it had fired already
		return
	}
	c.waited += c.interval
	if c.waited >= timer64T1 {
		c.fail(errNoAnswer)
		return
	}
	c.interval *= 2
	if !c.req.IsInvite() {
		c.interval = min(c.interval, timerT2)
	}
	c.interval = min(c.interval, timer64T1-c.waited)
	c.timer.Reset(c.interval)
	c.f.write(c.wire)
}

// receive takes one response and reports what is news.
func (c *clientTx) receive(res *sipgo.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	final := int(c.final.Load())
	switch {
	case c.over.Load():
	case final >= 300:
		c.reack(res)
	case final != 0 && res.StatusCode/100 != 2: // an answer that came too late
	case res.StatusCode < 200:
		c.provisional()
		c.on(res, nil)
	default:
		if final == 0 {
			c.final.Store(int32(res.StatusCode))
			c.completed(res)
		}
		c.on(res, nil)
	}
}

// provisional: an INVITE is not sent again, and only its sender ends the wait;
// any other request is sent again every T2.
func (c *clientTx) provisional() {
	if c.req.IsInvite() {
		c.timer.Stop()
		c.wire, c.interval = nil, 0
	} else {
		c.interval = max(c.interval, timerT2/2)
	}
}

// completed is the state after the final answer; on has still to hear of it.
func (c *clientTx) completed(res *sipgo.Response) {
	c.timer.Stop()
	c.wire = nil
	switch {
	case !c.req.IsInvite(): // a repeated answer is nobody's, and dropped: Timer K is not needed
		c.t.removeClient(c)
		return
	case res.StatusCode >= 300:
		c.ack = wireOf(newAckFor(c.req, res))
		c.f.write(c.ack)
		if c.f.reliable() { // Timer D is 0
			c.t.removeClient(c)
			return
		}
	}
	c.req = nil
	c.t.retireClient(c)
}

// reack acknowledges a repeated refusal.
func (c *clientTx) reack(res *sipgo.Response) {
	if res.StatusCode >= 300 && c.reacks < maxReACKs {
		c.reacks++
		c.f.write(c.ack)
	}
}

// terminate ends the transaction; on is not called any more, except for a
// call that is under way.
func (c *clientTx) terminate() {
	c.over.Store(true)
	c.t.removeClient(c)
}

// flowClosed is called on the goroutine of the flow.
func (c *clientTx) flowClosed() {
	go func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fail(errFlowClosed)
	}()
}

// fail ends a transaction without a final answer. The caller holds c.mu.
func (c *clientTx) fail(err error) {
	if c.timer != nil { // nil: the request could not even be sent
		c.timer.Stop()
	}
	c.t.removeClient(c)
	if c.final.Load() == 0 && c.over.CompareAndSwap(false, true) {
		c.on(nil, fmt.Errorf("%s to %s: %w", c.req.Method, c.f, err))
	}
}

// newCancel builds the CANCEL of an INVITE that we sent (RFC 3261 §9.1): the
// same Request-URI, Via with its branch, Route, From, To, Call-ID and CSeq
// number. It may be sent only after a provisional answer, by the same flow.
func newCancel(invite *sipgo.Request) *sipgo.Request {
	return hopByHop(sipgo.CANCEL, invite, invite.To())
}

// newAckFor builds the ACK to a refusal of an INVITE (RFC 3261 §17.1.1.3).
func newAckFor(invite *sipgo.Request, res *sipgo.Response) *sipgo.Request {
	return hopByHop(sipgo.ACK, invite, res.To())
}

func hopByHop(method sipgo.RequestMethod, invite *sipgo.Request, to *sipgo.ToHeader) *sipgo.Request {
	req := sipgo.NewRequest(method, *invite.Recipient.Clone())
	req.AppendHeader(invite.Via().Clone())
	for _, h := range invite.GetHeaders("Route") {
		req.AppendHeader(sipgo.HeaderClone(h))
	}
	hops := sipgo.MaxForwardsHeader(defaultHops)
	req.AppendHeader(&hops)
	req.AppendHeader(sipgo.HeaderClone(invite.From()))
	if to != nil {
		req.AppendHeader(sipgo.HeaderClone(to))
	}
	callID := *invite.CallID()
	req.AppendHeader(&callID)
	req.AppendHeader(&sipgo.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: method})
	req.SetBody(nil)
	return req
}
