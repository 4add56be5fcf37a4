//go:build amd64 || arm64

package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"reveille/rtp/rtptest"
)

// A packet of speech on its way from one machine through another to a third costs the sender's processor all of it, as
// virtual links hand on packets at once. Compared are the wire alone (one link, then a socket), a bare redirect by TC to
// the second link, and the fast path. Each figure is the median over batches, less that of the wire.
func TestCostOfPacket(t *testing.T) {
	if os.Getenv("REVEILLE_BENCH") == "" {
		t.Skip("a measurement: set REVEILLE_BENCH=1 on a quiet machine")
	}
	if !rtptest.OwnNetwork(t) {
		return
	}
	m := newMachine(t, false)
	left, right, here := m.left.Listen("10.0.1.2:4000"), m.right.Listen("10.0.2.2:5000"), rtptest.ListenUDP(t, "10.0.1.1:21000")
	m.install(flow("10.0.1.2:4000", "10.0.1.1:20000", "10.0.2.1:20002", "10.0.2.2:5000"))
	kinds := []struct {
		name, to string
		at       *net.UDPConn
	}{
		{"wire", "10.0.1.1:21000", here},
		{"bare redirect", "10.0.2.2:5000", right},
		{"fast path", "10.0.1.1:20000", right},
	}
	batches := map[string][]time.Duration{}
	bare(t, m)
	buf := make([]byte, 2048)
	seq := uint16(99)
	for range 1000 {
		for _, k := range kinds {
			to := netip.MustParseAddrPort(k.to)
			list := make([][]byte, 100)
			for i := range list {
				seq++
				list[i] = packet(seq, 8, 160)
			}
			began := time.Now()
			for _, b := range list {
				if _, err := left.WriteToUDPAddrPort(b, to); err != nil {
					t.Fatal(err)
				}
			}
			for range list {
				if n, err := k.at.Read(buf); n != 172 {
					t.Fatal(k.name, err)
				}
			}
			batches[k.name] = append(batches[k.name], time.Since(began)/100)
		}
	}
	median := func(name string) time.Duration {
		slices.Sort(batches[name])
		return batches[name][len(batches[name])/4] // others work here too: the quieter half
	}
	wire := median("wire")
	for _, k := range kinds {
		fmt.Printf("%-14s %v, %v above the wire\n", k.name, median(k.name), median(k.name)-wire)
	}
}

// bare has what the left machine sends to the right one's address redirected as it is.
func bare(t *testing.T, m *machine) {
	t.Helper()
	ours, err := net.InterfaceByName("right")
	if err != nil {
		t.Fatal(err)
	}
	var theirs *net.Interface
	m.right.Do(func() { theirs, err = net.InterfaceByName("eth0") })
	if err != nil {
		t.Fatal(err)
	}
	m.left.IP("route", "add", "10.0.2.0/24", "dev", "eth0")
	m.left.IP("neigh", "add", "10.0.2.2", "lladdr", theirs.HardwareAddr.String(), "dev", "eth0")
	m.right.IP("route", "add", "10.0.1.0/24", "dev", "eth0")
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: asm.Instructions{
		// What is for us goes up: its address begins at byte 30, and 10.0.2.2 is in network order.
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(30, asm.Word),
		asm.JNE.Imm32(asm.R0, 0x0a000202, "up"),
		asm.Mov.Imm(asm.R1, int32(ours.Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("up"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := net.InterfaceByName("left")
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: in.Index, Program: program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}
