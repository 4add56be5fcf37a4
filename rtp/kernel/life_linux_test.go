//go:build amd64 || arm64

package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"reveille/rtp/rtptest"
)

// childMode is set in a process that only opens a Path, "tcx" or "clsact", says how that went, and waits.
const childMode = "REVEILLE_RTP_CHILD"

// TestChild is that process.
func TestChild(t *testing.T) {
	mode := os.Getenv(childMode)
	if mode == "" {
		return
	}
	p, err := open(firstPort, lastPort, Clock(), slog.New(slog.DiscardHandler), mode == "clsact")
	if err == nil && !installs(p, flow("127.0.0.1:4000", "127.0.0.1:20000", "127.0.0.1:20002", "127.0.0.1:5000")) {
		err = fmt.Errorf("nothing can be installed")
	}
	fmt.Printf("child: %v\n", err)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until we are killed, or our parent is gone
}

// child starts one, and gives what it says.
func child(t *testing.T, mode string, change func(*exec.Cmd)) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childMode+"="+mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if change != nil {
		change(cmd)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "child: "); ok {
			return cmd, text
		}
	}
	t.Fatal("the child says nothing")
	return nil, ""
}

func lo(t *testing.T) int {
	t.Helper()
	l, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return l.Index
}

// attachedTo counts what is at the ingress of loopback.
func attachedTo(t *testing.T) (programs, filters int) {
	t.Helper()
	result, err := link.QueryPrograms(link.QueryOptions{Target: lo(t), Attach: ebpf.AttachTCXIngress})
	if err == nil {
		programs = len(result.Programs)
	}
	n, err := dialNetlink(0)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	list, _ := n.filters(lo(t), ingress) // an error where there is no clsact
	for _, f := range list {
		if f.ours() { // the kernel lists the place of a filter, too
			filters++
		}
	}
	return programs, filters
}

// eventually waits for what another process or the watcher brings about.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		if f() {
			return
		}
		<-tick.C
	}
	t.Fatal(what)
}

// A process that is killed leaves nothing behind by TCX, and a filter of older kernels that the next start removes.
func TestKilled(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	rtptest.IP(t, "link", "set", "lo", "up")
	for mode, c := range map[string]struct{ programs, filters, left int }{"tcx": {1, 0, 0}, "clsact": {0, 1, 1}} {
		cmd, says := child(t, mode, nil)
		if says != "<nil>" {
			t.Fatal(mode, says)
		}
		if p, f := attachedTo(t); p != c.programs || f != c.filters {
			t.Errorf("%s: %d programs and %d filters are attached", mode, p, f)
		}
		other := opened(t, true)
		if _, f := attachedTo(t); f != c.filters {
			t.Error("the start of a second process takes the filter of the first")
		}
		other.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		eventually(t, mode+": not detached", func() bool { p, f := attachedTo(t); return p == 0 && f == c.left })
		opened(t, true).Close()
		if p, f := attachedTo(t); p+f != 0 {
			t.Errorf("%s: %d programs and %d filters after the next start", mode, p, f)
		}
	}
}

// Several processes have their filters on one interface. One that ends takes away its own only.
func TestSeveralProcesses(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	rtptest.IP(t, "link", "set", "lo", "up")
	_, says := child(t, "clsact", nil)
	if says != "<nil>" {
		t.Fatal(says)
	}
	other := opened(t, true)
	if !installs(other, flow("127.0.0.1:4000", "127.0.0.1:20000", "127.0.0.1:20002", "127.0.0.1:5000")) {
		t.Fatal("nothing can be installed")
	}
	if _, f := attachedTo(t); f != 2 {
		t.Errorf("%d filters are attached, of two processes", f)
	}
	other.Remove(20000, new(Reception))
	other.Close()
	if _, f := attachedTo(t); f != 1 {
		t.Errorf("%d filters are attached, of one process", f)
	}
}

