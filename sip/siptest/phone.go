package siptest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// PhoneOptions say who registers at the bridge, and from where.
type PhoneOptions struct {
	Name    string  // column in the ladder; "" is "phone"
	Sockets Sockets // where the sockets come from
	// Transport is "tcp" (default), "udp", "tls", "ws" or "wss". Local is our IP; Bridge is
	// the bridge's "IP:port".
	Transport, Local, Bridge string
	TLS                      *tls.Config

	User, Password, Domain string
	Algorithm              string // "MD5", "SHA-256"; "" takes the bridge's first
	Instance               string // +sip.instance, a URN; "" sends none
	RegID                  int    // reg-id (RFC 5626); 0 sends none
	Expires                int    // seconds; 0 is 600
	Q                      string // of the Contact; "" sends none

	// The push target (RFC 8599); Provider "" sends none.
	Provider, Param, PRID string
	Key                   string // pn-key: its public key; "": none

	Script func(*Call) // takes each call, on a goroutine of its own
	Ladder *Ladder
	Audio  func(*Audio) // changes the audio of each call; nil leaves it
}

// Phone is a scripted app: it registers, and its script takes the calls.
type Phone struct {
	agent
	o      PhoneOptions
	callID string
	calls  chan *Call

	// guarded by agent.mu:
	seq       int
	challenge *challenge
	reuse     bool
}

// NewPhone makes a phone that is off; Register switches it on.
func NewPhone(o PhoneOptions) *Phone {
	for option, fallback := range map[*string]string{&o.Name: "phone", &o.Transport: "tcp", &o.User: "1001", &o.Domain: hostOf(o.Bridge)} {
		if *option == "" {
			*option = fallback
		}
	}
	if o.Expires == 0 {
		o.Expires = 600
	}
	p := &Phone{o: o, callID: token() + "@phone", calls: make(chan *Call, 100)}
	p.init(o.Name, o.User, o.Ladder)
	p.onInvite = p.ringing
	return p
}

// Calls yields every call that comes in.
func (p *Phone) Calls() <-chan *Call { return p.calls }

// AwaitCall waits for the next call.
func (p *Phone) AwaitCall(d time.Duration) (*Call, error) {
	select {
	case c := <-p.calls: // also where d is 0
		return c, nil
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case c := <-p.calls:
		return c, nil
	case <-timer.C:
		return nil, fmt.Errorf("no INVITE came to %s within %v", p.o.Name, d)
	}
}

// ringing runs on the reader, with the agent's lock held.
func (p *Phone) ringing(c *Call) {
	audio, err := OpenAudio(p.ctx, p.o.Sockets, net.JoinHostPort(p.o.Local, "0"))
	if err == nil {
		c.Audio = audio
		if p.o.Audio != nil {
			p.o.Audio(audio)
		}
	}
	p.calls <- c
	if p.o.Script != nil {
		p.work.Go(func() { p.o.Script(c) })
	}
}

// Reconnect leaves the old connection open as it is and goes on with a new one,
// as a phone does that has changed networks.
func (p *Phone) Reconnect(ctx context.Context) error {
	l, err := openLink(ctx, p.o.Sockets, p.o.Transport, net.JoinHostPort(p.o.Local, "0"), p.o.Bridge, p.o.TLS)
	if err != nil {
		return err
	}
	p.mu.Lock()
	old := p.link
	p.mu.Unlock()
	if old != nil {
		p.work.Go(func() { <-p.ctx.Done(); old.close() })
	}
	p.connect(l)
	return nil
}

// Roam is Reconnect from another address, ours from then on: another network.
// Audio that is open stays where it is.
func (p *Phone) Roam(ctx context.Context, sockets Sockets, local string) error {
	p.mu.Lock()
	p.o.Sockets, p.o.Local = sockets, local
	p.mu.Unlock()
	return p.Reconnect(ctx)
}

// Forget loses a call without a word, as an app does that was killed: what the
// bridge sends within it gets 481.
func (p *Phone) Forget(c *Call) {
	p.mu.Lock()
	delete(p.agent.calls, dialogKey{c.ID, c.tag})
	p.mu.Unlock()
	c.end()
	if c.Audio != nil {
		c.Audio.Close()
	}
}

