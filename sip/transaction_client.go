package sip

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	sipgo "github.com/emiago/sipgo/sip"
)

// maxReACKs bounds how often a repeated refusal of an INVITE is acknowledged:
// more than the 11 that Timer G makes in 32 s means that two ends chase each other.
const maxReACKs = 20

// clientTx is one request that we sent.
type clientTx struct {
	t   *transactions
	f   *flow
	req *sipgo.Request
	key string
	on  func(*sipgo.Response, error)

	final atomic.Int32          // status of the final answer; 0 before it
	over  atomic.Bool           // nothing is reported any more
	cause atomic.Pointer[error] // why we ended it ourselves

	mu     sync.Mutex // orders what the machine is fed and what on hears
	fsm    *sipgo.ClientTx
	repeat *sipgo.Response // a further 2xx, as the machine hands it over
	reacks int
}

func newClientTx(t *transactions, f *flow, req *sipgo.Request, key string, on func(*sipgo.Response, error)) *clientTx {
	c := &clientTx{t: t, f: f, req: req, key: key, on: on}
	// sipgo's log lines name Request-URIs, which may hold push tokens.
	c.fsm = sipgo.NewClientTx(key, req, f, slog.New(slog.DiscardHandler))
	return c
}

// begin sends the request. The lock is held meanwhile: an answer that came
// before the machine has set its timers would have them set after it.
func (c *clientTx) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fsm.OnTerminate(c.terminated)
	c.fsm.OnRetransmission(func(res *sipgo.Response) { c.repeat = res })
	if err := c.fsm.Init(); err != nil {
		c.over.Store(true)
		c.t.removeClient(c)
		return fmt.Errorf("%s to %s: %w", c.req.Method, c.f, err)
	}
	return nil
}

// receive feeds one response to the machine and reports what it lets through.
func (c *clientTx) receive(res *sipgo.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over.Load() {
		return
	}
	if c.req.IsInvite() && c.final.Load() >= 300 {
		c.reack(res)
		return
	}
	passed := c.feed(res)
	if passed == nil {
		return
	}
	if passed.StatusCode >= 200 && c.final.Load() == 0 {
		c.final.Store(int32(passed.StatusCode))
	}
	c.on(passed, nil)
}

// feed runs the machine. It hands a response over on a channel, with its lock
// held, or to the hook for a repeated 2xx; here it becomes a return value.
func (c *clientTx) feed(res *sipgo.Response) *sipgo.Response {
	c.repeat = nil
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		c.fsm.Receive(res)
	}()
	var passed *sipgo.Response
	for {
		select {
		case passed = <-c.fsm.Responses():
			if passed.StatusCode >= 200 && c.final.Load() == 0 {
				// Before the machine can end, which without a final is a failure.
				c.final.Store(int32(passed.StatusCode))
			}
		case <-finished:
			if passed == nil {
				passed = c.repeat
			}
			return passed
		}
	}
}

// reack acknowledges a repeated refusal at once. sipgo's machine would sleep
// for T2 first, with its lock held.
func (c *clientTx) reack(res *sipgo.Response) {
	if res.StatusCode < 300 || c.reacks >= maxReACKs {
		return
	}
	c.reacks++
	c.f.send(newAckFor(c.req, res))
}

// terminate ends the transaction; on is not called any more, except for a
// call that is under way.
func (c *clientTx) terminate() {
	c.over.Store(true)
	c.fsm.Terminate()
}

func (c *clientTx) flowClosed() {
	err := errFlowClosed
	c.cause.Store(&err)
	c.fsm.Terminate()
}

// terminated is called by the machine, with its lock held.
func (c *clientTx) terminated(_ string, err error) {
	c.t.removeClient(c)
	if c.final.Load() != 0 || c.over.Load() {
		return
	}
	if cause := c.cause.Load(); cause != nil {
		err = *cause
	} else if errors.Is(err, sipgo.ErrTransactionTimeout) {
		err = errNoAnswer
	}
	go c.fail(fmt.Errorf("%s to %s: %w", c.req.Method, c.f, err))
}

func (c *clientTx) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final.Load() == 0 && c.over.CompareAndSwap(false, true) {
		c.on(nil, err)
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
	hops := sipgo.MaxForwardsHeader(70)
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
