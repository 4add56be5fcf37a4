//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What of rtnetlink(7) and tc-bpf(8) x/sys/unix has not, from linux/pkt_sched.h and linux/pkt_cls.h.
const (
	clsact  = 0xffff_fff1 // TC_H_CLSACT, TC_H_INGRESS
	major   = 0xffff_0000
	ingress = major | 0xfff2 // TC_H_MIN_INGRESS
	egress  = major | 0xfff3 // TC_H_MIN_EGRESS

	bpfFD         = 6 // TCA_BPF_FD
	bpfName       = 7 // TCA_BPF_NAME
	bpfFlags      = 8 // TCA_BPF_FLAGS
	bpfFlagDirect = 1 // TCA_BPF_FLAG_ACT_DIRECT
)

// filterName begins the name of our filters, and of the sign of life of who made them.
const filterName = "reveille_rtp_"

// lastPriority is where filters are tried for a place: after all others, whose numbers are lower.
const lastPriority = 0xfff0

var order = binary.NativeEndian

// netlink is a socket to ask the kernel by.
type netlink struct {
	mu  sync.Mutex
	fd  int
	seq uint32
}

// dialNetlink opens a socket that hears of groups.
func dialNetlink(groups uint32) (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// Answers come at once.
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &netlink{fd: fd}, nil
}

func (n *netlink) close() { _ = unix.Close(n.fd) }

