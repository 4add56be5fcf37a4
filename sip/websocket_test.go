package sip

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/siptest"
)

// overWS runs a test against a bed that listens on ws://192.0.2.1:8080.
func overWS(t *testing.T, change func(*Config), test func(t *testing.T, b *bed, n *siptest.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		test(t, newBed(t, n.Host("192.0.2.1"), change, "ws://192.0.2.1:8080"), n)
	})
}

func wsClient(n Network, config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.DialContext, TLSClientConfig: config}}
}

// dialWS connects as a browser does.
func dialWS(t testing.TB, n Network, url string, config *tls.Config) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(context.Background(), url, &websocket.DialOptions{HTTPClient: wsClient(n, config), Subprotocols: []string{"sip"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	if ws.Subprotocol() != "sip" {
		t.Errorf("subprotocol %q", ws.Subprotocol())
	}
	return ws
}

func dialBed(t testing.TB, n *siptest.Network) *websocket.Conn {
	t.Helper()
	return dialWS(t, n.Host("192.0.2.2"), "ws://192.0.2.1:8080/", nil)
}

func sendWS(t testing.TB, ws *websocket.Conn, kind websocket.MessageType, text string) {
	t.Helper()
	if err := ws.Write(context.Background(), kind, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// expectWS reads one message and checks how it starts.
func expectWS(t testing.TB, ws *websocket.Conn, start string) string {
	t.Helper()
	_, b, err := ws.Read(context.Background())
	if err != nil || !strings.HasPrefix(string(b), start) {
		t.Fatalf("got %q, %v; want %q…", b, err, start)
	}
	return string(b)
}

// closedWS reads to the end and gives the status of the close frame.
func closedWS(ws *websocket.Conn) websocket.StatusCode {
	for {
		if _, _, err := ws.Read(context.Background()); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func TestWebSocketCarriesOneSIPMessageInEachOfItsOwn(t *testing.T) {
	overWS(t, nil, func(t *testing.T, b *bed, n *siptest.Network) {
		ws := dialBed(t, n)
		bare := strings.Replace(request("OPTIONS", "Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bKone"), "Content-Length: 0\r\n", "", 1)
		sendWS(t, ws, websocket.MessageText, bare)
		synctest.Wait()
		f := b.last(t).flow()
		if f.transport() != "WS" || f.remote().Addr().String() != "192.0.2.2" {
			t.Errorf("flow %s", f)
		}
		b.reply(t, b.last(t), 200)
		res := expectWS(t, ws, "SIP/2.0 200")
		if via := headerOf(res, "Via"); !strings.Contains(via, "received=192.0.2.2") || !strings.Contains(via, "df7jal23ls0d.invalid") {
			t.Errorf("Via %s", via)
		}
		sendWS(t, ws, websocket.MessageBinary, request("OPTIONS", "Call-ID: binary", "Via: SIP/2.0/WS h.invalid;branch=z9hG4bKtwo"))
		w, err := ws.Writer(context.Background(), websocket.MessageText)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range message("MESSAGE sip:b@example.com SIP/2.0", "hello", "Call-ID: fragments", "Via: SIP/2.0/WS h.invalid;branch=z9hG4bKthree") {
			if _, err := io.WriteString(w, string(c)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := b.seen(); got != "OPTIONS one, OPTIONS binary, MESSAGE fragments" {
			t.Errorf("handled: %s", got)
		}
		if body := string(b.last(t).request().Body()); body != "hello" {
			t.Errorf("body %q", body)
		}
	})
}

func TestWebSocketKeepAlivesBothWays(t *testing.T) {
	overWS(t, nil, func(t *testing.T, b *bed, n *siptest.Network) {
		ws := dialBed(t, n)
		sendWS(t, ws, websocket.MessageText, request("OPTIONS"))
		synctest.Wait()
		f := b.last(t).flow()
		for range 3 { // 360 s: without the pings the idle limit would have struck
			sendWS(t, ws, websocket.MessageText, "\r\n\r\n")
			expectWS(t, ws, "\r\n")
			time.Sleep(120 * time.Second)
		}
		ctx := ws.CloseRead(context.Background()) // answers pings
		for range 3 {
			if err := ws.Ping(ctx); err != nil {
				t.Fatal(err)
			}
			if took, err := pingOf(t, f); err != nil || took > time.Second {
				t.Errorf("our ping: %v after %v", err, took)
			}
			time.Sleep(120 * time.Second)
		}
		n.Partition("192.0.2.2", true)
		if took, err := pingOf(t, f); err == nil || took != 2*time.Second {
			t.Errorf("ping of one who is gone: %v after %v", err, took)
		}
		n.Partition("192.0.2.2", false)
		time.Sleep(151 * time.Second)
		synctest.Wait()
		if !f.isDead() || b.gone != 1 {
			t.Errorf("after silence: dead %v, closed %d", f.isDead(), b.gone)
		}
	})
}

const upgradeHead = "GET / HTTP/1.1\r\nHost: pbx.example.com:8080\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

func TestWebSocketHandshakeIsRefusedWithAWord(t *testing.T) {
	const protocol = "Sec-WebSocket-Protocol: chat, sip\r\n"
	for name, c := range map[string]struct{ send, status, word string }{
		"a browser's visit":     {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "426", "ask for an upgrade"},
		"no HTTP at all":        {request("OPTIONS"), "400", "was no HTTP request"},
		"no subprotocol":        {upgradeHead + "\r\n", "400", "speaks the subprotocol sip"},
		"another subprotocol":   {upgradeHead + "Sec-WebSocket-Protocol: xmpp\r\n\r\n", "400", "speaks the subprotocol sip"},
		"another version":       {strings.Replace(upgradeHead, "13", "8", 1) + protocol + "\r\n", "400", "Sec-Websocket-Version: 13"},
		"no key":                {strings.Replace(upgradeHead, "Sec-WebSocket-Key", "X-Key", 1) + protocol + "\r\n", "400", "missing Sec-WebSocket-Key"},
		"too much of a header":  {upgradeHead + "X: " + strings.Repeat("x", 17<<10), "400", ""},
		"a foreign page":        {upgradeHead + protocol + "Origin: https://evil.example\r\n\r\n", "403", "sip.origins"},
		"a page without origin": {upgradeHead + protocol + "Origin: null\r\n\r\n", "403", "sip.origins"},
		"a renamed address":     {strings.Replace(upgradeHead, "pbx.example.com", "evil.example", 1) + protocol + "Origin: http://evil.example\r\n\r\n", "403", "sip.origins"},
		"a native app":          {upgradeHead + protocol + "\r\n", "101", "Sec-Websocket-Protocol: sip"},
		"our own page":          {upgradeHead + protocol + "Origin: https://PBX.example.com\r\n\r\n", "101", ""},
		"a listed page":         {upgradeHead + protocol + "Origin: https://app.example.com\r\n\r\n", "101", ""},
		"a shell around a page": {upgradeHead + protocol + "Origin: capacitor://localhost\r\n\r\n", "101", ""},
	} {
		t.Run(name, func(t *testing.T) {
			overWS(t, func(c *Config) {
				c.Domains, c.Origins = []string{"pbx.example.com"}, []string{"https://app.example.com", "capacitor://localhost"}
			}, func(t *testing.T, b *bed, n *siptest.Network) {
				conn, err := n.Host("192.0.2.2").DialContext(context.Background(), "tcp", "192.0.2.1:8080")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				io.WriteString(conn, c.send)
				conn.SetReadDeadline(time.Now().Add(time.Second))
				answer, err := io.ReadAll(conn)
				if got := string(answer); !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") || !strings.Contains(got, c.word) {
					t.Errorf("got %q", got)
				}
				accepted := c.status == "101"
				if open := err != nil; open != accepted || accepted == (b.rejectedFor(rejectedUpgrade) == 1) {
					t.Errorf("open: %v; rejected: %s", open, b.rejections())
				}
			})
		})
	}
}

func TestSilentAndSlowWebSocketClientsHoldNobodyUp(t *testing.T) {
	cert, pool := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), func(c *Config) { c.TLS = cert }, "wss://192.0.2.1:8443")
		start := time.Now()
		ends := make(chan time.Duration, 15)
		for i := range 15 {
			c, err := n.Host("198.51.100.1").DialContext(context.Background(), "tcp", "192.0.2.1:8443")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer c.Close()
				if i%3 > 0 { // past the TLS handshake, then slow headers, or silence
					c = tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "192.0.2.1"})
				}
				go func() {
					for _, b := range upgradeHead {
						if _, err := io.WriteString(c, string(b)); i%3 == 0 || err != nil {
							return
						}
						time.Sleep(time.Duration(i%3*i%3+1) * 900 * time.Millisecond)
					}
				}()
				io.Copy(io.Discard, c)
				ends <- time.Since(start)
			}()
		}
		ws := dialWS(t, n.Host("192.0.2.2"), "wss://192.0.2.1:8443/", &tls.Config{RootCAs: pool, ServerName: "192.0.2.1"})
		sendWS(t, ws, websocket.MessageText, request("OPTIONS"))
		synctest.Wait()
		b.reply(t, b.last(t), 200)
		expectWS(t, ws, "SIP/2.0 200")
		if took := time.Since(start); took != 0 || b.last(t).flow().transport() != "WSS" {
			t.Errorf("served after %v by %s", took, b.last(t).flow())
		}
		for range 15 {
			if took := <-ends; took < 9*time.Second || took > 11*time.Second {
				t.Errorf("a slow client was cut off after %v", took)
			}
		}
		synctest.Wait()
		if b.rejectedFor(rejectedUpgrade)+b.rejectedFor(rejectedHandshake) != 15 {
			t.Errorf("rejected: %s", b.rejections())
		}
		time.Sleep(20 * time.Second) // what was dialled meanwhile ends
	})
}

