package sip

import (
	"net/netip"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// Header is one header field to add to a message; the value is cleaned of line ends.
type Header struct{ Name, Value string }

// Inbound is the trunk leg of a call: a UAS dialog.
type Inbound struct {
	leg
	caller    Caller
	dialled   []string
	extension string // whose registration at the trunk the call came to; "" if nobody's
	offer     []byte
	tx        *serverTx
	acks      chan []byte // SDP of the ACK to our 200, once

	reliability reliability       // what the INVITE asks of provisionals
	session     sessionRequest    // and of the session's lifetime
	hopsLeft    uint8             // its Max-Forwards, less one
	trail       string            // its loop marks
	proofs      []uint64          // see Proofs
	refers      bool              // the trunk takes REFER, as far as its INVITE tells
	copied      map[string]string // headers that apps are told of

	// guarded by leg.mu:
	answered  bool       // a final answer has gone out
	reliables *reliables // provisionals that want a PRACK; nil if there were none
}

func newInbound(s *Server, t *Trunk, f *flow, req *sipgo.Request, tx *serverTx) *Inbound {
	in := &Inbound{
		caller: callerOf(req, t.cfg),
		offer:  sdpBody(req),
		refers: takesRefer(req),
		tx:     tx,

		reliability: reliabilityOf(req),
		session:     sessionOf(req),
		hopsLeft:    defaultHops - 1,
		trail:       strings.Join(loopMarks(req), ", "),
		proofs:      proofsOf(req),
		copied:      copied(req, s.push),
	}
	if h := req.MaxForwards(); h != nil && h.Val() > 0 {
		in.hopsLeft = uint8(h.Val() - 1)
	}
	to, from := req.To(), req.From()
	in.leg = leg{
		srv:       s,
		log:       t.log,
		id:        dialogID{callIDOf(req), tx.toTag},
		ended:     make(chan struct{}),
		flow:      f,
		trunk:     t,
		local:     party{to.DisplayName, &to.Address, tx.toTag},
		remote:    party{name: from.DisplayName, uri: &from.Address},
		remoteSeq: req.CSeq().SeqNo,
		target:    from.Address,
		proxied:   len(req.GetHeaders("Via")) > 1,
	}
	in.remote.tag, _ = from.Params.Get("tag")
	in.learnPeer(req, false)
	in.dial(t, req)
	return in
}

// dialledBy lists what the trunk dialled, the best first: the Request-URI's
// user, then the To header's.
func dialledBy(req *sipgo.Request) []string {
	var out []string
	add := func(u sipgo.Uri) {
		n, _, _ := strings.Cut(handleOf(u), "@")
		if n != "" && (len(out) == 0 || out[0] != n) {
			out = append(out, n)
		}
	}
	add(req.Recipient)
	if to := req.To(); to != nil {
		add(to.Address)
	}
	return out
}

// Trunk is where the call came from.
func (in *Inbound) Trunk() *Trunk { return in.trunk }

// Caller is who calls.
func (in *Inbound) Caller() Caller { return in.caller }

// Dialled lists what was dialled, the Request-URI first.
func (in *Inbound) Dialled() []string { return in.dialled }

// Extension is the extension whose registration at the PBX the call came to
// (UpstreamConfig); "" if the trunk called a number.
func (in *Inbound) Extension() string { return in.extension }

// Offer is the SDP of the INVITE; nil if it had none (RFC 3261 §13.2.1).
func (in *Inbound) Offer() []byte { return in.offer }

// MaxForwards is what is left for the INVITEs to devices.
func (in *Inbound) MaxForwards() *uint8 { return &in.hopsLeft }

// LocalAddress is our address as the trunk reaches us; invalid if unknown.
func (in *Inbound) LocalAddress() netip.Addr { return in.srv.addressFor(in.flow) }

// Progress sends a provisional answer (101 to 199) with SDP or without. Where
// the trunk wants that it goes reliably (RFC 3262); it may then have to wait
// for the PRACK to the one before. A leg whose provisional is never
// acknowledged refuses the INVITE by itself and ends with EndNoPrack.
func (in *Inbound) Progress(code int, sdp []byte, extra ...Header) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.over || in.answered || in.answerHeld():
		return errLegOver
	case in.silentProgress():
		return nil
	}
	res := in.srv.response(in.tx, code, sdp)
	in.srv.addContact(res, in.flow)
	for _, h := range extra {
		res.AppendHeader(sipgo.NewHeader(h.Name, SanitiseText(h.Value, maxHeaderValue)))
	}
	if in.wantsReliable(sdp) {
		return in.progressReliably(res)
	}
	return in.tx.respond(res)
}

// Answer sends the 200, again and again until the ACK. Without an ACK the leg
// hangs up by itself and ends with EndNoAck. Where a provisional with SDP has
// no PRACK yet the 200 waits for that; meanwhile the trunk may still cancel.
func (in *Inbound) Answer(sdp []byte) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.over || in.answered || in.answerHeld() {
		return errLegOver
	}
	res := in.srv.response(in.tx, 200, sdp)
	in.srv.addContact(res, in.flow)
	in.acks = make(chan []byte, 1)
	in.beginSession(in.session, res)
	if in.holdAnswer(res) {
		return nil
	}
	return in.confirm(res)
}

// confirm sends the 200. The caller holds in.mu.
func (in *Inbound) confirm(res *sipgo.Response) error {
	if err := in.sendAnswer(in.tx, res, func(sdp []byte) { in.acks <- sdp }); err != nil {
		in.finish(End{Kind: EndFlowLost})
		return err
	}
	in.unacked.first = true
	in.answered, in.confirmed = true, true
	return nil
}

// Acked yields the SDP of the ACK to our 200, nil if it had none. It is for
// after Answer.
func (in *Inbound) Acked() <-chan []byte { return in.acks }

// Refuse sends a final answer of 300 or more and ends the leg.
func (in *Inbound) Refuse(r *Refused) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.over || in.answered {
		return
	}
	if r.Code < 300 { // the callee was gone before our 200 had left
		r = &Refused{Code: 480, Reason: r.Reason}
	}
	in.answered = true
	in.refuse(in.tx, r)
	in.finish(End{Kind: EndLocal, Code: r.Code})
}

// cancelled takes the trunk's CANCEL; its 200 has been sent already. A CANCEL
// that crosses our final answer changes nothing (RFC 3261 §9.2).
func (in *Inbound) cancelled(cancel *sipgo.Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.over || in.answered {
		return
	}
	in.answered = true
	in.refuse(in.tx, &Refused{Code: 487})
	in.finish(End{Kind: EndCancelled, Reason: reasonOf(cancel)})
}

// hungUp takes the trunk's BYE, which may also come in an early dialog (RFC
// 3261 §15): the INVITE then still wants its answer (§15.1.2).
func (in *Inbound) hungUp(bye *sipgo.Request) {
	in.cancelled(bye)
	in.leg.hungUp(bye)
}

// flowClosed ends a leg that had not been answered when its connection died:
// nobody is there to be answered. A confirmed dialog goes on.
func (in *Inbound) flowClosed() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.confirmed {
		in.finish(End{Kind: EndFlowLost})
	}
}

// abandoned ends a leg that its handler has left open. It is deferred.
func (in *Inbound) abandoned() {
	in.Refuse(&Refused{Code: 500})
	in.Hangup(Reason{Protocol: "SIP", Cause: 500, Text: Phrase(500)})
}
