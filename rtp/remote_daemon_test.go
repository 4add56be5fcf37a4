package rtp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/rtp/ng"
	"reveille/rtp/rtptest"
	"reveille/rtp/sdp"
)

// These tests have whole calls through real rtpengine daemons, on loopback and in real time.

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
	for range 100 {
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

func freePort(t *testing.T) int {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
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
	sent := map[string]bool{}
	deadline := time.Now().Add(5 * time.Second)
	for heard := 0; heard < 10; {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d packets heard of %d", heard, len(sent))
		}
		payload := make([]byte, 160)
		for i := range payload {
			payload[i] = byte(rand.Uint32())
		}
		packet := from.talker.Next(payload)
		sent[string(packet)] = true
		from.send(packet)
		for _, got := range to.heard(10 * time.Millisecond) {
			if !sent[string(got)] {
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
	to.heard(50 * time.Millisecond) // what was under way
	for range 10 {
		from.send(from.talker.Next(make([]byte, 160)))
	}
	for _, got := range to.heard(200 * time.Millisecond) {
		if binary.BigEndian.Uint32(got[8:]) == from.talker.SSRC { // and not the ringback
			s.t.Errorf("heard %x", got[:12])
		}
	}
}

func TestDaemonPlain(t *testing.T) {
	url, _ := startDaemon(t)
	s := newSite(t, url)
	s.must(s.session.SetOffer(Trunk, s.trunk.sdp()))
	s.trunk.learn(s.session.Answer(Trunk))
	s.must(s.session.Ringback())
	s.rings()
	offer, err := s.session.Offer(Device)
	s.device.learn(offer, err)
	if err := s.session.SetAnswerTo(Device, offer, s.device.sdp()); err != nil {
		t.Fatal(err)
	}
	s.deaf(s.device, s.trunk) // not before it has answered
	s.session.Connect()
	s.trunk.heard(100 * time.Millisecond)
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	final := s.session.Close()
	if final.Trunk.Packets < 10 || final.Device.Packets < 10 || final.Trunk.FirstPacket.IsZero() {
		t.Errorf("figures %+v", final)
	}
	s.gone(url)
}

// rings waits for a tone that is not silence.
func (s *site) rings() {
	s.t.Helper()
	loud := 0
	for range 150 {
		for _, packet := range s.trunk.heard(20 * time.Millisecond) {
			if !bytes.Equal(packet[12:], bytes.Repeat([]byte{0xd5}, len(packet)-12)) {
				loud++
			}
		}
		if loud > 20 {
			return
		}
	}
	s.t.Fatalf("%d packets of a ringback heard", loud)
}

// gone checks that the daemon has no call left.
func (s *site) gone(url string) {
	s.t.Helper()
	host, _ := ng.HostPort(url)
	client := ng.NewClient(host, nil)
	defer client.Close()
	if got, err := client.Do(s.t.Context(), "list", ng.Dict{"limit": 9}); err != nil || len(got["calls"].([]any)) > 0 {
		s.t.Errorf("the daemon has %v, %v", got, err)
	}
}

func TestDaemonSDES(t *testing.T) {
	url, _ := startDaemon(t)
	for _, suite := range []string{"AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"} {
		s := newSite(t, url)
		s.device.srtp = &rtptest.SRTP{Suite: suite}
		s.connect()
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		if got := s.session.Encrypted(Device); got != suite {
			t.Errorf("encrypted with %q, want %q", got, suite)
		}
		s.device.srtp = &rtptest.SRTP{Suite: "AES_CM_128_HMAC_SHA1_80", Seed: 5} // a key that it brings in mid-call
		s.reoffer(s.device, Device, "sendrecv")
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		s.reoffer(s.trunk, Trunk, "sendonly")
		s.reoffer(s.trunk, Trunk, "sendrecv")
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		s.session.Close()
	}
}

// Two phones ring with keys of their own; the second answers, and the first hears nothing and is heard by nobody.
func TestDaemonFork(t *testing.T) {
	url, _ := startDaemon(t)
	s := newSite(t, url)
	s.must(s.session.SetOffer(Trunk, s.trunk.sdp()))
	s.trunk.learn(s.session.Answer(Trunk))
	s.session.Secret(Device, true)
	other := newHandset(t, 0x3333)
	s.device.srtp, other.srtp = &rtptest.SRTP{Seed: 1}, &rtptest.SRTP{Seed: 2}
	first, err := s.session.Offer(Device)
	s.device.learn(first, err)
	second, err := s.session.Offer(Device)
	other.learn(second, err)
	if s.device.ours.Addr == other.ours.Addr || bytes.Equal(s.device.ours.Crypto[0].Key, other.ours.Crypto[0].Key) {
		t.Error("two phones have the same address or key")
	}
	s.must(s.session.SetAnswerTo(Device, first, s.device.sdp()))
	s.session.Connect()
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	other.sdp() // makes its key
	s.deaf(other, s.trunk)
	if got := other.heard(50 * time.Millisecond); len(got) > 0 {
		t.Errorf("a phone that has not answered hears %d packets", len(got))
	}
	s.session.Close()
	s.gone(url)
}

func TestDaemonHold(t *testing.T) {
	url, _ := startDaemon(t)
	for _, keyed := range []bool{false, true} {
		s := newSite(t, url)
		if keyed {
			s.device.srtp = &rtptest.SRTP{}
		}
		s.connect()
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		s.reoffer(s.device, Device, "sendonly")
		s.deaf(s.trunk, s.device)
		s.talks(s.device, s.trunk) // music
		s.reoffer(s.device, Device, "sendrecv")
		s.talks(s.trunk, s.device)
		s.talks(s.device, s.trunk)
		s.reoffer(s.trunk, Trunk, "inactive")
		s.deaf(s.device, s.trunk)
		s.reoffer(s.trunk, Trunk, "sendrecv")
		s.talks(s.device, s.trunk)
		s.talks(s.trunk, s.device)
		s.session.Close()
	}
}

// reoffer has a side change its direction, and the other agree.
func (s *site) reoffer(p *handset, side Side, direction string) {
	s.t.Helper()
	proposal, err := s.session.Propose(side, p.sdp(direction))
	s.must(err)
	other, mirrored := s.device, map[string]string{"sendonly": "recvonly", "inactive": "inactive", "sendrecv": "sendrecv"}[direction]
	if side == Device {
		other = s.trunk
	}
	offer, err := proposal.Offer()
	s.must(err)
	answer, err := proposal.Accept(other.sdp(mirrored))
	s.must(err)
	other.learn(offer, nil)
	p.learn(answer, nil)
}

// The call is handed to another phone, and back.
func TestDaemonHandover(t *testing.T) {
	url, _ := startDaemon(t)
	s := newSite(t, url)
	s.connect()
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	former := s.device
	undo := s.session.Handover()
	s.deaf(former, s.trunk)
	s.device = newHandset(t, 0x4444)
	offer, err := s.session.Offer(Device)
	s.device.learn(offer, err)
	undo()
	s.talks(s.trunk, former)
	s.talks(former, s.trunk)
	s.session.Handover()
	offer, err = s.session.Offer(Device)
	s.device.learn(offer, err)
	s.must(s.session.SetAnswerTo(Device, offer, s.device.sdp()))
	s.session.Connect()
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	s.deaf(former, s.trunk)
	s.session.Close()
	s.gone(url)
}

// One of two daemons is killed: new calls have the other at once, one of its calls moves there with a re-INVITE, another
// ends with the cause.
func TestDaemonKilled(t *testing.T) {
	first, process := startDaemon(t)
	second, _ := startDaemon(t)
	s := newSite(t, first, second)
	for s.session.remote.engine.URL() != first {
		s.open()
	}
	s.connect()
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	doomed := newSession(t, s.relay, first)
	doomed.connect()
	doomed.talks(doomed.trunk, doomed.device)
	s.must(process.Kill())
	for range 5 {
		next := &site{t: t, relay: s.relay}
		next.open()
		next.connect()
		next.talks(next.trunk, next.device)
		next.talks(next.device, next.trunk)
		next.session.Close()
	}
	s.reoffer(s.trunk, Trunk, "sendrecv")
	s.talks(s.trunk, s.device)
	s.talks(s.device, s.trunk)
	for deadline := time.After(10 * time.Second); ; {
		select {
		case e := <-doomed.session.Events():
			if e.Kind == EngineLost && strings.Contains(e.Cause, first+" does not answer") {
				return
			}
			if e.Kind == Idle {
				t.Fatal("idle, and nothing of the daemon")
			}
		case <-deadline:
			t.Fatal("the call on the daemon that was killed does not end")
		}
	}
}

// newSession is a call on that daemon.
func newSession(t *testing.T, relay *Relay, url string) *site {
	s := &site{t: t, relay: relay}
	for s.open(); s.session.remote.engine.URL() != url; s.open() {
	}
	return s
}

// No daemon is there: the call is refused, and why is said.
func TestDaemonNone(t *testing.T) {
	s := newSite(t, fmt.Sprintf("udp://127.0.0.1:%d", freePort(t)))
	s.must(s.session.SetOffer(Trunk, s.trunk.sdp()))
	if _, err := s.session.Answer(Trunk); !errors.Is(err, ErrNoEngine) {
		t.Errorf("err %v, want ErrNoEngine", err)
	}
	if _, err := s.relay.Open(SessionOptions{}); !errors.Is(err, ErrNoEngine) {
		t.Errorf("err %v, want ErrNoEngine", err)
	}
}
