package pushtest

import (
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// outStream is a stream that waits for its answer, or for the rest of it.
type outStream struct {
	window int64  // flow control: bytes that the client takes on it
	rest   []byte // of the answer's body
}

// complete judges a request and answers it, now or later.
func (c *serverConn) complete(stream uint32, r *request) bool {
	r.At = c.service.now()
	judged := c.service.judge.judge(r)
	answer, scripted := c.service.script(r)
	if !scripted || (answer.Status == 0 && answer.Do == Nothing) {
		delay := answer.Delay
		answer, answer.Delay = judged, delay
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

// widen lifts a limit of streams that held until now.
func (c *serverConn) widen() {
	all := c.service.maxStreams
	c.mu.Lock()
	first := c.limit < int(all)
	c.limit = int(all)
	c.mu.Unlock()
	if first {
		c.write(func() error {
			return c.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: all})
		})
	}
}

// answer does what the answer says; false ends the connection.
func (c *serverConn) answer(stream uint32, r *request, a Answer) bool {
	c.service.count(r, a)
	switch a.Do {
	case Stall:
		return true
	case CutOff, CutOffAfter:
		return false
	case Reset:
		c.byReset()
		return false
	case GoAway:
		c.write(func() error { return c.fr.WriteGoAway(stream-1, http2.ErrCodeNo, nil) })
		return false
	case Refuse:
		return c.write(func() error { return c.fr.WriteRSTStream(stream, http2.ErrCodeRefusedStream) }) && c.gone(stream)
	}
	open := true
	if !c.write(func() error { return c.respond(stream, r, a, &open) }) || !open || a.Do == HalfAnswer {
		return false
	}
	if n := c.service.resetEvery; n > 0 && !r.aside && rand.IntN(n) == 0 {
		c.service.mu.Lock()
		c.service.counts.Resets++
		c.service.mu.Unlock()
		c.byReset()
		return false
	}
	return true
}

// respond writes the answer's frames, as many as the client takes now; the
// mutex is held. open is false when the connection is to end with it.
func (c *serverConn) respond(stream uint32, r *request, a Answer, open *bool) error {
	out := c.pending[stream]
	if out == nil {
		return nil // the client has given up on it
	}
	status := a.Status
	if a.Do == HalfAnswer {
		status = http.StatusOK
	}
	fields, body := c.service.judge.render(r, a)
	if a.Body != "" {
		body = []byte(a.Body)
	}
	fields = append([]hpack.HeaderField{
		{Name: ":status", Value: strconv.Itoa(status)},
		{Name: "date", Value: c.service.now().UTC().Format(http.TimeFormat)},
	}, fields...)
	if a.RetryAfter != "" {
		fields = append(fields, hpack.HeaderField{Name: "retry-after", Value: a.RetryAfter})
	}
	c.hpackBuf.Reset()
	for _, f := range fields {
		if err := c.hpack.WriteField(f); err != nil {
			return err
		}
	}
	half := a.Do == HalfAnswer
	err := c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.hpackBuf.Bytes(), EndHeaders: true, EndStream: len(body) == 0 && !half,
	})
	switch {
	case err != nil || half:
		return err
	case len(body) == 0:
		*open = c.finished(stream)
		return nil
	}
	out.rest = body
	*open, err = c.pump(stream, out)
	return err
}

// pump writes as much of an answer's body as the client takes; the mutex is held.
func (c *serverConn) pump(stream uint32, out *outStream) (open bool, err error) {
	for len(out.rest) > 0 {
		n := min(int64(len(out.rest)), maxFrame, out.window, c.window)
		if n <= 0 {
			return true, nil
		}
		if err := c.fr.WriteData(stream, n == int64(len(out.rest)), out.rest[:n]); err != nil {
			return false, err
		}
		out.rest = out.rest[n:]
		out.window -= n
		c.window -= n
	}
	return c.finished(stream), nil
}

// settings takes the client's; only its window is of interest.
func (c *serverConn) settings(f *http2.SettingsFrame) bool {
	return c.write(func() error {
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for _, out := range c.pending {
				out.window += int64(v) - c.initial
			}
			c.initial = int64(v)
		}
		return c.fr.WriteSettingsAck()
	})
}

// opened is told of a window: what waited for it goes on.
func (c *serverConn) opened(f *http2.WindowUpdateFrame) bool {
	open := true
	return c.write(func() (err error) {
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
		} else if out := c.pending[f.StreamID]; out != nil {
			out.window += int64(f.Increment)
		}
		for stream, out := range c.pending {
			if len(out.rest) > 0 && open && err == nil {
				open, err = c.pump(stream, out)
			}
		}
		return err
	}) && open
}

// gone is finished without the mutex held.
func (c *serverConn) gone(stream uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finished(stream)
}

// finished closes a stream; false when that was the last of a connection that
// is to end. The mutex is held.
func (c *serverConn) finished(stream uint32) bool {
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

// byReset makes the end a TCP RST.
func (c *serverConn) byReset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset = true
}

func (c *serverConn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// writeLoop writes what is queued, as one TLS record if it fits.
func (c *serverConn) writeLoop() {
	defer c.hangUp()
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

// hangUp closes the connection in good order or by a reset.
func (c *serverConn) hangUp() {
	c.mu.Lock()
	reset := c.reset
	c.mu.Unlock()
	if !reset {
		c.nc.Close()
		return
	}
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		tcp.SetLinger(0) // the close sends RST
	}
	c.raw.Close()
}
