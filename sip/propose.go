package sip

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// Proposal is what Propose asks of the far end.
type Proposal struct {
	// SDP makes the offer, anew for each try: between two of them the far end
	// may have changed the session. nil asks the far end for one.
	SDP func() ([]byte, error)
	// Answer makes the answer to the far end's offer, where SDP is nil.
	Answer func(offer []byte) ([]byte, error)
	// Update sends UPDATE if the far end takes it, else a re-INVITE. It is for
	// what needs no person to agree (RFC 3311 §5.1).
	Update bool

	refresh bool // repeat what holds, for a session timer or a new flow
	patient bool // a far end that does not know the dialog does not end the leg
}

// proposal is one request that changes or refreshes the session.
type proposal struct {
	leg   *leg
	req   *sipgo.Request
	flow  *flow                // set before it is sent
	final chan *sipgo.Response // the first final answer
	fail  chan error           // or that none came

	// guarded by leg.mu:
	provisional bool
	withdrawn   bool           // CANCEL was asked for
	asks        bool           // without an offer: the ACK has our answer
	ack         *sipgo.Request // to the 2xx, for its repetitions
}

// Propose sends a re-INVITE or UPDATE within the dialog and waits for its end:
// it gives the SDP of the 2xx, nil if that had none. Glare is waited out and
// tried again (RFC 3261 §14.1), a trunk's challenge is answered, and the target
// follows the answer's Contact. When ctx ends the request is cancelled; if its
// 2xx comes nevertheless that counts.
//
// The error is a *Refused for a final answer of 300 or more; the session then
// stays as it was. A far end that does not know the dialog (481, 408), or a
// trunk that says nothing at all, ends the leg with EndGone (§12.2.1.2).
func (l *leg) Propose(ctx context.Context, p Proposal) ([]byte, error) {
	login := false
	for tries := 1; ; {
		res, err := l.proposeOnce(ctx, p, login)
		if !errors.Is(err, errNoAckYet) { // which 64*T1 bound
			tries++
		}
		if err == nil {
			return sdpBody(res), nil
		}
		if p.patient && forgotten(err) {
			return nil, err
		}
		again := l.afterRefusal(res, err, &login)
		if again < 0 || tries > maxTries || again > 0 && !l.pause(ctx, again) {
			return nil, err
		}
	}
}

// maxTries bounds what is tried for one proposal: more glare than that is a
// far end that always refuses.
const maxTries = 8

// errNoAckYet: our 2xx to a request of the far end's still waits for its ACK,
// which is a round trip away.
var errNoAckYet = errors.New("the far end has not acknowledged our 2xx yet")

// ackPoll is how often to look for that: some round trips within one country.
const ackPoll = 50 * time.Millisecond

// pause waits before the next try; false if there is to be none.
func (l *leg) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-l.ended:
	}
	return false
}

// glareWait is how long to wait after a 491, in units of 10 ms (RFC 3261
// §14.1): the owner of the Call-ID waits longer.
func (l *leg) glareWait() time.Duration {
	if l.trunk == nil { // we have sent the INVITE
		return 2100*time.Millisecond + time.Duration(rand.IntN(191))*10*time.Millisecond
	}
	return time.Duration(rand.IntN(201)) * 10 * time.Millisecond
}

// afterRefusal says when to try again: at once, after a while, or never
// (negative).
func (l *leg) afterRefusal(res *sipgo.Response, err error, login *bool) time.Duration {
	var r *Refused
	if errors.Is(err, errNoAckYet) {
		return ackPoll
	}
	if !errors.As(err, &r) {
		if errors.Is(err, errNoAnswer) && l.trunk != nil {
			l.lost(408)
		}
		return -1
	}
	switch {
	case r.Code == 491:
		return max(l.glareWait(), 1)
	case r.Code == 408 || r.Code == 481:
		l.lost(r.Code)
	case res == nil:
	case (r.Code == 401 || r.Code == 407) && !*login && l.canLogin(res):
		*login = true
		return 0
	case r.Code == 422 && l.lengthenSession(sessionOf(res)):
		return 0
	case (r.Code == 405 || r.Code == 501) && res.CSeq().MethodName == sipgo.UPDATE:
		l.mu.Lock()
		l.mid.updates = false
		l.mu.Unlock()
		return 0
	}
	return -1
}

func (l *leg) canLogin(challenge *sipgo.Response) bool {
	if l.trunk == nil || l.trunk.cfg.Username == "" {
		return false
	}
	_, err := l.trunk.client.challenged(challenge)
	return err == nil
}

// lost ends a dialog that the far end does not know any more, or does not
// answer in (RFC 3261 §12.2.1.2).
func (l *leg) lost(code int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	bye := l.prepareBye(Reason{Protocol: "SIP", Cause: code, Text: Phrase(code)})
	l.finish(End{Kind: EndGone, Code: code})
	l.sendLater(bye)
}

// proposeOnce is one try.
func (l *leg) proposeOnce(ctx context.Context, p Proposal, login bool) (*sipgo.Response, error) {
	var sdp []byte
	var err error
	if p.SDP != nil {
		if sdp, err = p.SDP(); err != nil {
			return nil, err
		}
	}
	x, err := l.begin(p, sdp)
	if err != nil {
		return nil, err
	}
	if err = x.send(login); err != nil {
		x.over()
		return nil, err
	}
	res, err := x.wait(ctx)
	if err == nil && res.StatusCode >= 300 {
		err = &Refused{Code: res.StatusCode, Phrase: SanitiseText(res.Reason, 64), Reason: reasonOf(res)}
	}
	if err != nil {
		x.over()
		return res, err
	}
	return res, x.complete(p, res)
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
	x := &proposal{leg: l, req: l.newRequest(method), asks: sdp == nil && method == sipgo.INVITE,
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
	if login {
		if err := l.trunk.client.authorize(x.req); err != nil {
			return err
		}
	}
	x.req.AppendHeader(l.srv.contactHeader(f))
	l.srv.withVia(x.req, f)
	x.flow = f
	_, err = l.srv.txs.request(f, x.req, x.received)
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
