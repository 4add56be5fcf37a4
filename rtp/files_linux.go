package rtp

import "golang.org/x/sys/unix"

// otherFiles is how many descriptors a busy bridge has besides media sockets: connections of devices and trunks, most of all.
const otherFiles = 1000

// countFiles warns where this process may not open as many files as the port range has sockets. The limit is the hard one:
// Go's runtime has raised the soft one to it.
func (r *Relay) countFiles(first, last uint16) {
	var limit unix.Rlimit
	needed := (uint64(last-first) + 2 + otherFiles) * 4 / 3 // twins may have a quarter
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < needed {
		r.log.Warn("this process may open fewer files than media.ports has sockets: calls will be refused before the ports are used up; "+
			"raise LimitNOFILE= of its systemd unit, or ulimit -n", "limit", limit.Cur, "needed", needed)
	}
}