func TestBadWebSocketMessages(t *testing.T) {
	for name, c := range map[string]struct {
		send   func(ws *websocket.Conn) error
		status websocket.StatusCode
		reason string
	}{
		"too big": {func(ws *websocket.Conn) error {
			return ws.Write(context.Background(), websocket.MessageText, make([]byte, 70000))
		}, websocket.StatusMessageTooBig, rejectedTooLarge},
		"too many fragments": {func(ws *websocket.Conn) error {
			w, err := ws.Writer(context.Background(), websocket.MessageText)
			for range 7000 {
				if err == nil {
					_, err = w.Write([]byte("0123456789"))
				}
			}
			return err
		}, websocket.StatusMessageTooBig, rejectedTooLarge},
		"not SIP": {func(ws *websocket.Conn) error {
			return ws.Write(context.Background(), websocket.MessageText, []byte(`{"type":"offer"}`))
		}, websocket.StatusUnsupportedData, rejectedMalformed},
		"silence after the handshake": {func(ws *websocket.Conn) error { return nil }, websocket.StatusGoingAway, rejectedSilent},
	} {
		t.Run(name, func(t *testing.T) {
			overWS(t, nil, func(t *testing.T, b *bed, n *siptest.Network) {
				ws := dialBed(t, n)
				go c.send(ws) // an error is the other side's close
				if got := closedWS(ws); got != c.status {
					t.Errorf("closed with %v, want %v", got, c.status)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if b.rejectedFor(c.reason) != 1 || b.gone != 1 || b.seen() != "" {
					t.Errorf("rejected %s, closed %d", b.rejections(), b.gone)
				}
			})
		})
	}
}

func TestBadRequestOverWebSocketIsAnswered(t *testing.T) {
	overWS(t, nil, func(t *testing.T, b *bed, n *siptest.Network) {
		ws := dialBed(t, n)
		sendWS(t, ws, websocket.MessageText, request("OPTIONS", `To: "open <sip:b@example.com>`))
		expectWS(t, ws, "SIP/2.0 400 Bad To")
		sendWS(t, ws, websocket.MessageText, request("OPTIONS", "Content-Length: 7"))
		expectWS(t, ws, "SIP/2.0 400 Content-Length exceeds")
		sendWS(t, ws, websocket.MessageText, request("OPTIONS"))
		synctest.Wait()
		if got := b.seen(); got != "OPTIONS one" {
			t.Errorf("handled: %s", got)
		}
	})
}

func TestWebSocketConnectionLimits(t *testing.T) {
	overWS(t, func(c *Config) { c.Limits.ConnectionsPerIP = 3 }, func(t *testing.T, b *bed, n *siptest.Network) {
		for range 3 {
			dialBed(t, n)
		}
		client := wsClient(n.Host("192.0.2.2"), nil)
		if _, _, err := websocket.Dial(context.Background(), "ws://192.0.2.1:8080/", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"sip"}}); err == nil {
			t.Error("a fourth connection is accepted")
		}
		if got := b.rejectedFor(rejectedPerIP); got == 0 {
			t.Errorf("rejected: %s", b.rejections())
		}
		time.Sleep(12 * time.Second) // the silent ones go
		dialBed(t, n)
	})
}

