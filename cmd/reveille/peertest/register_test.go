package peertest

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/icholy/digest"
)

// newInstance makes the UUID of a device's +sip.instance.
func newInstance() string { return uuid.NewString() }

// registration is a REGISTER written by hand, for what baresip cannot say: the push parameters of RFC 8599 in the
// Contact. It is the app's first start, when it tells its push token; later it comes as baresip, with the same
// +sip.instance.
type registration struct {
	Network, Registrar string // "tcp", "udp" or "tls"; host:port
	CAFile             string // PEM that the registrar's certificate is checked with, for tls
	User, Password     string
	Instance           string // UUID
	Push               string // ";pn-provider=…;pn-param=…;pn-prid=…", or ""

	conn   net.Conn
	reader *textproto.Reader
	callID string
	cseq   int
}

// do registers, answering the digest challenge, and returns the header of the 200. The flow stays open until close.
func (r *registration) do(t testing.TB) textproto.MIMEHeader {
	t.Helper()
	conn := r.dial(t)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	r.conn, r.reader, r.callID = conn, textproto.NewReader(bufio.NewReader(conn)), uuid.NewString()
	status, head := r.exchange(t, "")
	if status != 401 {
		t.Fatalf("REGISTER without credentials: got %d, want 401", status)
	}
	status, head = r.exchange(t, r.authorization(t, head["Www-Authenticate"]))
	if status != 200 {
		t.Fatalf("REGISTER with credentials: got %d, want 200; %v", status, head)
	}
	return head
}

// silent fails the test if anything comes on the flow: within a second, and the bridge takes milliseconds.
func (r *registration) silent(t testing.TB) {
	t.Helper()
	r.conn.SetReadDeadline(time.Now().Add(time.Second))
	line, err := r.reader.ReadLine()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the REGISTER came %q (%v), want nothing", line, err)
	}
}

// close drops the flow, as a phone does that iOS puts to sleep.
func (r *registration) close() { r.conn.Close() }

func (r *registration) dial(t testing.TB) net.Conn {
	t.Helper()
	network, from := "tcp", net.Addr(&net.TCPAddr{IP: net.ParseIP(phoneIP)})
	if r.Network == "udp" {
		network, from = "udp", &net.UDPAddr{IP: net.ParseIP(phoneIP)}
	}
	conn, err := (&net.Dialer{LocalAddr: from}).Dial(network, r.Registrar)
	if err != nil || r.Network != "tls" {
		must(t, err)
		return conn
	}
	ca, err := os.ReadFile(r.CAFile)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: bridgeIP})
}

// authorization answers the first challenge that the digest library knows the algorithm of.
func (r *registration) authorization(t testing.TB, challenges []string) string {
	t.Helper()
	for _, text := range challenges {
		challenge, err := digest.ParseChallenge(text)
		if err != nil {
			t.Fatalf("WWW-Authenticate %q: %v", text, err)
		}
		answer, err := digest.Digest(challenge, digest.Options{Method: "REGISTER", URI: "sip:" + r.Registrar,
			Username: r.User, Password: r.Password, Count: 1})
		if err == nil {
			return "Authorization: " + answer.String() + "\r\n"
		}
	}
	t.Fatalf("no challenge that can be answered among %q", challenges)
	return ""
}

func (r *registration) exchange(t testing.TB, authorization string) (int, textproto.MIMEHeader) {
	t.Helper()
	r.cseq++
	me := r.conn.LocalAddr().String()
	text := fmt.Sprintf("REGISTER sip:%[1]s SIP/2.0\r\n"+
		"Via: SIP/2.0/%[2]s %[3]s;branch=z9hG4bK%[4]s;rport\r\n"+
		"Max-Forwards: 70\r\nFrom: <sip:%[5]s@%[1]s>;tag=%[6]s\r\nTo: <sip:%[5]s@%[1]s>\r\n"+
		"Call-ID: %[6]s\r\nCSeq: %[7]d REGISTER\r\nSupported: path, outbound\r\n"+
		"Contact: <sip:%[5]s@%[3]s;transport=%[8]s%[9]s>;+sip.instance=\"<urn:uuid:%[10]s>\"\r\n"+
		"Expires: 3600\r\n%[11]sContent-Length: 0\r\n\r\n",
		r.Registrar, strings.ToUpper(r.Network), me, uuid.NewString(), r.User, r.callID, r.cseq, r.Network, r.Push,
		r.Instance, authorization)
	if _, err := io.WriteString(r.conn, text); err != nil {
		t.Fatal(err)
	}
	for {
		if status, head := r.response(t); status >= 200 {
			return status, head
		}
	}
}

func (r *registration) response(t testing.TB) (int, textproto.MIMEHeader) {
	t.Helper()
	line, err := r.reader.ReadLine()
	if err != nil {
		t.Fatalf("no answer to REGISTER: %v", err)
	}
	var status int
	if parts := strings.Fields(line); len(parts) > 1 && parts[0] == "SIP/2.0" {
		status, _ = strconv.Atoi(parts[1])
	}
	head, err := r.reader.ReadMIMEHeader()
	if err != nil || status == 0 {
		t.Fatalf("bad answer to REGISTER: %q, %v", line, err)
	}
	return status, head
}

// TestPeersRegisterByHand holds the REGISTER written here against a registrar that others wrote.
func TestPeersRegisterByHand(t *testing.T) {
	t.Parallel()
	k := (&pbx{User: "1001", Password: "wake-me-up"}).start(t)
	r := registration{Network: "udp", Registrar: k.addr, User: "1001", Password: "wake-me-up", Instance: newInstance(),
		Push: ";pn-provider=apns;pn-param=ABCDE12345.com.example.phone.voip;pn-prid=00ff"}
	head := r.do(t)
	if got := head.Get("Contact"); !strings.Contains(got, r.Push) || !strings.Contains(got, r.Instance) {
		t.Errorf("the registrar understood Contact %q, want %q and %q in it", got, r.Push, r.Instance)
	}
}
