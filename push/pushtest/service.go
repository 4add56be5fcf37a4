package pushtest

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"
)

// Push is a push that was accepted. Which fields mean anything is the
// provider's matter; At, Environment, Body, Header and Conn always do.
type Push struct {
	At          time.Time
	Environment string         // the host it came to
	Token       string         // the device's; of APNs in lower case
	ID          string         // apns-id; the name that FCM gave the message
	Topic       string         // apns-topic; the project at FCM
	Expiration  time.Time      // zero: now or never
	Payload     map[string]any // at FCM the data
	Body        []byte
	Header      http.Header
	Path        string
	Conn        int // number of the connection, from 1 in the order they were accepted
}

// Counts is what a service has seen so far.
type Counts struct {
	Connections   int            // accepted so far
	Open          int            // connections now
	Requests      int            // complete pushes; not those for FCM's access tokens
	Accepted      int            // answered 2xx, or accepted and then cut off
	Duplicates    int            // as accepted, but repeated: at a Webhook, by their ids
	Answers       map[string]int // by reason, scripted ones too
	ByEnvironment map[string]int // complete requests by host
	Pings         int
	Resets        int // connections reset by ResetEvery
	Bearers       int // different provider tokens; at FCM access tokens handed out
}

// judge is what makes a Service that of a certain provider.
type judge interface {
	// judge says what a request deserves by the book, and fills in what it
	// finds of r.Push, the token first. It is called by one goroutine for each
	// connection, whose memory it may use.
	judge(r *request) Answer
	// render gives an answer's header fields, beside status, date and
	// retry-after, and its body.
	render(r *request, a Answer) (fields []hpack.HeaderField, body []byte)
}

// request is one complete HTTP request, and the push that it makes.
type request struct {
	Push
	conn   *serverConn
	method string
	once   string // two accepted requests of one such id are one push; "": that is not known
	aside  bool   // no push, and not counted as one: scripted by Token all the same
}

// host is one of a service's listeners.
type host struct {
	name    string // Push.Environment
	addr    string // host:port that clients dial
	ln      net.Listener
	streams uint32 // limit of concurrent streams at first; 0: that of settings
	aside   bool   // its connections are not counted
}

// settings are what a Service is made with.
type settings struct {
	maxStreams uint32
	resetEvery int
	seen       func(Push, Answer)
}

// Service is what every push service here is: hosts that speak HTTP/2 over
// TLS, judge each request, answer it by the book or by a script, and
// misbehave on demand.
type Service struct {
	settings
	judge judge
	ca    *authority
	hosts map[string]*host
	tasks sync.WaitGroup
	deaf  atomic.Bool
	mean  atomic.Bool  // new connections get no window
	ahead atomic.Int64 // nanoseconds: see SetClock
	queue *queue
	stop  chan struct{} // closed by Close: delayed answers come at once

	mu      sync.Mutex // guards the following
	closed  bool
	conns   map[*serverConn]bool
	scripts map[string][]Answer // by token; "" for any
	counts  Counts
	taken   map[string]bool // request.once of accepted pushes
}

