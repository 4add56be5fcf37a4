// Package ngtest is an rtpengine daemon in memory, for tests in virtual time: it speaks the NG protocol over datagrams that can
// be lost, doubled and late. It relays nothing.
package ngtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"reveille/rtp/ng"
)

// Daemon is one daemon. The zero value answers.
type Daemon struct {
	// Mangle, if set, gives the datagrams that are sent back for one answer, in place of it.
	Mangle func(answer []byte) [][]byte
	// Delay is how long answers take.
	Delay time.Duration
	// Port of the first media socket; 0 is 30000.
	Port int

	mu       sync.Mutex // guards the following
	down     bool       // it takes nothing
	refuses  bool       // and the system says so
	deaf     time.Time  // until then answers are lost
	asked    []ng.Dict
	answered map[string][]byte // by cookie
	conns    []*conn
	calls    map[string]map[string]int // call → tag → port
	totals   map[string]map[string]int64
}

// Stop makes the daemon deaf, as a host that is gone; with refused, as a process that has ended.
func (d *Daemon) Stop(refused bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down, d.refuses = true, refused
}

// Start makes it hear again; it has forgotten all calls.
func (d *Daemon) Start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down, d.refuses, d.calls, d.answered = false, false, nil, nil
}

// Lose has all answers lost for some time.
func (d *Daemon) Lose(during time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf = time.Now().Add(during)
}

// Asked lists the requests done, without pings; those of one command if it is not "".
func (d *Daemon) Asked(command string) []ng.Dict {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []ng.Dict
	for _, r := range d.asked {
		if command == "" || r.Text("command") == command {
			out = append(out, r)
		}
	}
	return out
}

// Calls is the number of calls it has.
func (d *Daemon) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.calls)
}

// Count makes the figures of all calls say that so many packets came from the peer of a tag.
func (d *Daemon) Count(tag string, packets int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.totals == nil {
		d.totals = map[string]map[string]int64{}
	}
	d.totals[tag] = map[string]int64{"packets": packets, "bytes": packets * 172}
}

// Dial is an ng.Dial that reaches the daemon.
func (d *Daemon) Dial(context.Context, string, string) (net.Conn, error) {
	c := &conn{daemon: d, in: make(chan []byte, 64), done: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, c)
	return c, nil
}

// Dialer reaches several daemons by their addresses.
func Dialer(daemons map[string]*Daemon) ng.Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := daemons[address]
		if d == nil {
			return nil, fmt.Errorf("dial %s %s: no such host", network, address)
		}
		return d.Dial(ctx, network, address)
	}
}

// Send sends a datagram to all that have a socket to the daemon.
func (d *Daemon) Send(b []byte) {
	d.mu.Lock()
	conns := slices.Clone(d.conns)
	d.mu.Unlock()
	for _, c := range conns {
		c.deliver(b)
	}
}

// take is one datagram of a client.
func (d *Daemon) take(message []byte, deliver func([]byte)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuses {
		return &net.OpError{Op: "write", Net: "udp", Err: os.NewSyscallError("write", syscall.ECONNREFUSED)}
	}
	cookie, body, _ := bytes.Cut(message, []byte{' '})
	request, err := ng.Decode(body)
	if err != nil || d.down {
		return nil
	}
	answer := d.answered[string(cookie)]
	if answer == nil {
		answer = ng.Encode(append(bytes.Clone(cookie), ' '), d.do(request))
		if d.answered == nil {
			d.answered = map[string][]byte{}
		}
		d.answered[string(cookie)] = answer
	}
	out := [][]byte{answer}
	if d.Mangle != nil {
		out = d.Mangle(answer)
	}
	if time.Now().Before(d.deaf) {
		out = nil
	}
	for _, b := range out {
		if d.Delay > 0 {
			time.AfterFunc(d.Delay, func() { deliver(b) })
		} else {
			deliver(b)
		}
	}
	return nil
}

// Serve has the daemon on a real socket too, until that is closed.
func (d *Daemon) Serve(conn net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_ = d.take(bytes.Clone(buf[:n]), func(b []byte) { _, _ = conn.WriteTo(b, from) })
	}
}

// do does one request.
func (d *Daemon) do(r ng.Dict) ng.Dict {
	if r.Text("command") == "ping" {
		return ng.Dict{"result": "pong"}
	}
	d.asked = append(d.asked, r)
	id := r.Text("call-id")
	call := d.calls[id]
	switch command := r.Text("command"); {
	case command == "offer" || command == "answer" && call != nil:
		return d.describe(id, r)
	case call == nil:
		return ng.Dict{"result": "error", "error-reason": "Unknown call-id"}
	case command == "query":
		return d.query(call)
	case command == "delete":
		if tag := r.Text("from-tag"); tag != "" {
			delete(call, tag)
		} else {
			delete(d.calls, id)
		}
	case command == "play media":
		return ng.Dict{"result": "ok", "duration": (len(r.Text("blob")) - 44) / 8}
	}
	return ng.Dict{"result": "ok"}
}

var mediaPort = regexp.MustCompile(`(?m)^m=audio \d+ \S+`)

// describe gives a description back with a port of the daemon's, and with keys where they are asked for.
func (d *Daemon) describe(id string, r ng.Dict) ng.Dict {
	if d.calls == nil {
		d.calls = map[string]map[string]int{}
	}
	if d.calls[id] == nil {
		d.calls[id] = map[string]int{}
	}
	call, tag := d.calls[id], r.Text("to-tag")
	if r.Text("command") == "answer" {
		tag = r.Text("from-tag")
	}
	if call[tag] == 0 {
		if d.Port == 0 {
			d.Port = 30000
		}
		call[tag] = d.Port
		d.Port += 2
	}
	proto := r.Text("transport-protocol")
	if proto == "" {
		proto = "RTP/AVP"
	}
	body := mediaPort.ReplaceAllString(r.Text("sdp"), fmt.Sprintf("m=audio %d %s", call[tag], proto))
	body = regexp.MustCompile(`(?m)^a=(rtcp:|crypto:).*\r\n`).ReplaceAllString(body, "")
	if strings.HasSuffix(proto, "SAVP") {
		key := fmt.Sprintf("%040d", call[tag])
		body += "a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:" + key + "\r\n"
	}
	return ng.Dict{"result": "ok", "sdp": body}
}

// query gives the figures of a call.
func (d *Daemon) query(call map[string]int) ng.Dict {
	tags := ng.Dict{}
	for tag := range call {
		stats := ng.Dict{"packets": d.totals[tag]["packets"], "bytes": d.totals[tag]["bytes"], "errors": 0}
		stream := ng.Dict{"flags": []any{"RTP"}, "stats": stats}
		tags[tag] = ng.Dict{"tag": tag, "medias": []any{ng.Dict{"index": 1, "streams": []any{stream}}}}
	}
	return ng.Dict{"result": "ok", "tags": tags}
}

// conn is a client's socket.
type conn struct {
	daemon *Daemon
	in     chan []byte
	done   chan struct{}
	once   sync.Once
}

func (c *conn) deliver(b []byte) {
	select {
	case c.in <- b:
	default: // lost
	}
}

func (c *conn) Read(b []byte) (int, error) {
	select {
	case <-c.done:
		return 0, net.ErrClosed
	case m := <-c.in:
		return copy(b, m), nil
	}
}

func (c *conn) Write(b []byte) (int, error) {
	if err := c.daemon.take(b, c.deliver); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}

func (c *conn) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (c *conn) RemoteAddr() net.Addr             { return &net.UDPAddr{} }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
