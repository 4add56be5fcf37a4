package sip

import (
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// answer is a 2xx to an INVITE that is sent again until its ACK comes
// (RFC 3261 §13.3.1.4: T1, doubling to T2, for 64*T1, on every transport).
type answer struct {
	first    bool // to the INVITE that began the dialog
	offer    bool // it holds our offer: the ACK has the answer
	seq      uint32
	tx       *serverTx
	res      *sipgo.Response
	timer    *time.Timer
	interval time.Duration
	waited   time.Duration
	onAck    func(sdp []byte)
}

// sendAnswer sends a 2xx and arms its retransmission. The caller holds l.mu.
func (l *leg) sendAnswer(tx *serverTx, res *sipgo.Response, onAck func(sdp []byte)) error {
	a := &answer{seq: tx.request().CSeq().SeqNo, tx: tx, res: res, interval: timerT1, onAck: onAck}
	a.offer = len(res.Body()) > 0 && sdpBody(tx.request()) == nil
	if err := tx.respond(res); err != nil {
		return err
	}
	l.unacked = a
	a.timer = time.AfterFunc(a.interval, func() { l.resendAnswer(a) })
	return nil
}

// forgetAnswer stops the repetition of our 2xx. The caller holds l.mu.
func (l *leg) forgetAnswer() {
	if l.unacked != nil {
		l.unacked.timer.Stop()
		l.unacked = nil
	}
}

func (l *leg) resendAnswer(a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unacked != a {
		return
	}
	a.waited += a.interval
	if a.waited >= timer64T1 {
		if l.parting != nil {
			l.part()
			return
		}
		// RFC 3261 §13.3.1.4: the dialog is confirmed but the session should end.
		l.log.Warn("the 200 was never acknowledged; hanging up", "call_id", l.id.callID)
		bye := l.prepareBye(Reason{Protocol: "SIP", Cause: 408, Text: "ACK missing"})
		l.finish(End{Kind: EndNoAck})
		l.sendLater(bye)
		return
	}
	a.interval = min(2*a.interval, timerT2)
	a.timer.Reset(min(a.interval, timer64T1-a.waited))
	if err := a.tx.respond(a.res); err != nil {
		l.log.Debug("200 could not be sent again", "err", err)
	}
}

// acked takes the ACK to one of our 2xx.
func (l *leg) acked(ack *sipgo.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.unacked
	if a == nil || ack.CSeq() == nil || ack.CSeq().SeqNo != a.seq {
		return
	}
	if l.parting != nil {
		l.part()
		return
	}
	l.forgetAnswer()
	a.onAck(sdpBody(ack)) // a channel with room
}

func (l *leg) refuse(tx *serverTx, r *Refused) {
	if err := tx.respond(l.srv.refusal(tx, r)); err != nil {
		l.log.Debug("the refusal could not be sent", "code", r.Code, "err", err)
	}
}
