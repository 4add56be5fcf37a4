package rtptest

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// Web is a DTLS over a socket that somebody else reads: a WebRTC phone's. It shakes hands as soon as it has heard the
// other side.
type Web struct {
	DTLS
	once sync.Once
}

// NewWeb makes one that sends by send.
func NewWeb(send func(packet []byte, to netip.AddrPort) error) *Web {
	w := &Web{}
	w.Conn, w.Setup, w.Ufrag, w.Pwd = fed(send), "active", "EsAw", "bP+XJMM09aR8AiX1jdukzR6Y"
	return w
}

// fed is a socket that is only written to.
type fed func([]byte, netip.AddrPort) error

func (f fed) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) { return len(b), f(b, to) }
func (f fed) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, net.ErrClosed
}
func (f fed) LocalAddr() net.Addr { return &net.UDPAddr{} }

// Line is all its attributes, without the first "a=".
func (w *Web) Line() string { return strings.Join(w.Lines(), "\r\na=") }

// Hear takes the other side's description, and begins.
func (w *Web) Hear(sdp []byte) error {
	if err := w.DTLS.Hear(sdp); err != nil {
		return err
	}
	w.once.Do(func() { go func() { _ = w.Shake() }() })
	return nil
}

// Seal encrypts a packet of RTP.
func (w *Web) Seal(packet []byte) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		return nil, errors.New("there are no keys yet")
	}
	return w.out.EncryptRTP(nil, packet, nil)
}

// Open takes what has come, and gives RTP.
func (w *Web) Open(packet []byte) ([]byte, error) {
	w.Begin()
	if len(packet) == 0 || packet[0] < 64 {
		w.take(append([]byte(nil), packet...))
		return nil, errors.New("no RTP")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.in == nil {
		return nil, errors.New("media without a handshake")
	}
	if control(packet) {
		return w.in.DecryptRTCP(nil, packet, nil)
	}
	return w.in.DecryptRTP(nil, packet, nil)
}
