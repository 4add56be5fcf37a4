package rtp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// maxWorkers is how many processors the sockets of a relay use at most. One carries some 4,000 calls.
const maxWorkers = 4

// systemEngine is the engine of real sockets.
func systemEngine(log *slog.Logger) engine { return &workers{log: log} }

// workers is the engine of real sockets: a few goroutines that own many sockets each. What costs in a relay is system
// calls and wake-ups; a goroutine for each socket wakes for each packet, a worker for all that have come meanwhile.
type workers struct {
	log *slog.Logger

	mu     sync.Mutex // guards the following
	list   []*worker  // begun with the first socket
	turn   int        // whose the next socket is
	closed bool
}

// kin is a receiver whose sockets belong together. They get one worker, as packets that come by one leave by another.
type kin interface{ family() uint32 }

func (e *workers) open(addr netip.AddrPort, to receiver) (outlet, error) {
	w, err := e.pick(to)
	if err != nil {
		return nil, err
	}
	fd, err := bindUDP(addr)
	if err != nil {
		return nil, err
	}
	err = makeRoom(fd, to)
	if err == nil {
		var s *udpSocket
		if s, err = w.add(fd, to); err == nil {
			return s, nil
		}
	}
	_ = unix.Close(fd)
	return nil, err
}

// pick chooses the worker of a socket.
func (e *workers) pick(to receiver) (*worker, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.New("the media relay is closed")
	}
	if len(e.list) == 0 {
		if err := e.beginLocked(); err != nil {
			return nil, fmt.Errorf("media sockets cannot be watched: %w", err)
		}
	}
	if k, ok := to.(kin); ok {
		return e.list[k.family()%uint32(len(e.list))], nil
	}
	e.turn++
	return e.list[e.turn%len(e.list)], nil
}

// beginLocked starts the workers. Fewer than wanted will do.
func (e *workers) beginLocked() error {
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		w, err := newWorker(e.log)
		if err != nil && len(e.list) == 0 {
			return err
		}
		if err == nil {
			e.list = append(e.list, w)
		}
	}
	return nil
}

// try reports whether a port is to be had, by three system calls.
func (e *workers) try(addr netip.AddrPort) error {
	fd, err := bindUDP(addr)
	if err != nil {
		return err
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

func (e *workers) close() {
	e.mu.Lock()
	e.closed = true
	list := e.list
	e.list = nil
	e.mu.Unlock()
	for _, w := range list {
		w.stop()
	}
}
