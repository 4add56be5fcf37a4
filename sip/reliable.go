package sip

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// Provisional answers to a trunk that asks for it are sent reliably (RFC
// 3262): again and again until their PRACK, one at a time. Towards devices the
// extension is not offered.

// reliability is what an INVITE says of reliable provisionals.
type reliability uint8

const (
	unreliable  reliability = iota
	mayReliable             // Supported: 100rel
	reliable                // Require: 100rel
)

const tag100rel = "100rel"

func reliabilityOf(invite *sipgo.Request) reliability {
	switch {
	case hasToken(invite, "Require", tag100rel):
		return reliable
	case hasToken(invite, "Supported", tag100rel):
		return mayReliable
	}
	return unreliable
}

// reliables are the reliable provisionals of one INVITE; made with the first.
type reliables struct {
	rseq   uint32            // of the next one
	sent   *provisional      // waits for its PRACK
	queue  []*sipgo.Response // behind it
	answer *sipgo.Response   // the 200, if it must wait for the PRACK
}

type provisional struct {
	rseq             uint32
	res              *sipgo.Response
	timer            *time.Timer
	interval, waited time.Duration
}

// maxQueued bounds what waits behind a provisional without PRACK; older ones
// say less than newer ones and go first.
const maxQueued = 4

// wantsReliable decides how a provisional goes. RFC 3262 §3: always reliably
// where the trunk requires it; where it only supports it, for SDP, which must
// not get lost: it is the answer.
func (in *Inbound) wantsReliable(sdp []byte) bool {
	return in.reliability == reliable || in.reliability == mayReliable && sdp != nil
}

// silentProgress: the first reliable answer to an INVITE without an offer has
// to bring ours (RFC 3262 §5), which we make for the 200 only, when the
// device's codec is known. Until then such a trunk hears 100 alone.
func (in *Inbound) silentProgress() bool { return in.reliability == reliable && in.offer == nil }

// progressReliably sends a provisional, or queues it behind one that has no
// PRACK yet (RFC 3262 §3). The caller holds in.mu.
func (in *Inbound) progressReliably(res *sipgo.Response) error {
	if in.reliables == nil {
		in.reliables = &reliables{rseq: 1 + rand.Uint32N(1<<31-1)}
	}
	r := in.reliables
	if len(res.Body()) > 0 {
		in.inCall() // after the PRACK the trunk may send UPDATE (RFC 3311 §5.1)
	}
	res.AppendHeader(sipgo.NewHeader("Require", tag100rel))
	if r.sent == nil {
		return in.sendProvisional(res)
	}
	if len(r.queue) == maxQueued {
		r.queue = r.queue[1:]
	}
	r.queue = append(r.queue, res)
	return nil
}

func (in *Inbound) sendProvisional(res *sipgo.Response) error {
	r := in.reliables
	p := &provisional{rseq: r.rseq, res: res, interval: timerT1}
	r.rseq++
	res.AppendHeader(sipgo.NewHeader("RSeq", strconv.FormatUint(uint64(p.rseq), 10)))
	if err := in.tx.respond(res); err != nil {
		return err
	}
	r.sent = p
	p.timer = time.AfterFunc(p.interval, func() { in.resendProvisional(p) })
	return nil
}

// resendProvisional repeats at T1, doubling without a bound, on every
// transport; after 64*T1 without PRACK the INVITE is refused (RFC 3262 §3).
func (in *Inbound) resendProvisional(p *provisional) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.over || in.answered || in.reliables.sent != p {
		return
	}
	p.waited += p.interval
	if p.waited >= timer64T1 {
		in.log.Warn("a reliable provisional was never acknowledged; refusing the call", "call_id", in.id.callID)
		in.answered = true
		in.refuse(in.tx, &Refused{Code: 504})
		in.finish(End{Kind: EndNoPrack, Code: 504})
		return
	}
	p.interval = min(2*p.interval, timer64T1-p.waited)
	p.timer.Reset(p.interval)
	if err := in.tx.respond(p.res); err != nil {
		in.log.Debug("a provisional could not be sent again", "err", err)
	}
}

