package sip

import (
	"hash/maphash"
	"strconv"
	"sync"

	sipgo "github.com/emiago/sipgo/sip"
)

// dialogTable finds the leg that an in-dialog request belongs to.
type dialogTable struct {
	seeds txSeeds

	mu     sync.RWMutex // guards the following
	legs   map[dialogID]dialogOwner
	relics map[txKey]relic // of dialogs that are over
	fading fading
}

// dialogOwner is what a dialog's messages go to.
type dialogOwner interface {
	base() *leg
	hungUp(bye *sipgo.Request)
}

func (l *leg) base() *leg { return l }

func newDialogTable() *dialogTable {
	return &dialogTable{
		seeds: txSeeds{maphash.MakeSeed(), maphash.MakeSeed()},
		legs:  map[dialogID]dialogOwner{}, relics: map[txKey]relic{},
	}
}

func (d *dialogTable) add(id dialogID, o dialogOwner) {
	d.mu.Lock()
	d.legs[id] = o
	d.mu.Unlock()
}

func (d *dialogTable) remove(id dialogID) {
	d.mu.Lock()
	delete(d.legs, id)
	d.mu.Unlock()
}

func (d *dialogTable) find(id dialogID) dialogOwner {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.legs[id]
}

// partAll sends each BYE that still waits for an ACK. A leg that parts leaves
// the table, which must not be locked then.
func (d *dialogTable) partAll() {
	d.mu.RLock()
	legs := make([]*leg, 0, len(d.legs))
	for _, o := range d.legs {
		legs = append(legs, o.base())
	}
	d.mu.RUnlock()
	for _, l := range legs {
		l.partAtOnce()
	}
}

// within finds the leg of an in-dialog request; nil if there is none, or if
// the peer's tag is not the dialog's (RFC 3261 §12.2.2).
func (s *Server) within(req *sipgo.Request) dialogOwner {
	o := s.dialogs.find(dialogID{callIDOf(req), tagOf(req.To())})
	if o == nil {
		return nil
	}
	l := o.base()
	l.mu.Lock()
	defer l.mu.Unlock()
	from := ""
	if h := req.From(); h != nil {
		from, _ = h.Params.Get("tag")
	}
	if l.remote.tag != "" && l.remote.tag != from {
		return nil
	}
	return o
}

// inDialog handles a request that carries our To tag. It runs on the flow's
// reader and does not block.
func (s *Server) inDialog(f *flow, req *sipgo.Request, tx *serverTx) {
	o := s.within(req)
	if o == nil && s.afterTheEnd(req, tx) {
		return
	}
	if o == nil {
		s.answer(tx, 481)
		if s.unknown(f, req) { // one answer and no state: the sender may be forged
			tx.drop()
		}
		return
	}
	l := o.base()
	if s.challenged(l, f, req, tx) {
		return
	}
	switch required := len(unknownTags(req)) > 0; {
	case !l.inOrder(req.CSeq().SeqNo):
		s.answer(tx, 500) // RFC 3261 §12.2.2
	case !takenWithin(req.Method):
		s.answerNotAllowed(tx)
	case required:
		s.answer(tx, 420)
	case req.Method == sipgo.BYE:
		s.answerBye(l, tx)
		o.hungUp(req)
	case req.Method == sipgo.INVITE, req.Method == sipgo.UPDATE:
		l.change(f, req, tx)
	case req.Method == sipgo.PRACK:
		s.pracked(o, req, tx)
	case taken(req.Method):
		l.asked(req, tx)
	default:
		s.answerOptions(f, tx)
	}
}

// takenWithin: the methods that a dialog takes, ACK and CANCEL aside.
func takenWithin(m sipgo.RequestMethod) bool {
	switch m {
	case sipgo.BYE, sipgo.INVITE, sipgo.OPTIONS, sipgo.PRACK, sipgo.UPDATE:
		return true
	}
	return taken(m)
}

// inOrder takes the request's CSeq; false if it is older than the last one.
func (l *leg) inOrder(seq uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.remoteSeq != 0 && seq <= l.remoteSeq {
		return false
	}
	l.remoteSeq = seq
	return true
}

// hungUp takes the peer's BYE, which has its answer.
func (l *leg) hungUp(bye *sipgo.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parting != nil { // both hang up at once: the peer's BYE is enough
		l.parting = nil
		l.srv.dialogs.retire(l)
	}
	l.forgetAnswer()
	l.finish(End{Kind: EndHungUp, Reason: reasonOf(bye), Sound: soundOf(bye)})
}

func callIDOf(m sipgo.Message) string {
	if h := m.CallID(); h != nil {
		return h.Value()
	}
	return ""
}

func tagOf(to *sipgo.ToHeader) string {
	if to == nil {
		return ""
	}
	tag, _ := to.Params.Get("tag")
	return tag
}

func seconds(n int) string { return strconv.Itoa(n) }
