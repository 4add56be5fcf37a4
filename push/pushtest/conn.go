package pushtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strconv"
	"strings"
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
	maxUnsent     = 1 << 20
)

// serverConn is one connection from a provider.
type serverConn struct {
	service     *APNs
	nc          *tls.Conn
	environment string
	number      int
	fr          *http2.Framer

	// owned by serve's goroutine
	streams    map[uint32]*request // whose END_STREAM has not come
	lastStream uint32
	taken      int // bytes of DATA since the last WINDOW_UPDATE
	keyID      string
	issued     time.Time // of the last good provider token

	wake chan struct{} // out has something, or ending is set

	mu       sync.Mutex   // guards the following
	out      bytes.Buffer // frames to write; write has a goroutine, since over
	ending   bool         // a net.Pipe both sides may write before they read
	hpackBuf bytes.Buffer
	hpack    *hpack.Encoder
	pending  map[uint32]bool // streams that have no answer yet
	widened  bool
	draining bool
}

func newServerConn(a *APNs, nc *tls.Conn, environment string, number int) *serverConn {
	c := &serverConn{service: a, nc: nc, environment: environment, number: number, streams: map[uint32]*request{}, pending: map[uint32]bool{}, wake: make(chan struct{}, 1)}
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
	c.write(func() error {
		return c.fr.WriteSettings(
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxBody},
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
			return c.write(c.fr.WriteSettingsAck)
		}
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
		return c.finished(f.StreamID)
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
	r := &request{
		environment: c.environment, conn: c.number, header: http.Header{},
		method: f.PseudoValue("method"), path: f.PseudoValue("path"),
	}
	for _, h := range f.RegularFields() {
		r.header.Add(h.Name, h.Value)
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
	limit := 1
	if c.widened {
		limit = int(c.service.opts.MaxStreams)
	}
	if c.draining || len(c.pending) >= limit {
		return false
	}
	c.pending[stream] = true
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
	r.body = append(r.body, f.Data()...)
	if len(r.body) > maxBody {
		delete(c.streams, f.StreamID)
		return c.goAway(http2.ErrCodeFlowControl)
	}
	if !f.StreamEnded() {
		return true
	}
	delete(c.streams, f.StreamID)
	return c.complete(f.StreamID, r)
}

// complete judges a request and answers it, now or later.
func (c *serverConn) complete(stream uint32, r *request) bool {
	r.at = time.Now()
	judged := c.judge(r)
	if !strings.Contains(judged.Reason, "ProviderToken") {
		c.widen()
	}
	answer, scripted := c.service.script(r.token())
	if !scripted || (answer.Status == 0 && answer.Do == Nothing) {
		answer.Status, answer.Reason, answer.Timestamp = judged.Status, judged.Reason, judged.Timestamp
	}
	if answer.Delay == 0 {
		return c.answer(stream, r, answer)
	}
	c.service.tasks.Go(func() {
		timer := time.NewTimer(answer.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.service.stop:
		}
		if !c.answer(stream, r, answer) {
			c.end()
		}
	})
	return true
}

// widen lifts the limit of one stream that holds until the first good
// provider token.
func (c *serverConn) widen() {
	c.mu.Lock()
	first := !c.widened
	c.widened = true
	c.mu.Unlock()
	if first {
		c.write(func() error {
			return c.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.service.opts.MaxStreams})
		})
	}
}

// answer does what the answer says; false ends the connection.
func (c *serverConn) answer(stream uint32, r *request, a Answer) bool {
	took := a.Do == CutOffAfter || a.Do == HalfAnswer || (a.Do == Nothing && a.Status == http.StatusOK)
	c.service.count(r, took, a.Reason)
	c.service.seen(r, a)
	switch a.Do {
	case Stall:
		return true
	case CutOff, CutOffAfter:
		return false
	case GoAway:
		c.write(func() error { return c.fr.WriteGoAway(stream-1, http2.ErrCodeNo, nil) })
		return false
	case Refuse:
		return c.write(func() error { return c.fr.WriteRSTStream(stream, http2.ErrCodeRefusedStream) }) && c.finished(stream)
	}
	return c.write(func() error { return c.respond(stream, r, a) }) && c.finished(stream) && a.Do != HalfAnswer
}

// respond writes the answer's frames; the mutex is held.
func (c *serverConn) respond(stream uint32, r *request, a Answer) error {
	if !c.pending[stream] {
		return nil // the client has given up on it
	}
	status := a.Status
	if a.Do == HalfAnswer {
		status = http.StatusOK
	}
	c.hpackBuf.Reset()
	fields := []hpack.HeaderField{
		{Name: ":status", Value: strconv.Itoa(status)},
		{Name: "apns-id", Value: r.header.Get("apns-id")},
		{Name: "date", Value: time.Now().UTC().Format(http.TimeFormat)},
	}
	if a.RetryAfter != "" {
		fields = append(fields, hpack.HeaderField{Name: "retry-after", Value: a.RetryAfter})
	}
	for _, f := range fields {
		if err := c.hpack.WriteField(f); err != nil {
			return err
		}
	}
	body := a.body()
	half := a.Do == HalfAnswer
	err := c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.hpackBuf.Bytes(), EndHeaders: true, EndStream: len(body) == 0 && !half,
	})
	if err != nil || len(body) == 0 || half {
		return err
	}
	return c.fr.WriteData(stream, true, body)
}

// finished closes a stream; false when that was the last of a connection that
// is to end.
func (c *serverConn) finished(stream uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, stream)
	return !c.draining || len(c.pending) > 0
}

// drain tells the peer to go away once its requests are answered.
func (c *serverConn) drain() {
	c.mu.Lock()
	c.draining = true
	idle := len(c.pending) == 0
	c.mu.Unlock()
	c.write(func() error { return c.fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) })
	if idle {
		c.end()
	}
}

func (c *serverConn) goAway(code http2.ErrCode) bool {
	c.write(func() error { return c.fr.WriteGoAway(c.lastStream, code, nil) })
	return false
}

// write queues frames; false when the peer has stopped reading or all is over.
func (c *serverConn) write(frames func() error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending || c.out.Len() > maxUnsent || frames() != nil {
		return false
	}
	c.signal()
	return true
}

// end closes the connection once what is queued has been written.
func (c *serverConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.signal()
}

func (c *serverConn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// writeLoop writes what is queued, as one TLS record if it fits.
func (c *serverConn) writeLoop() {
	defer c.nc.Close()
	var buf []byte
	for range c.wake {
		c.mu.Lock()
		buf = append(buf[:0], c.out.Bytes()...)
		c.out.Reset()
		ending := c.ending
		c.mu.Unlock()
		if len(buf) > 0 {
			c.nc.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := c.nc.Write(buf); err != nil {
				return
			}
		}
		if ending {
			return
		}
	}
}
