package rtp

import (
	"encoding/binary"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bindUDP opens a socket of exactly one address family: the peer's address then needs no translation.
func bindUDP(addr netip.AddrPort) (fd int, err error) {
	family := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if addr.Addr().Is4() {
		family = unix.AF_INET
		to = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	if fd, err = newUDP(family); err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, to); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// newUDP makes a socket.
func newUDP(family int) (fd int, err error) {
	if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET6 {
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			_ = unix.Close(fd)
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	return fd, nil
}

// sockaddr is an address of either family as the system has it: struct sockaddr_in or sockaddr_in6.
type sockaddr [unix.SizeofSockaddrInet6]byte

// set writes an address, and gives the length that it takes.
func (s *sockaddr) set(a netip.AddrPort) (length uintptr) {
	binary.BigEndian.PutUint16(s[2:], a.Port())
	if a.Addr().Is4() {
		binary.NativeEndian.PutUint16(s[:], unix.AF_INET)
		ip := a.Addr().As4()
		copy(s[4:], ip[:])
		clear(s[8:16])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(s[:], unix.AF_INET6)
	ip := a.Addr().As16()
	clear(s[4:8]) // flow label
	copy(s[8:], ip[:])
	clear(s[24:]) // scope
	return unix.SizeofSockaddrInet6
}

// addrPort reads an address.
func (s *sockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(s[2:])
	if binary.NativeEndian.Uint16(s[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[4:8])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s[8:24])), port)
}

// The calls below are raw, as they never wait: the scheduler need not know of them.

// receiveFrom takes one datagram.
func receiveFrom(fd int, buffer []byte, from *sockaddr) (n int, errno unix.Errno) {
	length := uint32(len(from))
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), 0,
			uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(&length)))
		if errno != unix.EINTR {
			return int(r), errno
		}
	}
}

// sendTo sends one datagram.
func sendTo(fd int, packet []byte, to netip.AddrPort) unix.Errno {
	var name sockaddr
	length := name.set(to)
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&packet[0])), uintptr(len(packet)), 0,
			uintptr(unsafe.Pointer(&name)), length)
		if errno != unix.EINTR {
			return errno
		}
	}
}

// sendConnected sends one datagram to whom the socket is connected to.
func sendConnected(fd int, packet []byte) unix.Errno {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&packet[0])), uintptr(len(packet)), 0, 0, 0)
		if errno != unix.EINTR {
			return errno
		}
	}
}
