package siptest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Timers of RFC 3261 §17.
const (
	timerT1   = 500 * time.Millisecond
	timerT2   = 4 * time.Second
	timer64T1 = 64 * timerT1
)

// agent is what Trunk and Phone share: one link at a time, transactions on it,
// and the calls. Messages are handled one at a time, in wire order.
type agent struct {
	name   string // column in the ladder
	user   string // user part of our Contact
	ladder *Ladder
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	work   sync.WaitGroup

	// onInvite takes an INVITE that starts a call.
	onRegister func(*served) // nil: we are no registrar
	onInvite   func(*Call)

	mu      sync.Mutex // guards the following
	link    *link
	pending map[string]*Exchange // our requests, by branch and method
	served  map[string]*served   // the bridge's, by branch and method
	calls   map[dialogKey]*Call
	deaf    bool // takes nothing, answers nothing
}

// dialogKey names a call by its Call-ID and our tag.
type dialogKey struct{ callID, tag string }

// served is a request of the bridge's and what we answered last.
type served struct {
	request *Message
	last    *Message
	call    *Call
}

func (a *agent) init(name, user string, ladder *Ladder) {
	a.name, a.user, a.ladder = name, user, ladder
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.pending, a.served, a.calls = map[string]*Exchange{}, map[string]*served{}, map[dialogKey]*Call{}
}

// Close ends the peer without a word: sockets, scripts, retransmissions, audio.
func (a *agent) Close() {
	a.stop()
	a.mu.Lock()
	if a.link != nil {
		a.link.close()
	}
	var audios []*Audio
	for _, c := range a.calls {
		if c.Audio != nil {
			audios = append(audios, c.Audio)
		}
	}
	a.mu.Unlock()
	for _, audio := range audios {
		audio.Close()
	}
	a.work.Wait()
}

// Deafen makes the peer ignore all that comes, as a suspended app does, or hear again.
func (a *agent) Deafen(deaf bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deaf = deaf
}

// Drop closes the connection to the bridge, or the UDP socket.
func (a *agent) Drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link != nil {
		a.link.close()
		a.link = nil
		a.ladder.Note(time.Now(), a.name, "loses its connection")
	}
}

// connect makes l the way for everything that is sent from now on.
func (a *agent) connect(l *link) {
	a.mu.Lock()
	a.link = l
	a.mu.Unlock()
	a.work.Go(func() {
		// The error is the connection's end; who needs the connection notices.
		_ = l.read(func(m *Message) { a.receive(l, m) })
	})
}

func (a *agent) connected() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.link != nil && !a.link.isDead()
}

// Ping sends the double CRLF of RFC 5626 §3.5.1.
func (a *agent) Ping() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == nil {
		return errLinkDead
	}
	return a.link.send([]byte("\r\n\r\n"))
}

// send writes a message and draws it. The caller holds a.mu.
func (a *agent) send(m *Message) {
	if a.link == nil || a.link.send(m.Bytes()) != nil {
		a.ladder.Note(time.Now(), a.name, "cannot send "+labelOf(m))
		return
	}
	a.ladder.sent(a.name, m)
}

func (a *agent) receive(l *link, m *Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deaf {
		return
	}
	a.ladder.received(a.name, m)
	if m.IsResponse() {
		if x := a.pending[m.branch()+m.Method()]; x != nil {
			a.response(x, m)
		}
		return
	}
	a.requested(m)
}

// requested handles a request of the bridge's.
func (a *agent) requested(m *Message) {
	if m.Method() == "ACK" {
		if c := a.callOf(m); c != nil {
			c.acked(m)
		}
		return
	}
	key := m.branch() + m.Method()
	if s := a.served[key]; s != nil { // sent again
		if s.last != nil {
			a.send(s.last)
		}
		return
	}
	s := &served{request: m}
	a.served[key] = s
	switch c := a.callOf(m); {
	case m.Method() == "CANCEL":
		a.cancelled(s)
	case c != nil:
		s.call = c
		c.request(s)
	case m.Method() == "INVITE" && m.tag("To") == "":
		a.invited(s)
	case m.Method() == "REGISTER" && a.onRegister != nil:
		a.onRegister(s)
	case m.Method() == "OPTIONS":
		a.respond(s, 200, nil)
	default:
		a.respond(s, 481, nil)
	}
}

func (a *agent) callOf(m *Message) *Call {
	return a.calls[dialogKey{m.Get("Call-ID"), m.tag("To")}]
}

