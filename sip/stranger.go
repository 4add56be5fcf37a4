package sip

import sipgo "github.com/emiago/sipgo/sip"

// refuseStranger drops an INVITE that no trunk sent without an answer: the
// internet scans this port, and an answer invites more. A phone of ours gets 403.
func (s *Server) refuseStranger(f *flow, req *sipgo.Request, tx *serverTx) {
	if s.registered(f) {
		s.metrics.reject("not_inbound")
		s.answer(tx, 403)
		return
	}
	s.metrics.reject("stranger")
	s.guard.offence(f, "INVITE from an address of no trunk")
	s.hosts.logOnce(f.remote().Addr(), func() {
		s.log.Warn("INVITE from an address of no trunk was dropped; if it is your carrier or PBX, add the address to the trunk's peers",
			"address", f.remote().String(), "user_agent", userAgent(req))
	})
	tx.drop()
}

// stranger drops other requests from unknown sources; true if it did.
func (s *Server) stranger(f *flow, tx *serverTx) bool {
	if !s.unknown(f, tx.request()) {
		return false
	}
	s.metrics.reject("stranger")
	s.guard.offence(f, "request from an address of no trunk and no phone")
	tx.drop()
	return true
}

// unknown: the request comes neither from a trunk nor from a phone of ours.
func (s *Server) unknown(f *flow, req *sipgo.Request) bool {
	return s.trunkFor(f, req) == nil && !s.registered(f)
}
