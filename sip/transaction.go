package sip

import (
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"sync"

	sipgo "github.com/emiago/sipgo/sip"
)

var (
	errNoAnswer        = errors.New("no answer within 64*T1 (32 s)")
	errTransactionOver = errors.New("the transaction is over")
	errAnswered        = errors.New("a final answer has been sent already")
	errTooManyPending  = errors.New("too many transactions are pending")
)

// maxTransactions bounds the table. At about 6 kB each it is 600 MB; ordinary
// load is below 32 s times the request rate.
const maxTransactions = 100_000

// requestHandler is the transaction user (RFC 3261 §17). All methods are
// called on the flow's reader, in wire order, and must not block.
type requestHandler interface {
	// onRequest takes each new request once; retransmissions are absorbed. req
	// must not be changed.
	onRequest(f *flow, req *sipgo.Request, tx *serverTx)
	// onAck takes an ACK to a 2xx.
	onAck(f *flow, req *sipgo.Request)
	// onCancel takes the first CANCEL for an INVITE without a final answer. It
	// has been answered 200; the INVITE is the handler's to answer.
	onCancel(tx *serverTx, cancel *sipgo.Request)
	// onStrayResponse takes a response that no transaction waits for.
	onStrayResponse(f *flow, res *sipgo.Response)
}

// transactions is the transaction layer (RFC 3261 §17, RFC 6026). It takes one
// message at a time, in the order of the wire.
//
// Lock order: serverTx.mu or clientTx.mu, then transactions.mu. Nothing is
// called out with transactions.mu held.
type transactions struct {
	log      *slog.Logger
	handler  requestHandler
	rejected func(reason string)           // counts; may be set before use
	answered func(method string, code int) // counts final answers, one for each request; may be set before use
	learn    func(*flow, *sipgo.Response)  // sees each answer to a request of ours; may be set before use
	limit    int
	seeds    txSeeds

	mu     sync.Mutex // guards the following
	shut   bool
	server map[txKey]*serverTx
	traces traces
	merged map[txKey]txKey // to the transaction, by what RFC 3261 §8.2.2.2 compares
	client map[txKey]*clientTx
	byFlow map[*flow]map[pending]struct{} // streams only; UDP flows do not close
}

// pending is a transaction of either side.
type pending interface{ flowClosed() }

func newTransactions(log *slog.Logger, h requestHandler) *transactions {
	return &transactions{
		log: log, handler: h, limit: maxTransactions,
		rejected: func(string) {},
		answered: func(string, int) {},
		learn:    func(*flow, *sipgo.Response) {},
		seeds:    txSeeds{maphash.MakeSeed(), maphash.MakeSeed()},
		server:   map[txKey]*serverTx{},
		traces:   traces{byKey: map[txKey]trace{}},
		merged:   map[txKey]txKey{},
		client:   map[txKey]*clientTx{},
		byFlow:   map[*flow]map[pending]struct{}{},
	}
}

// receive takes every message that a flow reads.
func (t *transactions) receive(f *flow, m sipgo.Message) {
	switch m := m.(type) {
	case *sipgo.Request:
		t.receiveRequest(f, m)
	case *sipgo.Response:
		t.receiveResponse(f, m)
	}
}

func (t *transactions) receiveRequest(f *flow, req *sipgo.Request) {
	if status, reason := validate(req); status != 0 {
		t.rejected(rejectedMalformed)
		t.answer(f, req, status, reason)
		return
	}
	switch req.Method {
	case sipgo.ACK:
		t.receiveAck(f, req)
		return
	case sipgo.CANCEL:
		t.receiveCancel(f, req)
		return
	}
	key := t.seeds.server(req, req.Method)
	if tr, ok := t.trace(key); ok {
		if tr.again != nil {
			tr.f.write(tr.again)
		}
		return
	}
	s, isNew, status := t.admit(f, req, key)
	switch {
	case status == 482:
		t.answer(f, req, 482, "Merged Request")
	case status != 0:
		t.rejected(rejectedTransactions)
		t.answer(f, req, status, "Service Unavailable")
	case isNew:
		t.dispatch(f, req, s)
	default:
		s.retransmitted()
	}
}

