package rtptest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// ownNetwork is set in a run of a test that has a network namespace of its own.
const ownNetwork = "REVEILLE_RTP_NETWORK"

// OwnNetwork reports whether this test process is alone in a network namespace. If not, it runs the test once more in
// such a process, as root, and takes over the result; where that is not permitted, it skips the test. A test begins
// with: if !rtptest.OwnNetwork(t) { return }
func OwnNetwork(t testing.TB) bool {
	t.Helper()
	if os.Getenv(ownNetwork) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs a network namespace and eBPF: run it as root")
	}
	if out, err := isolated("ip", "link", "add", "left", "type", "veth", "peer", "name", "right").CombinedOutput(); err != nil {
		t.Skipf("no network namespace with links can be made here: %v %s", err, out)
	}
	cmd := isolated(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), ownNetwork+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("the test in a network of its own: %v", err)
	}
	return false
}

func isolated(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	return cmd
}

// IP configures the network of this process.
func IP(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// Host is another machine: a network namespace with a link to ours. It goes with the test.
type Host struct {
	t    testing.TB
	work chan func()
	ns   string
}

// NewHost makes one. Its link is called name here and eth0 there; ours and theirs are the addresses of the two ends,
// pairs of them: of IPv4, IPv6 or both.
func NewHost(t testing.TB, name string, ours, theirs []string) *Host {
	t.Helper()
	h := &Host{t: t, work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		h.ns = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), syscall.Gettid())
		ready <- err
		for f := range h.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(h.work) })
	t.Cleanup(func() { IP(t, "link", "delete", name) })
	IP(t, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", h.ns)
	h.IP("link", "set", "lo", "up")
	for i := range ours {
		IP(t, "address", "add", ours[i], "dev", name, "nodad")
		h.IP("address", "add", theirs[i], "dev", "eth0", "nodad")
	}
	IP(t, "link", "set", name, "up")
	h.IP("link", "set", "eth0", "up")
	return h
}

// Do runs f on that machine: sockets that it opens are there.
func (h *Host) Do(f func()) {
	done := make(chan struct{})
	h.work <- func() { defer close(done); f() }
	<-done
}

// IP configures that machine's network.
func (h *Host) IP(args ...string) {
	h.t.Helper()
	h.Do(func() { IP(h.t, args...) })
}

// Listen opens a UDP socket there.
func (h *Host) Listen(addr string) *net.UDPConn {
	h.t.Helper()
	var conn *net.UDPConn
	h.Do(func() { conn = ListenUDP(h.t, addr) })
	return conn
}

// ListenUDP opens a socket on this machine. It is closed with the test.
func ListenUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
