package sip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/siptest"
)

func TestKeepAlivesOverUDP(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send("\r\n\r\n")
		if got := w.next(time.Second); got != "\r\n" {
			t.Errorf("answer to CRLFCRLF: %q", got)
		}
		for _, other := range []string{"\r\n", "\x00", "jaK", "\x00\x00\x00\x00"} {
			w.send(other)
		}
		w.silence(time.Second)
		if n := b.rejectedFor(rejectedMalformed); n != 0 {
			t.Errorf("%d keep-alives count as malformed", n)
		}
	})
}

func TestKeepAlivesOverTCPAlsoAmongMessages(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("OPTIONS") + "\r\n\r\n" + request("OPTIONS", "Call-ID: two", "Via: SIP/2.0/TCP 192.0.2.2;branch=z9hG4bKtwo") + "\r\n")
		synctest.Wait()
		if got := w.next(time.Second); got != "\r\n" {
			t.Errorf("answer to CRLFCRLF: %q", got)
		}
		w.send("\r") // in pieces
		synctest.Wait()
		w.send("\n\r\n")
		if got := w.next(time.Second); got != "\r\n" {
			t.Errorf("answer to CRLFCRLF in pieces: %q", got)
		}
		if got := b.seen(); got != "OPTIONS one, OPTIONS two" {
			t.Errorf("handled: %s", got)
		}
	})
}

func TestMessageInPieces(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		m := message("MESSAGE sip:b@example.com SIP/2.0", strings.Repeat("body ", 2000))
		for i := 0; i < len(m); i += 7 {
			w.send(m[i:min(i+7, len(m))])
			if i%700 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if body := b.last(t).request().Body(); len(body) != 10000 {
			t.Errorf("body of %d bytes", len(body))
		}
	})
}

func TestOversizeAndBrokenStreams(t *testing.T) {
	for _, c := range []struct{ name, send, answer, reason string }{
		{"header", "OPTIONS sip:b@example.com SIP/2.0\r\nX: " + strings.Repeat("x", 17<<10), "", rejectedTooLarge},
		{"endless header lines", "OPTIONS sip:b@example.com SIP/2.0\r\n" + strings.Repeat("X: y\r\n", 4000), "", rejectedTooLarge},
		{"body", request("OPTIONS", "Content-Length: 66000"), "513", rejectedTooLarge},
		{"headers", request("OPTIONS", strings.Repeat("X: y\r\n", 100)+"Y: z"), "400", rejectedMalformed},
		{"Vias", request("OPTIONS", strings.Repeat("Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\n", 71)+"Y: z"), "400", rejectedMalformed},
		{"no Content-Length", strings.Replace(request("OPTIONS"), "Content-Length", "X-Length", 1), "400", rejectedMalformed},
		{"bare LF", strings.Replace(request("OPTIONS"), "Max-Forwards: 70", "Max-Forwards: 70\nX-Evil: 1", 1), "", rejectedMalformed},
		{"NUL", strings.Replace(request("OPTIONS"), "Max-Forwards: 70", "X: \x00", 1), "", rejectedMalformed},
		{"TLS to a TCP port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "", rejectedMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			overTCP(t, func(t *testing.T, b *bed, w *wire) {
				w.send(c.send)
				if c.answer != "" {
					w.expect("SIP/2.0 " + c.answer)
				}
				if got := w.next(time.Second); got != "closed" && c.name != "headers" && c.name != "Vias" {
					t.Errorf("the stream goes on: %q", got)
				}
				synctest.Wait()
				if b.rejectedFor(c.reason) != 1 || b.seen() != "" {
					t.Errorf("rejected %s, handled %s", b.rejections(), b.seen())
				}
			})
		})
	}
}

func TestWrongMessageDoesNotEndAStream(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("OPTIONS", `To: "open <sip:b@example.com>`) + request("OPTIONS", "Via: SIP/2.0/TCP h;branch=z9hG4bKtwo"))
		w.expect("SIP/2.0 400 Bad To")
		synctest.Wait()
		if got := b.seen(); got != "OPTIONS one" {
			t.Errorf("handled: %s", got)
		}
	})
}

func TestFirstMessageHasADeadlineThatSlowBytesDoNotMove(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		start, done := time.Now(), make(chan struct{})
		defer func() { <-done }()
		go func() {
			defer close(done)
			for _, c := range request("OPTIONS", "X: "+strings.Repeat("x", 1000)) {
				if _, err := io.WriteString(w.conn, string(c)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if got := w.next(time.Minute); got != "closed" || time.Since(start) != 10*time.Second {
			t.Errorf("%q after %v, want closed after 10s", got, time.Since(start))
		}
		synctest.Wait()
		if b.rejectedFor(rejectedSilent) != 1 {
			t.Errorf("rejected: %s", b.rejections())
		}
	})
}

func TestIdleStreamClosesAndAnyByteCounts(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("OPTIONS"))
		for range 3 {
			time.Sleep(140 * time.Second)
			w.send("\r\n")
		}
		start := time.Now()
		if got := w.next(time.Hour); got != "\r\n" { // the second CRLF of the three made a pair
			t.Fatalf("got %q", got)
		}
		if got := w.next(time.Hour); got != "closed" || time.Since(start) != 150*time.Second {
			t.Errorf("%q after %v, want closed after 150s", got, time.Since(start))
		}
		synctest.Wait()
		if b.gone != 1 {
			t.Errorf("%d flows were reported closed", b.gone)
		}
	})
}

