package sip

import (
	"math/rand/v2"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// midcall is what a leg needs once its session can change: made with the
// answer, or for the first request within an early dialog. It is guarded by
// the leg's mu.
type midcall struct {
	changes chan *Change
	theirs  *Change   // the far end's request that waits for our answer
	own     *proposal // ours that waits for its answer
	sdp     []byte    // our latest description: a refresh by re-INVITE repeats it
	updates bool      // the far end takes UPDATE
	called  bool      // the far end has sent the INVITE: the Call-ID is its own
	proven  *flow     // no registered flow, but the device proved itself on it
	session session
	probeAt time.Time   // when a device is asked for a sign of life; zero: never
	timer   *time.Timer // for all that is due later, the one of its leg
}

// inCall is the leg's midcall. The caller holds l.mu.
func (l *leg) inCall() *midcall {
	if l.mid == nil {
		l.mid = &midcall{changes: make(chan *Change, 1)}
	}
	return l.mid
}

// Change is what the far end asks for within the dialog: a re-INVITE (RFC 3261
// §14), or an UPDATE with an offer (RFC 3311). One at a time; each waits for
// Accept or Refuse.
type Change struct {
	SDP    []byte // the offer; nil: a re-INVITE that asks us for one
	Update bool   // an UPDATE, which wants its answer at once: nobody can be asked for long (RFC 3311 §5.2)

	// Settled: SDP is the answer to a refresh of ours, which may move the far
	// end's media. Accept and Refuse do nothing.
	Settled bool

	leg     *leg
	flow    *flow
	tx      *serverTx
	acked   chan []byte
	gone    chan struct{}
	contact *sipgo.Uri
	session sessionRequest
}

// Changes yields what the far end asks for. It is for after the answer, or
// after a reliable provisional with SDP.
func (l *leg) Changes() <-chan *Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mid == nil {
		return nil
	}
	return l.mid.changes
}

// Accept answers 200 with our SDP, to a re-INVITE again and again until the ACK.
func (c *Change) Accept(sdp []byte) error {
	if c.Settled {
		return nil
	}
	l := c.leg
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.mid.theirs != c {
		return errLegOver
	}
	l.mid.theirs = nil
	res := l.srv.response(c.tx, 200, sdp)
	l.srv.addContact(res, c.tx.flow())
	l.grantSession(c.session, res)
	l.retarget(c)
	if sdp != nil {
		l.mid.sdp = sdp
	}
	if c.Update {
		return c.tx.respond(res)
	}
	return l.sendAnswer(c.tx, res, func(sdp []byte) { c.acked <- sdp })
}

// Acked yields the SDP of the ACK, nil if it had none: the answer, where the
// 200 carried our offer.
func (c *Change) Acked() <-chan []byte { return c.acked }

// Withdrawn is closed when there is nobody left to answer: the far end has
// cancelled its re-INVITE, or the leg is over.
func (c *Change) Withdrawn() <-chan struct{} { return c.gone }

// Refuse answers with a final status of 300 or more; the session stays as it
// was (RFC 3261 §14.2).
func (c *Change) Refuse(r *Refused) {
	if c.Settled {
		return
	}
	l := c.leg
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over && l.mid.theirs == c {
		l.dropChange(r)
	}
}

// dropChange refuses the far end's request and forgets it. The caller holds l.mu.
func (l *leg) dropChange(r *Refused) {
	c := l.mid.theirs
	l.mid.theirs = nil
	close(c.gone)
	l.refuse(c.tx, r)
}

// cancelled takes the CANCEL of a re-INVITE; it has its 200.
func (c *Change) cancelled() { c.Refuse(&Refused{Code: 487}) }

// retarget follows the far end to where its accepted request came from (RFC
// 3261 §12.2.2; RFC 6141 §4: not before it is accepted). The caller holds l.mu.
func (l *leg) retarget(c *Change) {
	if c.contact != nil {
		l.target = *c.contact
	}
	l.flow = c.flow
}

// overlapping is the answer to a request that crosses another one, with a time
// to come again of 0 to 10 s (RFC 3261 §14.2, RFC 3311 §5.2).
func overlapping() *Refused {
	return &Refused{Code: 500, RetryAfter: time.Duration(1+rand.IntN(10)) * time.Second}
}

// change takes a re-INVITE or UPDATE. It runs on the flow's reader.
func (l *leg) change(f *flow, req *sipgo.Request, tx *serverTx) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &Change{SDP: sdpBody(req), Update: req.Method == sipgo.UPDATE, leg: l, flow: f, tx: tx, session: sessionOf(req),
		acked: make(chan []byte, 1), gone: make(chan struct{})}
	if contact := firstContact(req); contact != nil {
		c.contact = contact.Address.Clone()
	}
	switch r, code := l.crossing(c), unacceptable(req); {
	case l.over:
		l.refuse(tx, &Refused{Code: 481})
	case code != 0:
		l.refuse(tx, &Refused{Code: code})
	case c.session.tooBrief():
		l.refuse(tx, &Refused{Code: 422})
	case r != nil:
		l.refuse(tx, r)
	case c.Update && c.SDP == nil:
		l.refreshed(c)
	default:
		l.deliver(c)
	}
}

// crossing holds a request against those that are under way, in either
// direction (RFC 3261 §14.2, RFC 3311 §5.2); nil: it may go ahead. The caller
// holds l.mu.
func (l *leg) crossing(c *Change) *Refused {
	m := l.inCall()
	invite, offers := !c.Update, c.SDP != nil || !c.Update
	switch {
	case !l.confirmed && l.trunk == nil && offers:
		return &Refused{Code: 491} // the offer of our INVITE has no answer yet
	case !l.confirmed && offers && (invite || !l.answeredEarly):
		return overlapping() // theirs has none
	case m.theirs != nil && (offers || m.theirs.Update):
		return overlapping()
	case m.own != nil && offers && m.own.offers():
		return &Refused{Code: 491}
	case l.unacked != nil && offers && (invite || l.unacked.offer):
		return &Refused{Code: 491}
	}
	return nil
}

// refreshed answers an UPDATE without offer: a new target, or a sign of life.
// The caller holds l.mu.
func (l *leg) refreshed(c *Change) {
	res := l.srv.response(c.tx, 200, nil)
	l.srv.addContact(res, c.flow)
	if l.confirmed {
		l.grantSession(c.session, res)
	}
	if l.confirmed || l.trunk != nil { // a device's early dialogs may be several
		l.retarget(c)
	}
	l.srv.respond(c.tx, res)
}

// deliver queues a request for the call to answer. The caller holds l.mu.
func (l *leg) deliver(c *Change) {
	select {
	case l.mid.changes <- c:
	default:
		l.refuse(c.tx, &Refused{Code: 491})
		return
	}
	l.mid.theirs = c
	if !c.Update {
		c.tx.belongsTo(c)
		l.srv.respond(c.tx, l.srv.response(c.tx, 100, nil))
	}
}
