package siptest

import (
	"fmt"
	"strings"
)

// Ask sends a request within the dialog with any body: INFO, MESSAGE, REFER,
// NOTIFY. An empty body sends none.
func (c *Call) Ask(method, contentType, body string, extra ...Field) *Exchange {
	a := c.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	c.seq++
	m := c.within(method, c.seq)
	if a.link != nil && (method == "REFER" || method == "NOTIFY" || method == "INVITE") {
		m.Add("Contact", a.contact())
	}
	if body != "" {
		m.Add("Content-Type", contentType)
		m.Body = []byte(body)
	}
	m.Header = append(m.Header, extra...)
	return a.exchange(m, c)
}

// Refer asks the bridge to transfer the call to a URI.
func (c *Call) Refer(to string, extra ...Field) *Exchange {
	return c.Ask("REFER", "", "", append([]Field{{"Refer-To", "<" + to + ">"}}, extra...)...)
}

// Notify tells the bridge how a transfer stands that it has asked for.
func (c *Call) Notify(status, state string) *Exchange {
	return c.Ask("NOTIFY", "message/sipfrag;version=2.0", "SIP/2.0 "+status+"\r\n",
		Field{"Event", "refer"}, Field{"Subscription-State", state})
}

// Replaces names the dialog for the header of that name, as the bridge has it.
func (c *Call) Replaces() string {
	c.agent.mu.Lock()
	defer c.agent.mu.Unlock()
	return c.ID + ";to-tag=" + c.remoteTag + ";from-tag=" + c.tag
}

// PeersReplaces names the dialog as this end has it.
func (c *Call) PeersReplaces() string {
	c.agent.mu.Lock()
	defer c.agent.mu.Unlock()
	return c.ID + ";to-tag=" + c.tag + ";from-tag=" + c.remoteTag
}

// reply answers a request of the bridge's that the agent does not know itself.
// The caller holds a.mu.
func (c *Call) reply(s *served) {
	code := 200
	if c.OnAsked != nil {
		code = c.OnAsked(s.request)
	}
	if code > 0 {
		c.agent.respond(s, code, nil)
	}
}

// askedOf is what a reader of the ladder should know of such a request.
func askedOf(m *Message) (out []string) {
	if to := m.Get("Refer-To"); to != "" {
		out = append(out, "to "+askedUser(m.uri("Refer-To")))
	}
	if m.Method() == "NOTIFY" {
		line, _, _ := strings.Cut(string(m.Body), "\r")
		state, _, _ := strings.Cut(m.Get("Subscription-State"), ";")
		out = append(out, strings.TrimPrefix(line, "SIP/2.0 "), state)
	}
	if r := m.Get("Replaces"); r != "" {
		out = append(out, "with Replaces")
	}
	return out
}

// askedUser is the user of a URI; the rest differs from run to run.
func askedUser(uri string) string {
	user, rest, _ := strings.Cut(strings.TrimPrefix(uri, "sip:"), "@")
	if strings.Contains(rest, "?Replaces=") {
		user += " with Replaces"
	}
	return user
}

// Authorized sends a request that was answered 401 once more, with the phone's
// credentials.
func (p *Phone) Authorized(x *Exchange) *Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &Message{Start: x.Request.Start, Body: x.Request.Body}
	for _, f := range x.Request.Header {
		switch f.Name {
		case "Via":
			f.Value = p.link.via()
		case "CSeq":
			seq, method := x.Request.cseq()
			f.Value = fmt.Sprintf("%d %s", seq+1, method)
		}
		m.Header = append(m.Header, f)
	}
	if x.call != nil {
		x.call.seq++
	}
	if got := x.Got("401"); len(got) > 0 {
		_, uri, _ := strings.Cut(m.Start, " ")
		uri, _, _ = strings.Cut(uri, " ")
		m.Add("Authorization", challengeOf(got[0], p.o.Algorithm).authorize(m.Method(), uri, p.o.User, p.o.Password))
	}
	return p.exchange(m, x.call)
}
