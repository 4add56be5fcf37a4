package sip

import (
	"hash/maphash"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// relic is what is kept of a dialog that is over, for 64*T1: a BYE that crossed
// ours still gets its 200, and a 2xx of the far end that is sent again its ACK
// (RFC 3261 §13.2.2.4). The leg with its messages would be ten times as large.
type relic struct {
	remoteTag uint64 // hashed
	ack       []byte // to the 2xx of a device leg
	seq       uint32 // of its INVITE
	flow      *flow  // that the ACK goes by, unless the device has a newer one
	aor       string
	device    string
}

// relicKey names a relic without keeping the message alive that the strings of
// a dialogID are part of.
func (d *dialogTable) relicKey(id dialogID) txKey { return d.seeds.key(id.callID, id.localTag) }

func (d *dialogTable) tagHash(tag string) uint64 { return maphash.String(d.seeds[0], tag) }

// retire exchanges a leg that is over for its relic; one that still owes the
// peer something, such as a CANCEL, stays for 64*T1. The caller holds l.mu.
func (d *dialogTable) retire(l *leg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	owner := d.legs[l.id]
	o, ours := owner.(*Outbound)
	if owner == nil || ours && !o.confirmed {
		time.AfterFunc(timer64T1, func() { d.remove(l.id) })
		return
	}
	r := relic{remoteTag: d.tagHash(l.remote.tag)}
	if ours {
		r.flow, r.aor, r.device = l.flow, l.aor, l.deviceID
		if o.ack != nil {
			r.ack, r.seq = wireOf(o.ack), o.ack.CSeq().SeqNo
		}
		if o.tx != nil {
			o.tx.terminate() // what still comes is a stray, and finds the relic
		}
	}
	delete(d.legs, l.id)
	key := d.relicKey(l.id)
	d.relics[key] = r
	d.fading.add(key, timer64T1, d.fade)
}

// fade ends the relics that are due.
func (d *dialogTable) fade() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fading.due(func(key txKey) { delete(d.relics, key) })
}

func (d *dialogTable) relic(id dialogID) (relic, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r, ok := d.relics[d.relicKey(id)]
	return r, ok
}

// afterTheEnd answers a request for a dialog that is over; false if there was
// none. A BYE has crossed ours, or the answer to it was lost.
func (s *Server) afterTheEnd(req *sipgo.Request, tx *serverTx) bool {
	r, ok := s.dialogs.relic(dialogID{callIDOf(req), tagOf(req.To())})
	if !ok || req.Method != sipgo.BYE || s.dialogs.tagHash(fromTag(req)) != r.remoteTag {
		return false
	}
	s.answer(tx, 200)
	return true
}

// lateAnswer takes a 2xx to an INVITE of a dialog that is over: the same one
// gets its ACK again, that of another branch of a fork its ACK and a BYE.
func (s *Server) lateAnswer(id dialogID, res *sipgo.Response) {
	r, ok := s.dialogs.relic(id)
	if !ok || res.StatusCode/100 != 2 || r.ack == nil || res.CSeq().SeqNo != r.seq {
		return
	}
	back := s.flowOf(r.aor, r.device, r.flow)
	if s.dialogs.tagHash(tagOf(res.To())) == r.remoteTag {
		if err := back.write(r.ack); err != nil {
			s.log.Info("ACK could not be sent", "err", err)
		}
		return
	}
	from, to := res.From(), res.To()
	fork := leg{srv: s, log: s.log, id: id, flow: back, aor: r.aor, deviceID: r.device, ended: make(chan struct{}),
		local:    party{from.DisplayName, &from.Address, id.localTag},
		remote:   party{to.DisplayName, &to.Address, tagOf(to)},
		localSeq: res.CSeq().SeqNo, target: to.Address}
	fork.learnPeer(res, true)
	if err := back.send(s.withVia(fork.buildRequest(sipgo.ACK, fork.localSeq), back)); err != nil {
		s.log.Info("ACK could not be sent", "err", err)
	}
	fork.sendLater(fork.prepareBye(Reason{}))
}

func fromTag(m sipgo.Message) string {
	if h := m.From(); h != nil {
		tag, _ := h.Params.Get("tag")
		return tag
	}
	return ""
}