// ask sends a request and gives the bodies of the answers.
func (n *netlink) ask(kind, flags uint16, body []byte) ([][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seq++
	request := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	order.PutUint32(request, uint32(unix.SizeofNlMsghdr+len(body)))
	order.PutUint16(request[4:], kind)
	order.PutUint16(request[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	order.PutUint32(request[8:], n.seq)
	if err := unix.Sendto(n.fd, append(request, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var answers [][]byte
	buf := make([]byte, 1<<16)
	for {
		size, err := unix.Read(n.fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for rest := buf[:size]; len(rest) >= unix.SizeofNlMsghdr; {
			length := int(order.Uint32(rest))
			if length < unix.SizeofNlMsghdr || length > len(rest) {
				return nil, unix.EBADMSG
			}
			body := rest[unix.SizeofNlMsghdr:length]
			mine, kind := order.Uint32(rest[8:]) == n.seq, order.Uint16(rest[4:])
			rest = rest[min(align(length), len(rest)):]
			switch {
			case !mine:
			case kind == unix.NLMSG_DONE:
				return answers, nil
			case kind == unix.NLMSG_ERROR:
				if code := -int32(order.Uint32(body)); code != 0 {
					return nil, unix.Errno(code)
				}
				return answers, nil
			default:
				answers = append(answers, append([]byte(nil), body...))
			}
		}
	}
}

func align(n int) int { return (n + 3) &^ 3 }

// attribute appends one.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = order.AppendUint16(b, uint16(4+len(value)))
	b = order.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

// attributes reads a list of them.
func attributes(b []byte) map[uint16][]byte {
	list := map[uint16][]byte{}
	for len(b) >= 4 {
		length := int(order.Uint16(b))
		if length < 4 || length > len(b) {
			break
		}
		list[order.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = b[4:length]
		b = b[min(align(length), len(b)):]
	}
	return list
}

// number reads an attribute of 32 bits; 0 if it is not there.
func number(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	return int(int32(order.Uint32(b)))
}

// route asks how a peer is reached from an address of ours.
func (n *netlink) route(peer, ours netip.Addr) (path, error) {
	m := make([]byte, unix.SizeofRtMsg) // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
	m[0], m[1] = unix.AF_INET, byte(peer.BitLen())
	if peer.Is6() {
		m[0] = unix.AF_INET6
	}
	m = attribute(m, unix.RTA_DST, peer.AsSlice())
	if ours.IsValid() && !ours.IsUnspecified() {
		m[2] = byte(ours.BitLen())
		m = attribute(m, unix.RTA_SRC, ours.AsSlice())
	}
	answers, err := n.ask(unix.RTM_GETROUTE, 0, m)
	if err != nil {
		return path{}, err
	}
	if len(answers) == 0 || len(answers[0]) < unix.SizeofRtMsg {
		return path{}, unix.EBADMSG
	}
	kind, list := answers[0][7], attributes(answers[0][unix.SizeofRtMsg:])
	if kind != unix.RTN_UNICAST && kind != unix.RTN_LOCAL {
		return path{}, fmt.Errorf("routes of type %d are not for unicast", kind)
	}
	p := path{index: number(list[unix.RTA_OIF]), local: kind == unix.RTN_LOCAL, gateway: peer}
	if gateway, ok := netip.AddrFromSlice(list[unix.RTA_GATEWAY]); ok {
		p.gateway = gateway
	} else if via := list[unix.RTA_VIA]; len(via) > 2 { // struct rtvia: family, address
		p.gateway, _ = netip.AddrFromSlice(via[2:])
	}
	p.source, _ = netip.AddrFromSlice(list[unix.RTA_PREFSRC])
	p.mtu = number(attributes(list[unix.RTA_METRICS])[unix.RTAX_MTU])
	if !p.gateway.IsValid() || list[unix.RTA_ENCAP] != nil {
		return path{}, errors.New("its next hop is none that could be used")
	}
	return p, nil
}

// links lists the interfaces.
func (n *netlink) links() (indexes []int, err error) {
	answers, err := n.ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg))
	for _, a := range answers {
		if len(a) >= unix.SizeofIfInfomsg {
			indexes = append(indexes, number(a[4:])) // struct ifinfomsg: family, pad, type, index
		}
	}
	return indexes, err
}

// tcmsg is struct tcmsg of linux/rtnetlink.h.
type tcmsg struct {
	family       uint8
	_            [3]byte
	index        int32
	handle       uint32
	parent, info uint32
}

func (m tcmsg) bytes() []byte {
	b := *(*[unsafe.Sizeof(m)]byte)(unsafe.Pointer(&m))
	return b[:]
}

// addClsact adds the discipline that filters hang on; made tells whether it was not there before.
func (n *netlink) addClsact(index int) (made bool, err error) {
	m := tcmsg{index: int32(index), parent: clsact, handle: major}
	_, err = n.ask(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, attribute(m.bytes(), unix.TCA_KIND, []byte("clsact\x00")))
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

func (n *netlink) removeClsact(index int) {
	_, _ = n.ask(unix.RTM_DELQDISC, 0, tcmsg{index: int32(index), parent: clsact, handle: major}.bytes())
}

// everyProtocol is ETH_P_ALL as it stands in a tcmsg.
func everyProtocol() uint32 {
	return uint32(order.Uint16([]byte{0, unix.ETH_P_ALL}))
}

// addFilter attaches a program at the ingress by a name. The filters of several processes may have one place in the order.
func (n *netlink) addFilter(index, program int, name string) (err error) {
	options := attribute(nil, bpfFD, order.AppendUint32(nil, uint32(program)))
	options = attribute(options, bpfName, []byte(name+"\x00"))
	options = attribute(options, bpfFlags, order.AppendUint32(nil, bpfFlagDirect))
	for priority := uint32(lastPriority); priority > lastPriority-16; priority-- {
		m := tcmsg{index: int32(index), parent: ingress, info: priority<<16 | everyProtocol()}
		body := attribute(m.bytes(), unix.TCA_KIND, []byte("bpf\x00"))
		body = attribute(body, unix.TCA_OPTIONS, options)
		_, err = n.ask(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EINVAL) { // filters of another kind may have the place
			break
		}
	}
	return err
}

// removeFilter removes one filter, and leaves others of its place.
func (n *netlink) removeFilter(index int, f filter) {
	m := tcmsg{index: int32(index), handle: f.handle, parent: ingress, info: f.priority<<16 | everyProtocol()}
	_, _ = n.ask(unix.RTM_DELTFILTER, 0, attribute(m.bytes(), unix.TCA_KIND, []byte("bpf\x00")))
}

// removeFilters removes those of an interface of whose names it is true.
func (n *netlink) removeFilters(index int, of func(name string) bool) {
	list, _ := n.filters(index, ingress) // an error where there is no clsact
	for _, f := range list {
		if f.ours() && of(f.name) {
			n.removeFilter(index, f)
		}
	}
}

// filter is one that the system has.
type filter struct {
	name     string // of a bpf filter
	priority uint32
	handle   uint32 // its number among those of its priority
}

// ours reports whether a Path made the filter, of this process or another.
func (f filter) ours() bool { return strings.HasPrefix(f.name, filterName) }

// filters lists those of one direction of an interface.
func (n *netlink) filters(index int, direction uint32) (list []filter, err error) {
	answers, err := n.ask(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, tcmsg{index: int32(index), parent: direction}.bytes())
	for _, a := range answers {
		const size = int(unsafe.Sizeof(tcmsg{}))
		if len(a) < size {
			continue
		}
		name := attributes(attributes(a[size:])[unix.TCA_OPTIONS])[bpfName]
		list = append(list, filter{
			name:     strings.TrimRight(string(name), "\x00"),
			priority: order.Uint32(a[size-4:]) >> 16,
			handle:   order.Uint32(a[8:]),
		})
	}
	return list, err
}

// unused reports whether an interface's clsact has no filters.
func (n *netlink) unused(index int) bool {
	in, err := n.filters(index, ingress)
	out, fault := n.filters(index, egress)
	return err == nil && fault == nil && len(in)+len(out) == 0
}
