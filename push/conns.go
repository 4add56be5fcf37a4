package push

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Numbers of the connection pool.
const (
	warmConns    = 2                // so that one can be lost or drained without a dial in a call's way
	mostConns    = 8                // while the others have no stream left: Google gives a connection 100
	busyStreams  = 50               // at least, on one that has none left; Apple gives a new one a single stream
	pingEvery    = 30 * time.Second // silence after which a connection is pinged
	pingTimeout  = 5 * time.Second
	dialTimeout  = 5 * time.Second
	dialPatience = time.Second // then a request starts another dial beside one that hangs
	redialFirst  = 500 * time.Millisecond
	redialMost   = 30 * time.Second
	logEvery     = 20                     // failed dials in a row: every tenth minute
	dialPause    = 100 * time.Millisecond // after a dial that failed: the requests of that time share its failure
	dialsAtOnce  = 3                      // by one request, on connections that are lost as soon as made
	replaceEvery = 2 * time.Second        // a host that drops or fails everything is not redialled more often
	replaceBurst = 4                      // than this, beyond a burst: Apple takes that for an attack
	connAge      = 30 * time.Minute       // after this, and up to as much again, a connection is replaced: its
	connAgeMore  = 30 * time.Minute       // host may have moved to another address, and both would not end at once
)

var (
	errPoolClosed = errors.New("push: closed")
	errLost       = errors.New("connections hang, or are lost as soon as they are made")
)

// DialFunc opens a connection, like net.Dialer.DialContext.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// connPool keeps HTTP/2 connections to one host warm. It is bound to one key
// of one team, as Apple binds a connection to the first key it sees.
//
// No lock is held over I/O: choosing a connection looks at counters only.
type connPool struct {
	log  *slog.Logger
	addr string // host:port, resolved anew at each dial
	tr   *http.Transport

	ctx    context.Context
	cancel context.CancelFunc
	kick   chan struct{} // something changed: count the connections again
	tasks  sync.WaitGroup

	mu       sync.Mutex // guards the following
	conns    []*conn
	dialling *dial // the dial under way, shared by all who wait
	refused  *dial // the last one, if it failed
	keeping  bool  // keepWarm runs
	closed   bool
	suspects bucket // connections replaced for their answers
}

// conn is one connection. Its fields belong to the pool's mutex.
type conn struct {
	cc      *http.ClientConn
	raw     *rawConn
	load    int       // requests on it or waiting for it
	retired bool      // takes no new requests; closed when the last is done
	until   time.Time // then it is replaced
}

// dial is one attempt to connect; err and ended are valid once done is closed.
type dial struct {
	since time.Time
	done  chan struct{}
	err   error
	ended time.Time
}

func newConnPool(base string, roots *x509.CertPool, dialer DialFunc, log *slog.Logger) (*connPool, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &connPool{
		log:    log,
		addr:   net.JoinHostPort(u.Hostname(), port),
		tr:     newTransport(roots, dialer),
		ctx:    ctx,
		cancel: cancel,
		kick:   make(chan struct{}, 1),

		suspects: bucket{every: replaceEvery, burst: replaceBurst},
	}, nil
}

func newTransport(roots *x509.CertPool, dialer DialFunc) *http.Transport {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4)},
		Protocols:       new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingEvery,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: pingTimeout,
		},
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if dialer == nil { // a proxy is for the real network only
		dialer = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
		tr.Proxy = http.ProxyFromEnvironment
	}
	tr.DialContext = tracked(dialer)
	tr.Protocols.SetHTTP2(true)
	return tr
}

// dialLocked joins the dial under way, unless that hangs, or starts one. It
// lasts at most dialTimeout, whoever waits for it.
func (p *connPool) dialLocked() *dial {
	now := time.Now()
	if p.dialling != nil && now.Sub(p.dialling.since) < dialPatience {
		return p.dialling
	}
	if p.refused != nil && now.Sub(p.refused.ended) < dialPause {
		return p.refused
	}
	d := &dial{since: now, done: make(chan struct{})}
	if p.closed {
		d.err = errPoolClosed
		close(d.done)
		return d
	}
	p.dialling = d
	p.tasks.Go(func() { p.dial(d) })
	return d
}

