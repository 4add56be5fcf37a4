package rtp

import (
	"errors"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A socket that is connected to its peer sends for less, as the kernel keeps the way: some 8 % of what a packet costs.
// But it hears nobody else. Strangers would be missing in the figures, and the cause of a silence would be a riddle when
// the peer has moved. So a socket whose peer is steady gets a twin on the same port, which is connected: the kernel
// gives each packet to the socket that fits it best (udp(7), compute_score), the peer's to the twin and a stranger's to
// the first.

// steadyAfter is how many packets in a row go to one peer before there is a twin: a second of speech.
const steadyAfter = 50

// pairing is what a socket has for its peer. It is its worker's, while that holds the socket's use.
type pairing struct {
	peer netip.AddrPort
	sent int                       // packets in a row to the peer
	twin atomic.Pointer[udpSocket] // nil: there is none
}

// relay is send for the worker of the socket: what it has just received on another one.
func (s *udpSocket) relay(packet []byte, to netip.AddrPort) {
	if len(packet) == 0 || !s.use.TryRLock() {
		return
	}
	defer s.use.RUnlock()
	if s.fd < 0 {
		return
	}
	s.worker.way = s
	if s.pairing.peer != to {
		s.part()
		s.pairing.peer = to
	}
	// An error is perhaps that of an earlier packet (ICMP): this one has not been sent.
	if t := s.pairing.twin.Load(); t != nil && sendConnected(t.fd, packet) == 0 {
		return
	}
	_ = sendTo(s.fd, packet, to)
	if s.pairing.sent++; s.pairing.sent == steadyAfter {
		s.pair()
	}
}

// pair makes the twin. Where none is to be had, the socket does without; reports (RTCP) are too few for one.
func (s *udpSocket) pair() {
	w := s.worker
	if e, ok := s.to.(*ear); ok && e.from.control {
		return
	}
	fd, err := connectedTwin(s.fd, s.pairing.peer)
	if err != nil {
		return
	}
	if fd < w.spare && makeRoom(fd, s.to) == nil {
		if t, err := w.enter(&udpSocket{worker: w, to: s.to, fd: fd, isTwin: true}); err == nil {
			s.pairing.twin.Store(t)
			return
		}
	}
	_ = unix.Close(fd)
}

// part closes the twin. What it has not read yet is of a peer that is the peer no more.
func (s *udpSocket) part() {
	if t := s.pairing.twin.Swap(nil); t != nil {
		t.close()
	}
	s.pairing.sent = 0
}

// spareDescriptors is below which descriptors may be those of twins: calls need the rest more.
func spareDescriptors() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(limit.Cur, 1<<30) / 4 * 3)
}

// connectedTwin opens a socket on the port of another, connected to a peer.
func connectedTwin(of int, peer netip.AddrPort) (fd int, err error) {
	at, err := unix.Getsockname(of)
	if err != nil {
		return -1, os.NewSyscallError("getsockname", err)
	}
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(peer.Port()), Addr: peer.Addr().As16()})
	if peer.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(peer.Port()), Addr: peer.Addr().As4()}
	}
	if fd, err = newUDP(family); err != nil {
		return -1, err
	}
	if err = shared(of, fd, func() error { return unix.Bind(fd, at) }); err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("a second socket on one port", err)
	}
	return fd, nil
}

// shared lets two sockets have one port, for the moment of bind: nobody else is to get it.
func shared(a, b int, bind func() error) (err error) {
	for _, fd := range []int{a, b} {
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
			defer func() { err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)) }()
		}
	}
	if err != nil {
		return err
	}
	return bind()
}
