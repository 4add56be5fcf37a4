package rtp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"

	"reveille/rtp/sdp"
)

const (
	// shakeTime ends a handshake that leads nowhere. A caller does not wait longer for the first word.
	shakeTime = 30 * time.Second
	// shakeRepeat is the wait before a flight is sent again. RFC 6347 §4.2.4.1 would begin with a second where nothing is
	// known, and double; but the speech that waits for this would be lost meanwhile, and a flight of 1 kB each 300 ms is
	// less than the speech itself takes, so that there is no need to back off for the 30 seconds.
	shakeRepeat = 300 * time.Millisecond
	shakeMTU    = 1100     // bytes of a handshake message in one record: below 1,200 with all headers
	shakeQueue  = 16       // datagrams that wait for a handshake: two flights
	shakeBytes  = 64 << 10 // that a peer may bring: ten flights with long certificates; the library keeps 2 MB of fragments
	shakeLast   = 16       // times that our last flight is repeated for one that has missed it
)

// What ends a handshake, besides its own faults.
var (
	errFingerprint = errors.New("its certificate is not the one of the fingerprint in its SDP")
	errProfile     = errors.New("no SRTP profile was agreed to")
)

// badge is the certificate of a relay's DTLS handshakes, self-signed: its fingerprint in our SDP is what counts. One
// does for all calls: peers know us by our address anyhow, so another for each would hide nothing (RFC 8827 §6.5 has
// browsers in mind), and would cost a key pair a call. It is not kept: each start has another.
type badge struct {
	certificate tls.Certificate
	fingerprint sdp.Fingerprint
}

func newBadge() (*badge, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key for DTLS: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, fmt.Errorf("make the certificate for DTLS: %w", err)
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "WebRTC"}, // as all say: nothing to be told from
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate for DTLS: %w", err)
	}
	sum := sha256.Sum256(der)
	return &badge{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		fingerprint: sdp.Fingerprint{Hash: sdp.SHA256, Sum: string(sum[:])},
	}, nil
}

// matches reports whether a certificate is one of those that a description names.
func matches(certificate []byte, list []sdp.Fingerprint) bool {
	for _, f := range list {
		var sum []byte
		switch f.Hash {
		case sdp.SHA256:
			s := sha256.Sum256(certificate)
			sum = s[:]
		case sdp.SHA384:
			s := sha512.Sum384(certificate)
			sum = s[:]
		case sdp.SHA512:
			s := sha512.Sum512(certificate)
			sum = s[:]
		}
		if len(sum) > 0 && f.Sum == string(sum) {
			return true
		}
	}
	return false
}

// profiles are the SRTP suites by their number in a handshake (RFC 5764 §4.1.2, RFC 7714 §14.2), the best first: AES-GCM
// is cheaper than AES and HMAC, and 128 bits are enough.
func profiles() []dtls.SRTPProtectionProfile {
	return []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80}
}

func suiteOf(p dtls.SRTPProtectionProfile) sdp.Suite {
	switch p {
	case dtls.SRTP_AEAD_AES_128_GCM:
		return sdp.AES128GCM
	case dtls.SRTP_AEAD_AES_256_GCM:
		return sdp.AES256GCM
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		return sdp.AES128CM80
	}
	return ""
}

// shake is one DTLS handshake, on a goroutine of its own that ends with it. To the library it is a socket that knows one
// peer. When it is done nothing is left but two packets: our last flight, for a peer that has missed it, and the
// close_notify that ends the association.
type shake struct {
	active  bool
	prints  []sdp.Fingerprint
	id      *badge
	peer    netip.AddrPort // zero: wherever ICE says
	cookie  bool           // the peer has to show first that it is where it says
	begun   moment
	replied bool // it has sent more than the packet that began it
	taken   int  // bytes from it

	send  func(packet []byte)
	in    chan []byte
	abort chan struct{} // closed when reading is to end
	once  sync.Once

	mu       sync.Mutex // guards the following
	muted    bool       // what is sent is kept
	last     []byte     // our last flight
	farewell []byte
}

// srtpKeys is what a handshake gives.
type srtpKeys struct {
	theirs, ours sdp.Crypto
}

// parting is what is left of a handshake.
type parting struct{ last, farewell []byte }

// run shakes hands, and gives use the keys of the association.
func (h *shake) run(ctx context.Context, use func(srtpKeys)) error {
	ctx, cancel := context.WithTimeout(ctx, shakeTime)
	defer cancel()
	conn, err := h.conn()
	if err != nil {
		return err
	}
	defer func() {
		h.mute()
		_ = conn.Close()
	}()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	k, err := h.keys(conn)
	if err == nil {
		use(k)
	}
	return err
}

