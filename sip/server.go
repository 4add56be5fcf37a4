package sip

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
	"github.com/prometheus/client_golang/prometheus"

	"reveille/sip/location"
)

// Handler takes the calls. Incoming runs on a goroutine of its own and owns
// the leg until it returns; it must end the leg by Refuse or Hangup.
type Handler interface {
	Incoming(in *Inbound)
}

// Accounts knows the extensions and their credentials.
type Accounts interface {
	// HA1 is the hash of user:realm:password for the algorithm ("MD5",
	// "SHA-256"); false if there is no such extension or no such hash. It does
	// the same work in each case, so that its time gives no name away.
	HA1(user, realm, algorithm string) (string, bool)
}

// PushSupport tells which push services and topics are configured (RFC 8599 §4.1).
type PushSupport interface {
	Supports(provider, param string) bool
	Providers() []string
}

// Options are what a Server works with besides its configuration.
type Options struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Network    Network               // nil: the system's
	Location   *location.Service
	Accounts   Accounts
	Push       PushSupport
	TLS        func() (*tls.Config, error) // nil: from Config.TLS
}

// Server is the SIP user agent: it owns the sockets, the transactions, the
// dialogs, the registrar and the trunks.
type Server struct {
	cfg       Config
	log       *slog.Logger
	loc       *location.Service
	transport *transport
	resolver  *resolver
	wall      func() time.Time // the clock on the wall, which jumps; tests set it
	txs       *transactions
	dialogs   *dialogTable
	registrar *registrar
	push      PushSupport
	metrics   *metrics
	guard     *guard
	loopMark  string // ours, in LoopHeader
	handler   Handler
	hosts     hostCache
	contacts  sync.Map // our Contact, by transport and local address

	draining   atomic.Bool
	retryAfter atomic.Int64 // seconds, while draining
	work       *group

	mu     sync.RWMutex // guards the following
	trunks []*Trunk
}

// New builds a server; Serve runs it. It fails on TLS files that cannot be
// used and on trunks that cannot be understood.
func New(cfg Config, trunks []TrunkConfig, o Options) (*Server, error) {
	if o.Network == nil {
		o.Network = SystemNetwork()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: o.Log, loc: o.Location, push: o.Push, dialogs: newDialogTable(), work: newGroup(), metrics: newMetrics(o.Registerer)}
	s.resolver = &resolver{dns: newDNSClient(o.Network, cfg.Resolvers), reaches: s.reaches}
	s.wall = func() time.Time { return time.Now().Round(0) }
	for _, tc := range trunks {
		t, err := newTrunk(s, tc.WithDefaults())
		if err != nil {
			return nil, fmt.Errorf("trunk %s: %w", tc.Name, err)
		}
		s.trunks = append(s.trunks, t)
	}
	s.loopMark = newTag()
	s.guard = newGuard(cfg.Limits, o.Log, s.sparing(cfg))
	reg, err := newRegistrar(cfg, registrarOptions{
		Log: o.Log, Location: o.Location, Accounts: o.Accounts, Push: o.Push,
		Rejected: s.metrics.reject, Keep: s.keepFlow, Guard: s.guard,
	})
	if err != nil {
		return nil, err
	}
	s.registrar = reg
	s.txs = newTransactions(o.Log, s)
	s.txs.rejected, s.txs.answered, s.txs.learn = s.metrics.reject, s.metrics.answered, s.learn
	s.transport, err = newTransport(cfg, o, s.receive, s.flowClosed, s.metrics.reject)
	if err != nil {
		return nil, err
	}
	s.transport.guard = s.guard
	o.Location.OnIdleFlow(s.transport.forget)
	return s, nil
}

// Serve listens, registers at the trunks and hands calls to h, until ctx ends.
// It returns after its children: no goroutine of the server's outlives it.
func (s *Server) Serve(ctx context.Context, h Handler) error {
	s.handler = h
	if err := s.transport.listen(ctx); err != nil {
		return err
	}
	trunkCtx, stop := context.WithCancel(ctx)
	defer stop()
	for _, t := range s.Trunks() {
		s.work.Go(func() { t.run(trunkCtx) })
	}
	<-ctx.Done()
	stop()
	s.work.Wait() // calls and trunks first: they still need the sockets
	s.dialogs.partAll()
	s.work.Wait()
	s.txs.settle(lastWords)
	s.txs.close()
	s.transport.close()
	return nil
}

