package loadtest

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// carrier sends INVITEs over one UDP socket and acknowledges final answers.
type carrier struct {
	conn *net.UDPConn
	to   string
	sdp  string

	mu     sync.Mutex // guards the following
	calls  map[string]*attempt
	finals map[int]int
}

// attempt is one INVITE of the carrier's.
type attempt struct {
	number   int
	id       string
	sent     time.Time
	repeated time.Time
	ringing  bool
	final    int
}

func newCarrier(tb testing.TB, to string, withSDP bool) *carrier {
	tb.Helper()
	peer, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		tb.Fatal(err)
	}
	conn, err := net.DialUDP("udp", nil, peer)
	if err != nil {
		tb.Fatal(err)
	}
	conn.SetReadBuffer(8 << 20)
	conn.SetWriteBuffer(8 << 20)
	c := &carrier{conn: conn, to: to, calls: map[string]*attempt{}, finals: map[int]int{}}
	if withSDP {
		c.sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0 101\r\n" +
			"a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n"
	}
	tb.Cleanup(func() { conn.Close() })
	go c.read()
	return c
}

func (c *carrier) request(method string, a *attempt, toTag, body string) []byte {
	via := fmt.Sprintf("SIP/2.0/UDP %s;branch=z9hG4bK%s;rport", c.conn.LocalAddr(), a.id)
	to := fmt.Sprintf("<sip:%d@%s>", 100000+a.number, c.to)
	if toTag != "" {
		to += ";tag=" + toTag
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s sip:%d@%s SIP/2.0\r\nVia: %s\r\nMax-Forwards: 70\r\nFrom: \"Load Test\" <sip:+4930555%05d@carrier.example>;tag=f%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 %s\r\n",
		method, 100000+a.number, c.to, via, a.number%100000, a.id, to, a.id, method)
	fmt.Fprintf(&b, "Contact: <sip:carrier@%s>\r\nP-Asserted-Identity: \"Load Test\" <sip:+4930555%05d@carrier.example>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\nSupported: timer, replaces\r\nUser-Agent: carrier/1.0\r\n", c.conn.LocalAddr(), a.number%100000)
	if body != "" {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes()
}

// invite calls an extension by its index.
func (c *carrier) invite(number int, id string) *attempt {
	a := &attempt{number: number, id: id, sent: time.Now()}
	c.mu.Lock()
	c.calls[id] = a
	c.mu.Unlock()
	a.sent = time.Now()
	c.conn.Write(c.request("INVITE", a, "", c.sdp))
	return a
}

// again repeats the INVITEs that nothing came back for, as Timer A would.
func (c *carrier) again() (repeated int) {
	c.mu.Lock()
	var silent []*attempt
	for _, a := range c.calls {
		if !a.ringing && a.final == 0 && time.Since(a.repeated) > 500*time.Millisecond {
			a.repeated = time.Now()
			silent = append(silent, a)
		}
	}
	c.mu.Unlock()
	for _, a := range silent {
		c.conn.Write(c.request("INVITE", a, "", c.sdp))
	}
	return len(silent)
}

func (c *carrier) read() {
	buf := make([]byte, 65536)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			return
		}
		c.take(buf[:n])
	}
}

func (c *carrier) take(m []byte) {
	if !bytes.HasPrefix(m, []byte("SIP/2.0 ")) {
		return // BYE of a call that was never answered does not come
	}
	status, _ := strconv.Atoi(string(m[8:11]))
	if !bytes.Contains(m, []byte("INVITE\r\n")) {
		return
	}
	c.mu.Lock()
	a := c.calls[string(header(m, "Call-ID"))]
	if a != nil {
		a.ringing = a.ringing || status >= 180
		if status >= 200 && a.final == 0 {
			a.final = status
			c.finals[status]++
		}
	}
	c.mu.Unlock()
	if a != nil && status >= 300 {
		_, tag, _ := bytes.Cut(header(m, "To"), []byte("tag="))
		c.conn.Write(c.request("ACK", a, string(tag), ""))
	}
}

// count says how many calls ring and how many have ended, by status.
func (c *carrier) count() (ringing int, finals map[int]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	finals = map[int]int{}
	for code, n := range c.finals {
		finals[code] = n
	}
	for _, a := range c.calls {
		if a.ringing && a.final == 0 {
			ringing++
		}
	}
	return ringing, finals
}

// header is the value of a header, without blanks around it.
func header(m []byte, name string) []byte {
	_, rest, ok := bytes.Cut(m, []byte("\r\n"+name+":"))
	if !ok {
		return nil
	}
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return bytes.TrimSpace(value)
}
