package siptest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// frameTime is the sound in one RTP packet: 160 samples of 8 kHz.
const frameTime = 20 * time.Millisecond

// Audio is one end of an audio stream: it sends G.711 packets of a known signal
// and keeps all that comes. Its RTP is plain: 12 bytes of header, no more.
type Audio struct {
	conn    net.PacketConn
	here    netip.AddrPort
	ssrc    uint32
	reading sync.WaitGroup

	mu       sync.Mutex // guards the following
	version  int        // of our SDP
	payload  uint8      // payload type we send
	codecs   string     // the formats of our m= line
	deaf     bool       // no telephone-event among them
	remote   netip.AddrPort
	sent     int
	received []RTP
	strange  int // datagrams that are no RTP of ours to judge
	cipher   Cipher
	profile  string // in our SDP, if the stream is encrypted
	further  string // m= lines behind ours, as they are
}

// Beside puts further m= lines, with their attributes, into our SDP; the lines end in CR LF. Nothing is sent for them.
func (a *Audio) Beside(lines string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.further = lines
}

// RTP is one received packet.
type RTP struct {
	At        time.Time
	Payload   uint8
	Seq       uint16
	Timestamp uint32
	SSRC      uint32
	Data      []byte
}

// OpenAudio opens a socket on an address of this side, such as "192.0.2.1:0".
func OpenAudio(ctx context.Context, sockets Sockets, addr string) (*Audio, error) {
	conn, err := sockets.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	here, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	a := &Audio{conn: conn, here: here, ssrc: uint32(here.Port())<<16 | 0x5eed, payload: 8, codecs: "8 0 101"}
	a.reading.Go(a.read)
	return a, nil
}

// Close ends sending and receiving.
func (a *Audio) Close() {
	a.conn.Close()
	a.reading.Wait()
}

// adopt goes on where another one was: its numbers, and where it sends to.
func (a *Audio) adopt(old *Audio) {
	old.mu.Lock()
	defer old.mu.Unlock()
	a.ssrc, a.version, a.payload, a.codecs, a.remote, a.sent = old.ssrc, old.version, old.payload, old.codecs, old.remote, old.sent
}

// SSRC is that of the packets sent.
func (a *Audio) SSRC() uint32 { return a.ssrc }

// Addr is where the audio is received.
func (a *Audio) Addr() netip.AddrPort { return a.here }

func (a *Audio) read() {
	buf := make([]byte, 2048)
	for {
		n, _, err := a.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		a.take(buf[:n])
	}
}

func (a *Audio) take(p []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.opened(p)
	if !ok || len(p) < 12 || p[0]>>6 != 2 {
		a.strange++
		return
	}
	a.received = append(a.received, RTP{
		At: time.Now(), Payload: p[1] & 0x7f, Seq: binary.BigEndian.Uint16(p[2:]), Timestamp: binary.BigEndian.Uint32(p[4:]),
		SSRC: binary.BigEndian.Uint32(p[8:]), Data: append([]byte(nil), p[12:]...),
	})
}

// Received is everything that has come so far.
func (a *Audio) Received() []RTP {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]RTP(nil), a.received...)
}

// SDP describes this end; direction is "sendrecv", "sendonly", "inactive" or
// "recvonly".
func (a *Audio) SDP(direction string) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	family := "IP4"
	if a.here.Addr().Is6() {
		family = "IP6"
	}
	profile, key := a.secrecy()
	return fmt.Appendf(nil, "v=0\r\no=- %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\nm=audio %d %s %s\r\n"+
		"a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n%sa=%s\r\n%s",
		a.ssrc, a.version, family, a.here.Addr(), family, a.here.Addr(), a.here.Port(), profile, a.codecs, key, direction, a.further)
}

// Hear takes the other side's SDP: where to send, and what.
func (a *Audio) Hear(sdp []byte) error {
	remote, formats, err := readSDP(sdp)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.profile != "" {
		if err := a.cipher.Hear(sdp); err != nil {
			return err
		}
	}
	a.remote = remote
	for _, f := range formats {
		if f == "0" || f == "8" {
			n, _ := strconv.Atoi(f)
			a.payload = uint8(n)
			return nil
		}
	}
	return fmt.Errorf("no G.711 in the offered formats %v", formats)
}

