package rtptest

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	pion "github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"
)

// PacketConn is what a DTLS sends and receives by; *Conn and *net.UDPConn are one.
type PacketConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
	LocalAddr() net.Addr
}

// DTLS is a peer's end of DTLS-SRTP, and with Ufrag of ICE as a full agent that has one candidate: as a WebRTC phone
// does it. It reads its socket until that is closed.
type DTLS struct {
	Conn       PacketConn
	Setup      string // "actpass", "active" or "passive"; "" is actpass
	Ufrag, Pwd string // of ICE; "": none
	TLSID      string
	Profiles   []dtls.SRTPProtectionProfile // nil: AES_CM_128_HMAC_SHA1_80 alone
	Priority   uint32                       // of its candidate
	Other      *DTLS                        // whose fingerprint it shows in place of its own
	Repeat     time.Duration                // of its flights; 0: 50 ms, as browsers have it
	NoCookie   bool                         // as a server, it asks for none
	NoMux      bool                         // RTCP has a port of its own
	RTP        *DTLS                        // of an end for the RTCP port: that of the RTP port, whose certificate it has

	once        sync.Once
	certificate tls.Certificate
	handshake   chan []byte

	mu                sync.Mutex // guards the following
	remote            netip.AddrPort
	ufrag, pwd, setup string
	print             string
	in, out           *pion.Context
	Profile           dtls.SRTPProtectionProfile // that was agreed to
	media             [][]byte
	replies           []*stun.Message
	conn              *dtls.Conn
	cancel            context.CancelFunc // of the handshake
	shut              chan struct{}
	Sent, Got         int // DTLS datagrams
}

// Begin makes the certificate and begins to read.
func (d *DTLS) Begin() *DTLS {
	d.once.Do(func() {
		if d.RTP != nil {
			d.certificate = d.RTP.Begin().certificate
		} else {
			d.certificate, _ = selfsign.GenerateSelfSigned()
		}
		d.handshake, d.shut = make(chan []byte, 64), make(chan struct{})
		if d.Setup == "" {
			d.Setup = "actpass"
		}
		if d.Profiles == nil {
			d.Profiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80}
		}
		go d.read()
	})
	return d
}

// Fingerprint is the value of its a=fingerprint.
func (d *DTLS) Fingerprint() string {
	if d.Other != nil {
		return d.Other.Begin().Fingerprint()
	}
	return fingerprint(d.Begin().certificate.Certificate[0])
}

func fingerprint(certificate []byte) string {
	sum := sha256.Sum256(certificate)
	return "sha-256 " + strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// Lines are its attributes, without "a=".
func (d *DTLS) Lines() []string {
	list := []string{"fingerprint:" + d.Fingerprint(), "setup:" + d.Setup}
	if !d.NoMux {
		list = append(list, "rtcp-mux")
	}
	if d.Ufrag != "" {
		list = append(list, "ice-ufrag:"+d.Ufrag, "ice-pwd:"+d.Pwd, "mid:0",
			"candidate:1 1 udp 2113937151 6ba7b810.local 54400 typ host generation 0")
	}
	if d.TLSID != "" {
		list = append(list, "tls-id:"+d.TLSID)
	}
	return list
}

// Proto is the profile of its line.
func (d *DTLS) Proto() string {
	if d.Ufrag != "" {
		return "UDP/TLS/RTP/SAVPF"
	}
	return "UDP/TLS/RTP/SAVP"
}

// SDP makes an offer or answer of a plain description.
func (d *DTLS) SDP(plain []byte) []byte {
	text := strings.Replace(string(plain), "RTP/AVP", d.Proto(), 1)
	if d.Ufrag != "" { // as browsers do
		text = strings.Replace(text, "t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0\r\n", 1)
	}
	return []byte(text + "a=" + strings.Join(d.Lines(), "\r\na=") + "\r\n")
}

// Hear takes the other side's description, as answered or offered; it is active then, if it may choose.
func (d *DTLS) Hear(sdp []byte) error {
	d.Begin()
	d.mu.Lock()
	defer d.mu.Unlock()
	var host, port string
	for line := range strings.Lines(string(sdp)) {
		line = strings.TrimSpace(line)
		name, value, _ := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "c="):
			host = line[strings.LastIndexByte(line, ' ')+1:]
		case strings.HasPrefix(line, "m=audio "):
			port = strings.Fields(line)[1]
		case name == "a=rtcp" && d.RTP != nil:
			port = value
		case name == "a=ice-ufrag":
			d.ufrag = value
		case name == "a=ice-pwd":
			d.pwd = value
		case name == "a=fingerprint":
			d.print = value
		case name == "a=setup":
			d.setup = value
		}
	}
	if d.Setup == "actpass" && d.setup == "actpass" {
		return errors.New("both leave the choice")
	}
	var err error
	if d.remote, err = netip.ParseAddrPort(net.JoinHostPort(host, port)); err != nil || d.print == "" {
		return fmt.Errorf("no DTLS in %q: %w", sdp, err)
	}
	if d.Ufrag != "" && (d.ufrag == "" || !strings.Contains(string(sdp), "a=ice-lite") || !strings.Contains(string(sdp), "typ host")) {
		return fmt.Errorf("no ICE in %q", sdp)
	}
	return nil
}

