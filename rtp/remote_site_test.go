package rtp

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"reveille/rtp/ng"
	"reveille/rtp/rtptest"
	"reveille/rtp/sdp"
)

// startDaemon runs an rtpengine and gives the URL of its listen-ng.
func startDaemon(t *testing.T) (url string, process *os.Process) {
	t.Helper()
	program, err := exec.LookPath("rtpengine")
	if err != nil {
		t.Skip("no rtpengine here: .ci/peers.sh installs it")
	}
	control := freePort(t)
	first := 30000 + rand.IntN(250)*100
	log, err := os.Create(filepath.Join(t.TempDir(), "rtpengine.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "--foreground", "--log-stderr", "--log-level=6", "--table=-1", "--config-file=none", "--num-threads=2",
		"--interface=127.0.0.1", fmt.Sprintf("--listen-ng=127.0.0.1:%d", control),
		fmt.Sprintf("--port-min=%d", first), fmt.Sprintf("--port-max=%d", first+99))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("rtpengine:\n%s", text[max(0, len(text)-6000):])
		}
	})
	client := ng.NewClient(fmt.Sprintf("127.0.0.1:%d", control), nil)
	defer client.Close()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := client.Do(ctx, "ping", nil)
		cancel()
		if err == nil {
			return fmt.Sprintf("udp://127.0.0.1:%d", control), cmd.Process
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatal("the daemon does not come up")
	return "", nil
}

// freePort is a UDP port that nobody is given by chance: it lies below those that Linux gives out, such as to the client
// that pings the daemon before it listens there, and below those of a relay.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(9000)
		if conn, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			conn.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// site is a relay over daemons, with one call between two sockets.
type site struct {
	t             *testing.T
	relay         *Relay
	session       *Session
	trunk, device *handset
}

// handset is a socket that speaks RTP.
type handset struct {
	t      *testing.T
	conn   *net.UDPConn
	talker rtptest.Talker
	sent   map[string]bool // all that talks had it say: the last of it may come late
	ours   *sdp.Description
	srtp   *rtptest.SRTP // nil: plain
}

func newSite(t *testing.T, urls ...string) *site {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Engine, cfg.RTPEngine.Address, cfg.Timeout = "rtpengine", urls, 2*time.Second
	relay, err := NewRelay(cfg, Options{LocalAddress: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(relay.Close)
	s := &site{t: t, relay: relay}
	s.open()
	return s
}

// open begins a call.
func (s *site) open() {
	s.t.Helper()
	var err error
	if s.session, err = s.relay.Open(SessionOptions{ID: fmt.Sprintf("call-%d", rand.Uint64())}); err != nil {
		s.t.Fatal(err)
	}
	s.trunk, s.device = newHandset(s.t, 0x1111), newHandset(s.t, 0x2222)
}

func newHandset(t *testing.T, ssrc uint32) *handset {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &handset{t: t, conn: conn, talker: rtptest.Talker{SSRC: ssrc, Payload: 8, Seq: 100, Timestamp: 1000}}
}

func (p *handset) addr() netip.AddrPort {
	a := p.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// sdp describes the phone.
func (p *handset) sdp(attributes ...string) []byte {
	if p.srtp != nil {
		attributes = append(attributes, p.srtp.Line())
	}
	b := body(p.addr(), "8 101", attributes...)
	if p.srtp != nil {
		b = bytes.Replace(b, []byte("RTP/AVP"), []byte("RTP/SAVP"), 1)
	}
	return b
}

// learn reads our description.
func (p *handset) learn(ours []byte, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.ours, err = sdp.ParseSecure(ours, SRTPOptional); err != nil {
		p.t.Fatal(err)
	}
	if p.srtp != nil {
		if err := p.srtp.Hear(ours); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// connect is an answered call with early media.
func (s *site) connect() {
	s.t.Helper()
	s.must(s.session.SetOffer(Trunk, s.trunk.sdp()))
	s.trunk.learn(s.session.Answer(Trunk))
	s.session.Secret(Device, s.device.srtp != nil)
	offer, err := s.session.Offer(Device)
	s.device.learn(offer, err)
	s.must(s.session.SetAnswerTo(Device, offer, s.device.sdp()))
	s.session.Connect()
}

// talks has a phone send speech until the other has heard ten packets of it, each as it was sent.
func (s *site) talks(from, to *handset) {
	s.t.Helper()
	if from.sent == nil {
		from.sent = map[string]bool{}
	}
	deadline := time.Now().Add(5 * time.Second)
	for heard := 0; heard < 10; {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d packets heard; %d were ever sent", heard, len(from.sent))
		}
		payload := make([]byte, 160)
		for i := range payload {
			payload[i] = byte(rand.Uint32())
		}
		packet := from.talker.Next(payload)
		from.sent[string(packet)] = true
		from.send(packet)
		for _, got := range to.heard(10 * time.Millisecond) {
			if !from.sent[string(got)] {
				s.t.Fatalf("heard %x, which nobody has sent", got)
			}
			heard++
		}
	}
}

func (p *handset) send(packet []byte) {
	if p.srtp != nil {
		var err error
		if packet, err = p.srtp.Seal(slices.Clone(packet)); err != nil {
			p.t.Fatal(err)
		}
	}
	_, _ = p.conn.WriteToUDPAddrPort(packet, p.ours.Addr)
}

// heard is what comes within some time, without RTCP.
func (p *handset) heard(within time.Duration) (packets [][]byte) {
	deadline := time.Now().Add(within)
	for {
		buf := make([]byte, 2000)
		_ = p.conn.SetReadDeadline(deadline)
		n, from, err := p.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return packets
		}
		if p.ours != nil && from.Port() != p.ours.Addr.Port() { // RFC 4961
			p.t.Errorf("a packet comes from %v, and our description says %v", from, p.ours.Addr)
		}
		packet := buf[:n]
		if p.srtp != nil {
			if packet, err = p.srtp.Open(packet); err != nil {
				p.t.Errorf("not to be decrypted: %v", err)
				continue
			}
		}
		if !isRTCP(packet) {
			packets = append(packets, packet)
		}
	}
}

// deaf fails the test if a phone hears what the other one says.
func (s *site) deaf(from, to *handset) {
	s.t.Helper()
	said := map[string]bool{}
	for range 10 {
		packet := from.talker.Next(make([]byte, 160))
		said[string(packet[2:12])] = true
		from.send(packet)
	}
	for _, got := range to.heard(250 * time.Millisecond) {
		if said[string(got[2:12])] { // and neither the ringback nor what was under way
			s.t.Errorf("heard %x", got[:12])
		}
	}
}