// admit finds the transaction of a request or begins one. A status says that
// the request must be answered without one.
func (t *transactions) admit(f *flow, req *sipgo.Request, key txKey) (s *serverTx, isNew bool, status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s = t.server[key]; s != nil {
		return s, false, 0
	}
	same := t.seeds.merge(req)
	if other, ok := t.merged[same]; ok && !t.challenged(other) {
		return nil, false, 482
	}
	if t.shut || len(t.server)+len(t.client) >= t.limit {
		return nil, false, 503
	}
	s = newServerTx(t, f, req, key, same)
	t.server[key] = s
	if same != (txKey{}) {
		t.merged[same] = key
	}
	t.attach(f, s)
	return s, true, 0
}

// dispatch hands a new request to the handler. If it panics the request gets a
// 500: the far end must not wait for what will never come.
func (t *transactions) dispatch(f *flow, req *sipgo.Request, s *serverTx) {
	defer func() {
		if r := recover(); r != nil {
			t.rejected(rejectedPanic)
			t.log.Error("panic while handling a request", "err", r, "method", string(req.Method), "stack", string(debug.Stack()))
			s.respond(sipgo.NewResponseFromRequest(req, 500, "Server Internal Error", nil))
		}
	}()
	s.begin()
	t.handler.onRequest(f, req, s)
}

// receiveAck: the ACK to a refusal belongs to the INVITE's transaction, the
// one to a 2xx to the dialog (RFC 3261 §13.3.1.4, §17.2.1).
func (t *transactions) receiveAck(f *flow, req *sipgo.Request) {
	key := t.seeds.server(req, sipgo.INVITE)
	if s := t.find(key); s != nil && s.acknowledged() {
		return
	}
	if tr, ok := t.trace(key); ok && tr.final >= 300 {
		return
	}
	t.handler.onAck(f, req)
}

// receiveCancel answers a CANCEL (RFC 3261 §9.2). It does so without state: a
// repeated CANCEL gets the same answer for as long as its INVITE is known.
func (t *transactions) receiveCancel(f *flow, req *sipgo.Request) {
	key := t.seeds.server(req, sipgo.INVITE)
	s := t.find(key)
	tr, answered := t.trace(key)
	toTag := tr.toTag
	switch {
	case s != nil:
		toTag = s.toTag
	case !answered:
		t.answer(f, req, 481, "Call/Transaction Does Not Exist")
		return
	}
	res := sipgo.NewResponseFromRequest(req, 200, "OK", nil)
	setToTag(res, toTag)
	t.answered("CANCEL", 200)
	if err := f.send(res); err != nil {
		t.log.Debug("the answer to CANCEL could not be sent", "err", err)
	}
	if s != nil && s.cancel() {
		t.handler.onCancel(s, req)
	}
}

// answer responds without a transaction (RFC 3261 §8.2.7). ACK is never answered.
func (t *transactions) answer(f *flow, req *sipgo.Request, status int, reason string) {
	if req.IsAck() || req.Via() == nil {
		return
	}
	res := sipgo.NewResponseFromRequest(req, status, reason, nil)
	if status == 503 {
		res.AppendHeader(sipgo.NewHeader("Retry-After", "10"))
	}
	t.answered(string(req.Method), status)
	if err := f.send(res); err != nil {
		t.log.Debug("an answer could not be sent", "code", status, "err", err)
	}
}

// receiveResponse finds the request that is answered. A response with a second
// Via was meant for someone behind us, and there is no one (§8.1.3.3).
func (t *transactions) receiveResponse(f *flow, res *sipgo.Response) {
	if res.CSeq() == nil || res.From() == nil || res.To() == nil || res.CallID() == nil || len(res.GetHeaders("Via")) != 1 {
		t.rejected(rejectedMalformed)
		return
	}
	branch, _ := res.Via().Params.Get("branch")
	t.mu.Lock()
	c := t.client[t.seeds.client(branch, res.CSeq().MethodName)]
	t.mu.Unlock()
	if c == nil {
		t.handler.onStrayResponse(f, res)
		return
	}
	t.learn(c.f, res)
	c.receive(res)
}

