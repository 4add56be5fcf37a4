package sip

import (
	"context"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// proposal is one request that changes or refreshes the session.
type proposal struct {
	leg   *leg
	req   *sipgo.Request
	flow  *flow                // set before it is sent
	tx    *clientTx            // of who proposes
	final chan *sipgo.Response // the first final answer
	fail  chan error           // or that none came

	// guarded by leg.mu:
	provisional bool
	withdrawn   bool           // CANCEL was asked for
	asks        bool           // without an offer: the ACK has our answer
	ack         *sipgo.Request // to the 2xx, for its repetitions
}

// begin builds the request, unless another one is under way in either
// direction: that is glare too, only that we know it first.
func (l *leg) begin(p Proposal, sdp []byte) (*proposal, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.over || !l.confirmed:
		return nil, errLegOver
	case l.unacked != nil:
		return nil, errNoAckYet
	case l.mid.own != nil || l.mid.theirs != nil:
		return nil, &Refused{Code: 491}
	}
	m := l.mid
	method := sipgo.INVITE
	if p.Update && m.updates {
		method = sipgo.UPDATE
	}
	if p.refresh && method == sipgo.INVITE {
		sdp = m.sdp
	}
	asks := sdp == nil && method == sipgo.INVITE
	if asks && p.Answer == nil {
		return nil, errNothingToSay
	}
	x := &proposal{leg: l, req: l.newRequest(method), asks: asks,
		final: make(chan *sipgo.Response, 1), fail: make(chan error, 1)}
	x.req.AppendHeader(sipgo.NewHeader("Allow", allowed))
	l.askSession(x.req)
	if sdp != nil {
		ct := sipgo.ContentTypeHeader("application/sdp")
		x.req.AppendHeader(&ct)
		x.req.SetBody(sdp)
	}
	m.own = x
	return x, nil
}

// send brings the request on its way; finding that may dial.
func (x *proposal) send(login bool) error {
	l := x.leg
	f, err := l.path()
	if err != nil {
		return err
	}
	if !f.mayCarry(x.req.Body()) {
		return errKeysShow
	}
	if login {
		if err := l.credentials().authorize(x.req); err != nil {
			return err
		}
	}
	x.req.AppendHeader(l.srv.contactHeader(f))
	l.srv.withVia(x.req, f)
	x.flow = f
	x.tx, err = l.srv.txs.request(f, x.req, x.received)
	return err
}

// wait is for the final answer, or the end of the leg.
func (x *proposal) wait(ctx context.Context) (*sipgo.Response, error) {
	cancelled := ctx.Done()
	for {
		select {
		case res := <-x.final:
			return res, nil
		case err := <-x.fail:
			return nil, err
		case <-x.leg.ended: // received still acknowledges what comes
			return nil, errLegOver
		case <-cancelled:
			cancelled = nil
			x.withdraw()
		}
	}
}

// forsake bounds the wait of a re-INVITE's transaction for an answer that the
// proposal waits for no longer: the far end may never give it.
func (x *proposal) forsake() {
	if x.req.IsInvite() {
		time.AfterFunc(timer64T1, x.tx.terminate)
	}
}

// withdraw cancels a re-INVITE, once it has had a provisional (RFC 3261 §9.1).
// It is given up 64*T1 later; nothing else bounds the wait.
func (x *proposal) withdraw() {
	l := x.leg
	l.mu.Lock()
	defer l.mu.Unlock()
	if !x.req.IsInvite() || x.withdrawn {
		return
	}
	x.withdrawn = true
	if x.provisional {
		x.cancel()
	}
	time.AfterFunc(timer64T1, func() {
		select {
		case x.fail <- errNoAnswer:
		default:
		}
	})
}

func (x *proposal) cancel() {
	f, cancel, srv, log := x.flow, newCancel(x.req), x.leg.srv, x.leg.log
	srv.work.Go(func() { // the write may meet a stalled peer
		if _, err := srv.txs.request(f, cancel, func(*sipgo.Response, error) {}); err != nil {
			log.Info("CANCEL could not be sent", "err", err)
		}
	})
}

// received takes each response, in wire order, on the flow's reader.
func (x *proposal) received(res *sipgo.Response, err error) {
	x.leg.mu.Lock()
	defer x.leg.mu.Unlock()
	switch {
	case err != nil:
		select {
		case x.fail <- err:
		default:
		}
	case res.StatusCode < 200:
		if x.withdrawn && !x.provisional {
			x.cancel()
		}
		x.provisional = true
	case res.StatusCode < 300:
		x.accepted(res)
	default:
		x.settle(res)
	}
}

// offers: an offer of ours, or one that we ask for, is under way.
func (x *proposal) offers() bool { return x.req.IsInvite() || len(x.req.Body()) > 0 }

func (x *proposal) settle(res *sipgo.Response) {
	select {
	case x.final <- res:
	default:
	}
}

// accepted takes a 2xx, the first or a repeated one. One that comes when the
// leg is over, or the proposal given up, gets its ACK as well.
func (x *proposal) accepted(res *sipgo.Response) {
	l := x.leg
	invite := x.req.IsInvite()
	switch {
	case x.ack != nil:
		x.sendAck()
	case invite && (!x.asks || l.over || l.mid.own != x):
		x.acknowledge(res, nil)
	}
	x.settle(res)
}

// acknowledge sends the ACK to the 2xx, with our answer or without (RFC 3261
// §13.2.2.4). The caller holds l.mu.
func (x *proposal) acknowledge(res *sipgo.Response, answer []byte) {
	l := x.leg
	if c := firstContact(res); c != nil { // the ACK goes there already
		l.target = *c.Address.Clone()
	}
	ack := l.buildRequest(sipgo.ACK, x.req.CSeq().SeqNo)
	if answer != nil {
		ct := sipgo.ContentTypeHeader("application/sdp")
		ack.AppendHeader(&ct)
		ack.SetBody(answer)
	}
	if f, hop := x.flow, l.nextHop(); l.trunk != nil && !f.reliable() {
		if there, err := l.srv.trunkPath(l.trunk, f, hop); err == nil {
			x.flow = there // the Contact may name another address
		}
	}
	x.ack = l.srv.withVia(ack, x.flow)
	x.sendAck()
}

// sendAck sends the ACK by the flow of its request, or by the device's newest
// one. The caller holds l.mu, so nothing is dialled: the 2xx comes again.
func (x *proposal) sendAck() {
	l, f := x.leg, x.flow
	if l.trunk == nil {
		f = l.srv.flowOf(l.aor, l.deviceID, f)
	}
	if err := f.send(x.ack); err != nil {
		l.log.Info("ACK could not be sent", "err", err)
	}
}

// complete takes what an accepted proposal has changed.
func (x *proposal) complete(p Proposal, res *sipgo.Response) error {
	l := x.leg
	var answer []byte
	var err error
	if x.asks {
		answer, err = p.Answer(sdpBody(res))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.asks && x.ack == nil {
		x.acknowledge(res, answer)
	}
	if c := firstContact(res); c != nil {
		l.target = *c.Address.Clone()
	}
	if l.mid.own == x {
		l.mid.own = nil
	}
	if l.over {
		return errLegOver
	}
	if body := x.req.Body(); len(body) > 0 {
		l.mid.sdp = body
	} else if answer != nil {
		l.mid.sdp = answer
	}
	l.takeSession(res)
	return err
}

// over makes room for the next request.
func (x *proposal) over() {
	x.leg.mu.Lock()
	defer x.leg.mu.Unlock()
	if x.leg.mid.own == x {
		x.leg.mid.own = nil
	}
}
