package loadtest

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// phone is a device on a TCP connection: it registers, and refuses the call
// that it is invited to.
type phone struct {
	number int
	conn   net.Conn
	in     *bufio.Reader
	seq    int
}

// serial makes each REGISTER's Call-ID and branch its own.
var serial atomic.Int64

// token is the phone's push token: 32 bytes in hexadecimal.
func token(number int) string { return fmt.Sprintf("%064x", number) }

func dialPhone(to string, number int) (*phone, error) {
	conn, err := net.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	return &phone{number: number, conn: conn, in: bufio.NewReaderSize(conn, 4096)}, nil
}

// register sends REGISTER, answers the challenge, and returns when the 200 came.
func (p *phone) register(expires int) (time.Time, error) {
	callID := fmt.Sprintf("reg-%d-%d", p.number, serial.Add(1))
	status, head, err := p.sendRegister(callID, expires, "")
	if err != nil {
		return time.Time{}, err
	}
	if status == 401 {
		status, _, err = p.sendRegister(callID, expires, p.authorize(head))
	}
	if err != nil {
		return time.Time{}, err
	}
	if status != 200 {
		return time.Time{}, fmt.Errorf("REGISTER of %d: %d", p.number, status)
	}
	return time.Now(), nil
}

func (p *phone) sendRegister(callID string, expires int, authorization string) (int, textproto.MIMEHeader, error) {
	p.seq++
	var b bytes.Buffer
	fmt.Fprintf(&b, "REGISTER sip:reveille SIP/2.0\r\nVia: SIP/2.0/TCP %s;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:%d@reveille>;tag=t%d\r\nTo: <sip:%d@reveille>\r\nCall-ID: %s\r\nCSeq: %d REGISTER\r\n",
		p.conn.LocalAddr(), serial.Add(1), p.number, p.number, p.number, callID, p.seq)
	fmt.Fprintf(&b, "Contact: <sip:%d@%s;transport=tcp;pn-provider=apns;pn-param=%s.voip;pn-prid=%s>;+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-%012d>\"\r\nExpires: %d\r\n%sContent-Length: 0\r\n\r\n",
		p.number, p.conn.LocalAddr(), bundle, token(p.number), p.number, expires, authorization)
	if _, err := p.conn.Write(b.Bytes()); err != nil {
		return 0, nil, err
	}
	start, head, _, err := p.read()
	if err != nil {
		return 0, nil, err
	}
	if !strings.HasPrefix(start, "SIP/2.0 ") {
		return 0, nil, errors.New("a request came before the answer to REGISTER: " + start)
	}
	status, err := strconv.Atoi(start[8:11])
	return status, head, err
}

// authorize answers the MD5 challenge (RFC 7616): the client's cost is not
// what is measured.
func (p *phone) authorize(head textproto.MIMEHeader) string {
	for _, c := range head.Values("Www-Authenticate") {
		if !strings.Contains(c, "MD5") && strings.Contains(c, "algorithm") {
			continue
		}
		realm, nonce := param(c, "realm"), param(c, "nonce")
		ha1 := digest(fmt.Sprintf("%d:%s:secret-%d", p.number, realm, p.number))
		ha2 := digest("REGISTER:sip:reveille")
		response := digest(strings.Join([]string{ha1, nonce, "00000001", "abcd", "auth", ha2}, ":"))
		return fmt.Sprintf("Authorization: Digest username=\"%d\", realm=%q, nonce=%q, uri=\"sip:reveille\", response=%q, algorithm=MD5, cnonce=\"abcd\", qop=auth, nc=00000001\r\n",
			p.number, realm, nonce, response)
	}
	return ""
}

func digest(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }

func param(challenge, name string) string {
	_, rest, _ := strings.Cut(challenge, name+"=\"")
	value, _, _ := strings.Cut(rest, "\"")
	return value
}

// read takes one message off the connection.
func (p *phone) read() (start string, head textproto.MIMEHeader, at time.Time, err error) {
	r := textproto.NewReader(p.in)
	for start == "" { // keep-alives
		if start, err = r.ReadLine(); err != nil {
			return "", nil, time.Time{}, err
		}
	}
	at = time.Now()
	if head, err = r.ReadMIMEHeader(); err != nil {
		return "", nil, at, err
	}
	n, _ := strconv.Atoi(head.Get("Content-Length"))
	_, err = io.CopyN(io.Discard, p.in, int64(n))
	return start, head, at, err
}

// awaitInvite waits for the INVITE and refuses it with 486.
func (p *phone) awaitInvite() (callUUID string, at time.Time, err error) {
	p.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		start, head, at, err := p.read()
		if err != nil {
			return "", at, err
		}
		if !strings.HasPrefix(start, "INVITE ") {
			continue
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "SIP/2.0 486 Busy Here\r\nVia: %s\r\nFrom: %s\r\nTo: %s;tag=p%d\r\nCall-ID: %s\r\nCSeq: %s\r\nContent-Length: 0\r\n\r\n",
			head.Get("Via"), head.Get("From"), head.Get("To"), p.number, head.Get("Call-Id"), head.Get("Cseq"))
		_, err = p.conn.Write(b.Bytes())
		return head.Get("X-Call-Uuid"), at, err
	}
}
