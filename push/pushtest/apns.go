package pushtest

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The environments: which of the two hosts a push came to.
const (
	Production = "production"
	Sandbox    = "sandbox"
)

// Options of an APNs service. All may be zero.
type Options struct {
	// Production and Sandbox are where the two hosts listen; nil: loopback, on
	// ports of the system's choice. The service closes them.
	Production, Sandbox net.Listener
	// ProductionHost and SandboxHost ("host:port") go into the URLs and the
	// certificate when the listener's own address is not what clients dial.
	ProductionHost, SandboxHost string
	// AnyToken accepts every well-formed device token, for peers whose tokens
	// are not known beforehand.
	AnyToken bool
	// MaxStreams is the limit of concurrent streams after the first request
	// with a good provider token; 0: 1000. Before it, as with Apple, it is 1.
	MaxStreams uint32
	// Seen is told of every complete request at the moment of its answer, for
	// diagrams; nil: nobody. It must not block.
	Seen func(Push, Answer)
}

// Push is a push that was accepted.
type Push struct {
	At          time.Time
	Environment string
	Token       string // the device's, lower case
	ID          string // apns-id
	Topic       string
	Expiration  time.Time // zero: now or never
	Payload     map[string]any
	Body        []byte
	Header      http.Header
	Conn        int // number of the connection, from 1 in the order they were accepted
}

// Counts is what a service has seen so far.
type Counts struct {
	Connections   int
	Requests      int            // complete requests
	Accepted      int            // answered 200, or accepted and then cut off
	Answers       map[string]int // by reason, scripted ones too
	ByEnvironment map[string]int // complete requests
	Pings         int
	Bearers       int // different provider tokens
}

// APNs is the service. Make one with NewAPNs.
type APNs struct {
	opts  Options
	ca    *authority
	hosts map[string]string // environment → host:port
	tasks sync.WaitGroup
	deaf  atomic.Bool
	queue *queue
	stop  chan struct{} // closed by Close: delayed answers come at once

	mu        sync.Mutex // guards the following
	closed    bool
	listeners []net.Listener
	conns     map[*serverConn]bool
	keys      map[string]signingKey // by key id
	bearers   map[string]verified   // provider tokens whose signature was checked
	tokens    map[string]device     // by environment + " " + token
	scripts   map[string][]Answer   // by token; "" for any
	counts    Counts
}

// device is a registered device token.
type device struct {
	topic string    // bundle id; "" any
	gone  time.Time // unregistered then; zero: alive
}

// NewAPNs starts the service on its two hosts.
func NewAPNs(o Options) (*APNs, error) {
	if o.MaxStreams == 0 {
		o.MaxStreams = 1000
	}
	a := &APNs{
		opts:    o,
		hosts:   map[string]string{},
		queue:   newQueue(),
		stop:    make(chan struct{}),
		conns:   map[*serverConn]bool{},
		keys:    map[string]signingKey{},
		bearers: map[string]verified{},
		tokens:  map[string]device{},
		scripts: map[string][]Answer{},
		counts:  Counts{Answers: map[string]int{}, ByEnvironment: map[string]int{}},
	}
	lns := map[string]net.Listener{Production: o.Production, Sandbox: o.Sandbox}
	names := map[string]string{Production: o.ProductionHost, Sandbox: o.SandboxHost}
	for _, env := range []string{Production, Sandbox} {
		ln := lns[env]
		if ln == nil {
			var err error
			if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				a.Close()
				return nil, err
			}
		}
		a.listeners = append(a.listeners, ln)
		a.hosts[env] = names[env]
		if a.hosts[env] == "" {
			a.hosts[env] = ln.Addr().String()
		}
	}
	var err error
	if a.ca, err = newAuthority(a.hosts[Production], a.hosts[Sandbox]); err != nil {
		a.Close()
		return nil, err
	}
	for i, env := range []string{Production, Sandbox} {
		ln := a.listeners[i]
		a.tasks.Go(func() { a.accept(ln, env) })
	}
	return a, nil
}

