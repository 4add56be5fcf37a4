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

// errNothingToSay is a defect: neither an offer nor an answer to one.
var errNothingToSay = errors.New("a re-INVITE needs an offer, or an answer to the far end's")

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
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.mid.called {
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
	if err != nil {
		x.forsake()
	}
	if err == nil && res.StatusCode >= 300 {
		err = &Refused{Code: res.StatusCode, Phrase: SanitiseText(res.Reason, 64), Reason: reasonOf(res)}
	}
	if err != nil {
		x.over()
		return res, err
	}
	return res, x.complete(p, res)
}
