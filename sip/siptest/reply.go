package siptest

import (
	"fmt"
	"time"
)

// Reply is a scripted answer to a request within the dialog.
type Reply struct {
	Code   int // 0: none
	After  time.Duration
	SDP    []byte
	Header []Field
}

// Script makes f answer every request within the dialog; nil, or a nil Reply:
// as usual. It must not block.
func (c *Call) Script(f func(req *Message) *Reply) {
	c.agent.mu.Lock()
	defer c.agent.mu.Unlock()
	c.script = f
}

func (c *Call) scripted(s *served, r *Reply) {
	a := c.agent
	switch {
	case r.Code == 0:
	case r.After == 0:
		a.respond(s, r.Code, r.SDP, r.Header...)
	default:
		a.work.Go(func() {
			timer := time.NewTimer(r.After)
			defer timer.Stop()
			select {
			case <-timer.C:
				a.mu.Lock()
				defer a.mu.Unlock()
				a.respond(s, r.Code, r.SDP, r.Header...)
			case <-a.ctx.Done():
			}
		})
	}
}

// Accept is the usual answer to a re-INVITE or UPDATE with an offer, for a Reply.
func (c *Call) Accept(req *Message) []byte {
	sdp, err := c.reanswer(req.Body)
	if err != nil {
		return nil
	}
	return sdp
}

// Cancel takes a re-INVITE back (RFC 3261 §9.1).
func (c *Call) Cancel(x *Exchange) *Exchange {
	c.agent.mu.Lock()
	defer c.agent.mu.Unlock()
	m := &Message{Start: "CANCEL" + x.Request.Start[len("INVITE"):]}
	for _, name := range []string{"Via", "Max-Forwards", "From", "To", "Call-ID"} {
		m.Add(name, x.Request.Get(name))
	}
	seq, _ := x.Request.cseq()
	m.Add("CSeq", fmt.Sprintf("%d CANCEL", seq))
	return c.agent.exchange(m, nil)
}