// client reports whether it sends the ClientHello.
func (d *DTLS) client() bool {
	return d.Setup == "active" || d.Setup == "actpass" && d.setup == "passive"
}

// Rename changes its ICE credentials while it runs.
func (d *DTLS) Rename(ufrag, pwd string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Ufrag, d.Pwd = ufrag, pwd
}

// Check sends one ICE check; change may alter it before it is signed.
func (d *DTLS) Check(nominate bool, change ...stun.Setter) {
	d.mu.Lock()
	parts := []stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername(d.ufrag + ":" + d.Ufrag),
		stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{byte(d.Priority >> 24), byte(d.Priority >> 16), byte(d.Priority >> 8), byte(d.Priority)}}}
	if nominate {
		parts = append(parts, stun.RawAttribute{Type: stun.AttrUseCandidate})
	}
	parts = append(parts, stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)})
	parts = append(append(parts, change...), stun.NewShortTermIntegrity(d.pwd), stun.Fingerprint)
	to := d.remote
	d.mu.Unlock()
	if m, err := stun.Build(parts...); err == nil {
		_, _ = d.Conn.WriteToUDPAddrPort(m.Raw, to)
	}
}

// Replies are the STUN messages that have come, since the last call.
func (d *DTLS) Replies() []*stun.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.replies
	d.replies = nil
	return list
}

// Shake runs the handshake, with an ICE check every 50 ms before and every 2.5 s after, and gives its fault. It goes on
// checking until Stop.
func (d *DTLS) Shake() error {
	d.Begin()
	if d.Ufrag != "" {
		d.Check(false)
		go d.keepChecking()
	}
	conn, err := d.dial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	d.mu.Lock()
	d.cancel = cancel
	d.mu.Unlock()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return err
	}
	return d.use(conn)
}

// keepChecking shows that it is there, often until the handshake is done.
func (d *DTLS) keepChecking() {
	for wait := 50 * time.Millisecond; ; {
		select {
		case <-time.After(wait):
			d.Check(true)
		case <-d.shut:
			return
		}
		if d.Keyed() {
			wait = 2500 * time.Millisecond
		}
	}
}

// Keyed reports whether it has keys.
func (d *DTLS) Keyed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in != nil
}

// Stop ends checks, the handshake and the association.
func (d *DTLS) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.shut:
	default:
		close(d.shut)
	}
	if d.cancel != nil {
		d.cancel()
	}
	if d.conn != nil {
		go d.conn.Close()
		d.conn = nil
	}
}

// dial makes the library's end, of the description that is known now: another may come meanwhile.
func (d *DTLS) dial() (*dtls.Conn, error) {
	d.mu.Lock()
	print, client, to := d.print, d.client(), net.UDPAddrFromAddrPort(d.remote)
	d.mu.Unlock()
	repeat := d.Repeat
	if repeat == 0 {
		repeat = 50 * time.Millisecond
	}
	shared := []dtls.Option{
		dtls.WithCertificates(d.certificate), dtls.WithSRTPProtectionProfiles(d.Profiles...), dtls.WithFlightInterval(repeat),
		dtls.WithDisableRetransmitBackoff(true),
		dtls.WithInsecureSkipVerify(true),
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if !strings.EqualFold(fingerprint(raw[0]), print) {
				return errors.New("another certificate")
			}
			return nil
		}),
	}
	wire := &wire{d: d}
	if client {
		var list []dtls.ClientOption
		for _, o := range shared {
			list = append(list, o)
		}
		return dtls.ClientWithOptions(wire, to, list...)
	}
	list := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithInsecureSkipVerifyHello(d.NoCookie)}
	for _, o := range shared {
		list = append(list, o)
	}
	return dtls.ServerWithOptions(wire, to, list...)
}

// use takes the keys.
func (d *DTLS) use(conn *dtls.Conn) error {
	state, _ := conn.ConnectionState()
	profile, _ := conn.SelectedSRTPProtectionProfile()
	p := pion.ProtectionProfile(profile)
	config := pion.Config{Profile: p}
	if err := config.ExtractSessionKeysFromDTLS(&state, d.client()); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var err, err2 error
	d.out, err = pion.CreateContext(config.Keys.LocalMasterKey, config.Keys.LocalMasterSalt, p)
	d.in, err2 = pion.CreateContext(config.Keys.RemoteMasterKey, config.Keys.RemoteMasterSalt, p)
	d.conn, d.Profile = conn, profile
	return errors.Join(err, err2)
}
