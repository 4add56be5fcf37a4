package sip

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// SIP over WebSocket (RFC 7118): each WebSocket message is one SIP message or a
// keep-alive, so Content-Length is not needed to find its end.

const (
	// Buffers of a WebSocket while it is idle. A REGISTER is about 1 kB.
	wsReadBuffer, wsWriteBuffer = 1024, 2048
	// wsGoodbye bounds the wait for the peer's close frame.
	wsGoodbye = time.Second
)

// wsConn is a WebSocket in the clothes of a connection: Write sends one
// message, Close says goodbye. Read is not for use; see next.
type wsConn struct {
	net.Conn // below the frames
	ws       *websocket.Conn
	in       *bufio.Reader // what ws reads from
	running  *sync.WaitGroup
	closing  atomic.Int64 // when Close gives up, Unix nanoseconds; 0: open
	once     sync.Once

	mu      sync.Mutex // guards the following, and in against the goodbye
	leaving bool
}

// Write sends b as one message: text, or binary where a header holds what is
// not UTF-8, which no text message may.
func (c *wsConn) Write(b []byte) (int, error) {
	kind := websocket.MessageText
	if !utf8.Valid(b) {
		kind = websocket.MessageBinary
	}
	// wsBytes bounds the write.
	if err := c.ws.Write(context.Background(), kind, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// next reads one message; control frames are answered meanwhile.
func (c *wsConn) next() ([]byte, error) {
	_, b, err := c.ws.Read(context.Background())
	return b, err
}

// Close says goodbye; see leave.
func (c *wsConn) Close() error {
	c.leave(websocket.StatusGoingAway)
	return nil
}

// leave tells the peer why the connection ends and gives it wsGoodbye to say the
// same. It does not wait.
func (c *wsConn) leave(code websocket.StatusCode) {
	c.once.Do(func() {
		c.running.Go(func() {
			until := time.Now().Add(wsGoodbye)
			c.closing.Store(until.UnixNano())
			c.mu.Lock()
			c.leaving = true
			c.mu.Unlock()
			c.SetDeadline(until) // fails only if it is closed already
			c.ws.Close(code, "")
			c.ws.CloseNow()
		})
	})
}

// begun reports whether a frame has come in part. Once we leave, what comes is
// read by the goodbye, and in is not to be looked at.
func (c *wsConn) begun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving || c.in.Buffered() > 0
}

// ping sends a ping frame and waits for its pong.
func (c *wsConn) ping(ctx context.Context) error {
	err := c.ws.Ping(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %w", errFlowClosed, err)
	}
	return fmt.Errorf("%w: %w", errNoPong, err)
}

// wsBytes is the connection below the frames: it reads under the deadlines of
// the stream, any byte counts as life, and a pong must get out as soon as any
// message.
type wsBytes struct {
	net.Conn
	r *streamReader
}

func (c wsBytes) Read(b []byte) (int, error) {
	n, err := timedConn{c.r, c.Conn}.Read(b)
	if n > 0 && c.r.gate != nil {
		c.r.gate.idle.Store(false) // a frame has begun: the rest is waited for
	}
	return n, err
}

func (c wsBytes) Write(b []byte) (int, error) {
	until := time.Now().Add(writeTimeout)
	if closing := c.r.ws.closing.Load(); closing != 0 {
		until = time.Unix(0, closing)
	}
	if err := c.SetWriteDeadline(until); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// serveWebSocket makes the handshake on an accepted connection and reads it to
// its end. Everything up to the first SIP message has until first to happen.
func (t *transport) serveWebSocket(conn net.Conn, proto string, first time.Time) {
	f := t.newStream(conn, proto)
	f.conn = nil
	r := &streamReader{t: t, f: f, first: first}
	r.ws, r.gate = &wsConn{Conn: conn, running: &t.running}, gateOf(conn)
	if !t.upgrade(conn, r) {
		conn.Close()
		return
	}
	f.conn = r.ws
	if !t.addStream(f) {
		r.ws.Close()
		return
	}
	t.finish(r, r.messages())
}

// upgrade answers the HTTP request; false refuses, and the refusal has been sent.
func (t *transport) upgrade(conn net.Conn, r *streamReader) bool {
	conn.SetDeadline(r.first) // an error shows at the next read
	stop := context.AfterFunc(t.quit, func() { conn.Close() })
	defer stop()
	limited := &io.LimitedReader{R: conn, N: int64(t.cfg.Limits.HeaderSize)}
	in := bufio.NewReaderSize(limited, wsReadBuffer)
	w := &upgradeWriter{conn: conn, in: in, below: wsBytes{conn, r}}
	req, err := http.ReadRequest(in)
	if err != nil {
		t.rejected(rejectedUpgrade)
		t.log.Debug("no WebSocket handshake came", "remote", conn.RemoteAddr().String(), "err", err)
		if !errors.Is(err, io.EOF) && time.Now().Before(r.first) {
			w.refuse(http.StatusBadRequest, "This is a SIP over WebSocket port (RFC 7118), and that was no HTTP request.")
		}
		return false
	}
	if code, problem := t.checkUpgrade(req); code != 0 {
		t.rejected(rejectedUpgrade)
		if code == http.StatusForbidden {
			t.rejectedOrigin(conn, req)
		}
		w.refuse(code, problem)
		return false
	}
	limited.N = math.MaxInt64 // frames have their own limit
	ws, err := websocket.Accept(w, req, &websocket.AcceptOptions{
		Subprotocols: []string{"sip"}, InsecureSkipVerify: true, // checkUpgrade has verified the Origin
	})
	if err != nil {
		t.rejected(rejectedUpgrade)
		t.log.Debug("WebSocket handshake failed", "remote", conn.RemoteAddr().String(), "err", err)
		return false
	}
	ws.SetReadLimit(int64(t.cfg.Limits.MessageSize))
	r.ws.ws, r.ws.in = ws, in
	return true
}

// upgradeWriter is the little of an HTTP server that websocket.Accept needs.
type upgradeWriter struct {
	conn   net.Conn
	in     *bufio.Reader
	below  net.Conn // what the frames go by
	header http.Header
}

// Header implements http.ResponseWriter.
func (w *upgradeWriter) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *upgradeWriter) WriteHeader(code int) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", code, http.StatusText(code))
	if code != http.StatusSwitchingProtocols {
		w.Header().Del("Content-Length")
		connection := "close"
		if w.Header().Get("Upgrade") != "" {
			connection = "close, Upgrade"
		}
		w.Header().Set("Connection", connection)
	}
	w.Header().Write(&b)
	b.WriteString("\r\n")
	w.conn.Write(b.Bytes()) // an error shows at the next read
}

