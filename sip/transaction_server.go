package sip

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// autoTrying is when an INVITE gets a 100 that its handler has not sent (RFC
// 3261 §17.2.1).
const autoTrying = 200 * time.Millisecond

// serverTx is one request that we answer: the state machines of RFC 3261
// §17.2.1 and §17.2.2, with the 2xx of RFC 6026. What must outlast its end is
// kept as a trace, which is much smaller.
type serverTx struct {
	t        *transactions
	f        *flow
	req      *sipgo.Request
	key      txKey
	mergeKey txKey

	// toTag stands in every response to the request, and in the one to its
	// CANCEL: the tag of the request's To, else a fresh one.
	toTag string

	to *sipgo.ToHeader // with toTag, shared by the responses

	refused atomic.Bool // answered 401 or 407

	mu        sync.Mutex // guards the following, and orders the answers
	value     any        // the handler's: who answers the request
	last      []byte     // the last answer, for retransmissions of the request
	final     int        // status of the final answer; 0 before it
	acked     bool
	cancelled bool
	dropped   bool
	traceless bool
	timer     *time.Timer   // for the 100; then Timers G and H
	interval  time.Duration // Timer G
	waited    time.Duration // of Timer H
}

// newServerTx is called with the table locked; begin starts it. Until then the
// transaction's lock is held, so that a retransmission waits for it.
func newServerTx(t *transactions, f *flow, req *sipgo.Request, key, mergeKey txKey) *serverTx {
	s := &serverTx{t: t, f: f, req: req, key: key, mergeKey: mergeKey}
	s.toTag, _ = req.To().Params.Get("tag")
	if s.toTag == "" {
		s.toTag = newTag()
	}
	to := req.To()
	s.to = &sipgo.ToHeader{DisplayName: to.DisplayName, Address: to.Address, Params: to.Params.Clone()}
	if !s.to.Params.Has("tag") {
		s.to.Params.Add("tag", s.toTag)
	}
	s.mu.Lock()
	return s
}

func (s *serverTx) begin() {
	defer s.mu.Unlock()
	if s.req.IsInvite() {
		s.timer = time.AfterFunc(autoTrying, s.try)
	}
}

func (s *serverTx) try() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil && !s.dropped {
		s.respondLocked(s.response(100, "Trying"))
	}
}

// request is the request as it came; it must not be changed.
func (s *serverTx) request() *sipgo.Request { return s.req }

// response begins a response (RFC 3261 §8.2.6, §12.1.1). It shares the headers
// of the request instead of copying them: a parked call keeps its last
// response for retransmission, and neither is changed any more.
func (s *serverTx) response(code int, phrase string) *sipgo.Response {
	res := sipgo.NewResponse(code, phrase)
	dialog := s.req.IsInvite() && code > 100 && code < 300
	for _, h := range s.req.Headers() {
		switch h.Name() {
		case "Via", "From", "Call-ID", "CSeq":
			res.AppendHeader(h)
		case "To":
			res.AppendHeader(s.to)
		case "Record-Route":
			if dialog {
				res.AppendHeader(h)
			}
		case "Timestamp":
			if code == 100 {
				res.AppendHeader(h)
			}
		}
	}
	return res
}

// answerNeeds reports whether the responses to a request need its header.
func answerNeeds(name string) bool {
	switch name {
	case "Via", "From", "To", "Call-ID", "CSeq", "Record-Route", "Timestamp", "Require":
		return true
	}
	return false
}

// keepOnly drops the headers of the request that its responses do not need, once the handler has read them. It may be called only while the
// request is being dispatched.
func (s *serverTx) keepOnly() {
	var drop []string
	for _, h := range s.req.Headers() {
		if !answerNeeds(h.Name()) {
			drop = append(drop, h.Name())
		}
	}
	for _, name := range drop {
		s.req.RemoveHeader(name)
	}
}

// belongsTo notes who answers the request, and is to hear of its CANCEL.
func (s *serverTx) belongsTo(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = v
}

// owner is who answers the request. A CANCEL that asks for it may have come by
// another connection than the INVITE, while that is still being looked at.
func (s *serverTx) owner() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value
}

