package peertest

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// probe finds out from behind a NAT what kind it is (RFC 4787), with the help of three sockets outside: see behaviour.
type probe struct{ conn *net.UDPConn }

func (p *probe) command(words []string) (answer string, known bool, err error) {
	switch words[0] {
	case "knock": // from a new socket, once at each of the addresses
		if p.conn != nil {
			p.conn.Close()
		}
		if p.conn, err = net.ListenUDP("udp4", nil); err == nil {
			err = p.knock(words[1:])
		}
	case "came": // all that comes up to the last letter, which must
		answer, err = p.came()
	default:
		return "", false, nil
	}
	return answer, true, err
}

func (p *probe) knock(at []string) error {
	for _, a := range at {
		to, err := netip.ParseAddrPort(a)
		if err != nil {
			return err
		}
		if _, err := p.conn.WriteToUDPAddrPort([]byte("knock"), to); err != nil {
			return err
		}
	}
	return nil
}

func (p *probe) came() (string, error) {
	p.conn.SetReadDeadline(time.Now().Add(patience))
	came := map[byte]bool{}
	for buf := make([]byte, 16); ; {
		n, err := p.conn.Read(buf)
		if n == 0 && came['c'] {
			return letters(came), nil
		}
		if err != nil {
			return letters(came), err
		}
		if came[buf[0]] = true; buf[0] == 'c' {
			p.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // another that the last has overtaken
		}
	}
}

func letters(came map[byte]bool) (all string) {
	for _, letter := range "abc" {
		if came[byte(letter)] {
			all += string(letter)
		}
	}
	return all
}

// behaviour is what a NAT does: whether a socket behind it has the same address for all outside, and who can answer
// to that: "anybody", "the address" written to, or only the "address and port".
type behaviour struct {
	sameMapping bool
	answers     string
}

// observe finds it out. Two of our three sockets share an address.
func observe(t testing.TB, inside *host) behaviour {
	t.Helper()
	var socks [3]*net.UDPConn
	var at [3]string
	for i, host := range []string{carrierIP, carrierIP, pbxIP} {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(host)})
		must(t, err)
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(patience))
		socks[i], at[i] = conn, conn.LocalAddr().String()
	}
	from := func(i int) netip.AddrPort {
		t.Helper()
		_, a, err := socks[i].ReadFromUDPAddrPort(make([]byte, 16))
		must(t, err)
		return a
	}
	inside.do(t, fmt.Sprintf("knock %s %s %s", at[0], at[1], at[2]))
	a, b, c := from(0), from(1), from(2)
	inside.do(t, "knock "+at[0])
	hole := from(0)
	for _, send := range []struct {
		i      int
		letter string
	}{{2, "a"}, {1, "b"}, {0, "c"}} { // one way, one after the other: what has not come before c will not come
		_, err := socks[send.i].WriteToUDPAddrPort([]byte(send.letter), hole)
		must(t, err)
	}
	who := map[string]string{"abc": "anybody", "bc": "the address", "c": "address and port"}
	return behaviour{a == b && a == c, who[inside.do(t, "came")]}
}