// lastWords is how long Serve waits at its end for answers to its last BYE,
// CANCEL and refusals, so that over UDP each can be sent three times (RFC 3261
// §17.1.2.1: after 0, 0.5 and 1.5 s).
const lastWords = 2 * time.Second

// Drain refuses new calls with 503 and Retry-After (RFC 3261 §21.5.4); live
// dialogs and registrations go on.
func (s *Server) Drain(retryAfter time.Duration) {
	s.retryAfter.Store(int64(retryAfter / time.Second))
	s.draining.Store(true)
}

// Trunks lists the trunks in the order of the configuration.
func (s *Server) Trunks() []*Trunk {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return append([]*Trunk(nil), s.trunks...)
}

// LastHeard is when anything last came in on a flow; the zero time if the flow is gone.
func (s *Server) LastHeard(flowID string) time.Time {
	if f := s.transport.flowByID(flowID); f != nil && !f.isDead() {
		return f.lastHeard()
	}
	return time.Time{}
}

// LocalAddress is our address as the peer of a flow reaches it; invalid if unknown.
func (s *Server) LocalAddress(flowID string) netip.Addr {
	if f := s.transport.flowByID(flowID); f != nil {
		return s.addressFor(f)
	}
	return netip.Addr{}
}

// onRequest dispatches each new request, in wire order, on its flow's reader.
func (s *Server) onRequest(f *flow, req *sipgo.Request, tx *serverTx) {
	if tagged(req) && req.Method != sipgo.REGISTER {
		s.inDialog(f, req, tx)
		return
	}
	switch req.Method {
	case sipgo.INVITE:
		s.incoming(f, req, tx)
	case sipgo.REGISTER:
		s.work.Go(func() {
			defer s.recovered(tx)
			s.registrar.handle(f, req, tx)
		})
	case sipgo.OPTIONS:
		s.options(f, tx)
	default:
		if s.stranger(f, tx) {
			return
		}
		s.outOfPlace(tx)
	}
}

// onAck takes the ACK to a 2xx.
func (s *Server) onAck(_ *flow, ack *sipgo.Request) {
	if o := s.within(ack); o != nil {
		o.base().acked(ack)
	}
}

// onCancel takes a CANCEL for a pending INVITE; it has been answered 200.
func (s *Server) onCancel(tx *serverTx, cancel *sipgo.Request) {
	switch v := tx.owner().(type) {
	case *Inbound:
		v.cancelled(cancel)
	case *Change:
		v.cancelled()
	case *Request:
		v.withdrawn()
	}
}

// onStrayResponse: an answer to an INVITE whose transaction has gone goes to
// its leg, where that is still known; all else is dropped.
func (s *Server) onStrayResponse(_ *flow, res *sipgo.Response) {
	if res.CSeq() == nil || res.CSeq().MethodName != sipgo.INVITE {
		return
	}
	id := dialogID{callIDOf(res), fromTag(res)}
	if o, ok := s.dialogs.find(id).(*Outbound); ok {
		if o.invite != nil && res.CSeq().SeqNo == o.invite.CSeq().SeqNo {
			o.stray(res)
		}
		return
	}
	s.lateAnswer(id, res)
}

// incoming admits an INVITE that starts a dialog, or answers it.
func (s *Server) incoming(f *flow, req *sipgo.Request, tx *serverTx) {
	if s.replacement(f, req, tx) {
		return
	}
	t := s.trunkFor(f, req)
	if t == nil {
		s.refuseStranger(f, req, tx)
		return
	}
	if code := cmp.Or(s.inadmissible(req), s.replacesTrunks(req)); code != 0 {
		s.answer(tx, code)
		return
	}
	if s.draining.Load() {
		s.respond(tx, s.refusal(tx, &Refused{Code: 503, RetryAfter: time.Duration(s.retryAfter.Load()) * time.Second}))
		return
	}
	s.respond(tx, s.response(tx, 100, nil))
	in := newInbound(s, t, f, req, tx)
	if in.session.tooBrief() {
		s.answer(tx, 422)
		return
	}
	tx.keepOnly()
	tx.belongsTo(in)
	f.calls.Store(true)
	s.dialogs.add(in.id, in)
	s.work.Go(func() { s.serve(in) })
}

