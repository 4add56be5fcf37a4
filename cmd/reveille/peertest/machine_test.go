package peertest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reveille/sip"
	"reveille/sip/siptest"
)

// machine is the network of a host.
type machine struct{}

func (machine) command(words []string) (string, bool, error) {
	switch words[0] {
	case "ip", "nft":
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%v: %w: %s", words, err, strings.ReplaceAll(string(out), "\n", " "))
		}
		return string(out), true, err
	case "route": // forward packets
		return "", true, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600)
	case "forget":
		return "", true, forget()
	}
	return "", false, nil
}

// forget ends all that this machine's connection tracking knows, as a NAT does that is switched off and on.
func forget() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const ctnetlink, del = 1, 2 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
	m := make([]byte, 20)       // header, and a nfgenmsg with no tuple: all of them
	binary.NativeEndian.PutUint32(m, 20)
	binary.NativeEndian.PutUint16(m[4:], ctnetlink<<8|del)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m[16] = unix.AF_INET
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err == nil && n >= 20 {
		if code := int32(binary.NativeEndian.Uint32(answer[16:])); code != 0 {
			err = unix.Errno(-code)
		}
	}
	return err
}

// calling is a carrier on a host of its own.
type calling struct {
	ctx   context.Context
	trunk *siptest.Trunk
	call  *siptest.Call
}

func (c *calling) command(words []string) (answer string, known bool, err error) {
	switch words[0] {
	case "carrier":
		c.trunk, err = siptest.NewTrunk(c.ctx, siptest.TrunkOptions{Sockets: sip.SystemNetwork(), Bridge: words[1], Local: words[2]})
	case "call":
		c.call, err = c.trunk.Invite(siptest.Invitation{To: words[1]})
	case "answered":
		if _, err = c.call.Await(patience, "200"); err == nil {
			go c.call.Audio.Play(c.ctx, 1<<20)
		}
	case "hearing":
		if c.call == nil {
			return "", false, nil
		}
		answer = hearingOf(c.call.Audio.Received()).String()
	case "bye":
		_, err = c.call.Bye().Await(patience, "200")
	default:
		return "", false, nil
	}
	return answer, true, err
}

// hearing is what of siptest's signal has come to one end of a call.
type hearing struct {
	heard   int // packets of the latest source
	first   int // number of the first of them
	last    int // of the last one
	missing int // between those
	twice   int
	late    int // behind one with a higher number
	wrong   int // altered, of whichever source
}

func (h hearing) String() string {
	return fmt.Sprintf("%d %d %d %d %d %d %d", h.heard, h.first, h.last, h.missing, h.twice, h.late, h.wrong)
}

// readHearing is its opposite.
func readHearing(text string) (h hearing, err error) {
	_, err = fmt.Sscanf(text, "%d %d %d %d %d %d %d", &h.heard, &h.first, &h.last, &h.missing, &h.twice, &h.late, &h.wrong)
	return h, err
}

// hearingOf compares packets bit by bit with what siptest's audio sends: payload, sequence number and timestamp. The
// ringback is another source, and before it.
func hearingOf(got []siptest.RTP) (h hearing) {
	if len(got) == 0 {
		return h
	}
	source, seen := got[len(got)-1].SSRC, map[uint16]bool{}
	got = slices.DeleteFunc(slices.Clone(got), func(p siptest.RTP) bool { return p.SSRC != source })
	h.first, h.last = int(got[0].Seq), int(got[0].Seq)
	for _, p := range got {
		k := int(p.Seq)
		switch {
		case p.Timestamp != uint32(k)*160 || string(p.Data) != string(siptest.Frame(source, k)):
			h.wrong++
		case seen[p.Seq]:
			h.twice++
		case k < h.last:
			h.late++
		}
		seen[p.Seq] = true
		h.first, h.last = min(h.first, k), max(h.last, k)
	}
	h.heard = len(seen)
	h.missing = h.last - h.first + 1 - len(seen)
	return h
}
