//go:build amd64 || arm64

package kernel

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// sign is a sign of life: a socket in the abstract namespace (unix(7)), of which each network has one, as it has the
// interfaces. It ends with its process. The process's number would say less: in a container it is 1, after each start.
type sign struct {
	name string
	fd   int
}

// newSign shows one. Where that is not permitted, another process may take us for dead and our filters away: the media goes
// through the sockets then.
func newSign() *sign {
	name := fmt.Sprintf("%s%016x", filterName, rand.Uint64())
	fd, _ := bindSign(name)
	return &sign{name, fd}
}

func bindSign(name string) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *sign) close() {
	if s != nil && s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
}

// over reports whether the sign of that name has ended.
func over(name string) bool {
	fd, err := bindSign(name)
	if err != nil {
		return false // in use; or it cannot be known
	}
	_ = unix.Close(fd)
	return true
}
