package loadtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// line is a SIP connection of a peer: UDP or TCP, whole messages in and out.
type line struct {
	net.Conn
	proto string // as in Via
	in    *bufio.Reader
	buf   []byte
	mu    sync.Mutex // one message at a time
}

func dialLine(proto, to string) (*line, error) {
	conn, err := net.Dial(strings.ToLower(proto), to)
	if err != nil {
		return nil, err
	}
	l := &line{Conn: conn, proto: proto, buf: make([]byte, 65536)}
	if u, ok := conn.(*net.UDPConn); ok {
		u.SetReadBuffer(8 << 20)
	} else {
		l.in = bufio.NewReaderSize(conn, 65536)
	}
	return l, nil
}

func (l *line) send(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Write(b)
}

// next is the next message; it is good until the one after.
func (l *line) next() ([]byte, error) {
	if l.in == nil {
		n, err := l.Read(l.buf)
		return l.buf[:n], err
	}
	m := l.buf[:0]
	for !bytes.HasSuffix(m, []byte("\r\n\r\n")) {
		part, err := l.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		m = append(m, part...)
	}
	size, _ := strconv.Atoi(string(header(m, "Content-Length")))
	head := len(m)
	m = l.buf[:head+size]
	_, err := io.ReadFull(l.in, m[head:])
	return m, err
}

// reply answers a request; to holds the tag that the dialog has.
func (l *line) reply(req []byte, status, tag, extra, body string) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s", status, header(req, "Via"), header(req, "From"), header(req, "To"))
	if tag != "" && !bytes.Contains(header(req, "To"), []byte("tag=")) {
		b.WriteString(";tag=" + tag)
	}
	fmt.Fprintf(&b, "\r\nCall-ID: %s\r\nCSeq: %s\r\n%sContent-Length: %d\r\n\r\n%s", header(req, "Call-ID"), header(req, "CSeq"), extra, len(body), body)
	l.send(b.Bytes())
}

const calleeSDP = "v=0\r\no=- 2 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 42000 RTP/AVP 8 101\r\n" +
	"a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"

// answering is an awake phone that answers every call at once.
func (l *line) answering(number int) {
	contact := fmt.Sprintf("Contact: <sip:%d@%s;transport=%s>\r\nContent-Type: application/sdp\r\n", number, l.LocalAddr(), strings.ToLower(l.proto))
	for {
		m, err := l.next()
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(m, []byte("INVITE ")):
			l.reply(m, "180 Ringing", "callee", contact[:strings.Index(contact, "Content")], "")
			l.reply(m, "200 OK", "callee", contact, calleeSDP)
		case bytes.HasPrefix(m, []byte("BYE ")), bytes.HasPrefix(m, []byte("OPTIONS ")):
			l.reply(m, "200 OK", "", "", "")
		}
	}
}

// registerLine registers an awake phone, without a push token. round is 0 for
// the first time.
func (l *line) registerLine(number, round int) error {
	authorization := ""
	for seq := 1; seq < 3; seq++ {
		var b bytes.Buffer
		fmt.Fprintf(&b, "REGISTER sip:reveille SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bKr%d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:%d@reveille>;tag=t\r\nTo: <sip:%d@reveille>\r\nCall-ID: line-%d\r\nCSeq: %d REGISTER\r\n",
			l.proto, l.LocalAddr(), serial.Add(1), number, number, number, seq+2*round)
		fmt.Fprintf(&b, "Contact: <sip:%d@%s;transport=%s>;+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-%012d>\"\r\nExpires: 3600\r\nUser-Agent: load/1.0\r\n%sContent-Length: 0\r\n\r\n",
			number, l.LocalAddr(), strings.ToLower(l.proto), number, authorization)
		l.send(b.Bytes())
		l.SetReadDeadline(time.Now().Add(5 * time.Second))
		m, err := l.next()
		if err != nil {
			return err
		}
		if bytes.HasPrefix(m, []byte("SIP/2.0 200")) {
			return l.SetReadDeadline(time.Time{})
		}
		p := phone{number: number}
		authorization = p.authorize(map[string][]string{"Www-Authenticate": challenges(m)})
	}
	return fmt.Errorf("REGISTER of %d was refused", number)
}

func challenges(m []byte) (out []string) {
	for _, line := range strings.Split(string(m), "\r\n") {
		if v, ok := strings.CutPrefix(line, "WWW-Authenticate:"); ok {
			out = append(out, v)
		}
	}
	return out
}