func (p *connPool) dial(d *dial) {
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	defer cancel()
	var raw *rawConn
	cc, err := p.tr.NewClientConn(context.WithValue(ctx, rawConnKey{}, &raw), "https", p.addr)
	if err != nil {
		err = fmt.Errorf("connecting to %s: %w", p.addr, err)
		if problem := (way{base: "https://" + p.addr, rootCA: "root_ca"}).explain(err); problem != nil {
			err = inWords{problem.Error(), err}
		}
	}
	p.mu.Lock()
	if p.dialling == d {
		p.dialling = nil
	}
	late := err == nil && p.closed
	if late {
		err = errPoolClosed
	}
	if err == nil {
		p.conns = append(p.conns, &conn{cc: cc, raw: raw, until: time.Now().Add(connAge + rand.N(connAgeMore))})
	}
	d.err, d.ended, p.refused = err, time.Now(), nil
	if err != nil {
		p.refused = d
	}
	p.mu.Unlock()
	close(d.done)
	switch {
	case err == nil:
		cc.SetStateHook(p.changed)
	case late:
		cc.Close() // writes to the network: not under the mutex
	}
}

// changed is the connections' state hook: it must not block.
func (p *connPool) changed(cc *http.ClientConn) {
	if cc.Err() == nil {
		return
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// acquire gives the least loaded connection, dialling when there is none. The
// caller must release it.
func (p *connPool) acquire(ctx context.Context) (*conn, error) {
	for range dialsAtOnce {
		p.mu.Lock()
		p.sweep()
		if c := p.leastLoaded(); c != nil {
			if len(p.conns) < mostConns && c.cc.Available() == 0 && c.cc.InFlight() >= busyStreams {
				p.dialLocked() // for those that come after
			}
			c.load++
			p.mu.Unlock()
			return c, nil
		}
		d := p.dialLocked()
		p.mu.Unlock()
		if err := d.wait(ctx); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("connecting to %s: %w", p.addr, errLost)
}

// wait waits for the dial, but no longer than it is worth it.
func (d *dial) wait(ctx context.Context) error {
	patience := time.NewTimer(time.Until(d.since.Add(dialPatience)))
	defer patience.Stop()
	select {
	case <-d.done:
		return d.err
	case <-patience.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leastLoaded prefers a connection with a free stream; one that is at its
// peer's limit lets the request wait.
func (p *connPool) leastLoaded() *conn {
	var best *conn
	bestFree := false
	for _, c := range p.conns {
		free := c.cc.Available() > 0
		if best == nil || (free && !bestFree) || (free == bestFree && c.load < best.load) {
			best, bestFree = c, free
		}
	}
	return best
}

// sweep drops connections that can take no more requests: closed, retired, or
// told to go away (no stream is free though none is in use).
func (p *connPool) sweep() {
	kept := p.conns[:0]
	for _, c := range p.conns {
		gone := c.cc.Err() != nil || (c.cc.Available() == 0 && c.cc.InFlight() == 0)
		if gone || c.retired {
			p.drop(c)
			continue
		}
		kept = append(kept, c)
	}
	clear(p.conns[len(kept):])
	p.conns = kept
}

// drop closes a connection that is out of the list, when it is no longer in use.
func (p *connPool) drop(c *conn) {
	c.retired = true
	if c.load == 0 {
		// Close writes to the network (TLS close_notify): not under the mutex.
		p.tasks.Go(func() { c.cc.Close() })
	}
}

func (p *connPool) release(c *conn) {
	p.mu.Lock()
	c.load--
	closing := c.retired && c.load == 0
	p.mu.Unlock()
	if closing {
		c.cc.Close()
	}
}

// retire takes a connection out of use; requests on it may finish, the last
// release closes it.
func (p *connPool) retire(c *conn) {
	p.mu.Lock()
	c.retired = true
	p.conns = slices.DeleteFunc(p.conns, func(have *conn) bool { return have == c })
	if !p.closed { // close has closed it
		p.drop(c) // nobody else does, where its requests are over already
	}
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// suspect retires the connection that brought an answer which a fresh one may
// not (500, 503), so that the retry finds another, within bounds.
func (p *connPool) suspect(c *conn) {
	p.mu.Lock()
	allowed := !c.retired && p.suspects.take(time.Now())
	p.mu.Unlock()
	if allowed {
		p.retire(c)
	}
}

// close ends all connections and waits for what the pool started.
func (p *connPool) close() {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, c := range conns {
		c.cc.Close()
	}
	p.tasks.Wait()
	p.tr.CloseIdleConnections()
}
