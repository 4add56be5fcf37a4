package kernel

import (
	"errors"
	"net/netip"
)

// MaxFormats is how many payload types a Flow may have.
const MaxFormats = 14

// ErrUnsupported says that this system has no fast path.
var ErrUnsupported = errors.New("it needs Linux on amd64 or arm64")

// Flow is one direction of a stream: what comes to one of our ports, and what becomes of it. All addresses are of one
// family.
type Flow struct {
	Peer netip.AddrPort // whose packets
	// Where they come to: an even port of the range. An unspecified address is that of which the routing table says that
	// the peer is reached by it.
	Local   netip.AddrPort
	Source  netip.AddrPort // what they leave by, likewise
	Target  netip.AddrPort // where they go
	Formats []Format       // at most MaxFormats
	// Ready is asked last, when all else is done: false puts it off. nil is always ready.
	Ready func() bool
}

// Format is an agreed payload type.
type Format struct {
	In, Out uint8  // number that it comes and goes under
	Passes  bool   // it goes to the other side; else it is counted as held, and goes nowhere
	Event   bool   // telephone-event: it says nothing about jitter
	Rate    uint32 // RTP clock, Hz
}

// Reception are the figures of a stream, as package rtp has them (its type reception, which says what each one is).
// Times are nanoseconds since the epoch of Open. The order is that of the program's memory.
type Reception struct {
	Packets, Bytes                uint64
	Last                          int64
	Seen                          uint64
	SSRC, Highest, Unique, Bad    uint32
	Transit, Jitter, Rate, Peak   uint32
	Gap, Since                    int64
	LostBefore, Reordered         uint64
	Duplicates, Held, BytesBefore uint64
	Flags                         uint32 // Started, Timed, Events
	Base                          uint32
	Bursts, Burst, Passed         uint32
	SentBefore                    uint32
}

// Flags of a Reception.
const (
	Started = 1
	Timed   = 2
	Events  = 4 // a telephone-event has come
)
