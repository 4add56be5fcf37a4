package doctor

import "golang.org/x/sys/unix"

const (
	filesOfCall = 4   // sockets: RTP and RTCP on two sides; more make it cheaper, where there are more
	filesOfOwn  = 200 // listeners, the state, push services, the log, and some to spare
)

// openFiles is how many files a process may have open: the bridge raises its
// own limit to the hard one.
func openFiles() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return ^uint64(0)
	}
	return uint64(l.Max)
}

// files holds the limit of open files against what connections and calls may
// take. A call that finds none left gets 503.
func (e *examination) files(limit uint64) []Finding {
	need := filesOfOwn + e.SIP.Limits.Connections
	if e.Media.Engine == "builtin" {
		room := portsRoom(e.mediaRange())
		if most := e.mostCalls(); most > 0 {
			room = min(room, most)
		}
		need += filesOfCall * room
	}
	if limit >= uint64(need) {
		return nil
	}
	return []Finding{warn("open files", "a process of this user may have %d, and the calls of media.ports and the connections of sip.limits may take %d; raise it (systemd: LimitNOFILE=%d, else ulimit -n), or callers will get 503", limit, need, need)}
}
