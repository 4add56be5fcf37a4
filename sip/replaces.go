package sip

import (
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// Replacement is what a device wants with an INVITE that has Replaces (RFC
// 3891): its call goes on in a new dialog, on a flow that works. It is for the
// same extension only; Request.Adopt accepts it, Request.Answer refuses.
type Replacement struct {
	SDP     []byte           // the offer; nil asks us for one
	Early   bool             // the leg to be replaced is not answered yet
	Binding location.Binding // who asks: a binding of the flow, or the old leg's device without one

	flow  *flow
	acked chan []byte
}

// Acked yields the SDP of the ACK, nil if it had none.
func (r *Replacement) Acked() <-chan []byte { return r.acked }

// replacement takes an INVITE with Replaces from a phone; false if it names no
// leg of ours, and is to be treated as any INVITE that no trunk has sent. What
// names one is answered: who knows its tags is no mere scanner.
func (s *Server) replacement(f *flow, req *sipgo.Request, tx *serverTx) bool {
	headers := req.GetHeaders("Replaces")
	if len(headers) == 0 {
		return false
	}
	named, err := ParseReplaces(headers[0].Value())
	if err != nil {
		return s.replacesNothing(f, tx, 400)
	}
	o, ok := s.dialogs.find(dialogID{named.CallID, named.To}).(*Outbound)
	if !ok || !o.knownAs(named.From) {
		return s.replacesNothing(f, tx, s.goneOr481(named))
	}
	if s.challengedFor(o, f, req, tx) {
		return true
	}
	if code := s.inadmissible(req); code != 0 {
		s.answer(tx, code)
		return true
	}
	s.offerReplacement(o, named, f, req, tx)
	return true
}

// replacesTrunks refuses an INVITE with Replaces of a trunk's: it is no new
// call, whose phones would be woken, and its own calls it can move by re-INVITE.
func (s *Server) replacesTrunks(req *sipgo.Request) int {
	headers := req.GetHeaders("Replaces")
	if len(headers) == 0 {
		return 0
	}
	named, err := ParseReplaces(headers[0].Value())
	switch {
	case err != nil:
		return 400
	case s.dialogs.find(dialogID{named.CallID, named.To}) != nil:
		return 603
	}
	return 481
}

// replacesNothing answers a phone that we know, and leaves others to silence.
func (s *Server) replacesNothing(f *flow, tx *serverTx, code int) bool {
	if !s.registered(f) {
		return false
	}
	s.answer(tx, code)
	return true
}

// goneOr481: a dialog that is over is declined, one that never was is not
// there (RFC 3891 §3).
func (s *Server) goneOr481(r *Replaces) int {
	if old, ok := s.dialogs.relic(dialogID{r.CallID, r.To}); ok && old.aor != "" && s.dialogs.tagHash(r.From) == old.remoteTag {
		return 603
	}
	return 481
}

// knownAs reports whether the tag is the far end's; before the answer there may
// be several and none is kept.
func (o *Outbound) knownAs(tag string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.remote.tag == "" || o.remote.tag == tag
}

// challengedFor lets a flow through that the extension has registered by, or a
// request with its digest (RFC 3891 §5: replacing takes authority over the call).
func (s *Server) challengedFor(o *Outbound, f *flow, req *sipgo.Request, tx *serverTx) bool {
	for _, b := range s.loc.Lookup(o.aor) {
		if b.FlowID == f.id() {
			return false
		}
	}
	return s.demandDigest(o.aor, f, req, tx)
}

// offerReplacement brings the INVITE to the call, by way of the leg that it
// replaces.
func (s *Server) offerReplacement(o *Outbound, named *Replaces, f *flow, req *sipgo.Request, tx *serverTx) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.over || o.cancelled:
		o.refuse(tx, &Refused{Code: 603})
		return
	case o.confirmed && named.EarlyOnly:
		o.refuse(tx, &Refused{Code: 486})
		return
	}
	r := &Request{Method: string(req.Method), leg: &o.leg, tx: tx, Replacement: &Replacement{
		SDP: sdpBody(req), Early: !o.confirmed, Binding: s.bindingOn(f, o), flow: f, acked: make(chan []byte, 1),
	}}
	tx.belongsTo(r)
	s.respond(tx, s.response(tx, 100, nil))
	select {
	case o.queue() <- r:
	default:
		o.refuse(tx, &Refused{Code: 491})
	}
}

// bindingOn is the extension's binding that lives on a flow. Where a phone has
// shown its digest and not registered yet it is taken as the one that had the
// leg, reached where it asks from.
func (s *Server) bindingOn(f *flow, o *Outbound) location.Binding {
	for _, b := range s.loc.Lookup(o.aor) {
		if b.FlowID == f.id() {
			return b
		}
	}
	return location.Binding{AOR: o.aor, DeviceID: o.deviceID, Instance: o.binding.Instance, FlowID: f.id(), Transport: f.transport()}
}

// Adopt answers an INVITE with Replaces 200: what comes of it is a device leg
// like any other, and confirmed. The old leg is for the call to end.
func (r *Request) Adopt(sdp []byte) (*Outbound, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered {
		return nil, errLegOver
	}
	r.answered = true
	s, req, p := r.leg.srv, r.tx.request(), r.Replacement
	o := &Outbound{binding: p.Binding, final: true}
	to, from := req.To(), req.From()
	o.leg = leg{
		srv: s, log: r.leg.log, id: dialogID{callIDOf(req), r.tx.toTag}, ended: make(chan struct{}),
		flow: p.flow, aor: p.Binding.AOR, deviceID: p.Binding.DeviceID,
		local:     party{to.DisplayName, &to.Address, r.tx.toTag},
		remote:    party{from.DisplayName, &from.Address, fromTag(req)},
		remoteSeq: req.CSeq().SeqNo, target: from.Address, confirmed: true,
	}
	o.learnPeer(req, false)
	s.dialogs.add(o.id, o)
	o.mu.Lock()
	defer o.mu.Unlock()
	res := s.response(r.tx, 200, sdp)
	s.addContact(res, p.flow)
	m := o.inCall()
	m.probeAt = time.Now().Add(probeInterval)
	o.beginSession(sessionOf(req), res)
	if p.Binding.Contact == "" { // it has not registered there
		m.proven = p.flow
	}
	if err := o.sendAnswer(r.tx, res, func(sdp []byte) { p.acked <- sdp }); err != nil {
		o.finish(End{Kind: EndFlowLost})
		return nil, err
	}
	o.unacked.first = true
	return o, nil
}

// withdrawn takes the CANCEL of such an INVITE; it has its 200.
func (r *Request) withdrawn() { r.Answer(487, "") }
