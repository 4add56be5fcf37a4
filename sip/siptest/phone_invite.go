package siptest

import (
	"fmt"
	"net"
)

// Invite sends an INVITE of the phone's own, with our audio's offer unless sdp
// gives another ("none": no offer): with Replaces it is to take the place of a leg.
func (p *Phone) Invite(sdp string, extra ...Field) (*Call, error) {
	audio, err := OpenAudio(p.ctx, p.o.Sockets, net.JoinHostPort(p.o.Local, "0"))
	if err != nil {
		return nil, err
	}
	if p.o.Audio != nil {
		p.o.Audio(audio)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.newCall(token() + "@phone")
	c.Audio, c.seq = audio, 1
	p.file(c)
	c.target = "sip:" + p.o.Domain
	c.remote = fmt.Sprintf("<sip:%s@%s>", p.o.User, p.o.Domain)
	c.local = c.remote
	m := c.within("INVITE", c.seq)
	if p.link != nil {
		m.Add("Contact", p.contact())
	}
	m.Header = append(m.Header, extra...)
	switch sdp {
	case "none":
	case "":
		m.Body = audio.SDP("sendrecv")
	default:
		m.Body = []byte(sdp)
	}
	if m.Body != nil {
		m.Add("Content-Type", "application/sdp")
	}
	c.Invite = m
	c.invite = p.exchange(m, c)
	return c, nil
}

// AuthorizedInvite sends such an INVITE, which was answered 401, once more with
// the phone's credentials.
func (p *Phone) AuthorizedInvite(refused *Call) (*Call, error) {
	x := p.Authorized(refused.invite)
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.newCall(refused.ID)
	c.tag, c.Audio, c.seq = refused.tag, refused.Audio, 2
	c.target, c.remote, c.local = refused.target, refused.remote, refused.local
	c.Invite, c.invite, x.call = x.Request, x, c
	p.file(c)
	return c, nil
}

// file files a call of the phone's own. The caller holds p.mu.
func (p *Phone) file(c *Call) { p.agent.calls[dialogKey{c.ID, c.tag}] = c }