// calling is a carrier's side of whole calls: INVITE, ACK and, at once, BYE.
type calling struct {
	*line
	to           string
	over, failed atomic.Int64
	retransmits  atomic.Int64
}

func (c *calling) request(method, id string, number int, to string, seq int, target, body string) {
	var b bytes.Buffer
	if to == "" {
		to = fmt.Sprintf("<sip:%d@%s>", 100000+number, c.to)
	}
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bK%s%s;rport\r\nMax-Forwards: 70\r\nFrom: \"Load Test\" <sip:+4930555%05d@carrier.example>;tag=f%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n",
		method, target, c.proto, c.LocalAddr(), method, id, number, id, to, id, seq, method)
	fmt.Fprintf(&b, "Contact: <sip:carrier@%s;transport=%s>\r\n", c.LocalAddr(), strings.ToLower(c.proto))
	if body != "" {
		fmt.Fprintf(&b, "P-Asserted-Identity: \"Load Test\" <sip:+4930555%05d@carrier.example>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nUser-Agent: carrier/1.0\r\nContent-Type: application/sdp\r\n", number)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	c.send(b.Bytes())
}

func (c *calling) invite(number int, id string, body string) {
	c.request("INVITE", id, number, "", 1, fmt.Sprintf("sip:%d@%s", 100000+number, c.to), body)
}

func (c *calling) run() {
	seen := map[string]bool{}
	for {
		m, err := c.next()
		if err != nil {
			return
		}
		if !bytes.HasPrefix(m, []byte("SIP/2.0 ")) {
			continue
		}
		status, _ := strconv.Atoi(string(m[8:11]))
		id, to, cseq := string(header(m, "Call-ID")), string(header(m, "To")), header(m, "CSeq")
		switch {
		case status < 200:
		case bytes.HasSuffix(cseq, []byte("BYE")):
			c.over.Add(1)
		case status == 200:
			contact := strings.Trim(strings.SplitN(string(header(m, "Contact")), ">", 2)[0], "<")
			c.request("ACK", id, 0, to, 1, contact, "")
			if seen[id] {
				c.retransmits.Add(1)
				continue
			}
			seen[id] = true
			c.request("BYE", id, 0, to, 2, contact, "")
		default:
			if !seen[id] {
				seen[id] = true
				c.failed.Add(1)
			}
			c.request("ACK", id, 0, to, 1, "sip:x@"+c.to, "")
		}
	}
}

// BenchmarkCalls measures whole calls through the bridge without RTP: INVITE,
// 180, 200, ACK, BYE on both legs, to phones that are awake, over UDP and TCP.
func BenchmarkCalls(b *testing.B) {
	for _, proto := range []string{"UDP", "TCP"} {
		b.Run(proto, func(b *testing.B) { benchmarkCalls(b, proto) })
	}
}

func benchmarkCalls(b *testing.B, proto string) {
	const phones, rate, total = 200, 1000, 20000
	r := startRig(b, phones, fmt.Sprintf(peerTrunk, false)+"media: {ports: 10000-32767}\ncalls: {"+unlimited+"}\n")
	for i := 1; i <= phones; i++ {
		l, err := dialLine(proto, r.sip)
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		if err := l.registerLine(i, 0); err != nil {
			b.Fatal(err)
		}
		go l.answering(i)
	}
	l, err := dialLine(proto, r.sip)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c := &calling{line: l, to: r.sip}
	go c.run()
	sdp := strings.Replace(calleeSDP, "8 101", "8 0 101", 1)
	idle := r.resident()
	before, start := r.cpu(), time.Now()
	pace(0, total-1, rate, func(i int) { c.invite(i%phones+1, fmt.Sprintf("call-%s-%d", proto, i), sdp) })
	took := time.Since(start)
	await(b, 20*time.Second, func() bool { return c.over.Load()+c.failed.Load() >= total })
	used := r.cpu() - before
	if c.over.Load() != total {
		b.Fatalf("%d of %d calls completed, %d were refused", c.over.Load(), total, c.failed.Load())
	}
	b.ReportMetric(total/took.Seconds(), "calls/s")
	b.ReportMetric(float64(used.Microseconds())/total, "cpu-µs/call")
	b.ReportMetric(float64(c.retransmits.Load()), "200s-repeated")
	b.ReportMetric(float64(r.resident()-idle)/total, "resident-B/finished-call")
	b.ReportMetric(0, "ns/op")
}
