package sip

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// Timers of RFC 3261 §17 that dialogs need themselves: T1 is the round-trip
// estimate, T2 the longest retransmission interval, and 64*T1 ends a wait.
const (
	timerT1   = 500 * time.Millisecond
	timerT2   = 4 * time.Second
	timer64T1 = 64 * timerT1
)

// defaultHops is the Max-Forwards of what we send (RFC 3261 §8.1.1.6).
const defaultHops = 70

// How a leg came to its end.
type EndKind int

const (
	EndLocal     EndKind = iota // we hung up or refused
	EndHungUp                   // BYE from the far end
	EndCancelled                // CANCEL from the far end before our final answer
	EndRefused                  // final answer of 300 or more from the far end
	EndNoAck                    // our 200 was never acknowledged
	EndNoAnswer                 // nothing at all came back (transaction timeout)
	EndFlowLost                 // the connection is gone
	EndNoPrack                  // our reliable provisional was never acknowledged; the INVITE got 504
	EndGone                     // the far end does not know the dialog any more, or does not answer within it
	EndExpired                  // nobody has refreshed the session in time (RFC 4028)
)

// String names the kind for logs.
func (k EndKind) String() string {
	names := [...]string{"local", "hung up", "cancelled", "refused", "no ACK", "no answer", "flow lost", "no PRACK", "gone", "session expired"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// End tells how a leg ended and what the far end gave as its reason.
type End struct {
	Kind   EndKind
	Code   int // status, with EndRefused
	Reason Reason
	Sound  string // what the far end's BYE tells of the sound that it had (X-RTP-Stat); "" if nothing
}

var errLegOver = errors.New("the leg is over")

// dialogID is our half of a dialog (RFC 3261 §12): the peer's tag may still be
// unknown, but Call-ID and our tag always name at most one leg.
type dialogID struct{ callID, localTag string }

// leg is the state of one dialog, shared by Inbound and Outbound.
type leg struct {
	srv   *Server
	log   *slog.Logger
	id    dialogID
	ended chan struct{} // closed once, when the leg is over

	requests chan *Request // made when needed; guarded by mu

	mu sync.Mutex // guards the following

	flow     *flow
	trunk    *Trunk        // whose peer may be dialled; nil: a device, whose flow never is
	account  *digestClient // of a call to an extension's own registration at the trunk; nil: the trunk's login
	aor      string
	deviceID string // device side: its newest flow carries in-dialog requests

	local, remote       party // From and To of the requests we send
	target              sipgo.Uri
	routes              []sipgo.Uri
	proxied             bool // its INVITE came by a proxy, as its Vias tell
	localSeq, remoteSeq uint32
	confirmed, over     bool
	end                 End
	unacked             *answer // our 2xx that waits for its ACK
	parting             *Reason // of our BYE, while that waits for the ACK to our 200
	info                infoStance
	answeredEarly       bool          // our answer went out in a reliable provisional: the far end may make offers (RFC 3311 §5.1)
	mid                 *midcall      // nil until the session can change
	sound               func() string // see ReportSound; nil: nothing is told
}

// party is one end of the dialog: display name, address, tag.
type party struct {
	name string
	uri  *sipgo.Uri // never changed: it may be the INVITE's own
	tag  string
}

func (p party) params() sipgo.HeaderParams {
	h := sipgo.NewParams()
	if p.tag != "" {
		h.Add("tag", p.tag)
	}
	return h
}

// Ended is closed when the leg is over; End tells why.
func (l *leg) Ended() <-chan struct{} { return l.ended }

// End tells how the leg ended; the zero End while it lives.
func (l *leg) End() End {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// CallID is the dialog's Call-ID.
func (l *leg) CallID() string { return l.id.callID }

// finish ends the leg; only the first call counts. The caller holds l.mu.
func (l *leg) finish(e End) {
	if l.over {
		return
	}
	l.over, l.end = true, e
	if l.parting == nil {
		l.forgetAnswer()
	}
	if l.mid != nil {
		l.mid.stop()
		if l.mid.theirs != nil { // nobody is left to answer it (RFC 3261 §15.1.2)
			l.dropChange(&Refused{Code: 487})
		}
	}
	l.leaveUnanswered()
	close(l.ended)
	// A late re-sent 2xx of the far end or its BYE must still find the dialog,
	// so that it gets ACK or 200 rather than 481: forget after 64*T1.
	if l.parting == nil {
		l.srv.dialogs.retire(l)
	}
}

// Hangup sends BYE with the reason, on the newest flow, and ends the leg. It
// does not wait for the answer. On a leg that is not confirmed it does nothing.
// While our 200 waits for its ACK the BYE does too, for 64*T1 at most: a UAS
// must not send it earlier (RFC 3261 §15).
func (l *leg) Hangup(reason Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.confirmed || l.over {
		return
	}
	if l.unacked != nil && l.unacked.first {
		l.parting = &reason
		l.finish(End{Kind: EndLocal})
		return
	}
	bye := l.prepareBye(reason)
	l.finish(End{Kind: EndLocal})
	l.sendLater(bye)
}

// part sends the BYE that waited for an ACK. The caller holds l.mu.
func (l *leg) part() {
	reason := *l.parting
	l.parting = nil
	l.forgetAnswer()
	l.sendLater(l.prepareBye(reason))
	l.srv.dialogs.retire(l)
}

// partAtOnce is part for a server that ends and cannot wait any longer.
func (l *leg) partAtOnce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parting != nil {
		l.part()
	}
}

// prepareBye builds the BYE; the caller holds l.mu.
func (l *leg) prepareBye(reason Reason) *sipgo.Request {
	bye := l.newRequest(sipgo.BYE)
	addReason(bye, reason)
	l.addSound(bye)
	return bye
}

// sendLater sends a BYE, whose answer changes nothing, from a goroutine of its
// own: finding the way may dial, and nobody should wait for that. A device that
// has no flow at the moment, and would show the call for ever, gets it by the
// one that it comes back by, if that is within 64*T1.
func (l *leg) sendLater(bye *sipgo.Request) { l.sendUntil(bye, time.Now().Add(timer64T1)) }

// byeAgain is how often to look for that flow.
const byeAgain = time.Second

func (l *leg) sendUntil(bye *sipgo.Request, last time.Time) {
	l.requestLater(bye.Clone(), func(_ *sipgo.Response, err error) {
		if err != nil && l.trunk == nil && time.Now().Before(last) && !l.srv.txs.isClosed() {
			time.AfterFunc(byeAgain, func() { l.sendUntil(bye, last) })
		}
	})
}

// requestLater sends a request, with an ear for the answer, or for what went wrong.
func (l *leg) requestLater(req *sipgo.Request, on func(*sipgo.Response, error)) {
	l.srv.work.Go(func() {
		f, err := l.path()
		if err == nil {
			_, err = l.srv.txs.request(f, l.srv.withVia(req, f), on)
		}
		if err != nil {
			l.log.Info(string(req.Method)+" could not be sent", "err", err)
			on(nil, err)
		}
	})
}

// newRequest builds a request within the dialog (RFC 3261 §12.2.1.1) without
// its Via, which depends on the flow that carries it. The caller holds l.mu.
func (l *leg) newRequest(method sipgo.RequestMethod) *sipgo.Request {
	if method != sipgo.ACK {
		l.localSeq++
	}
	return l.buildRequest(method, l.localSeq)
}

func (l *leg) buildRequest(method sipgo.RequestMethod, seq uint32) *sipgo.Request {
	target, routes := l.target, l.routes
	if len(routes) > 0 && !routes[0].UriParams.Has("lr") { // a strict router takes the Request-URI
		target, routes = routes[0], append(append([]sipgo.Uri{}, routes[1:]...), l.target)
	}
	req := sipgo.NewRequest(method, *target.Clone())
	for _, r := range routes {
		req.AppendHeader(&sipgo.RouteHeader{Address: *r.Clone()})
	}
	maxForwards := sipgo.MaxForwardsHeader(defaultHops)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&sipgo.FromHeader{DisplayName: l.local.name, Address: *l.local.uri.Clone(), Params: l.local.params()})
	req.AppendHeader(&sipgo.ToHeader{DisplayName: l.remote.name, Address: *l.remote.uri.Clone(), Params: l.remote.params()})
	callID := sipgo.CallIDHeader(l.id.callID)
	req.AppendHeader(&callID)
	req.AppendHeader(&sipgo.CSeqHeader{SeqNo: seq, MethodName: method})
	if ua := l.srv.cfg.UserAgent; ua != "" && method != sipgo.ACK {
		req.AppendHeader(sipgo.NewHeader("User-Agent", ua))
	}
	return req
}

// path is the flow that the next request of the dialog takes: the flow it
// lives on; for a device that has left it, its newest one; for a trunk, a
// new connection or the datagram address of its route.
func (l *leg) path() (*flow, error) {
	l.mu.Lock()
	f, trunk, aor, device := l.flow, l.trunk, l.aor, l.deviceID
	proven := l.mid != nil && l.mid.proven == f && !f.isDead()
	hop := l.nextHop()
	l.mu.Unlock()
	if trunk != nil {
		return l.srv.trunkPath(trunk, f, hop)
	}
	if proven {
		return f, nil
	}
	if f = l.srv.flowOf(aor, device, f); !f.isDead() {
		return f, nil
	}
	if f = l.srv.flowBehindEdge(aor, device); f == nil {
		return nil, errFlowClosed
	}
	return f, nil
}

// nextHop is where the dialog's requests go first. The caller holds l.mu.
func (l *leg) nextHop() sipgo.Uri {
	if len(l.routes) > 0 {
		return l.routes[0]
	}
	return l.target
}

// learnPeer takes the dialog state that the peer's INVITE or 2xx carries: its
// Contact and Record-Route (reversed for the side that sent the INVITE).
func (l *leg) learnPeer(m sipgo.Message, reverse bool) {
	if c := firstContact(m); c != nil {
		l.target = *c.Address.Clone()
	}
	routes := routeURIs(m, "Record-Route")
	if reverse {
		slices.Reverse(routes)
	}
	l.routes = routes
	if headerValue(m, "Allow") != "" {
		l.info = infoMissing
		if hasToken(m, "Allow", string(sipgo.INFO)) {
			l.info = infoListed
		}
	}
}

// infoStance is what a peer's Allow says of INFO.
type infoStance uint8

const (
	infoUnsaid  infoStance = iota // there was no Allow (RFC 3261 §20.5): it may take INFO
	infoListed                    // it takes INFO
	infoMissing                   // it does not
)

// TakesInfo reports whether the far end has said that it takes INFO.
func (l *leg) TakesInfo() bool { return l.infoStance() == infoListed }

// RefusesInfo reports whether the far end has listed what it takes, without INFO.
func (l *leg) RefusesInfo() bool { return l.infoStance() == infoMissing }

func (l *leg) infoStance() infoStance {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.info
}
