package sip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"reveille/sip/location"
)

// BenchmarkUpstream registers 10,000 extensions at a PBX over UDP on loopback,
// with digest: the CPU of one registration (the PBX's side, which is small,
// included), and the memory that one holds once its transaction is over.
func BenchmarkUpstream(b *testing.B) {
	const extensions = 10000
	for b.Loop() {
		s, stop := registrarOf(b, serveOffice(b))
		list := make([]Upstream, 0, extensions)
		for n := range extensions {
			list = append(list, account(100000+n))
		}
		heap, rss, cpu := heapInUse(), residentSet(), cpuTime()
		s.Trunks()[0].upstreams.least = 4000
		if err := s.SetUpstreams(list); err != nil {
			b.Fatal(err)
		}
		for deadline := time.Now().Add(30 * time.Second); s.Trunks()[0].State().Upstreams.Registered < extensions; <-time.After(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatalf("only %+v", s.Trunks()[0].State().Upstreams)
			}
		}
		b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/extensions, "µs-CPU/registration")
		<-time.After(6 * time.Second) // Timer K
		b.ReportMetric(float64(heapInUse()-heap)/extensions, "B/registration")
		b.ReportMetric(float64(residentSet()-rss)/extensions, "B-RSS/registration")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
		start := time.Now()
		stop()
		b.ReportMetric(time.Since(start).Seconds(), "s-to-unregister")
	}
}

func registrarOf(b *testing.B, addr string) (*Server, func()) {
	b.Helper()
	loc, err := location.New(location.NewMemory(), location.Options{})
	if err != nil {
		b.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Listen = []string{"udp://127.0.0.1:0"}
	s, err := New(cfg, []TrunkConfig{{Name: "office", Registrar: "sip:" + addr, Transport: "udp"}},
		Options{Log: slog.New(slog.DiscardHandler), Location: loc, Accounts: accountsOf{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, nil) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		loc.Close()
	}
}

// serveOffice answers REGISTERs on loopback: 401 without credentials, else 200.
func serveOffice(b *testing.B) string {
	b.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		b.Fatal(err)
	}
	c.SetReadBuffer(4 << 20)
	b.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			status, extra := "401 Unauthorized", "WWW-Authenticate: Digest realm=\"o\", nonce=\"n\", qop=\"auth\"\r\n"
			if bytes.Contains(buf[:n], []byte("\r\nAuthorization:")) {
				status, extra = "200 OK", ""
			}
			var out strings.Builder
			fmt.Fprintf(&out, "SIP/2.0 %s\r\n", status)
			for line := range bytes.Lines(buf[:n]) {
				for _, name := range []string{"Via:", "From:", "Call-ID:", "CSeq:", "Contact:", "Expires:"} {
					if bytes.HasPrefix(line, []byte(name)) {
						out.Write(line)
					}
				}
				if bytes.HasPrefix(line, []byte("To:")) {
					out.WriteString(strings.TrimSpace(string(line)) + ";tag=o\r\n")
				}
			}
			out.WriteString(extra + "Content-Length: 0\r\n\r\n")
			c.WriteToUDPAddrPort([]byte(out.String()), from)
		}
	}()
	return c.LocalAddr().String()
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentSet is what the kernel says we use, in bytes; 0 where it does not say.
func residentSet() (bytes int64) {
	debug.FreeOSMemory()
	status, _ := os.ReadFile("/proc/self/statm")
	var size, resident int64
	fmt.Sscan(string(status), &size, &resident)
	return resident * int64(os.Getpagesize())
}