func TestStalledPeerIsCutOff(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("OPTIONS"))
		synctest.Wait()
		f := b.last(t).flow()
		big := outgoingBy(f, sipgo.MESSAGE)
		big.SetBody(make([]byte, 60<<10))
		start := time.Now()
		var err error
		for range 100 {
			if err = f.send(big); err != nil {
				break
			}
		}
		if !errors.Is(err, errFlowClosed) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v, want a closed flow after 5s", err, time.Since(start))
		}
		if err := f.send(big); !errors.Is(err, errFlowClosed) {
			t.Errorf("send on the dead flow: %v", err)
		}
		synctest.Wait()
		if b.gone != 1 || b.transport.flowByID(f.id()) != nil {
			t.Error("the flow is still there")
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), func(c *Config) {
			c.Limits.Connections, c.Limits.ConnectionsPerIP = 5, 3
		}, "tcp://192.0.2.1:5060")
		for host := range 3 {
			for range 4 {
				c, err := n.Host(fmt.Sprintf("198.51.100.%d", host+1)).DialContext(context.Background(), "tcp", "192.0.2.1:5060")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
		}
		synctest.Wait()
		if got := b.rejections(); got != "map[connections:6 connections_per_ip:1]" {
			t.Errorf("rejected: %s", got)
		}
		time.Sleep(11 * time.Second) // the silent ones are gone: there is room again
		w := tcpWire(t, n)
		w.send(request("OPTIONS"))
		synctest.Wait()
		if got := b.seen(); got != "OPTIONS one" {
			t.Errorf("handled: %s", got)
		}
	})
}

func TestStrangersLeaveNoState(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send("\r\n\r\n")
		w.expect("\r\n")
		id := b.transport.udpFlowTo(peerAddr()).id()
		if f := b.transport.flowByID(id); f != nil {
			t.Errorf("a stranger's flow is kept: %s", f)
		}
		f := b.transport.udpFlowTo(peerAddr())
		b.transport.keep(f)
		time.Sleep(time.Minute)
		w.send("\r\n\r\n")
		w.expect("\r\n")
		if got := b.transport.flowByID(id); got != f || time.Since(f.lastHeard()) != 0 {
			t.Errorf("kept flow %v, last heard %v ago", got, time.Since(f.lastHeard()))
		}
		b.transport.forget(id)
		if b.transport.flowByID(id) != nil {
			t.Error("the flow is kept after forget")
		}
	})
}

func TestBigMessagesOverUDP(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		req := b.outgoing(sipgo.MESSAGE)
		req.SetBody(make([]byte, 5000)) // above the 1300 bytes of RFC 3261 §18.1.1
		if err := b.transport.udpFlowTo(peerAddr()).send(req); err != nil {
			t.Error(err)
		}
		w.expect("MESSAGE")
		req.SetBody(make([]byte, 66000))
		if err := b.transport.udpFlowTo(peerAddr()).send(req); !errors.Is(err, errMessageTooBig) {
			t.Errorf("send of 66 kB: %v", err)
		}
	})
}

func TestWildcardSocketKnowsItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), nil, "udp://0.0.0.0:5060")
		f := b.transport.udpFlowTo(peerAddr())
		if got := f.local(); got != netip.MustParseAddrPort("192.0.2.1:5060") {
			t.Errorf("local address %v", got)
		}
		if got := newVia(f, "pbx.example.com"); got.SentBy() != "pbx.example.com:5060" || !got.Params.Has("rport") {
			t.Errorf("Via %s", got)
		}
	})
}

func TestListenErrorsNameTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := siptest.NewNetwork().Host("192.0.2.1")
		newBed(t, h, nil, "udp://192.0.2.1:5060")
		cfg := DefaultConfig()
		cfg.Listen = []string{"tcp://192.0.2.1:5060", "udp://192.0.2.1:5060"}
		tr, err := newTransport(cfg, Options{Network: h}, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.listen(context.Background()); err == nil || !strings.Contains(err.Error(), "udp://192.0.2.1:5060") {
			t.Errorf("listen on a taken port: %v", err)
		}
		if _, err := h.Listen(context.Background(), "tcp", "192.0.2.1:5060"); err != nil {
			t.Errorf("the tcp listener was left open: %v", err)
		}
	})
}
