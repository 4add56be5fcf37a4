//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// detach takes the program off an interface.
type detach func()

// attachTo puts the program onto an interface, after all others that are there: a firewall keeps its word.
func (p *Path) attachTo(index int, n *netlink) (d detach, how string, err error) {
	if !p.legacy {
		l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p.program, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			return func() { _ = l.Close() }, "tcx", nil
		}
		if !errors.Is(err, ebpf.ErrNotSupported) {
			return nil, "", err
		}
	}
	made, err := n.addClsact(index)
	if err != nil {
		return nil, "", fmt.Errorf("add clsact: %w", err)
	}
	if p.sign == nil {
		p.sign = newSign()
	}
	if err := n.addFilter(index, p.program.FD(), p.sign.name); err != nil {
		return nil, "", fmt.Errorf("add filter: %w", err)
	}
	return func() {
		n, err := dialNetlink(0) // the watcher's is closed by now
		if err != nil {
			return
		}
		defer n.close()
		n.removeFilters(index, func(name string) bool { return name == p.sign.name })
		if made && n.unused(index) {
			n.removeClsact(index)
		}
	}, "clsact", nil
}

// clean removes the filters that processes before us have left when they were killed. Links of TCX end by themselves.
func (n *netlink) clean() {
	indexes, err := n.links()
	if err != nil {
		return
	}
	for _, index := range indexes {
		n.removeFilters(index, over)
	}
}
