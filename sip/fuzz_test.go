package sip

import (
	"bytes"
	"hash/maphash"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

func addTorture(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/rfc*/*.dat")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds in testdata", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(request("INVITE")))
	f.Add([]byte("SIP/2.0 400 \r\nv:SIP/2.0/UDP [::1]:5;branch=\r\nt:<sip:>;tag\r\nm:*\r\n\r\n"))
}

// FuzzValidate: whatever comes in a datagram, reading, checking, answering and
// writing it does not panic, and no line break gets from a value into what we
// send.
func FuzzValidate(f *testing.F) {
	addTorture(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, raw, err := parseDatagram(data, 16<<10)
		if err != nil {
			if raw != nil {
				checkLines(t, string(raw.refuse(bad("Bad Request"))))
			}
			return
		}
		if len(m.String()) == 0 {
			t.Error("a message without text")
		}
		req, ok := m.(*sipgo.Request)
		if !ok {
			return
		}
		if status, _ := validate(req); status != 0 {
			return
		}
		stampVia(req.Via(), netip.MustParseAddrPort("192.0.2.2:5060"))
		seeds := txSeeds{maphash.MakeSeed(), maphash.MakeSeed()}
		_, _ = seeds.server(req, req.Method), seeds.merge(req)
		checkLines(t, sipgo.NewResponseFromRequest(req, 400, "Bad Request", nil).String())
		again, _, err := parseDatagram([]byte(req.String()), 1<<20)
		if err == nil && *again.CallID() != *req.CallID() {
			t.Errorf("Call-ID %q became %q", *req.CallID(), *again.CallID())
		}
	})
}

// checkLines holds what we send to the form of a message: each line a header,
// no bare CR or LF.
func checkLines(t *testing.T, m string) {
	t.Helper()
	if m == "" {
		return
	}
	head, _, _ := strings.Cut(m, "\r\n\r\n")
	for _, line := range strings.Split(head, "\r\n")[1:] {
		name, _, ok := strings.Cut(line, ":")
		if !ok || !isToken(strings.TrimSpace(name)) || strings.ContainsAny(line, "\r\n") {
			t.Errorf("bad line %q", line)
		}
	}
}

// FuzzStream: whatever comes on a stream, cut anywhere, the reader does not
// panic and ends with it.
func FuzzStream(f *testing.F) {
	addTorture(f)
	f.Add([]byte("\r\n\r\n\r\n" + request("OPTIONS") + request("BYE")))
	f.Fuzz(func(t *testing.T, data []byte) {
		count := func(chunk int) (messages int) {
			tr := &transport{
				log: slog.New(slog.DiscardHandler), cfg: DefaultConfig(), rejected: func(reason string) {
					if reason == rejectedPanic {
						t.Error("panic")
					}
				},
				receive: func(_ *flow, m sipgo.Message) {
					messages++
					if req, ok := m.(*sipgo.Request); ok {
						validate(req)
					}
				},
			}
			fl := tr.newStream(&fuzzConn{data: data, chunk: chunk}, "TCP")
			r := &streamReader{t: tr, f: fl}
			r.source = timedConn{r, r.f.conn}
			if err := r.run(); err == nil {
				t.Error("the reader ended without an error")
			}
			return messages
		}
		if whole, pieces := count(1<<20), count(3); whole != pieces {
			t.Errorf("%d messages at once, %d in pieces", whole, pieces)
		}
	})
}

// fuzzConn gives data in chunks, then EOF, and takes every write.
type fuzzConn struct {
	data  []byte
	chunk int
	wrote bytes.Buffer
}

func (c *fuzzConn) Read(b []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.chunk)], c.data)
	c.data = c.data[n:]
	return n, nil
}
func (c *fuzzConn) Write(b []byte) (int, error)      { return c.wrote.Write(b) }
func (c *fuzzConn) Close() error                     { return nil }
func (c *fuzzConn) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (c *fuzzConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2} }
func (c *fuzzConn) SetDeadline(time.Time) error      { return nil }
func (c *fuzzConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fuzzConn) SetWriteDeadline(time.Time) error { return nil }
