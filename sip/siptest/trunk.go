package siptest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
)

// TrunkOptions say who calls the bridge, and from where.
type TrunkOptions struct {
	Name    string  // column in the ladder; "" is "trunk"
	Sockets Sockets // where the sockets come from
	// Transport is "udp" (default), "tcp" or "tls". Local is our "host:port"; the port
	// counts for UDP only. Bridge is the bridge's "IP:port".
	Transport, Local, Bridge string
	TLS                      *tls.Config // of transport "tls"
	Ladder                   *Ladder
}

// Trunk is a scripted carrier or PBX: it calls the bridge.
type Trunk struct {
	agent
	o        TrunkOptions
	contacts map[string]string // user -> Contact, see Registrar; guarded by agent.mu
}

// NewTrunk opens the trunk's socket.
func NewTrunk(ctx context.Context, o TrunkOptions) (*Trunk, error) {
	if o.Name == "" {
		o.Name = "trunk"
	}
	if o.Transport == "" {
		o.Transport = "udp"
	}
	t := &Trunk{o: o, contacts: map[string]string{}}
	t.init(o.Name, "trunk", o.Ladder)
	l, err := openLink(ctx, o.Sockets, o.Transport, o.Local, o.Bridge, o.TLS)
	if err != nil {
		return nil, err
	}
	t.connect(l)
	return t, nil
}

// Invitation is an INVITE to be sent. Its zero value calls number "1001" with
// an offer.
type Invitation struct {
	To       string // user part of Request-URI and To
	From     string // the caller's number
	FromName string
	NoOffer  bool   // no SDP: the bridge offers in its 200
	SDP      []byte // instead of our audio's
	NoAck    bool   // never acknowledge the 200
	Prack    bool   // acknowledge reliable provisionals (RFC 3262); the headers say that we can
	Header   []Field
	Audio    func(*Audio) // changes the call's audio; nil leaves it
}

// Invite calls the bridge.
func (t *Trunk) Invite(inv Invitation) (*Call, error) {
	audio, err := OpenAudio(t.ctx, t.o.Sockets, net.JoinHostPort(strings.Trim(hostOf(t.o.Local), "[]"), "0"))
	if err != nil {
		return nil, err
	}
	if inv.Audio != nil {
		inv.Audio(audio)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.newCall(token() + "@" + hostOf(t.o.Local))
	c.Audio, c.NoAck, c.prack, c.seq = audio, inv.NoAck, inv.Prack, 1
	t.calls[dialogKey{c.ID, c.tag}] = c
	c.Invite = t.invitation(c, inv)
	c.invite = t.exchange(c.Invite, c)
	return c, nil
}

func (t *Trunk) invitation(c *Call, inv Invitation) *Message {
	if inv.To == "" {
		inv.To = "1001"
	}
	if inv.From == "" {
		inv.From = "+4930123456"
	}
	c.target = fmt.Sprintf("sip:%s@%s", inv.To, t.o.Bridge)
	c.remote = "<" + c.target + ">"
	c.local = fmt.Sprintf("<sip:%s@%s>", inv.From, hostOf(t.o.Local))
	if inv.FromName != "" {
		c.local = `"` + strings.ReplaceAll(inv.FromName, `"`, `\"`) + `" ` + c.local
	}
	m := c.within("INVITE", c.seq)
	if t.link != nil {
		m.Add("Contact", t.contact())
	}
	m.Header = append(m.Header, inv.Header...)
	switch {
	case inv.SDP != nil:
		m.Body = inv.SDP
	case !inv.NoOffer:
		m.Body = c.Audio.SDP("sendrecv")
	}
	if m.Body != nil {
		m.Add("Content-Type", "application/sdp")
	}
	return m
}

// Cancel gives the call up before it is answered (RFC 3261 §9.1).
func (t *Trunk) Cancel(c *Call, extra ...Field) *Exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &Message{Start: "CANCEL" + c.Invite.Start[len("INVITE"):]}
	for _, name := range []string{"Via", "Max-Forwards", "From", "To", "Call-ID"} {
		m.Add(name, c.Invite.Get(name))
	}
	seq, _ := c.Invite.cseq()
	m.Add("CSeq", fmt.Sprintf("%d CANCEL", seq))
	m.Header = append(m.Header, extra...)
	return t.exchange(m, nil)
}

// Resend sends the call's INVITE once more, as a retransmission.
func (t *Trunk) Resend(c *Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.send(c.Invite)
}

// Merge sends the call's INVITE by another path: the same request with another
// branch, as a forking proxy upstream does.
func (t *Trunk) Merge(c *Call) *Exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &Message{Start: c.Invite.Start, Body: c.Invite.Body}
	for _, f := range c.Invite.Header {
		if f.Name == "Via" && t.link != nil {
			f.Value = t.link.via()
		}
		m.Header = append(m.Header, f)
	}
	return t.exchange(m, &Call{Transcript: newTranscript(), ID: c.ID, agent: &t.agent, NoAck: true, over: make(chan struct{})})
}

// Options asks for a sign of life.
func (t *Trunk) Options() *Exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	us := fmt.Sprintf("<sip:trunk@%s>", hostOf(t.o.Local))
	return t.exchange(t.request("OPTIONS", "sip:"+t.o.Bridge, us+";tag="+token(), "<sip:"+t.o.Bridge+">", token(), 1), nil)
}