// flow is where the request came from and the answers go.
func (s *serverTx) flow() *flow { return s.f }

// respond sends a response, with the transaction's To tag whatever tag it was
// built with. A 2xx to an INVITE may be sent again; any other response after a
// final one is refused with errAnswered.
func (s *serverTx) respond(res *sipgo.Response) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.respondLocked(res)
}

func (s *serverTx) respondLocked(res *sipgo.Response) error {
	again := s.req.IsInvite() && s.final/100 == 2 && res.StatusCode/100 == 2
	switch {
	case s.dropped:
		return errTransactionOver
	case s.final != 0 && !again:
		return fmt.Errorf("%d after %d: %w", res.StatusCode, s.final, errAnswered)
	}
	s.stop()
	setToTag(res, s.toTag)
	s.last = wireOf(res)
	if res.StatusCode >= 200 && s.final == 0 {
		s.final = res.StatusCode
		s.refused.Store(res.StatusCode == 401 || res.StatusCode == 407)
		s.t.answered(string(s.req.Method), res.StatusCode)
		s.completed()
	}
	if err := s.f.write(s.last); err != nil {
		return fmt.Errorf("answer %d to %s: %w: %w", res.StatusCode, s.req.Method, errTransactionOver, err)
	}
	return nil
}

// completed is the state after the final answer. The caller holds s.mu.
func (s *serverTx) completed() {
	switch {
	case s.traceless:
		s.t.removeServer(s)
	case s.req.IsInvite() && s.final >= 300:
		s.interval = timerT1
		if s.f.reliable() { // Timer H alone
			s.interval = timer64T1
		}
		s.timer = time.AfterFunc(s.interval, s.repeat)
	case s.req.IsInvite(): // Timer L; the 2xx is repeated by who answered
		s.t.retire(s, nil, timer64T1)
	case s.f.reliable(): // Timer J is 0
		s.t.removeServer(s)
	default:
		s.t.retire(s, s.last, timer64T1) // Timer J
	}
}

// repeat is Timer G, and Timer H when it has been long enough.
func (s *serverTx) repeat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acked || s.dropped {
		return
	}
	s.waited += s.interval
	if s.waited >= timer64T1 {
		s.t.removeServer(s)
		return
	}
	s.interval = min(2*s.interval, timerT2)
	s.timer.Reset(min(s.interval, timer64T1-s.waited))
	s.f.write(s.last)
}

// stop ends the timer that runs. The caller holds s.mu.
func (s *serverTx) stop() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// leaveNoTrace: with the final answer the request is forgotten (RFC 3261
// §8.2.7), and a retransmission is handled as a new one.
func (s *serverTx) leaveNoTrace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traceless = true
}

// drop ends the transaction. Without an answer to it yet there will be none;
// after one it is forgotten, and a retransmission is handled as a new request.
func (s *serverTx) drop() {
	s.mu.Lock()
	s.dropped = true
	s.stop()
	s.mu.Unlock()
	s.t.removeServer(s)
}

func (s *serverTx) flowClosed() { s.drop() }

// challenged: the same request may come again with credentials, from user
// agents that do not count CSeq up for it.
func (s *serverTx) challenged() bool { return s.refused.Load() }

// retransmitted repeats the last answer, if there is one. A 2xx to an INVITE is
// repeated by who gave it (RFC 6026 §7.1).
func (s *serverTx) retransmitted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && !s.acked && !(s.req.IsInvite() && s.final/100 == 2) {
		s.f.write(s.last)
	}
}

// acknowledged takes the ACK to a refusal; false if the answer was another.
func (s *serverTx) acknowledged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final < 300 {
		return s.final == 0 // too early: nobody's
	}
	if s.acked {
		return true
	}
	s.acked = true
	s.stop()
	if s.f.reliable() { // Timer I is 0
		s.t.removeServer(s)
	} else {
		s.t.retire(s, nil, timerT4)
	}
	return true
}

// cancel reports whether a CANCEL is the first, and in time.
func (s *serverTx) cancel() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancelled || s.dropped || s.final != 0 {
		return false
	}
	s.cancelled = true
	return true
}
