package sip

import (
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// Invitation is what an INVITE to a device says.
type Invitation struct {
	CallID  string // chosen before the push leaves
	Caller  Caller
	SDP     []byte // our offer
	Headers []Header

	// MaxForwards is what the trunk's INVITE has left (RFC 3261 §16.6 step 3,
	// which a B2BUA keeps too: RFC 7332 §4); nil: 70.
	MaxForwards *uint8
}

// Progress is one step of an INVITE to a device. A Code of 200 or more is the last.
type Progress struct {
	Code   int    // SIP status; 408 and 430 are also made here: no answer at all, flow gone
	Phrase string // as the device gave it, cleaned
	SDP    []byte
	Reason Reason
	Local  bool // made here, the device sent nothing
	Lost   bool // the flow is gone but the device knows of the call: its answer may still come by another flow
}

// Outbound is a device leg: a UAC dialog on the flow of the device's REGISTER.
type Outbound struct {
	leg
	binding  location.Binding
	invite   *sipgo.Request
	progress chan Progress

	// guarded by leg.mu:
	tx          *clientTx
	provisional bool   // a 1xx came, so CANCEL may be sent (RFC 3261 §9.1)
	cancelled   bool   // the call is over for this device
	lost        bool   // its flow died after a provisional: an answer may come by another
	why         Reason // for CANCEL or BYE
	final       bool   // a final answer came
	ack         *sipgo.Request
	giveUp      *time.Timer
}

// progressRoom bounds the unread steps; further provisionals are dropped, the
// loss of the flow and the final answer always have room.
const progressRoom = 8

// Dial sends an INVITE to a binding, on its flow. The steps come on Progress.
func (s *Server) Dial(b location.Binding, inv Invitation) (*Outbound, error) {
	f := s.flowFor(b)
	if f == nil || f.isDead() {
		return nil, errFlowClosed
	}
	if !f.mayCarry(inv.SDP) {
		return nil, errKeysShow
	}
	o := &Outbound{binding: b, progress: make(chan Progress, progressRoom)}
	if err := o.init(s, f, inv); err != nil {
		return nil, err
	}
	s.dialogs.add(o.id, o)
	o.mu.Lock()
	defer o.mu.Unlock()
	tx, err := s.txs.request(f, o.invite, o.received)
	if err != nil {
		o.finish(End{Kind: EndFlowLost})
		return nil, err
	}
	o.tx = tx
	return o, nil
}

func (o *Outbound) init(s *Server, f *flow, inv Invitation) error {
	contact, err := parseURI(o.binding.Contact)
	if err != nil {
		return err
	}
	tag := newTag()
	caller, callee := s.callerURI(inv.Caller, f), s.aorURI(o.binding.AOR, f)
	o.leg = leg{
		srv:      s,
		log:      s.log.With("aor", o.binding.AOR, "device", o.binding.DeviceID),
		id:       dialogID{inv.CallID, tag},
		ended:    make(chan struct{}),
		flow:     f,
		aor:      o.binding.AOR,
		deviceID: o.binding.DeviceID,
		local:    party{quoted(inv.Caller.Name), &caller, tag},
		remote:   party{uri: &callee},
		target:   contact,
		routes:   pathOf(o.binding),
	}
	req := o.newRequest(sipgo.INVITE)
	req.PrependHeader(s.via(f))
	if inv.MaxForwards != nil {
		left := sipgo.MaxForwardsHeader(*inv.MaxForwards)
		req.ReplaceHeader(&left)
	}
	req.AppendHeader(s.contactHeader(f))
	req.AppendHeader(sipgo.NewHeader("Allow", allowed))
	req.AppendHeader(sipgo.NewHeader("Supported", "replaces, norefersub"))
	for _, h := range s.identityHeaders(inv.Caller, f, callee) {
		req.AppendHeader(h)
	}
	for _, h := range inv.Headers {
		req.AppendHeader(sipgo.NewHeader(h.Name, SanitiseText(h.Value, maxHeaderValue)))
	}
	if inv.SDP != nil {
		ct := sipgo.ContentTypeHeader("application/sdp")
		req.AppendHeader(&ct)
		req.SetBody(inv.SDP)
	}
	o.invite = req
	return nil
}

// Progress yields each step; nothing follows the final one, unless that is Lost.
func (o *Outbound) Progress() <-chan Progress { return o.progress }

// Binding is what was dialled.
func (o *Outbound) Binding() location.Binding { return o.binding }

// received takes each response of the INVITE transaction in wire order, on the
// flow's reader; err ends the transaction without a final answer.
func (o *Outbound) received(res *sipgo.Response, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil:
		o.failed(err)
	case res.StatusCode < 200:
		o.ringing(res)
	case res.StatusCode < 300:
		o.accepted(res)
	default:
		o.refused(res)
	}
}