func TestWebSocketsAreToldOfAShutdown(t *testing.T) {
	overWS(t, nil, func(t *testing.T, b *bed, n *siptest.Network) {
		ws, mute := dialBed(t, n), dialBed(t, n)
		sendWS(t, ws, websocket.MessageText, request("OPTIONS"))
		sendWS(t, mute, websocket.MessageText, request("OPTIONS", "Call-ID: two", "Via: SIP/2.0/WS h.invalid;branch=z9hG4bKtwo"))
		synctest.Wait()
		start := time.Now()
		got := make(chan websocket.StatusCode, 1)
		go func() { got <- closedWS(ws) }()
		b.transport.close()
		if code := <-got; code != websocket.StatusGoingAway || b.gone != 2 {
			t.Errorf("closed with %v; %d flows were reported closed", code, b.gone)
		}
		if took := time.Since(start); took != wsGoodbye {
			t.Errorf("took %v; the one that does not answer may take %v", took, wsGoodbye)
		}
	})
}

func TestWebSocketOverRealTLS(t *testing.T) {
	cert, pool := certificate(t)
	b := newBed(t, SystemNetwork(), func(c *Config) { c.TLS = cert }, "wss://127.0.0.1:0")
	url := b.transport.addresses()[0]
	if !strings.HasPrefix(url, "wss://127.0.0.1:") {
		t.Errorf("listens on %s", url)
	}
	ws := dialWS(t, SystemNetwork(), url, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
	for i := range 100 {
		id := fmt.Sprintf("call-%d", i)
		sendWS(t, ws, websocket.MessageText, strings.Replace(request("OPTIONS", "Call-ID: "+id, "To: <sip:b@example.com", "Via: SIP/2.0/WSS h.invalid;branch=z9hG4bK"+id), "Content-Length: 0\r\n", "", 1))
		if got := headerOf(expectWS(t, ws, "SIP/2.0 400"), "Call-ID"); got != id {
			t.Fatalf("answer to %s for %s", got, id)
		}
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("close: %v", err)
	}
}

// FuzzWebSocket: whatever comes on a WebSocket port, the reader does not panic
// and ends with it.
func FuzzWebSocket(f *testing.F) {
	head := upgradeHead + "Sec-WebSocket-Protocol: sip\r\n\r\n"
	f.Add([]byte(head + "\x81\x84\x00\x00\x00\x00\r\n\r\n"))
	f.Add([]byte(head + "\x89\x80\x00\x00\x00\x00\x88\x82\x00\x00\x00\x00\x03\xe8"))
	f.Add([]byte(head + "\x01\x81\x00\x00\x00\x00O\x80\x81\x00\x00\x00\x00P"))
	f.Add([]byte(head + "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nOrigin: ://\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := &bed{rejects: map[string]int{}}
		tr, err := newTransport(DefaultConfig(), Options{Log: slog.New(slog.DiscardHandler)},
			func(*flow, sipgo.Message) {}, func(*flow) {}, b.reject)
		if err != nil {
			t.Fatal(err)
		}
		conn := &fuzzConn{data: data, chunk: 7}
		tr.running.Go(func() { tr.serveWebSocket(conn, "WS", time.Now().Add(time.Minute)) })
		tr.running.Wait()
		if len(tr.streams) != 0 || b.rejectedFor(rejectedPanic) != 0 {
			t.Errorf("%d streams are left; rejected %s", len(tr.streams), b.rejections())
		}
		if bytes.HasPrefix(data, []byte(head)) && !bytes.HasPrefix(conn.wrote.Bytes(), []byte("HTTP/1.1 101 ")) {
			t.Errorf("the handshake was answered %q", conn.wrote.Bytes())
		}
	})
}
