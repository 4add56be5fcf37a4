package sip

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/siptest"
)

// bed is a transport with transactions over it, and a handler that records
// what comes up. Its address is 192.0.2.1 on the in-memory network, or loopback.
type bed struct {
	*transactions
	transport *transport

	mu       sync.Mutex // guards the following
	events   []string   // "INVITE id", "ACK id", "CANCEL id", "stray 200 id"
	rejects  map[string]int
	gone     int // flows that closed
	requests []*serverTx

	// takes, if set, answers new requests instead of recording only.
	takes func(f *flow, req *sipgo.Request, tx *serverTx)
}

func newBed(t testing.TB, network Network, change func(*Config), listen ...string) *bed {
	t.Helper()
	return newBedFor(t, nil, network, change, listen...)
}

// newBedFor is newBed with another handler; nil is the bed itself.
func newBedFor(t testing.TB, h requestHandler, network Network, change func(*Config), listen ...string) *bed {
	t.Helper()
	b := &bed{rejects: map[string]int{}}
	if h == nil {
		h = b
	}
	cfg := DefaultConfig()
	cfg.Listen = listen
	if change != nil {
		change(&cfg)
	}
	log := slog.New(slog.DiscardHandler)
	b.transactions = newTransactions(log, h)
	b.transactions.rejected = b.reject
	var err error
	b.transport, err = newTransport(cfg, Options{Network: network, Log: log}, b.receive, b.flowGone, b.reject)
	if err == nil {
		err = b.transport.listen(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.transactions.close()
		b.transport.close()
	})
	return b
}

func (b *bed) reject(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rejects[reason]++
}

func (b *bed) rejectedFor(reason string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rejects[reason]
}

func (b *bed) rejections() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprint(b.rejects)
}

func (b *bed) flowGone(f *flow) {
	b.transactions.flowClosed(f)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone++
}

func (b *bed) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, fmt.Sprintf(format, args...))
}

// seen is all events, joined, and forgets them.
func (b *bed) seen() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := strings.Join(b.events, ", ")
	b.events = nil
	return s
}

// last is the newest request.
func (b *bed) last(t testing.TB) *serverTx {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.requests) == 0 {
		t.Fatal("no request came")
	}
	return b.requests[len(b.requests)-1]
}

func (b *bed) onRequest(f *flow, req *sipgo.Request, tx *serverTx) {
	b.note("%s %s", req.Method, *req.CallID())
	b.mu.Lock()
	b.requests = append(b.requests, tx)
	b.mu.Unlock()
	if b.takes != nil {
		b.takes(f, req, tx)
	}
}
func (b *bed) onAck(_ *flow, req *sipgo.Request)           { b.note("ACK %s", *req.CallID()) }
func (b *bed) onCancel(_ *serverTx, cancel *sipgo.Request) { b.note("CANCEL %s", *cancel.CallID()) }
func (b *bed) onStrayResponse(_ *flow, res *sipgo.Response) {
	b.note("stray %d %s", res.StatusCode, *res.CallID())
}

func (b *bed) reply(t testing.TB, tx *serverTx, code int) {
	t.Helper()
	if err := tx.respond(sipgo.NewResponseFromRequest(tx.request(), code, Phrase(code), nil)); err != nil {
		t.Errorf("respond %d: %v", code, err)
	}
}

// message writes a SIP message: a start line and headers, with what every
// message needs added where it is missing. body may be "".
func message(start, body string, headers ...string) string {
	var s strings.Builder
	s.WriteString(start + "\r\n")
	all := "\n" + strings.ToLower(strings.Join(headers, "\n"))
	for _, h := range headers {
		s.WriteString(h + "\r\n")
	}
	method, _, _ := strings.Cut(start, " ")
	for _, h := range []string{"Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKone", "From: <sip:a@example.com>;tag=a",
		"To: <sip:b@example.com>", "Call-ID: one", "CSeq: 1 " + method, "Max-Forwards: 70",
		fmt.Sprintf("Content-Length: %d", len(body))} {
		name, _, _ := strings.Cut(h, ":")
		if !strings.Contains(all, "\n"+strings.ToLower(name)+":") {
			s.WriteString(h + "\r\n")
		}
	}
	return s.String() + "\r\n" + body
}

func request(method string, headers ...string) string {
	return message(method+" sip:b@example.com SIP/2.0", "", headers...)
}

// wire is the far end, raw: a UDP socket or a stream.
type wire struct {
	t    testing.TB
	udp  net.PacketConn
	to   net.Addr
	conn net.Conn
	rest []byte // read from the stream, not yet used
}

// udpWire opens a socket at 192.0.2.2:5060 towards the bed.
func udpWire(t testing.TB, n *siptest.Network) *wire {
	t.Helper()
	c, err := n.Host("192.0.2.2").ListenPacket(context.Background(), "udp", "192.0.2.2:5060")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{t: t, udp: c, to: net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5060"))}
}

func tcpWire(t testing.TB, n *siptest.Network) *wire {
	t.Helper()
	c, err := n.Host("192.0.2.2").DialContext(context.Background(), "tcp", "192.0.2.1:5060")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{t: t, conn: c}
}

func (w *wire) send(text string) {
	w.t.Helper()
	var err error
	if w.udp != nil {
		_, err = w.udp.WriteTo([]byte(text), w.to)
	} else {
		_, err = io.WriteString(w.conn, text)
	}
	if err != nil {
		w.t.Fatalf("send: %v", err)
	}
}

// next is the next message within a time; "" if none came, "closed" if the
// stream has ended.
func (w *wire) next(within time.Duration) string {
	w.t.Helper()
	until := time.Now().Add(within)
	buf := make([]byte, 1<<16)
	if w.udp != nil {
		w.udp.SetReadDeadline(until)
		n, _, err := w.udp.ReadFrom(buf)
		if err != nil {
			return ""
		}
		return string(buf[:n])
	}
	w.conn.SetReadDeadline(until)
	for {
		if i := bytes.Index(w.rest, []byte("\r\n\r\n")); i >= 0 {
			m := string(w.rest[:i+4])
			w.rest = w.rest[i+4:]
			return m
		}
		if string(w.rest) == "\r\n" {
			w.rest = nil
			return "\r\n"
		}
		n, err := w.conn.Read(buf)
		w.rest = append(w.rest, buf[:n]...)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return ""
		}
		if err != nil {
			return "closed"
		}
	}
}

// expect reads a message and checks its first line.
func (w *wire) expect(start string) string {
	w.t.Helper()
	m := w.next(time.Second)
	if !strings.HasPrefix(m, start) {
		w.t.Fatalf("got %q, want %q…", m, start)
	}
	return m
}

// silence checks that nothing comes for a while.
func (w *wire) silence(d time.Duration) {
	w.t.Helper()
	if m := w.next(d); m != "" {
		w.t.Fatalf("got %q, want silence", m)
	}
}

func headerOf(m, name string) string {
	for _, line := range strings.Split(m, "\r\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