// In a container the process has the same number after each start, and each container the same one: what a killed one
// has left is removed all the same, and a living one keeps its filter.
func TestKilledInContainer(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	rtptest.IP(t, "link", "set", "lo", "up")
	container := func(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID }
	_, says := child(t, "clsact", container) // lives on
	if says != "<nil>" {
		t.Fatal(says)
	}
	for range 3 {
		cmd, says := child(t, "clsact", container)
		if says != "<nil>" {
			t.Fatal(says)
		}
		if _, f := attachedTo(t); f != 2 {
			t.Errorf("%d filters are attached, of two processes", f)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	opened(t, true).Close()
	if _, f := attachedTo(t); f != 1 {
		t.Errorf("%d filters are attached, of one process", f)
	}
}

// Close takes everything away, also the clsact that we have made.
func TestClosed(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	rtptest.IP(t, "link", "set", "lo", "up")
	for _, legacy := range []bool{false, true} {
		p := opened(t, legacy)
		f := flow("127.0.0.1:4000", "127.0.0.1:20000", "127.0.0.1:20002", "127.0.0.1:5000")
		if !installs(p, f) || p.Streams() != 1 {
			t.Fatal("not installed")
		}
		p.Close()
		if a, b := attachedTo(t); a+b != 0 {
			t.Errorf("%d programs and %d filters are left", a, b)
		}
		if out, err := exec.Command("tc", "qdisc", "show", "dev", "lo").CombinedOutput(); strings.Contains(string(out), "clsact") {
			t.Errorf("clsact is left: %s %v", out, err)
		}
		if p.Install(f, begun()) {
			t.Error("installed after Close")
		}
	}
}

// A filter whose process gives no sign of life lets all packets go up.
func TestLeaseEnds(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	m := newMachine(t, true)
	left, right, up := m.left.Listen("10.0.1.2:4000"), m.right.Listen("10.0.2.2:5000"), rtptest.ListenUDP(t, "10.0.1.1:20000")
	m.install(flow("10.0.1.2:4000", "10.0.1.1:20000", "10.0.2.1:20002", "10.0.2.2:5000"))
	m.path.watch.close() // who renews it
	if err := m.path.lease.Set(uint64(Clock() - 1)); err != nil {
		t.Fatal(err)
	}
	send(t, left, packet(100, 8, 160), "10.0.1.1:20000")
	wants(t, up, packet(100, 8, 160), "10.0.1.2:4000")
	if err := m.path.renew(); err != nil {
		t.Fatal(err)
	}
	send(t, left, packet(101, 8, 160), "10.0.1.1:20000")
	wants(t, right, packet(101, 8, 160), "10.0.2.1:20002")
	if m.path.watch, _ = watch(m.path); m.path.watch == nil {
		t.Fatal("no watcher")
	}
}

// A route that changes gives the stream back to the sockets, with its figures; installed anew, it goes the new way.
func TestRouteChanges(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	m := newMachine(t, false)
	left, right, up := m.left.Listen("10.0.1.2:4000"), m.right.Listen("10.0.2.2:5000"), rtptest.ListenUDP(t, "10.0.1.1:20000")
	f := flow("10.0.1.2:4000", "10.0.1.1:20000", "10.0.2.1:20002", "10.0.2.2:5000")
	m.install(f)
	send(t, left, packet(100, 8, 160), "10.0.1.1:20000")
	wants(t, right, packet(100, 8, 160), "10.0.2.1:20002")
	rtptest.IP(t, "address", "add", "10.9.0.1/24", "dev", "left") // none of our business
	m.right.IP("address", "add", "10.0.2.3/24", "dev", "eth0")
	rtptest.IP(t, "route", "add", "10.0.2.2/32", "via", "10.0.2.3", "dev", "right")
	state := &m.path.entry(20000).state
	eventually(t, "the stream goes the old way", func() bool { return atomic.LoadUint32(state) == stateSockets })
	send(t, left, packet(101, 8, 160), "10.0.1.1:20000")
	wants(t, up, packet(101, 8, 160), "10.0.1.2:4000")
	m.figures(20000, 5, 0)
	m.install(f)
	if got := m.path.entry(20000).gateway; got != [16]byte{10, 0, 2, 3} {
		t.Errorf("the next hop is %v", got)
	}
	send(t, left, packet(100, 8, 160), "10.0.1.1:20000")
	wants(t, right, packet(100, 8, 160), "10.0.2.1:20002")
}

// shared is this test's program where every user may run it.
func shared(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "reveille-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(dir+"/test", text, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir + "/test"
}

// The two capabilities are enough for a user who is not root; without them the error says what to do.
func TestPermissions(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	rtptest.IP(t, "link", "set", "lo", "up")
	program := shared(t)
	as := func(capabilities ...uintptr) func(*exec.Cmd) {
		return func(cmd *exec.Cmd) {
			cmd.Path = program
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
			cmd.SysProcAttr.AmbientCaps = capabilities
		}
	}
	for _, mode := range []string{"tcx", "clsact"} {
		if _, says := child(t, mode, as(unix.CAP_BPF, unix.CAP_NET_ADMIN)); says != "<nil>" {
			t.Errorf("%s with CAP_BPF and CAP_NET_ADMIN: %s", mode, says)
		}
	}
	for _, caps := range [][]uintptr{nil, {unix.CAP_BPF}, {unix.CAP_NET_ADMIN}} {
		if _, says := child(t, "tcx", as(caps...)); !strings.Contains(says, "needs CAP_BPF and CAP_NET_ADMIN") || strings.Contains(says, "MEMLOCK") {
			t.Errorf("with capabilities %v: %s", caps, says)
		}
	}
}
