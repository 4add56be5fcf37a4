package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reveille/sip/location"
)

// build makes the command once for all tests that need a process of their own.
var build = sync.OnceValues(func() (path string, err error) {
	if out, err := exec.Command("go", "build", "-o", binary(), ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary(), nil
})

func binary() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("reveille-test-%d", os.Getpid()))
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.Remove(binary())
	os.Exit(code)
}

func program(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// patience bounds each wait for a process; nothing here takes a second.
const patience = 20 * time.Second

// running is a `serve` in a process of its own.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	file   string // its configuration
	stdout bytes.Buffer
	lines  chan map[string]any // its log
	ended  chan struct{}

	sip, http string
}

// serveProcess starts a bridge on free ports with one sleeping device.
func serveProcess(t *testing.T) *running {
	t.Helper()
	return serveDevices(t, "", location.Target{Provider: "apns", Param: "TEAM.app.voip", PRID: "token-of-d1"})
}

// serveDevices starts a bridge with sleeping devices d1, d2 and so on; more is
// YAML for its configuration.
func serveDevices(t *testing.T, more string, targets ...location.Target) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{t: t, file: filepath.Join(dir, "reveille.yaml"), lines: make(chan map[string]any, 1000), ended: make(chan struct{})}
	r.configure(more)
	sleepingDevices(t, filepath.Join(dir, "state"), targets)
	r.cmd = exec.Command(program(t), "serve", "-c", r.file)
	r.cmd.Dir, r.cmd.Stdout = dir, &r.stdout
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go r.readLog(bufio.NewScanner(stderr))
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
	})
	line := r.logged("ready for calls")
	r.sip = strings.TrimPrefix(line["sip"].([]any)[0].(string), "udp://")
	r.http = "http://" + line["http"].(string)
	r.logged("reveille is running")
	return r
}

// configure writes the bridge's file; more is YAML beside what every test needs.
func (r *running) configure(more string) {
	r.t.Helper()
	text := fmt.Sprintf(`
state_dir: %s
sip: {listen: ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]}
http: {listen: "127.0.0.1:0"}
trunks: [{name: carrier, peers: [127.0.0.1], early_media: false}]
extensions: [{name: "1001", password: long-password, numbers: ["+4930123456"]}]
%s
`, filepath.Join(filepath.Dir(r.file), "state"), more)
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func sleepingDevices(t *testing.T, dir string, targets []location.Target) {
	t.Helper()
	store, err := location.OpenBolt(dir)
	if err != nil {
		t.Fatal(err)
	}
	batch := location.Batch{Devices: map[location.DeviceKey]*location.Device{}}
	for i, target := range targets {
		d := location.Device{ID: fmt.Sprint("d", i+1), AOR: "1001", Instance: fmt.Sprint("urn:uuid:", i+1), Seen: time.Now(),
			Registered: time.Now().Add(time.Duration(i-len(targets)) * time.Second), Target: target}
		batch.Devices[location.DeviceKey{AOR: d.AOR, ID: d.ID}] = &d
	}
	if err := store.Apply(batch); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// readLog holds every line of the log to be JSON.
func (r *running) readLog(s *bufio.Scanner) {
	for s.Scan() {
		var line map[string]any
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			line = map[string]any{"msg": "no JSON: " + s.Text()}
		}
		r.lines <- line
	}
	_ = r.cmd.Wait() // its exit code is looked at by the tests
	close(r.lines)
	close(r.ended)
}

// logged waits for a line of the log that begins so.
func (r *running) logged(message string) map[string]any {
	r.t.Helper()
	var seen []string
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.t.Fatalf("the process ended without logging %q; it logged\n%s", message, strings.Join(seen, "\n"))
			}
			text := fmt.Sprint(line["msg"])
			if strings.HasPrefix(text, message) {
				return line
			}
			seen = append(seen, fmt.Sprint(line))
		case <-time.After(patience):
			r.t.Fatalf("%q was not logged, but\n%s", message, strings.Join(seen, "\n"))
		}
	}
}

func (r *running) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// exit waits for the end and gives the exit code.
func (r *running) exit() int {
	r.t.Helper()
	select {
	case <-r.ended:
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		r.t.Fatal("the process does not end")
		return -1
	}
}

// park brings a call in that waits for the sleeping device.
func (r *running) park() *net.UDPConn {
	r.t.Helper()
	to, err := net.ResolveUDPAddr("udp", r.sip)
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := net.DialUDP("udp", nil, to)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	text := fmt.Sprintf(`INVITE sip:+4930123456@%[1]s SIP/2.0
Via: SIP/2.0/UDP %[2]s;branch=z9hG4bKparked;rport
Max-Forwards: 70
From: <sip:+4940555@%[2]s>;tag=parked
To: <sip:+4930123456@%[1]s>
Call-ID: parked
CSeq: 1 INVITE
Contact: <sip:carrier@%[2]s>
Content-Length: 0

`, r.sip, conn.LocalAddr())
	if _, err := conn.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		r.t.Fatal(err)
	}
	awaitStatus(r.t, conn, 180)
	return conn
}

func awaitStatus(t *testing.T, conn net.Conn, code int) {
	t.Helper()
	buf := make([]byte, 1<<16)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("no %d: %v", code, err)
		}
		if strings.HasPrefix(string(buf[:n]), fmt.Sprintf("SIP/2.0 %d ", code)) {
			return
		}
	}
}

// ask runs another command against this bridge, in a process of its own.
func (r *running) ask(args ...string) result {
	r.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(program(r.t), append(args, "--server", r.http)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code tells
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}
