package sip

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// BenchmarkRegister is the refresh of a device that is known, from the socket
// and back to it over loopback TCP: parser, digest, location, 200.
func BenchmarkRegister(b *testing.B) {
	store, err := location.OpenBolt(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	loc, err := location.New(store, location.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer loc.Close()
	cfg := DefaultConfig()
	cfg.Listen = []string{"tcp://127.0.0.1:0"}
	srv, err := New(cfg, nil, Options{
		Location: loc, Accounts: accountsOf{"1001": "secret"}, Push: pushOf{"apns": "com.example.phone"},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { srv.Serve(ctx, nil); close(done) }()
	defer func() { cancel(); <-done }()
	conn := dialServer(b, srv)
	defer conn.Close()

	creds, in := newDigestClient("1001", "secret"), bufio.NewReader(conn)
	register := func(n int) *sipgo.Response {
		probe := sipgo.NewRequest(sipgo.REGISTER, sipgo.Uri{Scheme: "sip", Host: "example.com"})
		creds.authorize(probe)
		headers := []string{
			fmt.Sprintf("Via: SIP/2.0/TCP 10.0.0.9:4000;rport;branch=z9hG4bK%d", n), "To: <sip:1001@example.com>",
			"From: <sip:1001@example.com>;tag=f", fmt.Sprintf("CSeq: %d REGISTER", n+1), "Supported: outbound",
			`Contact: <sip:1001@10.0.0.9:4000;transport=tcp;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=aabb>;+sip.instance="<urn:uuid:x>";reg-id=1`,
		}
		if v := headerValue(probe, "Authorization"); v != "" {
			headers = append(headers, "Authorization: "+v)
		}
		io.WriteString(conn, message("REGISTER sip:example.com SIP/2.0", "", headers...))
		var text strings.Builder
		for line := ""; line != "\r\n"; {
			if line, err = in.ReadString('\n'); err != nil {
				b.Fatal(err)
			}
			text.WriteString(line)
		}
		return parsed(b, text.String()).(*sipgo.Response)
	}
	if _, err := creds.challenged(register(0)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		if res := register(n); res.StatusCode != 200 {
			b.Fatal(res)
		}
	}
}

// dialServer connects to the server's first address, once it listens.
func dialServer(b *testing.B, srv *Server) net.Conn {
	for range 1000 {
		if addresses := srv.transport.addresses(); len(addresses) > 0 {
			_, addr, _ := strings.Cut(addresses[0], "://")
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			return conn
		}
		select {
		case <-time.After(time.Millisecond):
		case <-b.Context().Done():
		}
	}
	b.Fatal("the server does not listen")
	return nil
}
