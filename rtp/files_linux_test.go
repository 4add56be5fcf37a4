package rtp

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reveille/rtp/rtptest"
)

// fewFiles lets this process open n files more than it has open. The function that it gives, and the end of the test, let
// it open as many as before.
func fewFiles(t *testing.T, n int) (many func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	many = func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(many)
	next, err := os.Open(os.DevNull) // has the lowest number that is free
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next.Fd()) + uint64(n), Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	return many
}

// When the files run out, further calls are refused with words that say so, a live one goes on, and nothing is left of it
// all when there are files again.
func TestFilesRunOut(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	cfg := DefaultConfig()
	cfg.FastPath = "off"
	r, err := NewRelay(cfg, Options{LocalAddress: ip})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	trunk, device := udp(t, ip), udp(t, ip)
	first, err := r.Open(SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	many := fewFiles(t, 1) // for the device's RTP
	at := callOver(t, first, trunk, device)
	for range 3 {
		_, err = r.Open(SessionOptions{})
		if !errors.Is(err, ErrNoSockets) || errors.Is(err, ErrNoPorts) || !strings.Contains(err.Error(), "LimitNOFILE=") {
			t.Errorf("a call without files: %v", err)
		}
	}
	talker := rtptest.Talker{SSRC: 1, Payload: 8}
	packet := talker.Next(make([]byte, 160))
	if _, err := trunk.WriteToUDPAddrPort(packet, at[Trunk]); err != nil {
		t.Fatal(err)
	}
	_ = device.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _, err := device.ReadFromUDPAddrPort(make([]byte, maxPacket)); n != len(packet) {
		t.Errorf("%d bytes came by the live call, want %d (%v)", n, len(packet), err)
	}
	many()
	second, err := r.Open(SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	callOver(t, second, trunk, device)
	if s := &second.audio.sockets[Trunk]; s.rtcp == nil {
		t.Error("no RTCP, though there are files again")
	}
	first.Close()
	second.Close()
	if n := len(r.ports.free) + len(r.ports.resting) - r.ports.rested; n != 5000 {
		t.Errorf("%d pairs of ports are left of 5000", n)
	}
}

// Where the files cannot be enough, that is said before there is a call.
func TestFewFilesAreTold(t *testing.T) {
	cfg := DefaultConfig()
	cfg.FastPath = "off"
	for _, c := range []struct {
		ports string
		told  bool
	}{{"20000-29999", true}, {"20000-20009", false}} {
		cfg.Ports = c.ports
		var log bytes.Buffer
		many := fewFiles(t, 2000)
		r, err := NewRelay(cfg, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		many()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if told := strings.Contains(log.String(), "LimitNOFILE="); told != c.told {
			t.Errorf("media.ports %s: %s", c.ports, log.String())
		}
	}
}