// newService makes a service on these hosts, on loopback where one has no
// listener. It runs once start is called; Close ends it in any case.
func newService(j judge, set settings, hosts ...*host) (*Service, error) {
	if set.maxStreams == 0 {
		set.maxStreams = 1000
	}
	s := &Service{
		settings: set,
		judge:    j,
		hosts:    map[string]*host{},
		queue:    newQueue(),
		stop:     make(chan struct{}),
		conns:    map[*serverConn]bool{},
		scripts:  map[string][]Answer{},
		taken:    map[string]bool{},
		counts:   Counts{Answers: map[string]int{}, ByEnvironment: map[string]int{}},
	}
	var err error
	var names []string
	for _, h := range hosts {
		s.hosts[h.name] = h
		if h.ln == nil && err == nil {
			h.ln, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err == nil && h.addr == "" {
			h.addr = h.ln.Addr().String()
		}
		names = append(names, h.addr)
	}
	if err == nil {
		s.ca, err = newAuthority(names...)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// start accepts connections from now on.
func (s *Service) start() {
	for _, h := range s.hosts {
		s.tasks.Go(func() { s.accept(h) })
	}
}

// url is a host's base URL.
func (s *Service) url(name string) string { return "https://" + s.hosts[name].addr }

// CA is the certificate, in PEM, that clients must trust.
func (s *Service) CA() []byte { return s.ca.pem }

// CAFile writes CA to a file in dir, for the configuration key root_ca.
func (s *Service) CAFile(dir string) (string, error) {
	file := filepath.Join(dir, "pushtest-ca.pem")
	return file, os.WriteFile(file, s.ca.pem, 0o644)
}

// Answer scripts what the next requests for a device token get, one answer
// each, whatever they hold; then the token behaves as before. Token "" scripts
// those of any token that has no script of its own.
func (s *Service) Answer(token string, answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[token] = append(s.scripts[token], answers...)
}

// Pushes are the accepted pushes, in order. None is lost while nobody reads,
// up to 65536.
func (s *Service) Pushes() <-chan Push { return s.queue.out }

// Counts gives the numbers so far.
func (s *Service) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Open = len(s.conns)
	c.Answers, c.ByEnvironment = maps.Clone(c.Answers), maps.Clone(c.ByEnvironment)
	return c
}

// Deafen makes the service read nothing any more (or again): requests and
// pings on all connections stay unanswered, as behind a firewall that has
// dropped them without a word.
func (s *Service) Deafen(deaf bool) { s.deaf.Store(deaf) }

// Starve makes the service give new connections no window for requests'
// bodies, or give it again to those that come after: a peer that hangs.
func (s *Service) Starve(starve bool) { s.mean.Store(starve) }

// GoAway sends GOAWAY on all connections, which may finish what they have, and
// closes them when they are idle.
func (s *Service) GoAway() { s.each((*serverConn).drain) }

// Drop closes all connections at once, without a word.
func (s *Service) Drop() { s.each(func(c *serverConn) { c.nc.Close() }) }

func (s *Service) each(do func(*serverConn)) {
	s.mu.Lock()
	conns := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		do(c)
	}
}

// Close ends the service, its connections and the channel of Pushes.
func (s *Service) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.stop)
	for _, h := range s.hosts {
		if h.ln != nil {
			h.ln.Close()
		}
	}
	s.mu.Unlock()
	s.Drop()
	s.tasks.Wait()
	s.queue.close()
}

func (s *Service) accept(h *host) {
	for {
		nc, err := h.ln.Accept()
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				continue
			}
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			nc.Close()
			return
		}
		if !h.aside {
			s.counts.Connections++
		}
		c := newServerConn(s, h, nc, tls.Server(nc, s.ca.config), s.counts.Connections)
		s.conns[c] = true
		s.mu.Unlock()
		s.tasks.Go(func() {
			c.serve()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// script takes the next scripted answer for a token.
func (s *Service) script(r *request) (Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range []string{r.Token, ""} {
		if key == "" && r.aside {
			break
		}
		if answers := s.scripts[key]; len(answers) > 0 {
			s.scripts[key] = answers[1:]
			return answers[0], true
		}
	}
	return Answer{}, false
}

// count keeps the numbers of one answered request, hands on an accepted push
// and tells who watches.
func (s *Service) count(r *request, a Answer) {
	s.mu.Lock()
	s.counts.ByEnvironment[r.Environment]++
	if a.Reason != "" {
		s.counts.Answers[a.Reason]++
	}
	if r.aside {
		s.mu.Unlock()
		return
	}
	s.counts.Requests++
	took := a.took()
	switch {
	case took && s.taken[r.once]:
		took = false
		s.counts.Duplicates++
	case took:
		s.counts.Accepted++
		if r.once != "" {
			s.taken[r.once] = true
		}
	}
	s.mu.Unlock()
	if took {
		s.queue.put(r.Push)
	}
	if s.seen != nil {
		s.seen(r.Push, a)
	}
}
