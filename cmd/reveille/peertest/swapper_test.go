package peertest

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// swapEvery is how many packets are between two that overtake each other.
const swapEvery = 10

// swapper is a way through a router on which packets overtake each other: those that carry mark 1 go by it.
type swapper struct{ swapped atomic.Int64 }

func (s *swapper) command(words []string) (answer string, known bool, err error) {
	switch words[0] {
	case "swap":
		err = s.start()
	case "swapped":
		answer = strconv.FormatInt(s.swapped.Load(), 10)
	default:
		return "", false, nil
	}
	return answer, true, err
}

func (s *swapper) start() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	request, err := unix.NewIfreq("slow")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	for _, file := range []string{"all", "slow"} { // its packets come from where no route leads back by it
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+file+"/rp_filter", []byte("0"), 0o600); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"link", "set", "slow", "up"}, {"route", "add", "default", "dev", "slow", "table", "100"}, {"rule", "add", "fwmark", "1", "table", "100"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	go s.run(fd)
	return nil
}

// run sends each packet on, but holds each tenth until the next has gone.
func (s *swapper) run(fd int) {
	var held []byte
	buf := make([]byte, 2048)
	for n := 1; ; {
		size, err := unix.Read(fd, buf)
		if err != nil {
			return
		}
		if buf[0]>>4 != 4 {
			continue // the device itself looks for IPv6 routers
		}
		if n++; n%swapEvery == 0 {
			held = append([]byte(nil), buf[:size]...)
			continue
		}
		_, _ = unix.Write(fd, buf[:size])
		if held != nil {
			_, _ = unix.Write(fd, held)
			held = nil
			s.swapped.Add(1)
		}
	}
}
