package sip

import (
	sipgo "github.com/emiago/sipgo/sip"
)

// challenged refuses a request within a device's dialog that comes by a flow
// which is not the device's: the tags alone are no proof, they stand in every
// message that an edge or a log has seen. A flow that carries a binding of the
// device has been authenticated; by any other the request needs the digest of
// the extension, which a phone that has just changed networks can give before
// it registers. true: it has its answer.
func (s *Server) challenged(l *leg, f *flow, req *sipgo.Request, tx *serverTx) bool {
	if l.atHome(f) {
		return false
	}
	if s.demandDigest(l.aor, f, req, tx) {
		return true
	}
	l.prove(f)
	return false
}

// demandDigest wants the credentials of an extension; false if they are there
// and right. Else the request has its answer.
func (s *Server) demandDigest(aor string, f *flow, req *sipgo.Request, tx *serverTx) bool {
	user, no := s.registrar.digest.authenticate(req, f.remote().Addr())
	if no != nil && no.reason == "auth_failed" {
		s.registrar.o.Guard.failed(f, no.user)
	}
	switch {
	case no == nil && user == aor:
		return false
	case no == nil:
		s.metrics.reject("dialog_foreign_aor")
		s.answer(tx, 403)
	case no.status != 401:
		s.answer(tx, no.status)
	default:
		res := s.response(tx, 401, nil)
		s.registrar.digest.challenge(res, req, f.remote().Addr(), no.stale)
		s.respond(tx, res)
	}
	tx.drop() // nobody has proved who he is: nothing is kept
	return true
}

// atHome: the flow is the leg's own or one that the device has registered by.
// A trunk's flows are checked where its calls come in.
func (l *leg) atHome(f *flow) bool {
	l.mu.Lock()
	own := l.flow.id() == f.id()
	l.mu.Unlock()
	if own || l.aor == "" {
		return true
	}
	for _, b := range l.srv.loc.Authenticated(l.aor) {
		here := b.FlowID == f.id() || b.Path != "" && l.srv.registrar.edges.has(f.remote().Addr())
		if here && (b.DeviceID == l.deviceID || l.deviceID == "") {
			return true
		}
	}
	return false
}