// ringing takes a provisional of any early dialog: behind a forking proxy
// each has its own To tag, and only the one that is answered matters. One
// that asks for a PRACK, which we have not offered, is taken as any other.
func (o *Outbound) ringing(res *sipgo.Response) {
	if o.final { // late: nothing follows the final answer
		return
	}
	first := !o.provisional
	o.provisional = true
	if first && o.cancelled {
		o.sendCancel()
	}
	if !o.cancelled {
		o.report(Progress{Code: res.StatusCode, Phrase: SanitiseText(res.Reason, 64), SDP: sdpBody(res)})
	}
}

func (o *Outbound) accepted(res *sipgo.Response) {
	tag := tagOf(res.To())
	if o.confirmed || o.final { // sent again, or another branch of a forking proxy
		o.acceptedAgain(res, tag)
		return
	}
	o.final, o.confirmed = true, true
	o.stopGiveUp()
	o.remote.tag = tag
	o.learnPeer(res, true)
	o.keepPath(&o.leg)
	o.acknowledge()
	o.confirmSession(o.invite.Body(), res)
	if o.cancelled { // the 200 crossed our CANCEL (RFC 3261 §9.1)
		bye := o.prepareBye(o.why)
		o.finish(End{Kind: EndLocal})
		o.sendLater(bye)
		return
	}
	o.report(Progress{Code: res.StatusCode, Phrase: SanitiseText(res.Reason, 64), SDP: sdpBody(res)})
}

// acceptedAgain answers a repeated 2xx with the same ACK, and hangs up a
// second dialog that a fork made (RFC 3261 §13.2.2.4).
func (o *Outbound) acceptedAgain(res *sipgo.Response, tag string) {
	if tag == o.remote.tag {
		if o.ack != nil {
			o.transmitAck(o.ack)
		}
		return
	}
	fork := leg{srv: o.srv, log: o.log, id: o.id, flow: o.flow, aor: o.aor, deviceID: o.deviceID,
		local: o.local, remote: o.remote, localSeq: o.invite.CSeq().SeqNo, ended: make(chan struct{})}
	fork.remote.tag = tag
	fork.learnPeer(res, true)
	o.keepPath(&fork)
	o.transmitAck(o.srv.withVia(fork.buildRequest(sipgo.ACK, fork.localSeq), o.flow))
	why := reasonElsewhere
	if o.cancelled {
		why = o.why
	}
	fork.sendLater(fork.prepareBye(why))
}

// acknowledge sends the ACK to our 2xx and keeps it for its repetitions.
func (o *Outbound) acknowledge() {
	o.ack = o.srv.withVia(o.buildRequest(sipgo.ACK, o.invite.CSeq().SeqNo), o.flow)
	o.transmitAck(o.ack)
}

// transmitAck sends an ACK on the leg's flow, or on the device's newest one if
// it has left that: a 2xx that was sent again has found its way by another flow.
func (o *Outbound) transmitAck(ack *sipgo.Request) {
	if err := o.srv.flowOf(o.aor, o.deviceID, o.flow).send(ack); err != nil {
		o.log.Info("ACK could not be sent", "err", err)
	}
}

