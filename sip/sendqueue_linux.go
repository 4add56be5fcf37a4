package sip

import (
	"net"

	"golang.org/x/sys/unix"
)

// sendQueue is the length of a connection's send queue: SIOCOUTQ of tcp(7).
func sendQueue(c *net.TCPConn) (n int, known bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n, err == nil && failed == nil
}