// serve runs a call; its few and small frames let the stack of a parked call
// shrink.
func (s *Server) serve(in *Inbound) {
	defer in.abandoned() // runs last
	defer s.recovered(in.tx)
	s.handler.Incoming(in)
}

// inadmissible checks what RFC 3261 §8.2 asks of a UAS before it looks at the
// request itself; 0 admits it.
func (s *Server) inadmissible(req *sipgo.Request) int {
	if mf := req.MaxForwards(); mf != nil && mf.Val() == 0 {
		return 483
	}
	if s.loops(req) {
		s.metrics.reject("loop")
		return 482
	}
	return unacceptable(req)
}

// recovered keeps a panic in the handling of one message from ending the
// process. It is deferred.
func (s *Server) recovered(tx *serverTx) {
	if p := recover(); p != nil {
		s.metrics.reject("panic")
		s.log.Error("a handler failed; this is a defect, please report it", "err", fmt.Sprint(p), "stack", stack())
		s.answer(tx, 500)
	}
}

func (s *Server) options(f *flow, tx *serverTx) {
	switch {
	case s.stranger(f, tx):
	case len(unknownTags(tx.request())) > 0:
		s.answer(tx, 420)
	case s.draining.Load(): // as an INVITE would be answered (RFC 3261 §11.2)
		s.respond(tx, s.refusal(tx, &Refused{Code: 503, RetryAfter: time.Duration(s.retryAfter.Load()) * time.Second}))
	default:
		s.answerOptions(f, tx)
	}
}

// outOfPlace answers a request that we take within a dialog only, or never. A
// REFER or MESSAGE might start a dialog elsewhere, not here.
func (s *Server) outOfPlace(tx *serverTx) {
	switch tx.request().Method {
	case sipgo.BYE, sipgo.PRACK, sipgo.INFO, sipgo.NOTIFY:
		s.answer(tx, 481)
	case sipgo.REFER, sipgo.MESSAGE:
		s.answer(tx, 403)
	default:
		s.answerNotAllowed(tx)
	}
}

func (s *Server) registered(f *flow) bool { return s.loc.HasFlow(f.id()) }

func (s *Server) keepFlow(f *flow) { s.transport.keep(f) }

// flowClosed: the bindings of a dead connection go, its transactions fail, and
// legs that were not answered yet end.
func (s *Server) flowClosed(f *flow) {
	s.txs.flowClosed(f)
	s.loc.FlowClosed(f.id())
	for _, t := range s.Trunks() {
		t.flowClosed(f)
	}
	if f.calls.Load() {
		s.orphan(f)
	}
}

// orphan ends the unanswered calls whose INVITE came by this flow.
func (s *Server) orphan(f *flow) {
	s.dialogs.mu.RLock()
	var orphans []*Inbound
	for _, o := range s.dialogs.legs {
		if in, ok := o.(*Inbound); ok && in.tx.flow() == f {
			orphans = append(orphans, in)
		}
	}
	s.dialogs.mu.RUnlock()
	for _, in := range orphans {
		in.flowClosed()
	}
}

// flowOf is the flow for requests to a device: f, as long as one of its
// bindings lives on it; else that of its newest binding, or f if there is none.
// A phone that changes networks does not close its old connection.
func (s *Server) flowOf(aor, device string, f *flow) *flow {
	newest, dead := location.Binding{}, f.isDead()
	for _, b := range s.loc.Lookup(aor) {
		if b.DeviceID != device {
			continue
		}
		if b.FlowID == f.id() && !dead {
			return f
		}
		if b.Registered.After(newest.Registered) {
			newest = b
		}
	}
	if g := s.transport.flowByID(newest.FlowID); g != nil && !g.isDead() {
		return g
	}
	return f
}

func tagged(req *sipgo.Request) bool { return tagOf(req.To()) != "" }
