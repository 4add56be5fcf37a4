package siptest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Call is one dialog of a scripted peer with the bridge, from either end. Got
// and Await see all that the bridge sent in it: answers to our INVITE, and
// requests.
type Call struct {
	*Transcript
	ID     string   // Call-ID
	Invite *Message // the INVITE that began it
	Audio  *Audio   // nil where the script brings its own SDP

	// Switches, to be set before the message comes that they are about.
	NoAck    bool                            // never acknowledge a 2xx
	OnCancel func(c *Call, cancel *Message)  // nil: 487. It must not block
	Reoffer  func(offer []byte) (sdp []byte) // answers a re-INVITE; nil: Audio does
	OnAsked  func(m *Message) (code int)     // answers any other request; nil: 200; 0: nothing. It must not block
	agent    *agent
	invite   *Exchange // ours
	served   *served   // the bridge's
	over     chan struct{}
	overOnce sync.Once

	// guarded by agent.mu:
	tag, remoteTag        string
	local, remote, target string // From and To without tags, Request-URI
	routes                []string
	seq                   int
	final                 bool
	prack                 bool
	pracked               string           // RSeq of the last reliable provisional
	acks                  map[int]*Message // ACK to a 2xx, by CSeq
	acked2xx              chan struct{}
	script                func(*Message) *Reply
	ackOnce               sync.Once
}

func (a *agent) newCall(id string) *Call {
	return &Call{Transcript: newTranscript(), ID: id, agent: a, tag: token(), over: make(chan struct{}), acks: map[int]*Message{}, acked2xx: make(chan struct{})}
}

// Over is closed when the dialog has ended or never came to be.
func (c *Call) Over() <-chan struct{} { return c.over }

// AwaitOver waits for the end.
func (c *Call) AwaitOver(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.over:
		return nil
	case <-timer.C:
		return fmt.Errorf("the call is not over after %v; there came: %s", d, c.summary())
	}
}

func (c *Call) end() { c.overOnce.Do(func() { close(c.over) }) }

// Sleep waits within a script; false if the peer was closed or the call ended
// meanwhile.
func (c *Call) Sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.agent.ctx.Done():
	case <-c.over:
	}
	return false
}

// UUID is the call UUID that the bridge's INVITE carries.
func (c *Call) UUID() string { return c.Invite.Get("X-Call-UUID") }

// learnInvite takes the bridge's INVITE.
func (c *Call) learnInvite(s *served) {
	s.call, c.served, c.Invite = c, s, s.request
	c.local, c.remote = withoutTag(s.request.Get("To")), withoutTag(s.request.Get("From"))
	c.remoteTag, c.target = s.request.tag("From"), s.request.uri("Contact")
	c.routes = s.request.All("Record-Route")
}

func withoutTag(nameAddr string) string {
	for i := len(nameAddr) - 1; i > 0; i-- {
		if nameAddr[i] == '>' {
			return nameAddr[:i+1]
		}
	}
	return nameAddr
}

// Ring answers 180 to the bridge's INVITE.
func (c *Call) Ring() { c.Respond(180, nil) }

// Respond answers the bridge's INVITE with any status. A 2xx is sent again
// until its ACK.
func (c *Call) Respond(code int, sdp []byte, extra ...Field) {
	a := c.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	c.respond(code, sdp, extra...)
}

func (c *Call) respond(code int, sdp []byte, extra ...Field) {
	if c.final {
		return
	}
	c.final = code >= 200
	res := c.agent.respond(c.served, code, sdp, extra...)
	switch {
	case code >= 300:
		c.end()
	case code >= 200:
		c.agent.work.Go(func() { c.agent.repeat(c.acked2xx, func() { c.agent.send(res) }, true) })
	}
}

// Answer takes the call: 200 with our audio.
func (c *Call) Answer() error {
	if c.Audio == nil {
		return fmt.Errorf("call %s has no audio to answer with", c.ID)
	}
	sdp, err := c.Audio.Answer(c.Invite.Body)
	if err != nil {
		return err
	}
	c.Respond(200, sdp)
	return nil
}

// cancelled takes the bridge's CANCEL, which has its 200.
func (c *Call) cancelled(cancel *Message) {
	defer c.put(cancel)
	if c.OnCancel != nil {
		c.OnCancel(c, cancel)
		return
	}
	c.respond(487, nil)
}

// request takes a request of the bridge's within the dialog.
func (c *Call) request(s *served) {
	a := c.agent
	if c.script != nil {
		if r := c.script(s.request); r != nil {
			c.put(s.request)
			c.scripted(s, r)
			return
		}
	}
	switch s.request.Method() {
	case "BYE":
		a.respond(s, 200, nil)
		c.end()
	case "INVITE", "UPDATE":
		if s.request.Method() == "UPDATE" && s.request.Body == nil {
			a.respond(s, 200, nil)
			break
		}
		sdp, err := c.reanswer(s.request.Body)
		if err != nil {
			a.respond(s, 488, nil)
		} else {
			a.respond(s, 200, sdp)
		}
	default:
		c.reply(s)
	}
	c.put(s.request)
}

