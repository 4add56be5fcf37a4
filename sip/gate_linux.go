package sip

import (
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// gate is a TCP connection at whose socket one can wait without reading. One
// goroutine reads.
type gate struct {
	net.Conn
	raw   syscall.RawConn
	idle  atomic.Bool // Read gives idleError
	asked bool
	poll  [1]unix.PollFd
	check func(fd uintptr) bool // made once: each would be garbage
}

// newGate puts a gate before a connection, if it is one of the system's.
func newGate(conn net.Conn) net.Conn {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return conn
	}
	g := &gate{Conn: conn, raw: raw}
	g.check = g.ready
	return g
}

func (g *gate) Read(b []byte) (int, error) {
	if g.idle.Load() {
		return 0, idleError{}
	}
	return g.Conn.Read(b)
}

// wait returns when there is something to read: bytes, the end, or an error; and
// with an error of its own when the read deadline is over.
func (g *gate) wait() error {
	g.asked = false
	return g.raw.Read(g.check)
}

// ready is asked before the wait, when bytes may have come already, and after it.
func (g *gate) ready(fd uintptr) bool {
	if g.asked {
		return true
	}
	g.asked = true
	g.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
	n, err := unix.Poll(g.poll[:], 0)
	return n > 0 || err != nil && err != unix.EINTR
}