// refused takes a final answer of 300 or more. The Contacts of a 3xx go no
// further: a device does not say where a trunk's call goes.
func (o *Outbound) refused(res *sipgo.Response) {
	if o.final {
		return
	}
	o.final = true
	o.stopGiveUp()
	o.report(Progress{Code: res.StatusCode, Phrase: SanitiseText(res.Reason, 64), Reason: reasonOf(res)})
	o.finish(End{Kind: EndRefused, Code: res.StatusCode, Reason: reasonOf(res)})
}

// failed: the transaction ended without a final answer.
func (o *Outbound) failed(err error) {
	if o.final {
		return
	}
	if o.flow.isDead() && o.provisional && !o.cancelled {
		o.lose()
		return
	}
	o.final = true
	o.stopGiveUp()
	code, kind := 408, EndNoAnswer
	if o.flow.isDead() {
		code, kind = 430, EndFlowLost // RFC 5626 §11: Flow Failed, kept inside
	}
	o.log.Debug("INVITE to the device failed", "code", code, "err", err)
	o.report(Progress{Code: code, Phrase: Phrase(code), Local: true})
	o.finish(End{Kind: kind, Code: code})
}

func (o *Outbound) report(p Progress) {
	if p.Code < 200 && len(o.progress) >= progressRoom-2 {
		return
	}
	o.progress <- p
}

// Cancel ends the leg whatever its state: CANCEL once a provisional has come
// (RFC 3261 §9.1), ACK and BYE for a 200 that crosses it, BYE after the answer.
func (o *Outbound) Cancel(reason Reason) {
	o.mu.Lock()
	if o.confirmed || o.over {
		o.mu.Unlock()
		o.Hangup(reason)
		return
	}
	defer o.mu.Unlock()
	if o.cancelled || o.final {
		return
	}
	o.cancelled, o.why = true, reason
	if o.lost && o.srv.flowOf(o.aor, o.deviceID, o.flow).isDead() { // no way to tell it
		o.final = true
		o.finish(End{Kind: EndFlowLost})
		return
	}
	if o.provisional {
		o.sendCancel()
	}
	// Without a final answer 64*T1 after the CANCEL the client transaction is
	// taken as dead (RFC 3261 §9.1).
	o.giveUp = time.AfterFunc(timer64T1, o.abandon)
}

func (o *Outbound) sendCancel() {
	cancel := newCancel(o.invite)
	addReason(cancel, o.why)
	// By the newest flow: the device may have left the one that it rings on.
	f, log := o.srv.flowOf(o.aor, o.deviceID, o.flow), o.log
	o.srv.work.Go(func() { // the write may meet a stalled peer
		if _, err := o.srv.txs.request(f, cancel, func(*sipgo.Response, error) {}); err != nil {
			log.Info("CANCEL could not be sent", "err", err)
		}
	})
}

// abandon gives the INVITE up: no final answer after CANCEL, or a device that
// has come back by another flow.
func (o *Outbound) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.final || o.over {
		return
	}
	o.final, o.cancelled = true, true
	o.stopGiveUp()
	o.finish(End{Kind: EndNoAnswer})
	if o.tx != nil {
		o.tx.terminate()
	}
}

// Abandon drops an INVITE without a word on the wire: its flow is dead, or as
// good as dead. Should an answer come after all, or have come a moment ago, the
// device gets the CANCEL, or ACK and BYE, that belongs to it.
func (o *Outbound) Abandon() {
	o.abandon()
	o.Hangup(Reason{}) // of one that was answered
}

// stray takes a response that comes after the end of its transaction.
func (o *Outbound) stray(res *sipgo.Response) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.lost && !o.final:
		o.found(res)
	case res.StatusCode/100 == 2:
		o.accepted(res)
	case !o.over:
	case res.StatusCode >= 300:
		o.transmitAck(newAckFor(o.invite, res))
	case o.cancelled && !o.provisional:
		o.provisional = true
		o.sendCancel()
	}
}

func (o *Outbound) stopGiveUp() {
	if o.giveUp != nil {
		o.giveUp.Stop()
	}
}
