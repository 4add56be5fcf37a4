package loadtest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// idleFlows is how many phones are connected at a time, and with -short. Each
// takes a file here and one in the bridge.
const idleFlows, idleFlowsShort = 10000, 2000

// BenchmarkIdleTCP, BenchmarkIdleTLS and BenchmarkIdleWSS measure what a
// registered phone costs that has nothing to do: resident memory of a flow,
// and the time that its keep-alives and the refreshes of its registration take.
func BenchmarkIdleTCP(b *testing.B) { idle(b, "tcp") }
func BenchmarkIdleTLS(b *testing.B) { idle(b, "tls") }
func BenchmarkIdleWSS(b *testing.B) { idle(b, "wss") }

func idle(b *testing.B, scheme string) {
	n := idleFlows
	if testing.Short() {
		n = idleFlowsShort
	}
	r := startRig(b, n, "")
	to := r.secure(scheme)
	phones := make([]*phone, n)
	r.each(func(i int) error { // devices that are known, without a flow
		p, err := dialPhone(r.sip, i)
		if err == nil {
			defer p.conn.Close()
			_, err = p.register(3600)
		}
		return err
	})
	r.restart()
	time.Sleep(trimmed)
	memory, goroutines, stacks := r.resident(), r.metric("go_goroutines", ""), r.metric("go_memstats_stack_inuse_bytes", "")
	start := r.cpu()
	r.each(func(i int) (err error) {
		if phones[i-1], err = dialBy(scheme, to, i); err == nil {
			_, err = phones[i-1].register(3600)
		}
		return err
	})
	b.ReportMetric(float64((r.cpu()-start).Microseconds())/float64(n), "cpu-µs/login")
	time.Sleep(trimmed)
	b.ReportMetric(float64(r.resident()-memory)/float64(n), "resident-B/flow")
	b.ReportMetric((r.metric("go_goroutines", "")-goroutines)/float64(n), "goroutines/flow")
	b.ReportMetric((r.metric("go_memstats_stack_inuse_bytes", "")-stacks)/float64(n), "stack-B/flow")

	start = r.cpu()
	r.each(func(i int) error { return phones[i-1].ping() })
	b.ReportMetric(float64((r.cpu()-start).Microseconds())/float64(n), "cpu-µs/ping")
	start = r.cpu()
	r.each(func(i int) error {
		_, err := phones[i-1].register(3600)
		return err
	})
	b.ReportMetric(float64((r.cpu()-start).Microseconds())/float64(n), "cpu-µs/refresh")
	time.Sleep(trimmed)
	b.ReportMetric(float64(r.resident()-memory)/float64(n), "resident-B/flow-later")
	b.ReportMetric(0, "ns/op")
	for _, p := range phones {
		p.conn.Close()
	}
}

// BenchmarkIdleKamailioTLS has Kamailio's registrar do the same over TLS: logins,
// keep-alives, refreshes.
func BenchmarkIdleKamailioTLS(b *testing.B) {
	n := idleFlows
	if testing.Short() {
		n = idleFlowsShort
	}
	to := freeAddress(b)
	_, pid := startKamailio(b, to)
	r := &rig{tb: b, extensions: n}
	phones := make([]*phone, n)
	memory, start := proportional(b, pid), processorTime(b, pid)
	r.each(func(i int) (err error) {
		if phones[i-1], err = dialBy("tls", to, i); err == nil {
			_, err = phones[i-1].register(3600)
		}
		return err
	})
	b.ReportMetric(float64((processorTime(b, pid)-start).Microseconds())/float64(n), "cpu-µs/login")
	b.ReportMetric(float64(proportional(b, pid)-memory)/float64(n), "resident-B/flow")
	start = processorTime(b, pid)
	r.each(func(i int) error { return phones[i-1].ping() })
	b.ReportMetric(float64((processorTime(b, pid)-start).Microseconds())/float64(n), "cpu-µs/ping")
	start = processorTime(b, pid)
	r.each(func(i int) error {
		_, err := phones[i-1].register(3600)
		return err
	})
	b.ReportMetric(float64((processorTime(b, pid)-start).Microseconds())/float64(n), "cpu-µs/refresh")
	b.ReportMetric(float64(proportional(b, pid)-memory)/float64(n), "resident-B/flow-later")
	b.ReportMetric(0, "ns/op")
	for _, p := range phones {
		p.conn.Close()
	}
}

// each does something for every phone, 32 at a time.
func (r *rig) each(do func(i int) error) {
	r.tb.Helper()
	work, failed := make(chan int), make(chan error, 1)
	var done sync.WaitGroup
	for range 32 {
		done.Go(func() {
			for i := range work {
				if err := do(i); err != nil {
					select {
					case failed <- fmt.Errorf("phone %d: %w", i, err):
					default:
					}
				}
			}
		})
	}
	for i := 1; i <= r.extensions; i++ {
		work <- i
	}
	close(work)
	done.Wait()
	select {
	case err := <-failed:
		r.tb.Fatal(err)
	default:
	}
}

// secure gives the bridge a certificate and a listener of a scheme in place of
// its TCP one; TCP stays as it is. It takes the bridge's next restart.
func (r *rig) secure(scheme string) (to string) {
	r.tb.Helper()
	if scheme == "tcp" {
		return r.sip
	}
	to = freeAddress(r.tb)
	cert, key := selfSigned(r.tb, filepath.Dir(r.file))
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.tb.Fatal(err)
	}
	tcp := fmt.Sprintf("\"tcp://%s\"]\n", r.sip)
	changed := strings.Replace(string(text), tcp, fmt.Sprintf("\"tcp://%s\", \"%s://%s\"]\n  tls: {certificate: %s, key: %s}\n", r.sip, scheme, to, cert, key), 1)
	if err := os.WriteFile(r.file, []byte(changed), 0o600); err != nil {
		r.tb.Fatal(err)
	}
	return to
}

func selfSigned(tb testing.TB, dir string) (cert, key string) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		tb.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return cert, key
}

// dialBy connects a phone by a transport.
func dialBy(scheme, to string, number int) (*phone, error) {
	config := &tls.Config{InsecureSkipVerify: true} // the bridge's cost is measured, not the check of its name
	var conn net.Conn
	var err error
	switch scheme {
	case "tcp":
		return dialPhone(to, number)
	case "tls":
		conn, err = tls.Dial("tcp", to, config)
	case "wss":
		var ws *websocket.Conn
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		if ws, _, err = websocket.Dial(context.Background(), "wss://"+to, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"sip"}}); err == nil {
			conn = webConn{websocket.NetConn(context.Background(), ws, websocket.MessageText)}
		}
	}
	if err != nil {
		return nil, err
	}
	return &phone{number: number, conn: conn, in: bufio.NewReaderSize(conn, 1024)}, nil
}

// webConn has an address that can stand in a Contact.
type webConn struct{ net.Conn }

func (webConn) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }

// ping sends the keep-alive of RFC 5626 and waits for its answer.
func (p *phone) ping() error {
	if _, err := p.conn.Write([]byte("\r\n\r\n")); err != nil {
		return err
	}
	_, err := io.ReadFull(p.in, make([]byte, 2))
	return err
}