// flight is our last one, goodbye the close_notify.
func (h *shake) flight() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *shake) goodbye() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.farewell
}

// conn makes the library's end.
func (h *shake) conn() (*dtls.Conn, error) {
	shared := []dtls.Option{
		dtls.WithCertificates(h.id.certificate), dtls.WithSRTPProtectionProfiles(profiles()...),
		dtls.WithMTU(shakeMTU), dtls.WithFlightInterval(shakeRepeat), dtls.WithDisableRetransmitBackoff(true),
		dtls.WithLoggerFactory(noLog()),
		dtls.WithInsecureSkipVerify(true), // no authority is asked: the fingerprint is checked in its place
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || !matches(raw[0], h.prints) {
				return errFingerprint
			}
			return nil
		}),
	}
	remote := net.UDPAddrFromAddrPort(h.peer)
	if h.active {
		var options []dtls.ClientOption
		for _, o := range shared {
			options = append(options, o)
		}
		return dtls.ClientWithOptions(h, remote, options...)
	}
	options := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithInsecureSkipVerifyHello(!h.cookie)}
	for _, o := range shared {
		options = append(options, o)
	}
	return dtls.ServerWithOptions(h, remote, options...)
}

// keys are exported as RFC 5764 §4.2 says: client's key, server's key, client's salt, server's salt.
func (h *shake) keys(conn *dtls.Conn) (k srtpKeys, err error) {
	profile, ok := conn.SelectedSRTPProtectionProfile()
	suite := suiteOf(profile)
	key, salt := suite.Lengths()
	state, known := conn.ConnectionState()
	if !ok || !known || key == 0 {
		return k, errProfile
	}
	if len(state.PeerCertificates) == 0 || !matches(state.PeerCertificates[0], h.prints) {
		return k, errFingerprint
	}
	all, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*(key+salt))
	if err != nil {
		return k, err
	}
	join := func(n int) sdp.Crypto {
		one := append(sdp.Key(nil), all[n*key:(n+1)*key]...)
		return sdp.Crypto{Suite: suite, Key: append(one, all[2*key+n*salt:2*key+(n+1)*salt]...)}
	}
	client, server := join(0), join(1)
	if h.active {
		return srtpKeys{theirs: server, ours: client}, nil
	}
	return srtpKeys{theirs: client, ours: server}, nil
}

// take hands a datagram to the handshake. It never waits: what does not fit is repeated by the peer. The session's mu is
// held.
func (h *shake) take(packet []byte) {
	if h.taken += len(packet); h.taken > shakeBytes {
		return
	}
	select {
	case h.in <- append([]byte(nil), packet...):
	default:
	}
}

// mute keeps what the library sends from now on: its farewell.
func (h *shake) mute() {
	h.mu.Lock()
	h.muted = true
	h.mu.Unlock()
}

// The library's view of it.

// ReadFrom is net.PacketConn's.
func (h *shake) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-h.abort:
		return 0, nil, net.ErrClosed
	default:
	}
	select {
	case packet := <-h.in:
		return copy(b, packet), net.UDPAddrFromAddrPort(h.peer), nil
	case <-h.abort:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo is net.PacketConn's. A packet that begins with ChangeCipherSpec is a server's last flight.
func (h *shake) WriteTo(b []byte, _ net.Addr) (int, error) {
	h.mu.Lock()
	muted := h.muted
	switch {
	case muted:
		h.farewell = append([]byte(nil), b...)
	case b[0] == recordChange:
		h.last = append([]byte(nil), b...)
	}
	h.mu.Unlock()
	if !muted {
		h.send(b)
	}
	return len(b), nil
}

// Close is net.PacketConn's.
func (h *shake) Close() error {
	h.once.Do(func() { close(h.abort) })
	return nil
}

// LocalAddr is net.PacketConn's.
func (h *shake) LocalAddr() net.Addr { return &net.UDPAddr{} }

// SetDeadline is net.PacketConn's.
func (h *shake) SetDeadline(t time.Time) error { return h.SetReadDeadline(t) }

// SetReadDeadline is net.PacketConn's. The library sets one only to end reading for good.
func (h *shake) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		return h.Close()
	}
	return nil
}

// SetWriteDeadline is net.PacketConn's. Writing does not wait.
func (h *shake) SetWriteDeadline(time.Time) error { return nil }

// noLog is the library's log: what matters comes as errors, and the rest would show what it should not.
func noLog() logging.LoggerFactory {
	return &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}
}
