package pushtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	handshakeTime = 10 * time.Second
	writeTime     = 10 * time.Second
	maxBody       = 64 << 10 // read at most; above maxPayload the answer is 413 anyway
	recvWindow    = 1 << 20
	defaultWindow = 65535 // RFC 9113 §6.9.2
	maxFrame      = 16384 // RFC 9113 §6.5.2
	maxUnsent     = 1 << 20
)

// serverConn is one connection from a provider.
type serverConn struct {
	service *Service
	host    *host
	raw     net.Conn // under nc
	nc      *tls.Conn
	number  int
	fr      *http2.Framer

	// owned by serve's goroutine
	streams    map[uint32]*request // whose END_STREAM has not come
	lastStream uint32
	taken      int // bytes of DATA since the last WINDOW_UPDATE
	memory     any // what the judge keeps of the connection

	wake chan struct{} // out has something, or ending is set

	mu       sync.Mutex   // guards the following
	out      bytes.Buffer // frames to write; write has a goroutine, since over
	ending   bool         // a net.Pipe both sides may write before they read
	reset    bool         // it ends with a TCP RST
	hpackBuf bytes.Buffer
	hpack    *hpack.Encoder
	pending  map[uint32]*outStream // streams that have no whole answer yet
	limit    int                   // of pending
	draining bool
	window   int64 // flow control: bytes of DATA that the client takes now
	initial  int64 // the same for a new stream
}

func newServerConn(s *Service, h *host, raw net.Conn, nc *tls.Conn, number int) *serverConn {
	c := &serverConn{
		service: s, host: h, raw: raw, nc: nc, number: number,
		streams: map[uint32]*request{}, pending: map[uint32]*outStream{}, wake: make(chan struct{}, 1),
		limit: int(s.maxStreams), window: defaultWindow, initial: defaultWindow,
	}
	if h.streams != 0 {
		c.limit = int(h.streams)
	}
	c.hpack = hpack.NewEncoder(&c.hpackBuf)
	c.fr = http2.NewFramer(&c.out, nc)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fr.MaxHeaderListSize = 16 << 10
	c.fr.SetMaxReadFrameSize(16 << 10) // RFC 9113 §6.5.2: what a peer may send unless told otherwise
	return c
}

// serve runs the connection until it ends.
func (c *serverConn) serve() {
	if !c.handshake() {
		c.nc.Close()
		return
	}
	c.service.tasks.Go(c.writeLoop)
	defer io.Copy(io.Discard, c.nc) // until writeLoop has closed it: a client in the middle of a write must not hang
	defer c.end()
	window := uint32(maxBody)
	if c.service.mean.Load() {
		window = 0
	}
	c.write(func() error {
		return c.fr.WriteSettings(
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limit)},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: window},
		)
	})
	c.write(func() error { return c.fr.WriteWindowUpdate(0, recvWindow) })
	for {
		f, err := c.fr.ReadFrame()
		if se, ok := err.(http2.StreamError); ok {
			c.write(func() error { return c.fr.WriteRSTStream(se.StreamID, se.Code) })
			continue
		}
		if err != nil || !c.frame(f) {
			return
		}
	}
}

// handshake is TLS with ALPN h2, and the client's preface.
func (c *serverConn) handshake() bool {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if c.nc.HandshakeContext(ctx) != nil || c.nc.ConnectionState().NegotiatedProtocol != "h2" {
		return false
	}
	preface := make([]byte, len(http2.ClientPreface))
	_, err := io.ReadFull(c.nc, preface)
	return err == nil && string(preface) == http2.ClientPreface
}

// frame handles one frame; false ends the connection.
func (c *serverConn) frame(f http2.Frame) bool {
	if c.service.deaf.Load() {
		return true
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.settings(f)
		}
	case *http2.WindowUpdateFrame:
		return c.opened(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.service.mu.Lock()
			c.service.counts.Pings++
			c.service.mu.Unlock()
			return c.write(func() error { return c.fr.WritePing(true, f.Data) })
		}
	case *http2.MetaHeadersFrame:
		return c.headers(f)
	case *http2.DataFrame:
		return c.data(f)
	case *http2.RSTStreamFrame:
		delete(c.streams, f.StreamID)
		return c.gone(f.StreamID)
	case *http2.GoAwayFrame:
		return f.ErrCode == http2.ErrCodeNo
	}
	return true
}

func (c *serverConn) headers(f *http2.MetaHeadersFrame) bool {
	if f.StreamID <= c.lastStream || f.StreamID%2 == 0 || f.Truncated {
		return c.goAway(http2.ErrCodeProtocol)
	}
	if !c.admit(f.StreamID) {
		return c.write(func() error { return c.fr.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream) })
	}
	c.lastStream = f.StreamID
	r := &request{conn: c, method: f.PseudoValue("method"), aside: c.host.aside}
	r.Environment, r.Conn, r.Path, r.Header = c.host.name, c.number, f.PseudoValue("path"), http.Header{}
	for _, h := range f.RegularFields() {
		r.Header.Add(h.Name, h.Value)
	}
	if f.StreamEnded() {
		return c.complete(f.StreamID, r)
	}
	c.streams[f.StreamID] = r
	return true
}

// admit opens a stream unless that is one too many.
func (c *serverConn) admit(stream uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || len(c.pending) >= c.limit {
		return false
	}
	c.pending[stream] = &outStream{window: c.initial}
	return true
}

func (c *serverConn) data(f *http2.DataFrame) bool {
	if c.taken += int(f.Length); c.taken > recvWindow/2 {
		n := uint32(c.taken)
		c.taken = 0
		if !c.write(func() error { return c.fr.WriteWindowUpdate(0, n) }) {
			return false
		}
	}
	r := c.streams[f.StreamID]
	if r == nil {
		return true
	}
	r.Body = append(r.Body, f.Data()...)
	if len(r.Body) > maxBody {
		delete(c.streams, f.StreamID)
		return c.goAway(http2.ErrCodeFlowControl)
	}
	if !f.StreamEnded() {
		return true
	}
	delete(c.streams, f.StreamID)
	return c.complete(f.StreamID, r)
}
