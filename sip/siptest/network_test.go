package siptest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

var background = context.Background()

func socket(t *testing.T, h *siptest.Host, port uint16) *siptest.PacketConn {
	t.Helper()
	c, err := h.ListenUDP(netip.AddrPortFrom(h.Addr(), port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, from *siptest.PacketConn, to, text string) {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(to)); err != nil {
		t.Fatal(err)
	}
}

// receive reads until nothing comes for a second.
func receive(c *siptest.PacketConn) (texts []string) {
	buf := make([]byte, 100)
	for {
		c.SetReadDeadline(time.Now().Add(time.Second))
		n, _, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return texts
		}
		texts = append(texts, string(buf[:n]))
	}
}

func TestDatagramsArriveInOrderAfterTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		n.Link("192.0.2.1", "192.0.2.2", siptest.Link{Delay: 30 * time.Millisecond})
		a, b := socket(t, n.Host("192.0.2.1"), 5060), socket(t, n.Host("192.0.2.2"), 5060)
		start := time.Now()
		for i := range 100 {
			send(t, a, "192.0.2.2:5060", fmt.Sprint(i))
		}
		buf := make([]byte, 10)
		for i := range 100 {
			got, from, err := b.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:got]) != fmt.Sprint(i) || from != netip.MustParseAddrPort("192.0.2.1:5060") {
				t.Fatalf("datagram %d: %q from %v, %v", i, buf[:got], from, err)
			}
		}
		if took := time.Since(start); took != 30*time.Millisecond {
			t.Errorf("arrived after %v, want 30ms", took)
		}
	})
}

func TestLossAndReorderingComeFromTheSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := func(seed uint64) []string {
			n := siptest.NewNetwork()
			n.Seed(seed)
			n.Link("", "", siptest.Link{Loss: 0.2, Reorder: 0.2})
			a, b := socket(t, n.Host("192.0.2.1"), 1), socket(t, n.Host("192.0.2.2"), 1)
			for i := range 200 {
				send(t, a, "192.0.2.2:1", fmt.Sprint(i))
			}
			return receive(b)
		}
		first, again, other := run(1), run(1), run(2)
		if fmt.Sprint(first) != fmt.Sprint(again) || fmt.Sprint(first) == fmt.Sprint(other) {
			t.Error("the seed does not decide the chances")
		}
		if len(first) < 130 || len(first) > 190 {
			t.Errorf("%d of 200 arrived, want about 160", len(first))
		}
		late := 0
		for i := 1; i < len(first); i++ {
			var x, y int
			fmt.Sscan(first[i-1], &x)
			fmt.Sscan(first[i], &y)
			if y < x {
				late++
			}
		}
		if late == 0 {
			t.Error("nothing was reordered")
		}
	})
}

func TestDeadlineAndCloseWakeAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := socket(t, siptest.NewNetwork().Host("192.0.2.1"), 1)
		start := time.Now()
		c.SetReadDeadline(start.Add(5 * time.Second))
		if _, _, err := c.ReadFromUDPAddrPort(nil); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v, want a timeout after 5s", err, time.Since(start))
		}
		c.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { c.Close() })
		if _, _, err := c.ReadFromUDPAddrPort(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a closed socket: %v", err)
		}
	})
}

// pair opens a stream between two hosts.
func pair(t *testing.T, n *siptest.Network) (dialed, accepted net.Conn) {
	t.Helper()
	l, err := n.Host("192.0.2.2").Listen(background, "tcp", "192.0.2.2:5060")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if dialed, err = n.Host("192.0.2.1").DialContext(background, "tcp", "192.0.2.2:5060"); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed, accepted
}

func TestStreamBuffersDelaysAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		n.Link("", "", siptest.Link{Delay: 20 * time.Millisecond})
		start := time.Now()
		a, b := pair(t, n)
		if took := time.Since(start); took != 40*time.Millisecond {
			t.Errorf("connected after %v, want a round trip of 40ms", took)
		}
		start = time.Now()
		io.WriteString(a, "hello ") // nobody reads yet: must not block
		io.WriteString(a, "world")
		a.Close()
		got, err := io.ReadAll(b)
		if string(got) != "hello world" || err != nil || time.Since(start) != 20*time.Millisecond {
			t.Errorf("read %q, %v after %v", got, err, time.Since(start))
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed peer: %v", err)
		}
	})
}

func TestWriteToAStalledPeerMeetsItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := pair(t, siptest.NewNetwork())
		a.SetWriteDeadline(time.Now().Add(5 * time.Second))
		n, err := a.Write(make([]byte, 1<<20))
		if n == 0 || n == 1<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d bytes, %v: want a full buffer and a timeout", n, err)
		}
	})
}

func TestCutAndPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		a, b := pair(t, n)
		n.Partition("192.0.2.1", true)
		io.WriteString(a, "later")
		b.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := b.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read across the partition: %v", err)
		}
		b.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { n.Partition("192.0.2.1", false) })
		buf := make([]byte, 10)
		if got, err := b.Read(buf); string(buf[:got]) != "later" {
			t.Errorf("after healing: %q, %v", buf[:got], err)
		}
		if cut := n.CutStreams("192.0.2.1", ""); cut != 1 {
			t.Errorf("cut %d streams, want 1", cut)
		}
		if _, err := a.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read after the cut: %v", err)
		}
		if _, err := n.Host("192.0.2.1").DialContext(background, "tcp", "192.0.2.2:9"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial to nobody: %v", err)
		}
	})
}

func TestTapSeesEveryPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		var seen []string
		n.Tap(func(p siptest.Packet) { seen = append(seen, fmt.Sprintf("%s %s %v", p.Network, p.Data, p.Dropped)) })
		a := socket(t, n.Host("192.0.2.1"), 1)
		send(t, a, "192.0.2.9:1", "nobody")
		c, _ := pair(t, n)
		io.WriteString(c, "stream")
		if got := fmt.Sprint(seen); got != "[udp nobody true tcp stream false]" {
			t.Error(got)
		}
	})
}