// Resound gives a call another socket for its audio, with the state of the old
// one, which is closed: the phone's address has changed.
func (p *Phone) Resound(ctx context.Context, c *Call) error {
	audio, err := OpenAudio(ctx, p.o.Sockets, net.JoinHostPort(p.o.Local, "0"))
	if err != nil {
		return err
	}
	old := c.Audio
	old.Close()
	audio.adopt(old)
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Audio = audio
	return nil
}

// Register registers, with a new connection where there is none: a first try
// without credentials, then with them, as an app does that has just started.
func (p *Phone) Register(ctx context.Context) error {
	_, err := p.RegisterFor(ctx, p.o.Expires)
	return err
}

// Unregister removes the binding.
func (p *Phone) Unregister(ctx context.Context) error {
	_, err := p.RegisterFor(ctx, 0)
	return err
}

// ReuseNonce makes later REGISTERs carry credentials at once.
func (p *Phone) ReuseNonce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reuse = true
}

// RegisterFor registers for some seconds and gives the 200.
func (p *Phone) RegisterFor(ctx context.Context, expires int) (*Message, error) {
	if !p.connected() {
		if err := p.Reconnect(ctx); err != nil {
			return nil, err
		}
	}
	res, err := p.register(expires, false)
	if err == nil && res.Code() == 401 {
		res, err = p.register(expires, true)
	}
	if err == nil && res.Code() != 200 {
		err = fmt.Errorf("%s: REGISTER was answered %q", p.o.Name, res.Start)
	}
	return res, err
}

func (p *Phone) register(expires int, fresh bool) (*Message, error) {
	p.mu.Lock()
	x := p.exchange(p.registration(expires, fresh || p.reuse), nil)
	p.mu.Unlock()
	res, err := x.Await(timer64T1, "final")
	if err != nil {
		return nil, fmt.Errorf("%s: REGISTER: %w", p.o.Name, err)
	}
	if res.Code() == 401 {
		p.mu.Lock()
		p.challenge = challengeOf(res, p.o.Algorithm)
		p.mu.Unlock()
	}
	return res, nil
}

func (p *Phone) registration(expires int, credentials bool) *Message {
	p.seq++
	registrar, aor := "sip:"+p.o.Domain, fmt.Sprintf("<sip:%s@%s>", p.o.User, p.o.Domain)
	m := p.request("REGISTER", registrar, aor+";tag="+token(), aor, p.callID, p.seq)
	m.Add("Contact", p.registeredContact())
	m.Add("Expires", fmt.Sprint(expires))
	m.Add("Supported", "path, outbound")
	if p.challenge != nil && credentials {
		m.Add("Authorization", p.challenge.authorize("REGISTER", registrar, p.o.User, p.o.Password))
	}
	return m
}

func (p *Phone) registeredContact() string {
	c := "<sip:" + p.o.User + "@invalid"
	if p.link != nil {
		c = fmt.Sprintf("<sip:%s@%s;transport=%s", p.o.User, p.link.sentBy(), p.link.param())
	}
	if p.o.Provider != "" {
		c += fmt.Sprintf(";pn-provider=%s;pn-param=%s;pn-prid=%s", p.o.Provider, p.o.Param, p.o.PRID)
		if p.o.Key != "" {
			c += ";pn-key=" + p.o.Key
		}
	}
	c += ">"
	if p.o.Instance != "" {
		c += fmt.Sprintf(`;+sip.instance="<%s>"`, p.o.Instance)
	}
	if p.o.Q != "" {
		c += ";q=" + p.o.Q
	}
	if p.o.RegID > 0 {
		c += fmt.Sprintf(";reg-id=%d", p.o.RegID)
	}
	return c
}

// Scripts that a Phone can follow.

// AnswerAfter rings, and answers after a while; 0 answers without ringing.
func AnswerAfter(ring time.Duration) func(*Call) {
	return func(c *Call) {
		if ring > 0 {
			c.Ring()
			if !c.Sleep(ring) {
				return
			}
		}
		if err := c.Answer(); err != nil {
			c.Respond(488, nil)
		}
	}
}

// RefuseAfter rings, and refuses after a while; 0 refuses without ringing.
func RefuseAfter(ring time.Duration, code int) func(*Call) {
	return func(c *Call) {
		if ring > 0 {
			c.Ring()
			if !c.Sleep(ring) {
				return
			}
		}
		c.Respond(code, nil)
	}
}

// RingOnly rings for ever.
func RingOnly(c *Call) { c.Ring() }

// SayNothing does not answer the INVITE at all.
func SayNothing(*Call) {}
