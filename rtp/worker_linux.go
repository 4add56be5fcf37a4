package rtp

import (
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// batchSize is how many sockets a worker learns of by one system call.
const batchSize = 128

const (
	largePacket = 600 // bytes; speech has less: 492 in 60 ms of G.711
	maxBurst    = 16  // datagrams that one socket may have taken before it is the turn of the next: video, or the worker is behind
)

// worker reads its sockets, one after the other, in one goroutine.
type worker struct {
	log    *slog.Logger
	poll   int // epoll's descriptor
	bell   int // an eventfd: wakes the worker to stop it
	pace   pace
	spare  int // the descriptors below are also for twins
	done   chan struct{}
	events [batchSize]unix.EpollEvent
	ready  []*udpSocket
	buffer [maxPacket]byte
	from   sockaddr
	way    *udpSocket // by which the datagram in hand has gone on; nil: it has not

	mu    sync.Mutex // guards the following
	slots []slot
	free  []int32 // places in slots
	ended bool
}

// slot is a place for a socket. An event names its socket by place and generation: one that was on its way while the
// socket was closed, and perhaps another opened in its place, is of nobody.
type slot struct {
	socket     *udpSocket // nil: free
	generation int32
}

// udpSocket is an open socket of a worker.
type udpSocket struct {
	worker   *worker
	to       receiver
	place    int32
	failures int32 // in a row; the worker's
	isTwin   bool  // another one's
	pairing  pairing
	way      *udpSocket // by which its datagrams go on; nil: not known yet. The worker's

	use sync.RWMutex // held for reading while fd is in use: another file may have the number the moment that it is closed
	fd  int          // -1: closed
}

// newWorker starts a worker.
func newWorker(log *slog.Logger) (*worker, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, bell, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
	}
	if err != nil {
		_ = unix.Close(poll)
		_ = unix.Close(bell)
		return nil, os.NewSyscallError("eventfd", err)
	}
	w := &worker{log: log, poll: poll, bell: bell, spare: spareDescriptors(), done: make(chan struct{})}
	go w.run()
	return w, nil
}

// add takes a socket over.
func (w *worker) add(fd int, to receiver) (*udpSocket, error) {
	return w.enter(&udpSocket{worker: w, to: to, fd: fd})
}

// enter begins to watch a socket.
func (w *worker) enter(s *udpSocket) (*udpSocket, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.free); n > 0 {
		s.place, w.free = w.free[n-1], w.free[:n-1]
	} else {
		s.place = int32(len(w.slots))
		w.slots = append(w.slots, slot{})
	}
	at := &w.slots[s.place]
	at.socket = s
	err := unix.EpollCtl(w.poll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.place, Pad: at.generation})
	if err != nil {
		w.forgetLocked(s)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return s, nil
}

// forgetLocked frees a socket's place.
func (w *worker) forgetLocked(s *udpSocket) {
	at := &w.slots[s.place]
	at.socket = nil
	at.generation++
	w.free = append(w.free, s.place)
}

// run is the worker's life.
func (w *worker) run() {
	defer close(w.done)
	for {
		n, err := w.wait()
		if err != nil {
			w.log.Error("media sockets can no longer be watched", "err", err)
			return
		}
		if !w.look(w.events[:n]) {
			return
		}
		w.fetch()
		burst := w.pace.burst()
		for i, s := range w.ready {
			w.ready[i] = nil
			w.serve(s, burst)
		}
	}
}

// look finds the sockets that have something to read. It reports false when the worker is to stop.
func (w *worker) look(events []unix.EpollEvent) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = w.ready[:0]
	for i := range events {
		place := events[i].Fd
		if place < 0 {
			continue
		}
		if at := &w.slots[place]; at.socket != nil && at.generation == events[i].Pad {
			w.ready = append(w.ready, at.socket)
		}
	}
	return !w.ended
}

// serve takes datagrams of a socket, at most burst, and one only where it has not gone on: a stranger's. If there are
// more, epoll tells of it again: at the rates of speech one socket has seldom two, and to look for a second costs a system
// call. Large ones are video, which comes in bursts. After a panic the packet is lost, and the call goes on.
func (w *worker) serve(s *udpSocket, burst int) {
	if !s.use.TryRLock() { // it is being closed
		return
	}
	defer func() {
		s.use.RUnlock()
		if r := recover(); r != nil {
			w.log.Error("packet dropped: the relay failed on it", "socket", s.local().String(), "err", r)
		}
	}()
	if s.fd < 0 {
		return
	}
	for i := range maxBurst {
		if n := w.take(s); n == 0 || n < largePacket && (i+1 >= burst || w.way == nil) {
			return
		}
	}
}

// take takes a datagram, and gives its length; 0 if there is none.
func (w *worker) take(s *udpSocket) int {
	n, errno := receiveFrom(s.fd, w.buffer[:], &w.from)
	switch {
	case errno == 0:
		s.failures = 0
		w.way = nil
		s.to.receive(w.buffer[:n], w.from.addrPort())
		if w.way != nil {
			s.way = w.way
		}
		return n
	case errno == unix.EAGAIN || s.isTwin: // a burst's end, a wrong checksum; or the error of a packet that a twin has sent
		return 0
	}
	// Others may pass too, such as an ICMP error that is reported on the socket.
	if s.failures++; s.failures >= maxReadErrors {
		_ = unix.EpollCtl(w.poll, unix.EPOLL_CTL_DEL, s.fd, nil)
		w.log.Error("media socket given up after errors", "socket", boundTo(s.fd).String(), "err", errno)
	}
	return 0
}

// stop ends the worker. Its sockets have been closed.
func (w *worker) stop() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	_, _ = unix.Write(w.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-w.done
	_ = unix.Close(w.poll)
	_ = unix.Close(w.bell)
}

func (s *udpSocket) send(packet []byte, to netip.AddrPort) {
	if len(packet) == 0 || !s.use.TryRLock() {
		return
	}
	if s.fd >= 0 {
		_ = sendTo(s.fd, packet, to)
	}
	s.use.RUnlock()
}

func (s *udpSocket) local() netip.AddrPort {
	s.use.RLock()
	defer s.use.RUnlock()
	return boundTo(s.fd)
}

// boundTo is the address of a descriptor. Who holds use already asks this: it cannot be had twice while a close waits.
func boundTo(fd int) netip.AddrPort {
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

func (s *udpSocket) close() {
	s.use.Lock() // waits for a receive and for sends
	defer s.use.Unlock()
	if s.fd < 0 {
		return
	}
	s.part()
	w := s.worker
	w.mu.Lock()
	w.forgetLocked(s)
	w.mu.Unlock()
	// Taken out first: a process that is being started may have the socket for a moment longer than we.
	_ = unix.EpollCtl(w.poll, unix.EPOLL_CTL_DEL, s.fd, nil)
	_ = unix.Close(s.fd)
	s.fd = -1
}
