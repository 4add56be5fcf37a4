//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Who may use an entry, as in relay.c.
const (
	stateSockets = iota // user space
	stateIdle           // the program
	stateBusy           // the program, in the midst of a packet
)

// entry is struct entry of relay.c; a test compares the two.
type entry struct {
	state, turns   uint32
	inIf           uint32
	peerPort       [2]byte
	family, tos    uint8
	peer, local    [16]byte
	epoch          int64
	outIf, mtu     uint32
	source, target [16]byte
	gateway        [16]byte
	sourcePort     [2]byte
	targetPort     [2]byte
	ipSum          uint16
	gatewayFamily  uint16
	addressSum     uint32
	portSum        uint32
	got            Reception
	formats        [MaxFormats]entryFormat
}

type entryFormat struct {
	in, out, flags, _ uint8
	rate              uint32
}

// Flags of an entryFormat, and the number that ends the list.
const (
	formatPasses = 1
	formatEvent  = 2
	noFormat     = 0xff
)

// fill writes a flow. The entry is user space's.
func (e *entry) fill(f *Flow, in, out *route, epoch int64) {
	local, source := f.Local, f.Source
	if local.Addr().IsUnspecified() {
		local = netip.AddrPortFrom(in.source, local.Port())
	}
	if source.Addr().IsUnspecified() {
		source = netip.AddrPortFrom(out.source, source.Port())
	}
	e.inIf, e.outIf, e.mtu = uint32(in.index), uint32(out.index), uint32(out.mtu)
	if out.local {
		e.outIf = 0
	}
	e.family, e.epoch, e.tos = 4, epoch, 0
	if f.Peer.Addr().Is6() {
		e.family = 6
	}
	wire(f.Peer, &e.peer, &e.peerPort)
	var port [2]byte
	wire(local, &e.local, &port)
	wire(source, &e.source, &e.sourcePort)
	wire(f.Target, &e.target, &e.targetPort)
	e.gatewayFamily = family(in, out)
	wire(netip.AddrPortFrom(out.gateway, 0), &e.gateway, new([2]byte))
	addresses := difference(e.peer[:], e.source[:]) + difference(e.local[:], e.target[:])
	e.addressSum = addresses
	e.ipSum = fold(addresses)
	e.portSum = difference(e.peerPort[:], e.sourcePort[:]) + difference(port[:], e.targetPort[:])
	e.fillFormats(f.Formats)
}

// family is that of the gateway. From a program on this machine a packet comes with a route, which leads here, and which
// it is sent by once more if it has to wait for the gateway's link address: 0 has it get another route.
func family(in, out *route) uint16 {
	switch {
	case in.local:
		return 0
	case out.gateway.Is6():
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (e *entry) fillFormats(list []Format) {
	for i := range e.formats {
		if i >= len(list) {
			e.formats[i] = entryFormat{in: noFormat}
			continue
		}
		f := list[i]
		e.formats[i] = entryFormat{in: f.In, out: f.Out, rate: f.Rate}
		if f.Passes {
			e.formats[i].flags |= formatPasses
		}
		if f.Event {
			e.formats[i].flags |= formatEvent
		}
	}
}

// wire writes an address and port as they stand in a packet, IPv4 in the first four bytes.
func wire(a netip.AddrPort, addr *[16]byte, port *[2]byte) {
	*addr = [16]byte{}
	copy(addr[:], a.Addr().AsSlice())
	binary.BigEndian.PutUint16(port[:], a.Port())
}

// difference is what a checksum gains when is stands where was stood (RFC 1624), in this machine's byte order. Eight
// words a time do not overflow.
func difference(was, is []byte) (sum uint32) {
	for i := 0; i < len(was); i += 2 {
		sum += uint32(^binary.NativeEndian.Uint16(was[i:])) + uint32(binary.NativeEndian.Uint16(is[i:]))
	}
	return sum
}

func fold(sum uint32) uint16 {
	sum = sum&0xffff + sum>>16
	return uint16(sum + sum>>16)
}

// seize takes the entry from the program, between two packets.
func (e *entry) seize() {
	for {
		switch atomic.LoadUint32(&e.state) {
		case stateSockets: // the watcher has seized it
			return
		case stateIdle:
			if atomic.CompareAndSwapUint32(&e.state, stateIdle, stateSockets) {
				return
			}
		default: // 100 ns, but for a processor that the hypervisor has taken away
			runtime.Gosched()
		}
	}
}

// read copies the figures as they are between two packets. The program works on meanwhile: it is tried again until
// nothing has happened in between.
func (e *entry) read(into *Reception) {
	from := (*[unsafe.Sizeof(e.got) / 8]uint64)(unsafe.Pointer(&e.got))
	to := (*[unsafe.Sizeof(e.got) / 8]uint64)(unsafe.Pointer(into))
	for {
		turns := atomic.LoadUint32(&e.turns)
		if atomic.LoadUint32(&e.state) != stateBusy {
			for i := range from {
				to[i] = atomic.LoadUint64(&from[i])
			}
			if atomic.LoadUint32(&e.state) != stateBusy && atomic.LoadUint32(&e.turns) == turns {
				return
			}
		}
		runtime.Gosched()
	}
}
