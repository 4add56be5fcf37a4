package rtp

import (
	"os"

	"golang.org/x/sys/unix"
)

// What a socket may have waiting, in bytes of the kernel's memory as SO_RCVBUF takes them: the kernel doubles them, for
// what a packet takes besides its payload (socket(7)). A packet of speech takes 768 bytes where it is copied or comes
// from this machine, and some 2,304 in the memory of most network drivers until the kernel moves it, which it does from
// half of the room on. What comes in a pause of 200 ms, 10 packets, is not lost in any case. A relay that cannot keep up
// drops what is more than 31 packets (0.6 s) late at the most; with the usual 208 kB of net.core.rmem_default it would
// relay all of it, 5 s late. A picture of video is 20 to 60 packets of 1,200 bytes at once, of 2,304 each: there is room
// for 85.
const (
	roomOfSpeech = 12 << 10
	roomOfVideo  = 96 << 10
)

// burster is a receiver that needs another room than speech does.
type burster interface{ room() int }

// makeRoom sets what a socket may have waiting for its receiver.
func makeRoom(fd int, to receiver) error {
	room := roomOfSpeech
	if r, ok := to.(burster); ok {
		room = r.room()
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room))
}

// room is what the stream's kind needs.
func (e *ear) room() int {
	if e.stream == e.stream.session.audio {
		return roomOfSpeech
	}
	return roomOfVideo
}
