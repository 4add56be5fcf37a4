package peertest

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// ownNetwork is set, to the path of the bridge's program, in a run of these tests that has a network of its own.
const ownNetwork = "REVEILLE_PEERTEST_NETWORK"

// isolated starts a program in a new network namespace, for which it needs to be root, or user namespaces; the
// namespace is gone when its last process is.
func isolated(cmd *exec.Cmd) {
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
}

// mayIsolate skips the test where the system does not let us have a network of our own.
func mayIsolate(t testing.TB) {
	t.Helper()
	cmd := exec.Command(program(t, "ip"), "link", "add", "left", "type", "veth", "peer", "name", "right")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	isolated(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("no network namespace can be made here, neither as this user nor with a user namespace; run it as root: %v %s", err, out)
	}
}

// inOwnNetwork is how a test begins that makes networks: it runs itself once more in a namespace of its own, so that it
// leaves nothing behind in the system's. true: this is that run. Otherwise it has been, and passes tests have passed.
func inOwnNetwork(t *testing.T, passes int) bool {
	t.Helper()
	if os.Getenv(ownNetwork) != "" {
		ip(t, "link", "set", "lo", "up")
		for host := 1; host <= 4; host++ {
			ip(t, "address", "add", loopback(host)+"/32", "dev", "lo")
		}
		return true
	}
	t.Parallel()
	mayIsolate(t)
	path, err := buildBridge()
	must(t, err)
	p := startWith(t, "own network", t.TempDir(), func(cmd *exec.Cmd) {
		isolated(cmd)
		cmd.Env = append(os.Environ(), ownNetwork+"="+path)
	}, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	if code, passed := p.wait(t, 6*time.Minute), p.count(`^\S+ +--- PASS`); code != 0 || passed != passes {
		t.Errorf("the tests in a network of their own ended with code %d and %d that passed, want 0 and %d", code, passed, passes)
	}
	return false
}

// ip configures the network of this process.
func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(program(t, "ip"), args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// host is a machine of the test's: a process in a namespace of its own that does what it is told, see hostMain.
type host struct {
	name     string
	process  *process
	commands *os.File
	asked    int
}

func newHost(t testing.TB, name string) *host {
	t.Helper()
	in, commands, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { commands.Close() })
	h := &host{name: name, commands: commands}
	h.process = startWith(t, name, t.TempDir(), func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
		cmd.Stdin = in
		cmd.Env = append(os.Environ(), "REVEILLE_PEERTEST_HOST=1")
	}, os.Args[0])
	in.Close()
	return h
}

// pid names its namespace to ip.
func (h *host) pid() string { return strconv.Itoa(h.process.cmd.Process.Pid) }

// do gives it a command and returns its answer, which must not be an error.
func (h *host) do(t testing.TB, command string) string {
	t.Helper()
	h.asked++
	_, err := fmt.Fprintf(h.commands, "%s\n", command)
	must(t, err)
	answer := h.process.waitFor(t, fmt.Sprintf(`^\S+ answer %d (ok|failed):(.*)$`, h.asked))
	if answer[1] != "ok" {
		t.Fatalf("the %s cannot %q: %s", h.name, regexp.MustCompile(`^\w+`).FindString(command), answer[2])
	}
	return answer[2]
}
