package ng

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How long a daemon has for an answer. One answers within a millisecond; a request or answer that was lost is asked for
// again after 100 ms, then after 200 and 400. What has no answer then will hardly get one: the call can still go to another
// daemon before its caller notices.
const (
	firstWait = 100 * time.Millisecond
	tries     = 4 // 100 + 200 + 400 + 800 ms
)

// inFlight is how many requests may wait for their answers at once. More wait for their turn: a daemon that has become
// slow is not helped by a flood.
const inFlight = 256

// maxMessage is the largest datagram of UDP: what is larger cannot be sent, nor come.
const maxMessage = 65507

// Errors of requests. A [Refusal] is another one: the daemon has answered.
var (
	// ErrNoAnswer says that the daemon is not there, or has not answered in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrTooLong says that a request does not fit into one datagram.
	ErrTooLong = errors.New("the request is larger than a datagram")
	// ErrClosed says that the client is closed.
	ErrClosed = errors.New("the rtpengine client is closed")
)

// Refusal is a daemon's "error" result.
type Refusal struct {
	Reason string // the daemon's words
}

// Error is the daemon's reason.
func (r *Refusal) Error() string { return "rtpengine refused: " + r.Reason }

// Refused reports whether the daemon has refused the request.
func Refused(err error) bool {
	var r *Refusal
	return errors.As(err, &r)
}

// UnknownCall reports whether the daemon does not know the call: it has been restarted, or has ended the call itself.
func UnknownCall(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Reason == "Unknown call-id"
}

// Dial connects a datagram socket to "host:port": Read gives what comes from there only. net.Dialer's DialContext with
// network "udp" is one.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Client asks one daemon. Its methods may be called from any goroutine.
type Client struct {
	address string
	dial    Dial
	prefix  string // of our cookies: those of another process must not be taken for ours
	next    atomic.Uint64
	turns   chan struct{}
	readers sync.WaitGroup
	foreign atomic.Uint64

	mu      sync.Mutex              // guards the following
	conn    net.Conn                // nil until needed
	pending map[string]chan<- reply // each has room for the one reply it gets
	closed  bool
}

// reply is what comes of a request.
type reply struct {
	answer Dict
	err    error
}

// NewClient makes a client of the daemon at "host:port". It connects when it is first used. dial nil is the system's.
func NewClient(address string, dial Dial) *Client {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	return &Client{
		address: address, dial: dial, prefix: hex.EncodeToString(id[:]) + "_",
		turns: make(chan struct{}, inFlight), pending: map[string]chan<- reply{},
	}
}

// Do asks for a command and gives the daemon's answer. The error is ErrNoAnswer, a *Refusal, or ctx's.
func (c *Client) Do(ctx context.Context, command string, args Dict) (Dict, error) {
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	request := Dict{"command": command}
	for key, value := range args {
		request[key] = value
	}
	cookie := c.prefix + strconv.FormatUint(c.next.Add(1), 36)
	message := Encode(append([]byte(cookie), ' '), request)
	if len(message) > maxMessage {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLong, len(message))
	}
	answers := make(chan reply, 1)
	conn, err := c.await(ctx, cookie, answers)
	if err != nil {
		return nil, err
	}
	defer c.forget(cookie)
	answer, err := ask(ctx, conn, message, answers)
	if err != nil {
		return nil, err
	}
	if answer.Text("result") == "error" {
		return nil, &Refusal{Reason: answer.Text("error-reason")}
	}
	return answer, nil
}

// ask sends a request, and again, until its answer comes.
func ask(ctx context.Context, conn net.Conn, message []byte, answers <-chan reply) (Dict, error) {
	wait := firstWait
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for try := 1; ; try++ {
		if _, err := conn.Write(message); errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
		} // any other is this datagram's loss
		select {
		case r := <-answers:
			return r.answer, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			if try == tries {
				return nil, fmt.Errorf("%w to %d requests", ErrNoAnswer, tries)
			}
			wait *= 2
			timer.Reset(wait)
		}
	}
}

// await notes who waits for the answer with that cookie, and gives the socket.
func (c *Client) await(ctx context.Context, cookie string, answers chan<- reply) (net.Conn, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	c.pending[cookie] = answers
	return conn, nil
}

func (c *Client) forget(cookie string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, cookie)
}

// connect gives the socket, a new one if there is none. Looking up a name may take a while: nothing is locked then.
func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	conn, closed := c.conn, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case conn != nil:
		return conn, nil
	}
	conn, err := c.dial(ctx, "udp", c.address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.conn != nil { // another was faster
		_ = conn.Close()
		if c.closed {
			return nil, ErrClosed
		}
		return c.conn, nil
	}
	c.conn = conn
	c.readers.Go(func() { c.read(conn) })
	return conn, nil
}

// read hands out answers until the socket is closed.
func (c *Client) read(conn net.Conn) {
	buf := make([]byte, maxMessage+1)
	for {
		n, err := conn.Read(buf)
		switch {
		case err == nil:
			c.receive(buf[:n])
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNREFUSED): // nobody listens there: none of the requests will be answered
			c.fail(fmt.Errorf("%w: %w", ErrNoAnswer, err))
		default:
			c.drop(conn)
			return
		}
	}
}

// receive takes one datagram. What is no answer that somebody waits for is dropped: a late one, one that came twice, a
// stranger's, garbage.
func (c *Client) receive(b []byte) {
	cookie, body, ok := bytes.Cut(b, []byte{' '})
	answer, err := Decode(body)
	c.mu.Lock()
	defer c.mu.Unlock()
	answers := c.pending[string(cookie)]
	if !ok || answers == nil || err != nil || answer.Text("result") == "" {
		c.foreign.Add(1)
		return
	}
	delete(c.pending, string(cookie))
	answers <- reply{answer: answer}
}

// fail ends all requests that wait.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for cookie, answers := range c.pending {
		delete(c.pending, cookie)
		answers <- reply{err: err}
	}
}

// Reset makes the next request look up the name again.
func (c *Client) Reset() {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		c.drop(conn)
	}
}

// drop closes a socket that is of no use any more.
func (c *Client) drop(conn net.Conn) {
	_ = conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == conn {
		c.conn = nil
	}
}

// Dropped is how many datagrams came that were no answer to a request that waits.
func (c *Client) Dropped() uint64 { return c.foreign.Load() }

// Close ends the client and all its requests, and waits for its goroutine.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	conn := c.conn
	c.conn = nil
	c.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
	c.fail(ErrClosed)
	c.readers.Wait()
}
