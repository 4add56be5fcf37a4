package sip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
	"reveille/sip/siptest"
)

// registerBed is a whole server at 192.0.2.1 of the in-memory network, in a
// synctest bubble, with a location service that survives it.
type registerBed struct {
	t     *testing.T
	net   *siptest.Network
	store *slowStore
	loc   *location.Service
	srv   *Server
	end   func()
}

// slowStore is a memory store whose writes can be made to fail or take time.
type slowStore struct {
	*location.Memory
	delay  time.Duration
	err    error
	writes atomic.Int64
}

func (s *slowStore) Apply(b location.Batch) error {
	s.writes.Add(1)
	time.Sleep(s.delay)
	if s.err != nil {
		return s.err
	}
	return s.Memory.Apply(b)
}

// pushOf is PushSupport: provider -> topic.
type pushOf map[string]string

func (p pushOf) Supports(provider, param string) bool {
	topic, ok := p[strings.TrimSuffix(provider, ".dev")]
	return ok && strings.Contains(param, topic)
}

func (p pushOf) Providers() []string {
	var names []string
	for name := range p {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// inBed runs a test against a server in a bubble.
func inBed(t *testing.T, change func(*Config), test func(b *registerBed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &registerBed{t: t, net: siptest.NewNetwork(), store: &slowStore{Memory: location.NewMemory()}}
		cfg := DefaultConfig()
		cfg.Listen = []string{"udp://192.0.2.1:5060", "tcp://192.0.2.1:5060"}
		cfg.Domains = []string{"example.com", "other.example"}
		if change != nil {
			change(&cfg)
		}
		b.start(cfg)
		defer func() { b.end() }() // the test may have started another
		test(b)
	})
}

func (b *registerBed) start(cfg Config) {
	b.t.Helper()
	var err error
	if b.loc, err = location.New(b.store, location.Options{}); err != nil {
		b.t.Fatal(err)
	}
	b.srv, err = New(cfg, nil, Options{
		Network: b.net.Host("192.0.2.1"), Location: b.loc,
		Accounts: accountsOf{"1001": "secret", "1002": "secret2", "a;b c": "x", "keeper": "secret3"},
		Push:     pushOf{"apns": "com.example.phone", "fcm": "example-phone"},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.srv.Serve(ctx, nil) }()
	synctest.Wait()
	b.end = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
		b.loc.Close()
	}
}

// ua is a phone that registers.
type ua struct {
	b      *registerBed
	conn   net.Conn
	in     *bufio.Reader
	udp    bool
	creds  *digestClient
	aor    string
	callID string
	cseq   int
	serial int
}

// phoneAt connects a phone of 1001 from the address.
func (b *registerBed) phoneAt(network, ip string) *ua {
	b.t.Helper()
	u := &ua{b: b, udp: network == "udp", aor: "1001", callID: network + ip, creds: newDigestClient("1001", "secret")}
	u.dial(ip)
	return u
}

func (u *ua) dial(ip string) {
	u.b.t.Helper()
	network := "tcp"
	if u.udp {
		network = "udp"
	}
	conn, err := u.b.net.Host(ip).DialContext(context.Background(), network, "192.0.2.1:5060")
	if err != nil {
		u.b.t.Fatal(err)
	}
	u.conn, u.in = conn, bufio.NewReader(conn)
	u.b.t.Cleanup(func() { conn.Close() })
}

// request builds a REGISTER with what is missing in headers.
func (u *ua) request(headers ...string) string {
	u.cseq++
	u.serial++
	transport := "TCP"
	if u.udp {
		transport = "UDP"
	}
	own := []string{
		fmt.Sprintf("Via: SIP/2.0/%s 10.0.0.9:4000;rport;branch=z9hG4bK%p-%d", transport, u, u.serial),
		fmt.Sprintf("To: <sip:%s@example.com>", u.aor), fmt.Sprintf("From: <sip:%s@example.com>;tag=f", u.aor),
		"Call-ID: " + u.callID, fmt.Sprintf("CSeq: %d REGISTER", u.cseq),
	}
	all := "\n" + strings.Join(headers, "\n")
	for _, h := range own {
		if name, _, _ := strings.Cut(h, ":"); !strings.Contains(all, "\n"+name+":") {
			headers = append(headers, h)
		}
	}
	return message("REGISTER sip:example.com SIP/2.0", "", headers...)
}

// exchange sends a REGISTER with the credentials known so far and returns the answer.
func (u *ua) exchange(headers ...string) *sipgo.Response {
	u.b.t.Helper()
	u.send(headers...)
	res := u.receive()
	synctest.Wait() // for what follows the answer
	return res
}

func (u *ua) send(headers ...string) {
	u.b.t.Helper()
	probe := sipgo.NewRequest(sipgo.REGISTER, sipgo.Uri{Scheme: "sip", Host: "example.com"})
	if err := u.creds.authorize(probe); err != nil {
		u.b.t.Fatal(err)
	}
	if v := headerValue(probe, "Authorization"); v != "" {
		headers = append(headers, "Authorization: "+v)
	}
	if _, err := io.WriteString(u.conn, u.request(headers...)); err != nil {
		u.b.t.Fatal(err)
	}
}

// receive reads one message; it must be a response.
func (u *ua) receive() *sipgo.Response {
	u.b.t.Helper()
	u.conn.SetReadDeadline(time.Now().Add(time.Minute))
	var text []byte
	if u.udp {
		buf := make([]byte, 65536)
		n, err := u.conn.Read(buf)
		if err != nil {
			u.b.t.Fatal(err)
		}
		text = buf[:n]
	}
	for !u.udp && !strings.HasSuffix(string(text), "\r\n\r\n") {
		line, err := u.in.ReadBytes('\n')
		if err != nil {
			u.b.t.Fatalf("after %q: %v", text, err)
		}
		text = append(text, line...)
	}
	res, ok := parsed(u.b.t, string(text)).(*sipgo.Response)
	if !ok {
		u.b.t.Fatalf("no response: %s", text)
	}
	return res
}

// register sends a REGISTER, and again with credentials if it is challenged.
func (u *ua) register(headers ...string) *sipgo.Response {
	u.b.t.Helper()
	res := u.exchange(headers...)
	if res.StatusCode == 401 {
		if _, err := u.creds.challenged(res); err != nil {
			u.b.t.Fatal(err)
		}
		res = u.exchange(headers...)
	}
	return res
}

// want registers and checks the status, and returns the answer.
func (u *ua) want(code int, headers ...string) *sipgo.Response {
	u.b.t.Helper()
	res := u.register(headers...)
	if res.StatusCode != code {
		u.b.t.Fatalf("answer %d %s, want %d", res.StatusCode, res.Reason, code)
	}
	return res
}

// contacts lists the Contacts of an answer, without display names.
func contactsIn(res *sipgo.Response) []string {
	var out []string
	for _, h := range res.GetHeaders("Contact") {
		out = append(out, h.Value())
	}
	return out
}

func (b *registerBed) wantBindings(aor string, want ...string) {
	b.t.Helper()
	var got []string
	for _, binding := range b.loc.Lookup(aor) {
		got = append(got, binding.Contact)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.t.Errorf("bindings %q, want %q", got, want)
	}
}

var errDisk = errors.New("disk full")