// URL is the production host's base URL, SandboxURL the sandbox's.
func (a *APNs) URL() string        { return "https://" + a.hosts[Production] }
func (a *APNs) SandboxURL() string { return "https://" + a.hosts[Sandbox] }

// Endpoint is both, as the configuration key push.apns.endpoint takes them.
func (a *APNs) Endpoint() string { return a.URL() + "," + a.SandboxURL() }

// AddToken registers a device token in an environment for an app's bundle id;
// "" for any app.
func (a *APNs) AddToken(environment, token, bundle string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[environment+" "+strings.ToLower(token)] = device{topic: bundle}
}

// Unregister makes a token one that answers 410 with this time.
func (a *APNs) Unregister(environment, token string, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := environment + " " + strings.ToLower(token)
	d := a.tokens[key]
	d.gone = at
	a.tokens[key] = d
}

// Answer scripts what the next requests for a device token get, one answer
// each, whatever they hold; then the token behaves as before. Token "" scripts
// those of any token that has no script of its own.
func (a *APNs) Answer(token string, answers ...Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	token = strings.ToLower(token)
	a.scripts[token] = append(a.scripts[token], answers...)
}

// Pushes are the accepted pushes, in order. None is lost while nobody reads,
// up to 65536.
func (a *APNs) Pushes() <-chan Push { return a.queue.out }

// Counts gives the numbers so far.
func (a *APNs) Counts() Counts {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.counts
	c.Answers, c.ByEnvironment = maps.Clone(c.Answers), maps.Clone(c.ByEnvironment)
	c.Bearers = len(a.bearers)
	return c
}

// Deafen makes the service read nothing any more (or again): requests and
// pings on all connections stay unanswered, as behind a firewall that has
// dropped them without a word.
func (a *APNs) Deafen(deaf bool) { a.deaf.Store(deaf) }

// GoAway sends GOAWAY on all connections, which may finish what they have, and
// closes them when they are idle.
func (a *APNs) GoAway() { a.each((*serverConn).drain) }

// Drop closes all connections at once, without a word.
func (a *APNs) Drop() { a.each(func(c *serverConn) { c.nc.Close() }) }

func (a *APNs) each(do func(*serverConn)) {
	a.mu.Lock()
	conns := make([]*serverConn, 0, len(a.conns))
	for c := range a.conns {
		conns = append(conns, c)
	}
	a.mu.Unlock()
	for _, c := range conns {
		do(c)
	}
}

// Close ends the service, its connections and the channel of Pushes.
func (a *APNs) Close() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.closed = true
	close(a.stop)
	for _, ln := range a.listeners {
		ln.Close()
	}
	a.mu.Unlock()
	a.Drop()
	a.tasks.Wait()
	a.queue.close()
}

func (a *APNs) accept(ln net.Listener, environment string) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				continue
			}
			return
		}
		a.mu.Lock()
		if a.closed {
			a.mu.Unlock()
			nc.Close()
			return
		}
		a.counts.Connections++
		c := newServerConn(a, tls.Server(nc, a.ca.config), environment, a.counts.Connections)
		a.conns[c] = true
		a.mu.Unlock()
		a.tasks.Go(func() {
			c.serve()
			a.mu.Lock()
			delete(a.conns, c)
			a.mu.Unlock()
		})
	}
}

// script takes the next scripted answer for a token.
func (a *APNs) script(token string) (Answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range []string{token, ""} {
		if s := a.scripts[key]; len(s) > 0 {
			a.scripts[key] = s[1:]
			return s[0], true
		}
	}
	return Answer{}, false
}

// count keeps the numbers of one answered request and hands on an accepted push.
func (a *APNs) count(r *request, accepted bool, reason string) {
	a.mu.Lock()
	a.counts.Requests++
	a.counts.ByEnvironment[r.environment]++
	if reason != "" {
		a.counts.Answers[reason]++
	}
	if accepted {
		a.counts.Accepted++
	}
	a.mu.Unlock()
	if accepted {
		a.queue.put(r.push())
	}
}

// seen tells who watches.
func (a *APNs) seen(r *request, answer Answer) {
	if a.opts.Seen != nil {
		a.opts.Seen(r.push(), answer)
	}
}
