//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"reveille/rtp/rtptest"
)

// What is not exactly the stream goes up to the socket, and nobody gets a packet of it: strangers (RTPBleed), RTCP, STUN,
// payload types that are not agreed, whatever is no good RTP.
func TestRefused(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	m := newMachine(t, false)
	m.left.IP("address", "add", "10.0.1.3/24", "dev", "eth0")
	m.left.IP("route", "add", "default", "via", "10.0.1.1")
	m.right.IP("route", "add", "default", "via", "10.0.2.1")
	left, right := m.left.Listen("10.0.1.2:4000"), m.right.Listen("10.0.2.2:5000")
	otherPort, otherAddress, behind := m.left.Listen("10.0.1.2:4001"), m.left.Listen("10.0.1.3:4000"), m.right.Listen("10.0.2.2:4000")
	up := rtptest.ListenUDP(t, "0.0.0.0:20000")
	m.install(flow("10.0.1.2:4000", "10.0.1.1:20000", "10.0.2.1:20002", "10.0.2.2:5000"))
	change := func(f func(b []byte)) []byte {
		b := packet(500, 8, 160)
		f(b)
		return b
	}
	for name, c := range map[string]struct {
		from   *net.UDPConn
		packet []byte
		to     string
	}{
		"another port of the peer": {otherPort, packet(500, 8, 160), "10.0.1.1:20000"},
		"another address":          {otherAddress, packet(500, 8, 160), "10.0.1.1:20000"},
		"from the other side":      {behind, packet(500, 8, 160), "10.0.1.1:20000"},
		"the target itself":        {right, packet(500, 8, 160), "10.0.1.1:20000"},
		"to another address of us": {left, packet(500, 8, 160), "10.0.2.1:20000"},
		"RTCP":                     {left, packet(500, 200, 16), "10.0.1.1:20000"},
		"not agreed":               {left, packet(500, 9, 160), "10.0.1.1:20000"},
		"STUN":                     {left, change(func(b []byte) { b[0], b[1] = 0, 1 }), "10.0.1.1:20000"},
		"version 1":                {left, change(func(b []byte) { b[0] = 0x40 }), "10.0.1.1:20000"},
		"short":                    {left, packet(500, 8, 160)[:11], "10.0.1.1:20000"},
		"one byte":                 {left, []byte{0x80}, "10.0.1.1:20000"},
		"sources beyond the end":   {left, change(func(b []byte) { b[0] = 0x8f })[:71], "10.0.1.1:20000"},
		"extension beyond the end": {left, change(func(b []byte) { b[0] = 0x90; b[14], b[15] = 0, 40 }), "10.0.1.1:20000"},
		"padding beyond the end":   {left, change(func(b []byte) { b[0] = 0xa0; b[171] = 161 }), "10.0.1.1:20000"},
		"padding of nothing":       {left, change(func(b []byte) { b[0] = 0xa0; b[171] = 0 }), "10.0.1.1:20000"},
		"too long for the link":    {left, packet(500, 8, 1470), "10.0.1.1:20000"},
	} {
		send(t, c.from, c.packet, c.to)
		if got, _ := receive(t, up); len(got) != len(c.packet) {
			t.Errorf("%s: %d bytes came up, want %d", name, len(got), len(c.packet))
		}
	}
	// Nobody has heard of any of it.
	send(t, left, packet(100, 8, 160), "10.0.1.1:20000")
	wants(t, right, packet(100, 8, 160), "10.0.2.1:20002")
	m.figures(20000, 5, 0)
	send(t, left, packet(101, 8, 160), "10.0.1.1:20000") // removed
	if got, _ := receive(t, up); len(got) != 172 {
		t.Error("after its removal the stream does not go up")
	}
	for _, c := range []*net.UDPConn{otherPort, otherAddress, behind, right, left} {
		silent(t, c)
	}
}

// frame is an Ethernet frame with the packet in UDP in IPv4, from left's peer to our port.
func frame(to, from net.HardwareAddr, payload []byte) []byte {
	b := append(append(append([]byte(nil), to...), from...), 8, 0)
	ip := make([]byte, 28, 28+len(payload))
	ip[0], ip[8], ip[9] = 0x45, 32, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(28+len(payload)))
	copy(ip[12:], []byte{10, 0, 1, 2, 10, 0, 1, 1})
	binary.BigEndian.PutUint16(ip[20:], 4000)
	binary.BigEndian.PutUint16(ip[22:], 20000)
	binary.BigEndian.PutUint16(ip[24:], uint16(8+len(payload)))
	checksum(ip)
	return append(append(b, ip...), payload...)
}

