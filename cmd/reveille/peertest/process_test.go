package peertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The loopback addresses of doc.go.
var (
	bridgeIP  = loopback(1)
	carrierIP = loopback(2)
	phoneIP   = loopback(3)
	pbxIP     = loopback(4)
)

// loopback returns an address that no other run of the tests has at the same time. A run with a network of its own has
// addresses there that can be reached from other namespaces.
func loopback(host int) string {
	if os.Getenv(ownNetwork) != "" {
		return fmt.Sprintf("10.0.0.%d", host)
	}
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid/256%254, pid%256, host)
}

// patience is how long anything may take that must happen: it is long, because a machine that is busy with other things
// must not fail a test, and costs nothing where all is well.
const patience = 30 * time.Second

// packages says which Debian package holds each program.
var packages = map[string]string{
	"sipp":      "sip-tester",
	"baresip":   "baresip-core",
	"kamailio":  "kamailio",
	"rtpengine": "rtpengine-daemon",
	"ip":        "iproute2",
	"nft":       "nftables",
	"chromium":  "chromium",
}

// program returns the path of a peer's program. A peer that is missing is a failure and not a skip: a test that is
// not run proves nothing, and would not be missed.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/"} { // kamailio and ip are not on everybody's PATH
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed; mend it with: apt-get install --no-install-recommends %s", name, packages[name])
	return ""
}

// process is a running peer with all that it has printed.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error

	mu    sync.Mutex // guards the following
	lines []string
	more  chan struct{} // closed and replaced with each line
}

// start runs a program in its own process group; the group is killed when the test ends, and the output is printed
// if the test failed.
func start(t testing.TB, name, dir, path string, args ...string) *process {
	t.Helper()
	return startWith(t, name, dir, func(*exec.Cmd) {}, path, args...)
}

// startWith is start of a program that needs more than arguments: set gives it that.
func startWith(t testing.TB, name, dir string, set func(*exec.Cmd), path string, args ...string) *process {
	t.Helper()
	p := &process{name: name, done: make(chan struct{}), more: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir = dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	set(p.cmd)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	in.Close()
	go p.read(out)
	t.Cleanup(func() { p.clean(t) })
	return p
}

// read collects the output until its last writer is gone, and then the exit status.
func (p *process) read(out io.ReadCloser) {
	defer out.Close()
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			p.add(strings.TrimRight(line, "\r\n"))
		}
		if err != nil {
			break
		}
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) add(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, time.Now().Format("05.000 ")+line)
	close(p.more)
	p.more = make(chan struct{})
}

// since returns the output from line n on, and a channel that closes when there is more.
func (p *process) since(n int) ([]string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[n:], p.more
}

// output returns everything printed so far.
func (p *process) output() string {
	lines, _ := p.since(0)
	return strings.Join(lines, "\n")
}

// waitFor returns the submatches of the first line that matches, printed already or yet to come.
func (p *process) waitFor(t testing.TB, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for n := 0; ; {
		lines, more := p.since(n)
		n += len(lines)
		for _, line := range lines {
			if m := re.FindStringSubmatch(line); m != nil {
				return m
			}
		}
		select {
		case <-more:
		case <-p.done:
			if _, rest := p.since(n); rest == more {
				t.Fatalf("%s ended (%v) without printing %q", p.name, p.err, pattern)
			}
		case <-deadline:
			t.Fatalf("%s did not print %q within %v", p.name, pattern, patience)
		}
	}
}

// count returns how many lines of the output match.
func (p *process) count(pattern string) int {
	re, n := regexp.MustCompile(pattern), 0
	lines, _ := p.since(0)
	for _, line := range lines {
		if re.MatchString(line) {
			n++
		}
	}
	return n
}

// distinct is count without those that match in the same words.
func (p *process) distinct(pattern string) int {
	re, got := regexp.MustCompile(pattern), map[string]bool{}
	lines, _ := p.since(0)
	for _, line := range lines {
		if m := re.FindString(line); m != "" {
			got[m] = true
		}
	}
	return len(got)
}

// wait returns the exit code, or fails the test when the process does not end in time.
func (p *process) wait(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		t.Fatalf("%s did not end within %v", p.name, within)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	if p.err != nil {
		t.Fatalf("%s: %v", p.name, p.err)
	}
	return 0
}

// stop asks the process to end (SIGTERM) and returns its exit code.
func (p *process) stop(t testing.TB) int {
	t.Helper()
	p.signal(syscall.SIGTERM)
	return p.wait(t, patience)
}

func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done: // the process id may be another's by now
	default:
		syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

func (p *process) clean(t testing.TB) {
	p.signal(syscall.SIGKILL)
	<-p.done
	if t.Failed() {
		t.Logf("---- %s %s\n%s", p.name, strings.Join(p.cmd.Args, " "), p.output())
	}
}

// must ends the test on an error of its own doing.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// attach prints a file of a peer into the test's log if the test failed.
func attach(t testing.TB, path string) {
	t.Cleanup(func() {
		if text, err := os.ReadFile(path); t.Failed() && err == nil && len(text) > 0 {
			t.Logf("---- %s\n%s", path, text)
		}
	})
}

// nextPort is process-wide because ports are: what one test was given and has not bound yet, no other may get.
var nextPort atomic.Int32

// The ports lie below those that Linux gives out by itself, and those that a bridge takes for audio unless told
// otherwise: other programs may have them on all addresses.
const firstPort, ports = 10000, 10000

// freePort returns an even port that is free for TCP and UDP on the address, as are the n-1 ports after it.
func freePort(t testing.TB, ip string, n int) int {
	t.Helper()
	for range 1000 {
		step := int32(n + n%2)
		port := firstPort + int(nextPort.Add(step)-step)%ports
		if allBindable(ip, port, n) {
			return port
		}
	}
	t.Fatalf("no %d free ports in a row on %s", n, ip)
	return 0
}

func allBindable(ip string, port, n int) bool {
	for i := range n {
		if !bindable(fmt.Sprintf("%s:%d", ip, port+i)) {
			return false
		}
	}
	return true
}

func bindable(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	u.Close()
	return true
}

// dial connects to a peer that may still be starting.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		select {
		case <-ctx.Done():
			t.Fatalf("connect to %s: %v", addr, err)
		case <-retry.C:
		}
	}
}

// waitUntil looks at a condition until it holds. It is for what a peer tells in a file only.
func waitUntil(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited %v for %s", patience, what)
		case <-look.C:
		}
	}
}
