package sip

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// allowed lists the methods we take, for Allow (RFC 3261 §20.5).
const allowed = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, PRACK, UPDATE, INFO, MESSAGE, REFER, NOTIFY"

// maxHeaderValue bounds a header value that the bridge adds, in runes.
const maxHeaderValue = 512

// response builds a response with our To tag, and SDP where there is some.
func (s *Server) response(tx *serverTx, code int, sdp []byte) *sipgo.Response {
	res := tx.response(code, Phrase(code))
	if ua := s.cfg.UserAgent; ua != "" && code > 100 {
		res.AppendHeader(sipgo.NewHeader("Server", ua))
	}
	if sdp != nil {
		ct := sipgo.ContentTypeHeader("application/sdp")
		res.AppendHeader(&ct)
	}
	if code/100 == 2 && tx.request().Method == sipgo.INVITE {
		res.AppendHeader(sipgo.NewHeader("Allow", allowed))
		addSupported(res)
	}
	res.SetBody(sdp)
	return res
}

// refusal builds a final response of 300 or more.
func (s *Server) refusal(tx *serverTx, r *Refused) *sipgo.Response {
	res := s.response(tx, r.Code, nil)
	res.Reason = r.phrase()
	addReason(res, r.Reason)
	if r.RetryAfter > 0 {
		res.AppendHeader(sipgo.NewHeader("Retry-After", seconds(int((r.RetryAfter+time.Second-1)/time.Second))))
	}
	if r.Contact != "" {
		res.AppendHeader(sipgo.NewHeader("Contact", "<"+strings.Trim(SanitiseText(r.Contact, maxHeaderValue), "<>")+">"))
	}
	for _, h := range r.Headers {
		res.AppendHeader(sipgo.NewHeader(h.Name, SanitiseText(h.Value, maxHeaderValue)))
	}
	switch r.Code {
	case 405:
		res.AppendHeader(sipgo.NewHeader("Allow", allowed))
	case 415:
		res.AppendHeader(sipgo.NewHeader("Accept", "application/sdp"))
	case 422:
		res.AppendHeader(sipgo.NewHeader("Min-SE", seconds(minSessionExpires)))
	case 420:
		addSupported(res)
		for _, tag := range unknownTags(tx.request()) {
			res.AppendHeader(sipgo.NewHeader("Unsupported", tag))
		}
	}
	return res
}

func (s *Server) answer(tx *serverTx, code int) {
	if code < 300 {
		s.respond(tx, s.response(tx, code, nil))
		return
	}
	s.respond(tx, s.refusal(tx, &Refused{Code: code}))
}

func (s *Server) respond(tx *serverTx, res *sipgo.Response) {
	if err := tx.respond(res); err != nil {
		s.log.Debug("a response could not be sent", "code", res.StatusCode, "err", err)
	}
}

func (s *Server) answerNotAllowed(tx *serverTx) { s.answer(tx, 405) }

// answerOptions says what we can do (RFC 3261 §11.2).
func (s *Server) answerOptions(f *flow, tx *serverTx) {
	res := s.response(tx, 200, nil)
	res.AppendHeader(sipgo.NewHeader("Allow", allowed))
	res.AppendHeader(sipgo.NewHeader("Accept", "application/sdp"))
	res.AppendHeader(sipgo.NewHeader("Accept-Encoding", "identity"))
	res.AppendHeader(sipgo.NewHeader("Accept-Language", "en"))
	addSupported(res)
	s.addContact(res, f)
	s.respond(tx, res)
}

// unacceptable checks Require and the body of an INVITE; 0 accepts.
func unacceptable(req *sipgo.Request) int {
	if len(unknownTags(req)) > 0 {
		return 420
	}
	if len(req.Body()) > 0 && sdpBody(req) == nil {
		return 415
	}
	if !acceptsSDP(req) {
		return 406
	}
	return 0
}

// acceptsSDP: our answers to an INVITE hold SDP, which is what a request
// without Accept takes; an empty Accept takes nothing (RFC 3261 §20.1).
func acceptsSDP(req *sipgo.Request) bool {
	if len(req.GetHeaders("Accept")) == 0 {
		return true
	}
	for _, v := range headerList(req, "Accept") {
		kind, _, _ := strings.Cut(v, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "application/sdp", "application/*", "*/*":
			return true
		}
	}
	return false
}

// sdpBody is the body if it is SDP, else nil.
func sdpBody(m sipgo.Message) []byte {
	type typed interface {
		ContentType() *sipgo.ContentTypeHeader
	}
	body := m.Body()
	if t, ok := m.(typed); ok && len(body) > 0 {
		if ct := t.ContentType(); ct != nil {
			kind, _, _ := strings.Cut(ct.Value(), ";")
			if strings.EqualFold(strings.TrimSpace(kind), "application/sdp") {
				return body
			}
		}
	}
	return nil
}

func (s *Server) via(f *flow) *sipgo.ViaHeader {
	return newVia(f, s.cfg.ExternalAddress)
}

func (s *Server) withVia(req *sipgo.Request, f *flow) *sipgo.Request {
	req.PrependHeader(s.via(f))
	req.SetBody(req.Body()) // sets Content-Length, without which a stream has no end (RFC 3261 §18.3)
	return req
}

// contactHeader is where the peer of this flow reaches us (RFC 3261 §8.1.1.8).
// It is made once for each of our addresses and shared: nobody changes it.
func (s *Server) contactHeader(f *flow) *sipgo.ContactHeader {
	type place struct {
		transport string
		local     netip.AddrPort
	}
	here := place{f.transport(), f.local()}
	if c, ok := s.contacts.Load(here); ok {
		return c.(*sipgo.ContactHeader)
	}
	c, _ := s.contacts.LoadOrStore(here, &sipgo.ContactHeader{Address: s.ownURI("", f)})
	return c.(*sipgo.ContactHeader)
}

