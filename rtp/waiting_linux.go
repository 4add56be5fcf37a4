package rtp

import "golang.org/x/sys/unix"

// waiting reports whether datagrams have come that are not read yet. An empty one looks like none, and is nothing to
// wait for.
func (s *udpSocket) waiting() bool {
	s.use.RLock()
	defer s.use.RUnlock()
	if t := s.pairing.twin.Load(); t != nil && t.waiting() {
		return true
	}
	n, err := unix.IoctlGetInt(s.fd, unix.SIOCINQ)
	return err != nil || n > 0
}
