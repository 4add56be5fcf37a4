package loadtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reveille/push/pushtest"
)

const bundle = "com.example.phone"

// rig is a running bridge with its push service.
type rig struct {
	tb         testing.TB
	sip        string // host:port, UDP and TCP
	http       string
	apns       *pushtest.APNs
	extensions int
	binary     string
	file       string
	process    *exec.Cmd
	log        *bytes.Buffer
}

// startRig builds and starts the bridge with n extensions named "1" to "n",
// each with the number 100000+i and the password "secret-i".
// The push service is made with AnyToken and what options add to that.
func startRig(tb testing.TB, n int, extra string, options ...func(*pushtest.Options)) *rig {
	tb.Helper()
	dir := tb.TempDir()
	binary := filepath.Join(dir, "reveille")
	if out, err := exec.Command("go", "build", "-o", binary, "reveille/cmd/reveille").CombinedOutput(); err != nil {
		tb.Fatalf("build: %v\n%s", err, out)
	}
	service := pushtest.Options{AnyToken: true}
	for _, set := range options {
		set(&service)
	}
	apns, err := pushtest.NewAPNs(service)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(apns.Close)
	keyFile, keyID, teamID, err := apns.NewKey(dir)
	if err != nil {
		tb.Fatal(err)
	}
	ca, err := apns.CAFile(dir)
	if err != nil {
		tb.Fatal(err)
	}
	r := &rig{tb: tb, sip: freeAddress(tb), http: freeAddress(tb), apns: apns, extensions: n}
	var y strings.Builder
	if !strings.Contains(extra, "state_dir:") {
		fmt.Fprintf(&y, "state_dir: %s/state\n", dir)
	}
	fmt.Fprintf(&y, "sip:\n  listen: [\"udp://%s\", \"tcp://%s\"]\n  limits: {connections: 20000, connections_per_ip: 20000}\n", r.sip, r.sip)
	fmt.Fprintf(&y, "http: {listen: %q}\n%s", r.http, extra)
	fmt.Fprintf(&y, "push:\n  apns:\n    - {topic: %s, team_id: %s, key_id: %s, key_file: %s, endpoint: %q, root_ca: %s, environment: production}\n",
		bundle, teamID, keyID, keyFile, apns.Endpoint(), ca)
	y.WriteString("extensions:\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&y, "  - {name: \"%d\", password: secret-%d, numbers: [\"%d\"]}\n", i, i, 100000+i)
	}
	file := filepath.Join(dir, "reveille.yaml")
	if err := os.WriteFile(file, []byte(y.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	r.binary, r.file = binary, file
	r.start()
	tb.Cleanup(func() {
		r.stop()
		if tb.Failed() {
			tb.Logf("log of the bridge:\n%s", tail(r.log.Bytes(), 4000))
		}
	})
	return r
}

func (r *rig) start() {
	r.tb.Helper()
	r.process = exec.Command(r.binary, "serve", "-c", r.file, "--log-level", "error")
	r.log = &bytes.Buffer{}
	r.process.Stderr, r.process.Stdout = r.log, io.Discard
	r.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.process.Start(); err != nil {
		r.tb.Fatal(err)
	}
	r.awaitReady()
}

func (r *rig) stop() {
	r.process.Process.Kill()
	r.process.Wait()
}

// restart brings the bridge up anew with its state.
func (r *rig) restart() {
	r.stop()
	r.start()
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func (r *rig) awaitReady() {
	r.tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		res, err := http.Get("http://" + r.http + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == 200 {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.tb.Fatal("the bridge did not become ready")
}

// resident is the resident memory of the bridge in bytes.
func (r *rig) resident() int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.process.Process.Pid))
	if err != nil {
		r.tb.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.Atoi(f[1])
			return kb << 10
		}
	}
	r.tb.Fatal("no VmRSS")
	return 0
}

// cpu is the processor time that the bridge has used.
func (r *rig) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.process.Process.Pid))
	if err != nil {
		r.tb.Fatal(err)
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// metric sums a metric over its labels that contain match.
func (r *rig) metric(name, match string) float64 {
	res, err := http.Get("http://" + r.http + "/metrics")
	if err != nil {
		r.tb.Fatal(err)
	}
	defer res.Body.Close()
	sum := 0.0
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		line := s.Text()
		if rest, ok := strings.CutPrefix(line, name); ok && rest != "" && (rest[0] == '{' || rest[0] == ' ') && strings.Contains(rest, match) {
			v, _ := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			sum += v
		}
	}
	return sum
}

func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
