package sip

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// carrier is a scripted registrar at 192.0.2.9:5060 or another address, over
// UDP and TCP.
type carrier struct {
	b      *serverBed
	ip     string // default: 192.0.2.9
	listen net.Listener

	mu     sync.Mutex // guards the following
	script func(m *siptest.Message) reply
	got    []*siptest.Message
	at     []time.Time
	conns  []net.Conn
	seen   func() string // host:port that requests come from, as we tell the trunk; nil: nothing
}

// reply is what the carrier does with a request. Code 0 is silence.
type reply struct {
	code    int
	headers []string
	hangUp  bool // TCP: close the connection behind it
}

func grants(seconds int, extra ...string) reply {
	return reply{code: 200, headers: append(extra, fmt.Sprint("Expires: ", seconds))}
}

func asks(nonce string, extra string) reply {
	return reply{code: 401, headers: []string{`WWW-Authenticate: Digest realm="carrier", nonce="` + nonce + `", qop="auth", algorithm=MD5` + extra}}
}

// loginAt is a trunk that registers at the carrier.
func loginAt(transport string) TrunkConfig {
	return TrunkConfig{Name: "carrier", Registrar: "sip:192.0.2.9", Username: "4930", Password: "secret",
		Transport: transport, Expires: 10 * time.Minute}
}

// withCarrier runs a test with a carrier that answers by the script from the
// first REGISTER on.
func withCarrier(t *testing.T, trunk TrunkConfig, script func(m *siptest.Message) reply, test func(c *carrier)) {
	t.Helper()
	withTrunks(t, []TrunkConfig{trunk}, script, test)
}

// withTrunks is withCarrier for several trunks there.
func withTrunks(t *testing.T, trunks []TrunkConfig, script func(m *siptest.Message) reply, test func(c *carrier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &serverBed{t: t, net: siptest.NewNetwork(), calls: make(chan *Inbound, 10), over: make(chan struct{}), reg: nil}
		c := &carrier{b: b, script: script}
		c.open()
		b.start(bedOptions{trunks: trunks})
		defer func() { close(b.over); b.end(); c.restart(nil) }()
		test(c)
	})
}

func (c *carrier) open() {
	if c.ip == "" {
		c.ip = "192.0.2.9"
	}
	udp, err := c.b.net.Host(c.ip).ListenPacket(c.b.t.Context(), "udp", c.ip+":5060")
	if err != nil {
		c.b.t.Fatal(err)
	}
	c.b.t.Cleanup(func() { udp.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, _ := c.answer(string(buf[:n])); answer != "" {
				udp.WriteTo([]byte(answer), from)
			}
		}
	}()
	c.listenTCP()
}

func (c *carrier) listenTCP() {
	l, err := c.b.net.Host(c.ip).Listen(c.b.t.Context(), "tcp", c.ip+":5060")
	if err != nil {
		c.b.t.Fatal(err)
	}
	c.listen = l
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conns = append(c.conns, conn)
			c.mu.Unlock()
			go c.serve(conn)
		}
	}()
}

func (c *carrier) serve(conn net.Conn) {
	w := &wire{t: c.b.t, conn: conn}
	for {
		m := w.next(24 * time.Hour)
		if m == "closed" {
			return
		}
		answer, hangUp := c.answer(m)
		if answer != "" {
			w.send(answer)
		}
		if hangUp {
			conn.Close()
			return
		}
	}
}

// restart drops all connections; then listens again if up says so.
func (c *carrier) restart(up func()) {
	c.mu.Lock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
	c.mu.Unlock()
	c.listen.Close()
	if up != nil {
		up()
		c.listenTCP()
	}
}

func (c *carrier) answer(text string) (string, bool) {
	m, err := siptest.ParseMessage([]byte(text))
	if err != nil || m.IsResponse() {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got, c.at = append(c.got, m), append(c.at, time.Now())
	r := c.script(m)
	if r.code == 0 {
		return "", r.hangUp
	}
	lines := []string{fmt.Sprintf("SIP/2.0 %d %s", r.code, Phrase(r.code))}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq", "Contact"} {
		value := m.Get(name)
		if name == "To" {
			value += ";tag=carrier"
		}
		if name == "Via" && c.seen != nil {
			host, port, _ := net.SplitHostPort(c.seen())
			value = strings.Replace(value, ";rport", ";rport="+port+";received="+host, 1)
		}
		if name != "Contact" || value != "" && r.code == 200 && !strings.Contains(strings.Join(r.headers, "\n"), "Contact:") {
			lines = append(lines, name+": "+value)
		}
	}
	lines = append(lines, r.headers...)
	return strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n"), r.hangUp
}

// follow is the script from now on.
func (c *carrier) follow(script func(m *siptest.Message) reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.script = script
}

// requests is how many came so far; last is the newest, and when it came.
func (c *carrier) requests() int {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

func (c *carrier) last() (*siptest.Message, time.Time) {
	c.b.t.Helper()
	if c.requests() == 0 {
		c.b.t.Fatal("nothing came to the carrier")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[len(c.got)-1], c.at[len(c.at)-1]
}

// within waits for the next request and holds when it comes, counted from now.
func (c *carrier) within(least, most time.Duration) *siptest.Message {
	c.b.t.Helper()
	before, start := c.requests(), time.Now()
	for c.requests() == before {
		if time.Since(start) > most {
			c.b.t.Fatalf("no further request within %v", most)
		}
		time.Sleep(10 * time.Millisecond)
	}
	m, at := c.last()
	if took := at.Sub(start); took < least {
		c.b.t.Fatalf("the next request came after %v, want %v to %v", took, least, most)
	}
	return m
}

// silent holds that nothing comes for a while.
func (c *carrier) silent(d time.Duration) {
	c.b.t.Helper()
	before := c.requests()
	time.Sleep(d)
	if n := c.requests() - before; n > 0 {
		c.b.t.Fatalf("%d requests came within %v", n, d)
	}
}

// state holds how the trunk stands.
func (c *carrier) state(want string, up bool, code int) TrunkState {
	c.b.t.Helper()
	synctest.Wait()
	s := c.b.srv.Trunks()[0].State()
	if s.State != want || s.Up != up || s.LastCode != code {
		c.b.t.Fatalf("the trunk is %q, up %v, code %d (%s); want %q, %v, %d", s.State, s.Up, s.LastCode, s.LastError, want, up, code)
	}
	return s
}

func expiresOf(m *siptest.Message) int {
	n, err := strconv.Atoi(m.Get("Expires"))
	if err != nil {
		return -1
	}
	return n
}

// nonceOf is the nonce that a request's credentials answer; "" without any.
func nonceOf(m *siptest.Message, header string) string {
	_, rest, _ := strings.Cut(m.Get(header), `nonce="`)
	nonce, _, _ := strings.Cut(rest, `"`)
	return nonce
}

func netUDP(addr string) net.Addr {
	return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))
}
