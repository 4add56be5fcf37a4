package peertest

import (
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// bleeder is a stranger who wants the sound of other people's calls (rtpbleed.com): it sends to all ports of a range
// whatever may bring an answer, and counts what comes to its network interface, for whichever port.
type bleeder struct {
	udp, other atomic.Int64 // packets that came
	sent       atomic.Int64
}

func (b *bleeder) command(words []string) (answer string, known bool, err error) {
	switch words[0] {
	case "bleed": // IP, first port, last port; to the end of the test
		first, _ := strconv.Atoi(words[2])
		last, _ := strconv.Atoi(words[3])
		err = b.start(net.ParseIP(words[1]), first, last)
	case "bled":
		answer = fmt.Sprint(b.sent.Load(), b.udp.Load(), b.other.Load())
	default:
		return "", false, nil
	}
	return answer, true, err
}

func (b *bleeder) start(ip net.IP, first, last int) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_IP)))
	if err != nil {
		return err
	}
	go b.count(fd)
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	go b.send(conn, ip, first, last)
	return nil
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// count looks at each packet of IPv4 that the interface takes.
func (b *bleeder) count(fd int) {
	for buf := make([]byte, 2048); ; {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		switch {
		case !ok || link.Pkttype == unix.PACKET_OUTGOING || n < 20:
		case buf[9] == unix.IPPROTO_UDP:
			b.udp.Add(1)
		default:
			b.other.Add(1)
		}
	}
}

// send sends each port a stream of speech as good as any, and in between what else a media port may understand.
func (b *bleeder) send(conn *net.UDPConn, ip net.IP, first, last int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for seq := uint16(0); ; seq++ {
		for port := first; port <= last; port++ {
			to := &net.UDPAddr{IP: ip, Port: port}
			for _, p := range append([][]byte{speech(seq, port)}, others(seq, port)...) {
				if _, err := conn.WriteToUDP(p, to); err == nil {
					b.sent.Add(1)
				}
			}
		}
		<-tick.C
	}
}

func speech(seq uint16, port int) []byte {
	p := make([]byte, 172)
	p[0], p[1] = 2<<6, 8
	binary.BigEndian.PutUint16(p[2:], seq)
	binary.BigEndian.PutUint32(p[4:], uint32(seq)*160)
	binary.BigEndian.PutUint32(p[8:], uint32(port))
	return p
}

// others is one of the other things every 80 ms.
func others(seq uint16, port int) [][]byte {
	switch seq % 20 {
	case 0: // STUN binding request (RFC 8489)
		return [][]byte{append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)}
	case 4: // RTCP: receiver report and BYE for the stream
		p := []byte{0x80, 201, 0, 1, 0, 0, 0, 0, 0x81, 203, 0, 1, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(p[4:], uint32(port))
		binary.BigEndian.PutUint32(p[12:], uint32(port))
		return [][]byte{p}
	case 8: // a DTLS record: the beginning of a ClientHello
		return [][]byte{append([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 1, 0, 0, 28}, make([]byte, 36)...)}
	case 12: // a digit (RFC 4733)
		p := speech(seq, port)[:16]
		p[1], p[12] = 101, 5
		return [][]byte{p}
	case 16:
		return [][]byte{{}, {0xff}, make([]byte, 1400)}
	}
	return nil
}