// request sends req by f and reports what comes of it to on: each provisional,
// the final answer, and each repeated or further 2xx to an INVITE, in wire
// order; or, once and last, an error when nothing final came or the flow died.
// on must not block. If request itself fails, on is not called.
//
// req needs a Via made by newVia and is not to be changed any more. ACK is not
// a transaction: send it by the flow. After a provisional answer to an INVITE
// nothing bounds the wait (RFC 3261 §17.1.1.2): the caller must.
func (t *transactions) request(f *flow, req *sipgo.Request, on func(*sipgo.Response, error)) (*clientTx, error) {
	via := req.Via()
	if via == nil || req.CSeq() == nil || req.IsAck() {
		return nil, fmt.Errorf("%s is no request with Via and CSeq", req.Method)
	}
	branch, _ := via.Params.Get("branch")
	if req.ContentLength() == nil {
		req.SetBody(req.Body())
	}
	c := &clientTx{t: t, f: f, req: req, key: t.seeds.client(branch, req.Method), on: on}
	if err := t.addClient(c); err != nil {
		return nil, err
	}
	return c, c.begin()
}

func (t *transactions) addClient(c *clientTx) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut || c.f.dead != nil && c.f.isDead() {
		return errFlowClosed
	}
	if len(t.server)+len(t.client) >= t.limit {
		return errTooManyPending
	}
	t.client[c.key] = c
	t.attach(c.f, c)
	return nil
}

func (t *transactions) find(key txKey) *serverTx {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server[key]
}

// attach notes that p dies with its stream. The caller holds t.mu.
func (t *transactions) attach(f *flow, p pending) {
	if !f.reliable() {
		return
	}
	if t.byFlow[f] == nil {
		t.byFlow[f] = map[pending]struct{}{}
	}
	t.byFlow[f][p] = struct{}{}
}

func (t *transactions) detach(f *flow, p pending) {
	delete(t.byFlow[f], p)
	if len(t.byFlow[f]) == 0 {
		delete(t.byFlow, f)
	}
}

func (t *transactions) removeServer(s *serverTx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server[s.key] == s {
		delete(t.server, s.key)
		t.detach(s.f, s)
	} else {
		delete(t.traces.byKey, s.key)
	}
	t.unmerge(s.mergeKey, s.key)
}

func (t *transactions) removeClient(c *clientTx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client[c.key] != c {
		return
	}
	delete(t.client, c.key)
	t.detach(c.f, c)
}

// flowClosed ends the transactions of a stream that has ended.
func (t *transactions) flowClosed(f *flow) {
	t.mu.Lock()
	lost := make([]pending, 0, len(t.byFlow[f]))
	for p := range t.byFlow[f] {
		lost = append(lost, p)
	}
	t.mu.Unlock()
	for _, p := range lost {
		p.flowClosed()
	}
}

// isClosed reports whether the end has come.
func (t *transactions) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shut
}

// close ends all transactions: the waiting ones hear errFlowClosed. New ones
// are refused.
func (t *transactions) close() {
	t.mu.Lock()
	t.shut = true
	all := make([]pending, 0, len(t.server)+len(t.client))
	for _, s := range t.server {
		all = append(all, s)
	}
	for _, c := range t.client {
		all = append(all, c)
	}
	t.mu.Unlock()
	for _, p := range all {
		p.flowClosed()
	}
}

func setToTag(res *sipgo.Response, tag string) {
	if to := res.To(); to != nil && tag != "" {
		if have, _ := to.Params.Get("tag"); have != tag {
			to.Params.Add("tag", tag)
		}
	}
}