func (c *Call) reanswer(offer []byte) ([]byte, error) {
	switch {
	case c.Reoffer != nil:
		return c.Reoffer(offer), nil
	case c.Audio == nil:
		return nil, errLinkDead
	case offer == nil:
		return c.Audio.SDP("sendrecv"), nil
	}
	return c.Audio.Answer(offer)
}

// acked takes the ACK to our final answer.
func (c *Call) acked(ack *Message) {
	c.ackOnce.Do(func() { close(c.acked2xx) })
	c.put(ack)
}

// answered takes an answer to an INVITE of ours, on the agent's reader.
func (c *Call) answered(x *Exchange, m *Message) {
	code := m.Code()
	if x == c.invite {
		c.learnAnswer(m)
		defer c.put(m) // who waits for it finds all done
	}
	switch {
	case code < 200:
		c.acknowledgeProvisional(m)
	case code >= 300:
		c.agent.send(c.failAck(x, m))
	case code >= 200 && !c.NoAck:
		c.acknowledge(x, m)
	}
}

// acknowledgeProvisional sends PRACK for a reliable provisional (RFC 3262 §4), once.
func (c *Call) acknowledgeProvisional(m *Message) {
	rseq := m.Get("RSeq")
	if !c.prack || rseq == "" || rseq == c.pracked {
		return
	}
	c.pracked = rseq
	seq, _ := c.Invite.cseq()
	c.seq++
	prack := c.within("PRACK", c.seq)
	prack.Add("RAck", fmt.Sprintf("%s %d INVITE", rseq, seq))
	c.agent.exchange(prack, nil)
}

// learnAnswer takes the dialog state of an answer to the first INVITE.
func (c *Call) learnAnswer(m *Message) {
	if c.final || m.Code() <= 100 {
		return
	}
	c.final = m.Code() >= 200
	c.remoteTag = m.tag("To")
	if m.Code() >= 300 {
		c.end()
		return
	}
	if m.Get("Contact") != "" {
		c.target = m.uri("Contact")
	}
	routes := m.All("Record-Route")
	slices.Reverse(routes)
	c.routes = routes
	c.takeSDP(m)
}

// takeSDP learns where our audio goes to. The SDP of a provisional answer
// counts too: it is the answer (RFC 3261 §13.2.1).
func (c *Call) takeSDP(m *Message) {
	if m.Body != nil && c.Audio != nil {
		_ = c.Audio.Hear(m.Body) // a useless SDP shows as silence
	}
}

// failAck is the ACK to a final answer of 300 or more: it belongs to the
// INVITE's transaction (RFC 3261 §17.1.1.3).
func (c *Call) failAck(x *Exchange, m *Message) *Message {
	ack := &Message{Start: "ACK" + x.Request.Start[len("INVITE"):]}
	ack.Add("Via", x.Request.Get("Via"))
	ack.Add("Max-Forwards", "70")
	ack.Add("From", x.Request.Get("From"))
	ack.Add("To", m.Get("To"))
	ack.Add("Call-ID", c.ID)
	seq, _ := x.Request.cseq()
	ack.Add("CSeq", fmt.Sprintf("%d ACK", seq))
	return ack
}

// acknowledge sends the ACK to a 2xx, the same one again for each repetition.
// Where the INVITE had no offer the ACK holds the answer.
func (c *Call) acknowledge(x *Exchange, m *Message) {
	seq, _ := x.Request.cseq()
	ack := c.acks[seq]
	if ack == nil {
		ack = c.within("ACK", seq)
		if x.Request.Body == nil && c.Audio != nil && m.Body != nil {
			if sdp, err := c.Audio.Answer(m.Body); err == nil {
				ack.Body = sdp
				ack.Add("Content-Type", "application/sdp")
			}
		}
		c.acks[seq] = ack
	}
	c.agent.send(ack)
}

// within builds a request in the dialog.
func (c *Call) within(method string, seq int) *Message {
	remote := c.remote
	if c.remoteTag != "" {
		remote += ";tag=" + c.remoteTag
	}
	m := c.agent.request(method, c.target, c.local+";tag="+c.tag, remote, c.ID, seq)
	for _, r := range c.routes {
		m.Add("Route", r)
	}
	return m
}

// Bye hangs up.
func (c *Call) Bye(extra ...Field) *Exchange {
	x := c.Request("BYE", nil, extra...)
	c.end()
	return x
}

// Reinvite sends an INVITE within the dialog; sdp nil asks for an offer. Its
// 2xx is acknowledged.
func (c *Call) Reinvite(sdp []byte) *Exchange { return c.Request("INVITE", sdp) }

// Request sends any request within the dialog.
func (c *Call) Request(method string, sdp []byte, extra ...Field) *Exchange {
	a := c.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	c.seq++
	m := c.within(method, c.seq)
	if (method == "INVITE" || method == "UPDATE") && a.link != nil {
		m.Add("Contact", a.contact())
	}
	if sdp != nil {
		m.Add("Content-Type", "application/sdp")
		m.Body = sdp
	}
	m.Header = append(m.Header, extra...)
	return a.exchange(m, c)
}

// Talk plays frames packets of the call's signal.
func (c *Call) Talk(ctx context.Context, frames int) error {
	if c.Audio == nil {
		return fmt.Errorf("call %s has no audio", c.ID)
	}
	return c.Audio.Play(ctx, frames)
}
