package sip

import (
	"context"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// lose keeps a leg whose flow died after the device had answered in some way:
// it rings, and may still answer by its next flow. The caller holds o.mu.
func (o *Outbound) lose() {
	o.lost, o.tx = true, nil
	o.report(Progress{Code: 430, Phrase: Phrase(430), Local: true, Lost: true}) // RFC 5626 §11: Flow Failed, kept inside
}

// found takes the final answer to an INVITE whose flow has died. It has come by
// another one, which carries the dialog from here on. The caller holds o.mu.
func (o *Outbound) found(res *sipgo.Response) {
	o.flow = o.srv.flowOf(o.aor, o.deviceID, o.flow)
	switch {
	case res.StatusCode >= 300:
		o.transmitAck(newAckFor(o.invite, res))
		o.refused(res)
	case res.StatusCode >= 200:
		o.accepted(res)
	}
}

// Alive asks the device by OPTIONS whether the flow that its INVITE took still
// works. Any answer will do, and so will any other sign of life on that flow;
// there is none in time on a connection that the device has left without
// closing it. A CRLF would not tell: few phones answer one (RFC 5626 §4.4.1 has
// them send it), and over UDP a lost one is not sent again.
func (o *Outbound) Alive(ctx context.Context, within time.Duration) bool {
	o.mu.Lock()
	s, f := o.srv, o.flow
	ping := o.ping(f)
	o.mu.Unlock()
	if f.isDead() {
		return false
	}
	asked := time.Now()
	answered := make(chan bool, 1)
	tx, err := s.txs.request(f, ping, func(res *sipgo.Response, _ error) {
		select {
		case answered <- res != nil:
		default: // the first word is enough
		}
	})
	if err != nil {
		return false
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case yes := <-answered:
		return yes
	case <-timer.C:
	case <-ctx.Done():
	}
	tx.terminate()
	return o.binding.Path == "" && f.lastHeard().After(asked)
}

// ping is an OPTIONS to the device, outside of the dialog (RFC 3261 §11). The
// caller holds o.mu.
func (o *Outbound) ping(f *flow) *sipgo.Request {
	us := o.srv.aorURI(o.binding.AOR, f)
	probe := leg{srv: o.srv, id: dialogID{callID: newTag() + "@reveille"}, local: party{uri: &us, tag: newTag()},
		remote: party{uri: &us}, target: o.target, routes: pathOf(o.binding)}
	return o.srv.withVia(probe.newRequest(sipgo.OPTIONS), f)
}

// hungUp takes the device's BYE. In a dialog that is still early that is no way
// to refuse a call (RFC 3261 §15), and yet it is meant as one: the INVITE is
// cancelled, for else it would ring on.
func (o *Outbound) hungUp(bye *sipgo.Request) {
	o.mu.Lock()
	if o.confirmed || o.final || o.over {
		o.mu.Unlock()
		o.leg.hungUp(bye)
		return
	}
	defer o.mu.Unlock()
	o.final, o.cancelled = true, true
	o.stopGiveUp()
	o.sendCancel()
	if o.tx != nil { // its 487 may never come
		time.AfterFunc(timer64T1, o.tx.terminate)
	}
	o.report(Progress{Code: 480, Phrase: Phrase(480), Reason: reasonOf(bye)})
	o.finish(End{Kind: EndHungUp, Reason: reasonOf(bye)})
}
