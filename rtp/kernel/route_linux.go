//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long the watcher waits after a change in the system's routes, as changes come in swarms.
const settle = 100 * time.Millisecond

// maxRoutes is how many ways are remembered besides those in use.
const maxRoutes = 4096

// way is what a route is looked up for: a peer, and our address towards it, which may be unspecified.
type way struct{ peer, ours netip.Addr }

// route is how a peer is reached.
type route struct {
	path
	way  way
	used int // by installed flows; guarded by the Path's mu
}

// path is what the routing table says.
type path struct {
	index   int        // of the interface; 0: packets to this peer are not for the program
	local   bool       // the peer is a program on this machine
	gateway netip.Addr // the next hop, the peer itself if it is a neighbour
	source  netip.Addr // of ours
	mtu     int
}

// joins reports whether the program can carry packets from one peer to another. A packet from outside never gets to a
// program on this machine: the system refuses packets with an address of its own as source.
func joins(in, out *route) bool {
	return in.index != 0 && out.index != 0 && (in.local || !out.local)
}

// route is what is known of a way; nil if it must be looked up first, which is begun. The caller holds mu.
func (p *Path) route(peer, ours netip.Addr) *route {
	w := way{peer, ours}
	if r, ok := p.routes[w]; ok {
		return r
	}
	select {
	case p.watch.asked <- w:
	default: // it is asked again with the next packet
	}
	return nil
}

// watcher looks up routes, attaches the program to the interfaces that they go by, takes flows back whose route has
// changed, and renews the lease.
type watcher struct {
	path    *Path
	netlink *netlink // for questions
	changes *os.File // a netlink socket that hears of changes
	asked   chan way
	changed chan struct{}
	quit    chan struct{}
	done    chan struct{} // one message for each goroutine
}

// watch starts the watcher of a Path.
func watch(p *Path) (*watcher, error) {
	n, err := dialNetlink(0)
	if err != nil {
		return nil, fmt.Errorf("ask for routes: %w", err)
	}
	groups, err := dialNetlink(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
		unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE | unix.RTMGRP_IPV4_RULE | 1<<(unix.RTNLGRP_IPV6_RULE-1))
	if err != nil {
		n.close()
		return nil, fmt.Errorf("hear of changed routes: %w", err)
	}
	_ = unix.SetNonblock(groups.fd, true) // so that closing ends a read
	w := &watcher{
		path: p, netlink: n, changes: os.NewFile(uintptr(groups.fd), "netlink"),
		asked: make(chan way, 64), changed: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}, 2),
	}
	n.clean()
	go w.listen()
	go w.run()
	return w, nil
}

func (w *watcher) close() {
	close(w.quit)
	_ = w.changes.Close()
	<-w.done
	<-w.done
	w.netlink.close()
}

// listen hears of changes. What they are does not matter.
func (w *watcher) listen() {
	defer func() { w.done <- struct{}{} }()
	buf := make([]byte, 1<<16)
	for {
		// Other errors are messages lost for want of memory, which is a change too.
		if _, err := w.changes.Read(buf); errors.Is(err, os.ErrClosed) {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) run() {
	defer func() { w.done <- struct{}{} }()
	lease := time.NewTicker(leaseEvery)
	defer lease.Stop()
	var due <-chan time.Time
	for {
		select {
		case <-w.quit:
			return
		case <-lease.C:
			_ = w.path.renew()
		case <-w.changed:
			if due == nil {
				due = time.After(settle)
			}
		case <-due:
			due = nil
			w.refresh()
		case way := <-w.asked:
			w.resolve(way)
		}
	}
}

// resolve looks a way up and remembers it.
func (w *watcher) resolve(way way) {
	p := w.path
	p.mu.Lock()
	_, known := p.routes[way]
	p.mu.Unlock()
	if known {
		return
	}
	r := &route{way: way, path: w.look(way)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.routes) >= maxRoutes {
		for k, r := range p.routes {
			if r.used == 0 {
				delete(p.routes, k)
			}
		}
	}
	p.routes[way] = r
}

// look asks the system. Where the program cannot be, the path is none.
func (w *watcher) look(way way) path {
	found, err := w.netlink.route(way.peer, way.ours)
	if err != nil {
		w.path.log.Debug("no fast path to a peer: the system knows no route", "peer", way.peer, "err", err)
		return path{}
	}
	link, err := net.InterfaceByIndex(found.index)
	if err != nil {
		return path{}
	}
	loopback := link.Flags&net.FlagLoopback != 0
	if found.local != loopback || !loopback && len(link.HardwareAddr) != 6 || link.Flags&net.FlagUp == 0 {
		return path{}
	}
	if found.mtu == 0 {
		found.mtu = link.MTU
	}
	found.mtu = min(found.mtu, link.MTU)
	if way.ours.IsValid() && !way.ours.IsUnspecified() {
		found.source = way.ours
	}
	if !found.source.IsValid() || !w.attach(link) {
		return path{}
	}
	return found
}

// attach sees to it that the program is on an interface.
func (w *watcher) attach(link *net.Interface) bool {
	p := w.path
	p.mu.Lock()
	d, known := p.attached[link.Index]
	p.mu.Unlock()
	if known {
		return d != nil
	}
	d, how, err := p.attachTo(link.Index, w.netlink)
	if err != nil {
		p.log.Warn("no fast path on this interface: its media goes through sockets", "interface", link.Name, "err", explain(err))
	} else {
		p.log.Info("media fast path attached", "interface", link.Name, "by", how)
	}
	p.mu.Lock()
	p.attached[link.Index] = d
	p.mu.Unlock()
	return err == nil
}

// refresh looks all ways up anew. Flows whose way has changed are the sockets' again: the next packet goes up, which its
// owner takes as the sign to remove the flow and to install it anew.
func (w *watcher) refresh() {
	p := w.path
	w.forgetInterfaces()
	p.mu.Lock()
	list := make([]*route, 0, len(p.routes))
	for key, r := range p.routes {
		if r.used > 0 {
			list = append(list, r)
		} else {
			delete(p.routes, key)
		}
	}
	p.mu.Unlock()
	stale := map[*route]bool{}
	for _, r := range list {
		if now := w.look(r.way); now != r.path {
			stale[r] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for r := range stale {
		delete(p.routes, r.way)
	}
	for port, by := range p.installed {
		if stale[by[0]] || stale[by[1]] {
			p.entry(port).seize()
		}
	}
}

// forgetInterfaces drops those that are gone, and those where the program could not be attached, to try again.
func (w *watcher) forgetInterfaces() {
	p := w.path
	p.mu.Lock()
	defer p.mu.Unlock()
	for index, d := range p.attached {
		if _, err := net.InterfaceByIndex(index); err != nil || d == nil {
			if d != nil {
				d()
			}
			delete(p.attached, index)
		}
	}
}
