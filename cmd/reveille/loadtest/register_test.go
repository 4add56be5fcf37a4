package loadtest

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

//go:embed kamailio.cfg
var kamailioConfig string

// registrars is how many phones register, and how often again.
const (
	registering = 10_000
	refreshes   = 3
)

// BenchmarkRegister measures what a registration costs, over UDP: 10,000
// extensions register with digest (REGISTER, 401, REGISTER, 200) and refresh
// three times, each time with a challenge. The bridge does it with and without
// its database, and Kamailio's registrar, in memory, does the same work.
func BenchmarkRegister(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		r := startRig(b, registering, fmt.Sprintf(peerTrunk, false)+"state_dir: \"\"\n")
		benchmarkRegister(b, r.sip, r.process.Process.Pid)
	})
	b.Run("bbolt", func(b *testing.B) {
		r := startRig(b, registering, fmt.Sprintf(peerTrunk, false))
		benchmarkRegister(b, r.sip, r.process.Process.Pid)
	})
	b.Run("Kamailio", func(b *testing.B) {
		address, pid := startKamailio(b, "")
		benchmarkRegister(b, address, pid)
	})
}

func benchmarkRegister(b *testing.B, address string, pid int) {
	const workers = 16
	lines := make([]*line, workers)
	for i := range lines {
		l, err := dialLine("UDP", address)
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		lines[i] = l
	}
	all := func(round int) {
		var next atomic.Int64
		errs := make(chan error, workers)
		for _, l := range lines {
			go func() {
				for {
					i := int(next.Add(1))
					if i > registering {
						errs <- nil
						return
					}
					if err := l.registerLine(i, round); err != nil {
						errs <- err
						return
					}
				}
			}()
		}
		for range lines {
			if err := <-errs; err != nil {
				b.Fatal(err)
			}
		}
	}
	memory := proportional(b, pid)
	used, start := processorTime(b, pid), time.Now()
	for round := range 1 + refreshes {
		all(round)
	}
	took := time.Since(start)
	cpu := processorTime(b, pid) - used
	time.Sleep(trimmed)
	time.Sleep(timerJ)
	b.ReportMetric(float64(cpu.Microseconds())/(registering*(1+refreshes)), "cpu-µs/registration")
	b.ReportMetric(registering*(1+refreshes)/took.Seconds(), "registrations/s")
	b.ReportMetric(float64(proportional(b, pid)-memory)/registering, "B/registration")
	b.ReportMetric(0, "ns/op")
}

// timerJ is how long an answered request over UDP is kept.
const timerJ = 33 * time.Second

// kamailioTLS are the settings for thousands of TLS connections, by one process:
// with two, the TLS module of Kamailio 5.6 aborts under a burst of logins; SECURE is the
// address, CERT and KEY are files.
const kamailioTLS = `enable_tls=yes
listen=tls:SECURE
tcp_children=1
tcp_max_connections=20000
tls_max_connections=20000
tcp_connection_lifetime=3600
loadmodule "tls.so"
modparam("tls", "certificate", "CERT")
modparam("tls", "private_key", "KEY")
modparam("tls", "tls_method", "TLSv1.2+")
`

// startKamailio starts the registrar on UDP, and on TLS at the address secure if
// that is not "".
func startKamailio(b *testing.B, secure string) (address string, pid int) {
	b.Helper()
	path, err := exec.LookPath("/usr/sbin/kamailio")
	modules, _ := filepath.Glob("/usr/lib/*/kamailio/modules")
	if err != nil || len(modules) == 0 {
		b.Skip("Kamailio is not installed")
	}
	dir := b.TempDir()
	address = freeAddress(b)
	file := filepath.Join(dir, "kamailio.cfg")
	transport := "disable_tcp=yes"
	if secure != "" {
		if _, err := os.Stat(modules[0] + "/tls.so"); err != nil {
			b.Skip("Kamailio's TLS module is not installed: kamailio-tls-modules")
		}
		cert, key := selfSigned(b, dir)
		transport = strings.NewReplacer("SECURE", secure, "CERT", cert, "KEY", key).Replace(kamailioTLS)
	}
	text := strings.NewReplacer("LISTEN", address, "MODULES", modules[0]+"/", "TRANSPORT", transport).Replace(kamailioConfig)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(path, "-f", file, "-DD", "-E", "-m", "1200", "-M", "8", "-w", dir, "-Y", dir)
	var log bytes.Buffer
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if b.Failed() {
			b.Logf("Kamailio: %s", tail(log.Bytes(), 3000))
		}
	})
	conn, err := net.Dial("udp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	for i := range 200 {
		fmt.Fprintf(conn, "OPTIONS sip:x@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKo%d\r\nFrom: <sip:t@t>;tag=1\r\nTo: <sip:x@x>\r\nCall-ID: o%d\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 5\r\nContent-Length: 0\r\n\r\n",
			address, conn.LocalAddr(), i, i)
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 2048)); err == nil && n > 0 {
			return address, cmd.Process.Pid
		}
		time.Sleep(50 * time.Millisecond) // "connection refused" comes at once
	}
	b.Fatal("Kamailio does not answer")
	return "", 0
}

// family is a process and its children.
func family(pid int) []int {
	out := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		data, _ := os.ReadFile(t)
		for _, f := range strings.Fields(string(data)) {
			child, _ := strconv.Atoi(f)
			out = append(out, family(child)...)
		}
	}
	return out
}

// proportional is the resident memory of a process and its children in bytes,
// with what they share counted once.
func proportional(b *testing.B, pid int) int {
	sum := 0
	for _, p := range family(pid) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			b.Fatal(err)
		}
		for _, line := range strings.Split(string(data), "\n") {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				kb, _ := strconv.Atoi(f[1])
				sum += kb << 10
			}
		}
	}
	return sum
}

// processorTime is what a process and its children have used.
func processorTime(b *testing.B, pid int) (sum time.Duration) {
	for _, p := range family(pid) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			b.Fatal(err)
		}
		f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+2:]))
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		sum += time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
	}
	return sum
}
