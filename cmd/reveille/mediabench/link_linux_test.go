package mediabench

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// link is an interface of the generator's: one socket to send frames, one to take them from a ring in shared memory.
type link struct {
	mac     net.HardwareAddr
	drop    io.Closer
	out, in int
	ring    []byte
	at      int // frame to be read next
}

const (
	ringFrame  = 512 // holds our 214 to 230 bytes and what the kernel writes before them
	ringBlock  = 1 << 16
	ringFrames = 1 << 15 // 160 ms at 200,000 packets/s
)

// openLink opens an interface by name.
func openLink(name string) (*link, error) {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	l := &link{mac: ifc.HardwareAddr}
	if l.out, err = rawSocket(ifc.Index, 0); err != nil {
		return nil, err
	}
	// Straight to the interface, past queues and other taps.
	if err := unix.SetsockoptInt(l.out, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return nil, err
	}
	if l.in, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(l.in, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err := unix.SetsockoptInt(l.in, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return nil, err
	}
	req := unix.TpacketReq{Block_size: ringBlock, Block_nr: ringFrames * ringFrame / ringBlock,
		Frame_size: ringFrame, Frame_nr: ringFrames}
	if err := unix.SetsockoptTpacketReq(l.in, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, err
	}
	l.ring, err = unix.Mmap(l.in, 0, ringFrames*ringFrame, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("memory shared with the kernel: %w", err)
	}
	return l, unix.Bind(l.in, &unix.SockaddrLinklayer{Protocol: everything(), Ifindex: ifc.Index})
}

// everything is ETH_P_ALL in network order: taps for all protocols see a frame before a TC program does.
func everything() uint16 { return uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 }

func rawSocket(index int, protocol uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index})
}

// send sends a frame. It does not tell the scheduler, which need not know of a system call that never waits.
func (l *link) send(frame []byte) error {
	_, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(l.out), uintptr(unsafe.Pointer(&frame[0])), uintptr(len(frame)),
		unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// take gives the next frame that has arrived, and when; nil if there is none. done must follow.
func (l *link) take() (frame []byte, at int64) {
	slot := l.ring[l.at*ringFrame:][:ringFrame]
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
	if atomic.LoadUint32(&h.Status)&unix.TP_STATUS_USER == 0 {
		return nil, 0
	}
	return slot[h.Mac:][:h.Snaplen], int64(h.Sec)*1e9 + int64(h.Nsec)
}

// done gives the frame back to the kernel.
func (l *link) done() {
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&l.ring[l.at*ringFrame]))
	atomic.StoreUint32(&h.Status, unix.TP_STATUS_KERNEL)
	l.at = (l.at + 1) % ringFrames
}

// overruns counts frames that found the ring full since the last question.
func (l *link) overruns() int {
	stats, err := unix.GetsockoptTpacketStats(l.in, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return int(stats.Drops)
}