func (a *agent) cancelled(s *served) {
	invite := a.served[s.request.branch()+"INVITE"]
	if invite == nil || invite.call == nil {
		a.respond(s, 481, nil)
		return
	}
	s.call = invite.call
	a.respond(s, 200, nil)
	invite.call.cancelled(s.request)
}

func (a *agent) invited(s *served) {
	c := a.newCall(s.request.Get("Call-ID"))
	c.learnInvite(s)
	a.calls[dialogKey{c.ID, c.tag}] = c
	if a.onInvite != nil {
		a.onInvite(c)
	}
}

// respond answers a request. The caller holds a.mu.
func (a *agent) respond(s *served, code int, sdp []byte, extra ...Field) *Message {
	res := &Message{Start: fmt.Sprintf("SIP/2.0 %d %s", code, phrase(code)), Body: sdp}
	for _, name := range []string{"Via", "Record-Route"} {
		for _, v := range s.request.All(name) {
			res.Add(name, v)
		}
	}
	res.Add("From", s.request.Get("From"))
	to := s.request.Get("To")
	if s.call != nil && s.request.tag("To") == "" && code > 100 {
		to += ";tag=" + s.call.tag
	}
	res.Add("To", to)
	res.Add("Call-ID", s.request.Get("Call-ID"))
	res.Add("CSeq", s.request.Get("CSeq"))
	if s.request.Method() == "INVITE" && code > 100 && code < 300 && a.link != nil {
		res.Add("Contact", a.contact())
	}
	if sdp != nil {
		res.Add("Content-Type", "application/sdp")
	}
	res.Header = append(res.Header, extra...)
	s.last = res
	a.send(res)
	return res
}

func (a *agent) contact() string {
	return fmt.Sprintf("<sip:%s@%s;transport=%s>", a.user, a.link.sentBy(), a.link.param())
}

// Exchange is a request of ours and all that came back.
type Exchange struct {
	*Transcript
	Request *Message
	call    *Call
	quiet   chan struct{} // closed when nothing needs to be sent again
	once    sync.Once
}

// exchange sends a request, again and again over UDP (RFC 3261 §17.1). The
// caller holds a.mu.
func (a *agent) exchange(req *Message, c *Call) *Exchange {
	x := &Exchange{Transcript: newTranscript(), Request: req, call: c, quiet: make(chan struct{})}
	a.pending[req.branch()+req.Method()] = x
	a.send(req)
	if a.link != nil && a.link.datagrams() {
		a.work.Go(func() { a.repeat(x.quiet, func() { a.send(req) }, req.Method() != "INVITE") })
	}
	return x
}

// repeat calls send under a.mu after T1, then at doubling intervals, until
// quiet is closed or 64*T1 are over.
func (a *agent) repeat(quiet <-chan struct{}, send func(), capped bool) {
	interval, end := timerT1, time.Now().Add(timer64T1)
	for {
		timer := time.NewTimer(interval)
		select {
		case <-quiet:
		case <-a.ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		a.mu.Lock()
		over := a.ctx.Err() != nil || isClosed(quiet) || !time.Now().Before(end)
		if !over {
			send()
		}
		a.mu.Unlock()
		if over {
			return
		}
		if interval *= 2; capped {
			interval = min(interval, timerT2)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// response takes what comes back for a request of ours.
func (a *agent) response(x *Exchange, m *Message) {
	invite := x.Request.Method() == "INVITE"
	if invite || m.Code() >= 200 {
		x.once.Do(func() { close(x.quiet) })
	}
	if invite && x.call != nil {
		x.call.answered(x, m)
	}
	x.put(m)
}

// request builds a request that leaves by the present link.
func (a *agent) request(method, uri, from, to, callID string, seq int) *Message {
	m := &Message{Start: method + " " + uri + " SIP/2.0"}
	if a.link != nil {
		m.Add("Via", a.link.via())
	}
	m.Add("Max-Forwards", "70")
	m.Add("From", from)
	m.Add("To", to)
	m.Add("Call-ID", callID)
	m.Add("CSeq", fmt.Sprintf("%d %s", seq, method))
	return m
}

func token() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

func phrase(code int) string {
	switch code {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 200:
		return "OK"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 603:
		return "Decline"
	}
	return "Status"
}

// hostOf is the host part of "host:port" as it stands in a URI.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	switch {
	case err != nil:
		return addr
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}

// Draw makes l the ladder on which the peer draws from now on.
func (a *agent) Draw(l *Ladder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ladder = l
}
