package siptest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/coder/websocket"
)

// openWebSocket connects as an app in a browser does (RFC 7118): such an app
// does not know its address.
func (l *link) openWebSocket(ctx context.Context, s Sockets, bridge string, config *tls.Config) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c, err := s.DialContext(ctx, network, bridge)
			if err == nil {
				l.here, err = netip.ParseAddrPort(c.LocalAddr().String())
			}
			return c, err
		}}}
	url := fmt.Sprintf("%s://%s/", l.proto, bridge)
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"sip"}})
	if err != nil {
		return err
	}
	if ws.Subprotocol() != "sip" {
		ws.CloseNow()
		return fmt.Errorf("the bridge took the subprotocol %q", ws.Subprotocol())
	}
	ws.SetReadLimit(1 << 16)
	l.web, l.name = ws, token()+".invalid"
	return nil
}

// readWebSocket is read for a WebSocket: one message in each of its own.
func (l *link) readWebSocket(take func(*Message)) error {
	for {
		_, b, err := l.web.Read(context.Background())
		if err != nil {
			return err
		}
		if m, err := ParseMessage(b); err == nil {
			take(m)
		}
	}
}
