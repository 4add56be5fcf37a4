package sip

import (
	"hash/maphash"
	"strconv"

	sipgo "github.com/emiago/sipgo/sip"
)

// receive takes every message that a flow reads. What has to be challenged is
// answered at once, and leaves nothing behind.
func (s *Server) receive(f *flow, m sipgo.Message) {
	if req, ok := m.(*sipgo.Request); ok && req.Method == sipgo.REGISTER && s.challenge(f, req) {
		return
	}
	s.txs.receive(f, m)
}

// challenge answers a REGISTER that cannot be a login: it has no credentials,
// or none with a nonce that we gave to its sender's network. A flood of them
// costs no transaction, no goroutine and no memory. It is false for all else.
func (s *Server) challenge(f *flow, req *sipgo.Request) bool {
	r := s.registrar
	if status, _ := validate(req); status != 0 || len(unsupported(req)) > 0 {
		return false
	}
	source := f.remote().Addr()
	realm, no := r.digest.realm(req), &denied{status: 401, reason: "auth_missing"}
	if creds, found := credentialsFor(req, realm); found {
		if r.digest.nonces.fresh(creds["nonce"], source) {
			return false
		}
		if no = r.digest.verify(req, creds, realm, source); no == nil { // our clock was set
			return false
		}
		r.o.Rejected(no.reason)
	}
	x := &registration{f: f, req: req}
	refused := r.deny(x, no)
	res := r.refusal(x, refused)
	// The same tag for the same request (RFC 3261 §8.2.7).
	branch, _ := req.Via().Params.Get("branch")
	setToTag(res, strconv.FormatUint(maphash.String(s.guard.seed, branch+callIDOf(req)), 36))
	s.metrics.answered(string(req.Method), res.StatusCode)
	if err := f.send(res); err != nil {
		r.log.Debug("a REGISTER could not be answered", "code", res.StatusCode, "err", err)
	}
	return true
}

// refusal builds the answer to a REGISTER that fails.
func (r *registrar) refusal(x *registration, no *registerRefusal) *sipgo.Response {
	res := sipgo.NewResponseFromRequest(x.req, no.code, no.phrase, nil)
	for _, h := range no.headers {
		res.AppendHeader(h)
	}
	if r.cfg.UserAgent != "" {
		res.AppendHeader(sipgo.NewHeader("Server", r.cfg.UserAgent))
	}
	return res
}
