package rtp

import (
	"log/slog"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// systemEngine is the engine of real sockets.
func systemEngine(log *slog.Logger) engine {
	return &portable{log: log, listen: listenUDP, tries: tryUDP}
}

// tryUDP reports whether a port is to be had, by three system calls: a socket of package net takes a dozen.
func tryUDP(addr netip.AddrPort) error {
	family := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if addr.Addr().Is4() {
		family = unix.AF_INET
		to = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if family == unix.AF_INET6 { // as package net does for udp6
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, to))
}
