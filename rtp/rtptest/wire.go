package rtptest

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

// read sorts what comes by its first byte (RFC 7983).
func (d *DTLS) read() {
	buf := make([]byte, 2000)
	for {
		n, _, err := d.Conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && n > 0 {
			d.take(append([]byte(nil), buf[:n]...))
		}
	}
}

func (d *DTLS) take(packet []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case packet[0] < 4:
		m := &stun.Message{Raw: packet}
		if m.Decode() == nil {
			d.replies = append(d.replies, m)
		}
	case packet[0] >= 20 && packet[0] < 64:
		d.Got++
		select {
		case d.handshake <- packet:
		default:
		}
	default:
		d.media = append(d.media, packet)
	}
}

// Send encrypts a packet of RTP or RTCP and sends it.
func (d *DTLS) Send(packet []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.out == nil {
		return errors.New("no handshake was made")
	}
	var sealed []byte
	var err error
	if control(packet) {
		sealed, err = d.out.EncryptRTCP(nil, packet, nil)
	} else {
		sealed, err = d.out.EncryptRTP(nil, packet, nil)
	}
	if err != nil {
		return err
	}
	return d.raw(sealed)
}

// Raw sends a packet as it is.
func (d *DTLS) Raw(packet []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.raw(packet)
}

func (d *DTLS) raw(packet []byte) error {
	_, err := d.Conn.WriteToUDPAddrPort(packet, d.remote)
	return err
}

// Heard is the RTP and RTCP that has come, decrypted.
func (d *DTLS) Heard() (packets [][]byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, packet := range d.media {
		if d.in == nil {
			return nil, errors.New("media without a handshake")
		}
		var plain []byte
		if control(packet) {
			plain, err = d.in.DecryptRTCP(nil, packet, nil)
		} else {
			plain, err = d.in.DecryptRTP(nil, packet, nil)
		}
		if err != nil {
			return packets, err
		}
		packets = append(packets, plain)
	}
	d.media = nil
	return packets, nil
}

// Adopt goes on with the keys of another one, as after an ICE restart.
func (d *DTLS) Adopt(o *DTLS) {
	o.mu.Lock()
	in, out := o.in, o.out
	o.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in, d.out = in, out
}

// control tells RTCP from RTP (RFC 5761 §4).
func control(packet []byte) bool { return len(packet) > 1 && packet[1] >= 192 && packet[1] <= 223 }

// wire is the DTLS library's view of the socket.
type wire struct {
	d    *DTLS
	once sync.Once
	gone chan struct{}
	mu   sync.Mutex
}

// over is closed when reading is to end.
func (w *wire) over() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone == nil {
		w.gone = make(chan struct{})
	}
	return w.gone
}

// ReadFrom is net.PacketConn's, as are the others.
func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case packet := <-w.d.handshake:
		return copy(b, packet), &net.UDPAddr{}, nil
	case <-w.over():
		return 0, nil, net.ErrClosed
	}
}

// WriteTo sends.
func (w *wire) WriteTo(b []byte, _ net.Addr) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.Sent++
	return len(b), w.d.raw(b)
}

// Close ends reading.
func (w *wire) Close() error {
	w.once.Do(func() { close(w.over()) })
	return nil
}

// LocalAddr is some address.
func (w *wire) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(netip.AddrPort{}) }

// SetDeadline ends reading.
func (w *wire) SetDeadline(t time.Time) error { return w.SetReadDeadline(t) }

// SetReadDeadline ends reading.
func (w *wire) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		return w.Close()
	}
	return nil
}

// SetWriteDeadline does nothing: writing does not wait.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
