package pushtest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHugeAnswer: an answer that is larger than the client's window comes
// whole, as the client takes it.
func TestHugeAnswer(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	p.client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{
		MaxReceiveBufferPerConnection: 1 << 16, MaxReceiveBufferPerStream: 1 << 16,
	}
	want := strings.Repeat("0123456789", 30_000)
	p.service.Answer(token, Answer{Status: 503, Body: want})
	res, err := p.client.Do(p.request(payload))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != want {
		t.Errorf("%d bytes, %v, want %d", len(body), err, len(want))
	}
	if status, _ := p.do(p.request(payload)); status != 200 {
		t.Errorf("afterwards %d", status)
	}
}

// TestHugeAnswerLeftAlone: a client that reads the head alone does not hold up
// the next request.
func TestHugeAnswerLeftAlone(t *testing.T) {
	p := newProvider(t, Options{}, nil)
	p.do(p.request(payload))
	p.client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{
		MaxReceiveBufferPerConnection: 1 << 16, MaxReceiveBufferPerStream: 1 << 16,
	}
	for range 3 {
		p.service.Answer(token, Answer{Status: 503, Body: strings.Repeat("x", 300_000)})
		res, err := p.client.Do(p.request(payload))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	if status, _ := p.do(p.request(payload)); status != 200 || p.service.Counts().Connections != 1 {
		t.Errorf("afterwards %d, %+v", status, p.service.Counts())
	}
}

// faulty hands on the errors of a connection: a reset is told once, to the
// reader or to the writer.
type faulty struct {
	net.Conn
	errs chan error
}

func (c faulty) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.note(err)
	return n, err
}

func (c faulty) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.note(err)
	return n, err
}

func (c faulty) note(err error) {
	if err != nil {
		select {
		case c.errs <- err:
		default:
		}
	}
}

// resets waits for a reset.
func resets(errs <-chan error) bool {
	timeout := time.After(10 * time.Second)
	for {
		select {
		case err := <-errs:
			if errors.Is(err, syscall.ECONNRESET) {
				return true
			}
		case <-timeout:
			return false
		}
	}
}

// TestReset: the connection ends by RST, once before an answer and then after each.
func TestReset(t *testing.T) {
	errs := make(chan error, 64)
	p := newProvider(t, Options{ResetEvery: 1}, func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		return faulty{nc, errs}, err
	})
	p.service.Answer(token, Answer{Do: Reset})
	for i := range 5 {
		res, err := p.client.Do(p.request(payload))
		if (err != nil) != (i == 0) {
			t.Errorf("request %d: %v", i, err)
		}
		if err == nil {
			res.Body.Close()
		}
		if !resets(errs) {
			t.Errorf("request %d: the connection was not reset", i)
		}
		p.client = &http.Client{Transport: p.client.Transport.(*http.Transport).Clone()}
	}
	if c := p.service.Counts(); c.Resets != 4 || c.Accepted != 4 || c.Connections != 5 {
		t.Errorf("%+v", c)
	}
}