func checksum(ip []byte) {
	ip[10], ip[11] = 0, 0
	var sum uint32
	for i := 0; i < int(ip[0]&15)*4; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum))
}

// Frames that no socket would send: the program leaves what is odd to the system, and what it relays leaves with a fresh
// time to live.
func TestOddFrames(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	m := newMachine(t, false)
	right := m.right.Listen("10.0.2.2:5000")
	m.install(flow("10.0.1.2:4000", "10.0.1.1:20000", "10.0.2.1:20002", "10.0.2.2:5000"))
	ours, err := net.InterfaceByName("left")
	if err != nil {
		t.Fatal(err)
	}
	raw := m.raw()
	seq := uint16(99)
	put := func(change func([]byte) []byte) []byte {
		seq++
		payload := packet(seq, 8, 160)
		b := frame(ours.HardwareAddr, net.HardwareAddr{2, 0, 0, 0, 0, 1}, payload)
		if _, err := unix.Write(raw, change(b)); err != nil {
			t.Fatal(err)
		}
		return payload
	}
	same := func(b []byte) []byte { return b }
	wants(t, right, put(same), "10.0.2.1:20002")
	for name, change := range map[string]func(b []byte) []byte{
		"first fragment":  func(b []byte) []byte { b[20] = 0x20; checksum(b[14:]); return b },
		"later fragment":  func(b []byte) []byte { b[21] = 1; checksum(b[14:]); return b },
		"TCP":             func(b []byte) []byte { b[23] = unix.IPPROTO_TCP; checksum(b[14:]); return b },
		"version 6":       func(b []byte) []byte { b[14] = 0x65; checksum(b[14:]); return b },
		"IP length":       func(b []byte) []byte { b[17]++; checksum(b[14:]); return b },
		"UDP length":      func(b []byte) []byte { b[39]--; return b },
		"UDP length 7":    func(b []byte) []byte { b[38], b[39] = 0, 7; return b },
		"cut":             func(b []byte) []byte { return b[:100] },
		"no UDP":          func(b []byte) []byte { return b[:40] },
		"another machine": func(b []byte) []byte { b[5] ^= 1; return b },
		"broadcast":       func(b []byte) []byte { copy(b, []byte{255, 255, 255, 255, 255, 255}); return b },
		"VLAN": func(b []byte) []byte {
			return append(append(append([]byte(nil), b[:12]...), 0x81, 0, 0, 5), b[12:]...)
		},
		"options": func(b []byte) []byte {
			b = append(append(append([]byte(nil), b[:34]...), 1, 1, 1, 1), b[34:]...)
			b[14] = 0x46
			b[17] += 4
			checksum(b[14:])
			return b
		},
	} {
		put(change)
		seq-- // it is as if it had not been
		wants(t, right, put(same), "10.0.2.1:20002")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	trailer := func(b []byte) []byte { return append(b, make([]byte, 20)...) } // as of short frames
	wants(t, right, put(trailer), "10.0.2.1:20002")
	m.figures(20000, uint64(seq-99)+4, 0)
}

// raw is a socket for frames at the left machine's end of our link.
func (m *machine) raw() (fd int) {
	m.t.Helper()
	var err error
	m.left.Do(func() {
		var there *net.Interface
		if there, err = net.InterfaceByName("eth0"); err != nil {
			return
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); err != nil {
			return
		}
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: there.Index})
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// A peer is only believed by the link that its route leads to.
func TestInterfaceCounts(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	m := newMachine(t, false)
	m.right.IP("address", "add", "10.0.1.2/32", "dev", "lo") // pretends to be the peer on the left
	m.right.IP("route", "add", "10.0.1.0/24", "via", "10.0.2.1")
	forger, right := m.right.Listen("10.0.1.2:4000"), m.right.Listen("10.0.2.2:5000")
	left := m.left.Listen("10.0.1.2:4000")
	m.install(flow("10.0.1.2:4000", "10.0.1.1:20000", "10.0.2.1:20002", "10.0.2.2:5000"))
	send(t, forger, packet(100, 8, 160), "10.0.1.1:20000")
	send(t, left, packet(100, 8, 160), "10.0.1.1:20000")
	wants(t, right, packet(100, 8, 160), "10.0.2.1:20002")
	m.figures(20000, 5, 0)
}
