package peertest

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
)

// udpSocket is one of those that the kernel has in this network.
type udpSocket struct {
	local   netip.AddrPort
	dropped int // datagrams that found no room in it
}

// udpSockets reads the kernel's table of UDP over IPv4 (proc_net_udp).
func udpSockets(t testing.TB) (all []udpSocket) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/udp")
	must(t, err)
	for _, line := range strings.Split(strings.TrimSpace(string(table)), "\n")[1:] {
		fields := strings.Fields(line)
		addr, port, _ := strings.Cut(fields[1], ":") // the address as the machine has it in memory
		a, err := strconv.ParseUint(addr, 16, 32)
		must(t, err)
		p, err := strconv.ParseUint(port, 16, 16)
		must(t, err)
		dropped, err := strconv.Atoi(fields[len(fields)-1])
		must(t, err)
		var ip [4]byte
		binary.NativeEndian.PutUint32(ip[:], uint32(a))
		all = append(all, udpSocket{netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(p)), dropped})
	}
	return all
}

// missed is how many packets have found no room in the sockets of calls that are up, as the bridge came to read them too
// late: those hold 0.6 s of speech, and a machine that tests keep busy may stand still for longer.
func (b *bridge) missed(t testing.TB) (n int) {
	t.Helper()
	for _, s := range udpSockets(t) {
		if port := int(s.local.Port()); port >= b.FirstRTP && port <= b.LastRTP && s.local.Addr() == netip.MustParseAddr(bridgeIP) {
			n += s.dropped
		}
	}
	return n
}