// Write implements http.ResponseWriter; the end of the connection ends the body.
func (w *upgradeWriter) Write(b []byte) (int, error) { return w.conn.Write(b) }

// Hijack implements http.Hijacker.
func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.below, bufio.NewReadWriter(w.in, bufio.NewWriterSize(w.below, wsWriteBuffer)), nil
}

// refuse answers a request that asks for something else than SIP over WebSocket.
func (w *upgradeWriter) refuse(code int, problem string) {
	if code == http.StatusUpgradeRequired {
		w.Header().Set("Upgrade", "websocket")
	}
	http.Error(w, problem, code)
}

// messages reads a WebSocket to its end.
func (r *streamReader) messages() error {
	for {
		b, err := r.nextMessage()
		if err != nil {
			return err
		}
		if err := r.webSocketMessage(b); err != nil {
			r.ws.leave(websocket.StatusUnsupportedData)
			return err
		}
	}
}

// nextMessage reads one message; while there is none it waits at the gate. Before
// the first message, and where a frame has begun, it does not.
func (r *streamReader) nextMessage() ([]byte, error) {
	if r.gate == nil || !r.first.IsZero() || r.ws.begun() {
		return r.ws.next()
	}
	r.gate.idle.Store(true)
	b, err := r.ws.next()
	r.gate.idle.Store(false)
	if !errors.As(err, new(idleError)) {
		return b, err
	}
	if err := r.rest(); err != nil {
		return nil, err
	}
	return r.ws.next()
}

// webSocketMessage handles one: a keep-alive (RFC 7118 §6: CRLF as on any
// stream), or a SIP message, without which the peer speaks something else and
// the stream ends.
func (r *streamReader) webSocketMessage(b []byte) error {
	defer r.t.recovered()
	switch string(b) {
	case "", "\r\n":
		return nil
	case "\r\n\r\n":
		return r.f.pong()
	}
	m, raw, err := parseDatagram(bytes.TrimLeft(b, "\r\n"), r.t.cfg.Limits.HeaderSize)
	if raw == nil {
		return fmt.Errorf("%w: %w", errNotSIP, err)
	}
	r.t.handle(r.f, m, raw, err)
	r.first = time.Time{}
	return nil
}
