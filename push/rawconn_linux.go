package push

import (
	"net"

	"golang.org/x/sys/unix"
)

// bytesAcked is how many bytes the peer has acknowledged (tcpi_bytes_acked,
// RFC 4898 tcpEStatsAppHCThruOctetsAcked). Linux counts the SYN too, so it may
// say one more than there is, never less.
func bytesAcked(c *net.TCPConn) (n uint64, known bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var info *unix.TCPInfo
	var infoErr error
	if err := raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil || infoErr != nil {
		return 0, false
	}
	return info.Bytes_acked, true
}