// Answer takes an offer and answers it: its first G.711 and telephone-event.
func (a *Audio) Answer(offer []byte) ([]byte, error) {
	a.offered(offer)
	if strings.Contains(string(offer), " UDP/TLS/") && !a.Protected() {
		return nil, errors.New("an offer of DTLS, which this end does not know")
	}
	if err := a.Hear(offer); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.codecs = a.answered(fmt.Sprint(a.payload))
	a.mu.Unlock()
	direction := "sendrecv"
	for offered, answer := range map[string]string{"a=sendonly": "recvonly", "a=recvonly": "sendonly", "a=inactive": "inactive"} {
		if strings.Contains(string(offer), offered+"\r\n") {
			direction = answer
		}
	}
	return a.SDP(direction), nil
}

// readSDP finds the address and the formats of the audio.
func readSDP(sdp []byte) (remote netip.AddrPort, formats []string, err error) {
	var addr netip.Addr
	var port uint64
	for _, line := range strings.Split(string(sdp), "\r\n") {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "c=IN IP") && len(fields) == 3:
			addr, err = netip.ParseAddr(fields[2])
		case strings.HasPrefix(line, "m=audio ") && len(fields) > 3:
			port, err = strconv.ParseUint(fields[1], 10, 16)
			formats = fields[3:]
		}
		if err != nil {
			return remote, nil, fmt.Errorf("SDP line %q: %w", line, err)
		}
	}
	if !addr.IsValid() || port == 0 {
		return remote, nil, fmt.Errorf("no audio in SDP %q", sdp)
	}
	return netip.AddrPortFrom(addr, uint16(port)), formats, nil
}

// Play sends frames packets, one every 20 ms, or fewer if ctx ends. The signal
// goes on where the last Play ended.
func (a *Audio) Play(ctx context.Context, frames int) error {
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for range frames {
		if err := a.SendFrame(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// SendFrame sends the next packet of the signal now.
func (a *Audio) SendFrame() error {
	a.mu.Lock()
	k, payload, to := a.sent, a.payload, a.remote
	a.sent++
	a.mu.Unlock()
	if !to.IsValid() {
		return errors.New("audio is played before the other side's SDP is known")
	}
	p := make([]byte, 12, 172)
	p[0], p[1] = 2<<6, payload
	if k == 0 {
		p[1] |= 0x80 // the marker bit begins a talkspurt (RFC 3551 §4.1)
	}
	binary.BigEndian.PutUint16(p[2:], uint16(k))
	binary.BigEndian.PutUint32(p[4:], uint32(k)*160)
	binary.BigEndian.PutUint32(p[8:], a.ssrc)
	p, err := a.sealed(append(p, Frame(a.ssrc, k)...))
	if err == nil {
		_, err = a.conn.WriteTo(p, net.UDPAddrFromAddrPort(to))
	}
	return err
}

// Write sends a packet that is no RTP.
func (a *Audio) Write(packet []byte, to netip.AddrPort) error {
	_, err := a.conn.WriteTo(packet, net.UDPAddrFromAddrPort(to))
	return err
}

// Hearing is what became of one side's signal on the other side.
type Hearing struct {
	Sent  int // packets that the talker sent
	Heard int // different ones that arrived intact
	First int // number of the first that arrived; later losses are Sent-First-Heard
	Wrong int // packets that arrived altered
	Other int // packets of other sources: ringback
}

// Hearing compares what this end received with what talker sent, bit by bit:
// payload, sequence number, timestamp and SSRC.
func (a *Audio) Hearing(talker *Audio) Hearing {
	talker.mu.Lock()
	h := Hearing{Sent: talker.sent, First: talker.sent}
	talker.mu.Unlock()
	seen := map[uint16]bool{}
	for _, p := range a.Received() {
		k := int(p.Seq)
		switch {
		case p.SSRC != talker.ssrc:
			h.Other++
		case p.Timestamp != uint32(k)*160 || string(p.Data) != string(Frame(talker.ssrc, k)):
			h.Wrong++
		case !seen[p.Seq]:
			seen[p.Seq] = true
			h.Heard++
			h.First = min(h.First, k)
		}
	}
	return h
}

// Whole reports whether every packet from the first one that was heard on
// arrived intact, and at most late of them are missing at the beginning.
func (h Hearing) Whole(late int) bool {
	return h.Heard > 0 && h.Wrong == 0 && h.First <= late && h.Heard == h.Sent-h.First
}

// String gives "50 of 50 packets, bit for bit".
func (h Hearing) String() string {
	s := fmt.Sprintf("%d of %d packets", h.Heard, h.Sent)
	switch {
	case h.Wrong > 0:
		return s + fmt.Sprintf(", %d altered", h.Wrong)
	case h.Heard > 0:
		return s + ", bit for bit"
	}
	return s
}
