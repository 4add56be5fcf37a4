package rtp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call may bring. More than one is rare at fifty a second; what counts is
// that a batch not filled says that the socket is empty, which else takes a second call to learn.
const batchSize = 4

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// batch is the memory of one recvmmsg. Readers borrow it while there is something to read, so that the thousands that
// only wait need none.
type batch struct {
	messages [batchSize]mmsghdr
	vectors  [batchSize]unix.Iovec
	names    [batchSize][unix.SizeofSockaddrInet6]byte
	buffers  [batchSize][maxPacket]byte
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.messages {
		b.vectors[i].Base = &b.buffers[i][0]
		b.vectors[i].SetLen(maxPacket)
		h := &b.messages[i].header
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = &b.names[i][0]
	}
	return b
}

// receive takes what has come, without waiting.
func (b *batch) receive(fd uintptr) (n int, err error) {
	for i := range b.messages {
		b.messages[i].header.Namelen = unix.SizeofSockaddrInet6
	}
	for {
		// Raw, as it never waits: the scheduler need not know of it.
		r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.messages[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// packet is the i-th datagram received, and its sender.
func (b *batch) packet(i int) ([]byte, netip.AddrPort) {
	name := &b.names[i]
	port := binary.BigEndian.Uint16(name[2:])
	data := b.buffers[i][:min(b.messages[i].length, maxPacket)]
	if binary.NativeEndian.Uint16(name[:]) == unix.AF_INET {
		return data, netip.AddrPortFrom(netip.AddrFrom4([4]byte(name[4:8])), port)
	}
	return data, netip.AddrPortFrom(netip.AddrFrom16([16]byte(name[8:24])), port)
}

// batches are the idle ones of a relay.
type batches struct{ pool sync.Pool }

func (p *batches) get() *batch {
	if b, ok := p.pool.Get().(*batch); ok {
		return b
	}
	return newBatch()
}

// readBatches reads a real UDP socket until it is closed: net.ErrClosed, or another error that batches are not to be
// had here and the portable way must do.
func (o *portableOutlet) readBatches(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var fault error
	err = raw.Read(func(fd uintptr) (done bool) {
		fault = o.drain(fd)
		return fault != nil
	})
	if fault != nil {
		return fault
	}
	return err
}

// drain relays what has come to a socket until it is empty. The runtime calls it again when more comes.
func (o *portableOutlet) drain(fd uintptr) error {
	b := o.engine.batches.get()
	defer o.engine.batches.pool.Put(b)
	for failures := 0; ; {
		n, err := b.receive(fd)
		if err == syscall.EAGAIN {
			return nil
		}
		if err != nil {
			if failures++; failures >= maxReadErrors || err == syscall.ENOSYS {
				return err
			}
			continue
		}
		for i := range n {
			o.receive(b.packet(i))
		}
		if n < batchSize {
			return nil
		}
	}
}