// holdAnswer keeps the 200 back where a provisional with SDP has no PRACK yet
// (RFC 3262 §3). What was queued behind that is not worth sending any more.
// The caller holds in.mu.
func (in *Inbound) holdAnswer(res *sipgo.Response) bool {
	r := in.reliables
	if r == nil {
		return false
	}
	r.queue = nil
	if r.sent == nil || len(r.sent.res.Body()) == 0 {
		return false
	}
	r.answer = res
	return true
}

// answerHeld: Answer has been called, but the 200 has not left. CANCEL, Refuse
// and BYE still find an INVITE without a final answer.
func (in *Inbound) answerHeld() bool { return in.reliables != nil && in.reliables.answer != nil }

// pracked takes a PRACK (RFC 3262 §3). It runs on the flow's reader.
func (s *Server) pracked(o dialogOwner, req *sipgo.Request, tx *serverTx) {
	in, ok := o.(*Inbound)
	if !ok { // a device acknowledges nothing of ours
		s.answer(tx, 481)
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	ack, ok := parseRAck(headerValue(req, "RAck"))
	switch {
	case !ok:
		s.answer(tx, 400)
		return
	case !in.unacknowledged(ack):
		s.answer(tx, 481)
		return
	}
	p := in.reliables.sent
	in.reliables.sent = nil
	p.timer.Stop()
	in.answeredEarly = in.answeredEarly || len(p.res.Body()) > 0 && in.offer != nil
	in.answerPrack(req, tx, p)
	in.afterPrack()
}

// rAck is the value of an RAck header: which response is acknowledged.
type rAck struct {
	rseq, cseq uint32
	method     string
}

// parseRAck reads "response-num CSeq-num Method" (RFC 3262 §7.2).
func parseRAck(value string) (rAck, bool) {
	fields := strings.Fields(value)
	if len(fields) != 3 || !isToken(fields[2]) {
		return rAck{}, false
	}
	rseq, err1 := strconv.ParseUint(fields[0], 10, 32)
	cseq, err2 := strconv.ParseUint(fields[1], 10, 31)
	return rAck{uint32(rseq), uint32(cseq), fields[2]}, err1 == nil && err2 == nil
}

func (in *Inbound) unacknowledged(a rAck) bool {
	r := in.reliables
	return r != nil && r.sent != nil && r.sent.rseq == a.rseq &&
		a.cseq == in.tx.request().CSeq().SeqNo && a.method == string(sipgo.INVITE)
}

// answerPrack answers a PRACK that has done its work in any case. An offer in
// it (RFC 3262 §5) that repeats the INVITE's gets our answer again; another is
// refused, and the session stays as it is: there are re-INVITE and UPDATE for that.
func (in *Inbound) answerPrack(req *sipgo.Request, tx *serverTx, p *provisional) {
	offer := sdpBody(req)
	switch {
	case len(req.Body()) > 0 && offer == nil:
		in.srv.answer(tx, 415)
	case offer == nil:
		in.srv.answer(tx, 200)
	case len(p.res.Body()) > 0 && string(offer) == string(in.offer):
		in.srv.respond(tx, in.srv.response(tx, 200, p.res.Body()))
	default:
		in.srv.answer(tx, 488)
	}
}

// afterPrack sends what waited: the 200, or the next provisional.
func (in *Inbound) afterPrack() {
	r := in.reliables
	switch {
	case in.over || in.answered:
	case r.answer != nil:
		res := r.answer
		r.answer = nil
		if err := in.confirm(res); err != nil {
			in.log.Info("the 200 could not be sent", "err", err)
		}
	case len(r.queue) > 0:
		next := r.queue[0]
		r.queue = r.queue[1:]
		if err := in.sendProvisional(next); err != nil {
			in.log.Debug("a provisional could not be sent", "err", err)
		}
	}
}