func (s *Server) addContact(res *sipgo.Response, f *flow) { res.AppendHeader(s.contactHeader(f)) }

func (s *Server) ownURI(user string, f *flow) sipgo.Uri {
	params := sipgo.NewParams()
	switch proto := f.transport(); proto {
	case "UDP":
	case "WSS":
		params.Add("transport", "ws") // the one value for both (RFC 7118 §5.2)
	default:
		params.Add("transport", strings.ToLower(proto))
	}
	return sipgo.Uri{Scheme: "sip", User: user, Host: s.hostFor(f), Port: int(f.local().Port()), UriParams: params}
}

// hostFor is our host as the peer of the flow should see it, in URI form.
func (s *Server) hostFor(f *flow) string {
	host := f.seenAs(s.cfg.ExternalAddress)
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "[" + host + "]"
	}
	return host
}

// addressFor is our IP address as the peer of the flow reaches it: what SDP
// should name. Invalid where the external address is a host name.
func (s *Server) addressFor(f *flow) netip.Addr {
	a, _ := netip.ParseAddr(f.seenAs(s.cfg.ExternalAddress))
	return a
}

// domain is the host part of our addresses-of-record.
func (s *Server) domain(f *flow) string {
	if len(s.cfg.Domains) > 0 {
		return s.cfg.Domains[0]
	}
	return s.hostFor(f)
}

func (s *Server) aorURI(aor string, f *flow) sipgo.Uri {
	return sipgo.Uri{Scheme: "sip", User: aor, Host: s.domain(f)}
}

// callerURI is the From address towards a device: the caller's number at our
// domain, so that the phone's call list can dial it again.
func (s *Server) callerURI(c Caller, f *flow) sipgo.Uri {
	if c.Anonymous || c.Handle == "" {
		return sipgo.Uri{Scheme: "sip", User: "anonymous", Host: "anonymous.invalid"}
	}
	return s.handleURI(c.Handle, f)
}

// handleURI is the address of a handle; a number is at our domain.
func (s *Server) handleURI(handle string, f *flow) sipgo.Uri {
	user, host := handle, s.domain(f)
	if i := strings.LastIndexByte(handle, '@'); i >= 0 && isURIHost(handle[i+1:]) {
		user, host = handle[:i], handle[i+1:]
	}
	return sipgo.Uri{Scheme: "sip", User: escapeUser(user), Host: host}
}

// escapeUser escapes what may not stand in the user part of a SIP URI (RFC 3261
// §25.1), and what has a meaning there: a caller must not give himself a
// ";verstat=" (3GPP TS 24.229 §7.2A.20).
func escapeUser(user string) string {
	var b strings.Builder
	for i := 0; i < len(user); i++ {
		c := user[i]
		if c < 0x80 && (isAlnum(c) || strings.IndexByte("-_.!~*'()+", c) >= 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// quoted prepares a display name for sipgo, which adds the outer quotes itself.
func quoted(name string) string {
	q := Quote(name)
	return q[1 : len(q)-1]
}

func parseURI(s string) (sipgo.Uri, error) {
	var u sipgo.Uri
	if err := readURI(s, &u); err != nil {
		return u, fmt.Errorf("%q is no SIP URI: %w", SanitiseText(s, 64), err)
	}
	return u, nil
}

func firstContact(m sipgo.Message) *sipgo.ContactHeader {
	for _, h := range m.GetHeaders("Contact") {
		if c, ok := h.(*sipgo.ContactHeader); ok {
			return c
		}
	}
	return nil
}

// routeURIs lists the URIs of Route or Record-Route headers, in wire order.
func routeURIs(m sipgo.Message, name string) []sipgo.Uri {
	var out []sipgo.Uri
	for _, h := range m.GetHeaders(name) {
		if r, ok := h.(*sipgo.RouteHeader); ok {
			out = append(out, *r.Address.Clone())
		} else if a, err := parseNameAddr(h.Value()); err == nil { // it was read before
			out = append(out, a.uri)
		}
	}
	return out
}

func newTag() string { return rand.Text()[:16] }

func stack() string { return string(debug.Stack()) }

func userAgent(m sipgo.Message) string { return SanitiseText(headerValue(m, "User-Agent"), 64) }

// loops reports whether the request has been here before: one of its Vias is
// ours. Topology is hidden, so only a proxy that sends our own request back shows it.
func (s *Server) loops(req *sipgo.Request) bool {
	if slices.Contains(loopMarks(req), s.loopMark) {
		return true
	}
	for _, h := range req.GetHeaders("Via") {
		if v, ok := h.(*sipgo.ViaHeader); ok && s.transport.owns(net.JoinHostPort(v.Host, strconv.Itoa(v.Port))) {
			return true
		}
	}
	return false
}

// hostCache remembers what has been said about an address, so that a scanner
// does not fill the log: once an hour and address, at most 1,000 addresses.
type hostCache struct {
	mu   sync.Mutex // guards the following
	said map[netip.Addr]time.Time
}

func (c *hostCache) logOnce(a netip.Addr, say func()) {
	c.mu.Lock()
	now := time.Now()
	if at, ok := c.said[a]; ok && now.Sub(at) < time.Hour {
		c.mu.Unlock()
		return
	}
	if c.said == nil || len(c.said) >= 1000 {
		c.said = map[netip.Addr]time.Time{}
	}
	c.said[a] = now
	c.mu.Unlock()
	say()
}
