package rtp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/rtptest"
	"reveille/rtp/sdp"
)

// Addresses of the test network.
var (
	relayIP  = netip.MustParseAddr("192.0.2.1")
	trunkIP  = netip.MustParseAddr("198.51.100.7")
	deviceIP = netip.MustParseAddr("203.0.113.9")
)

// world is a relay in an in-memory network, with a call between two peers.
type world struct {
	t       *testing.T
	net     *rtptest.Network
	relay   *Relay
	session *Session
	trunk   *peer
	device  *peer
}

// peer is one side of the call: a socket, a stream of its own, and what we described to it.
type peer struct {
	w      *world
	conn   *rtptest.Conn
	talker rtptest.Talker
	ours   *sdp.Description
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// newWorld makes the relay and opens a session; change may alter the configuration.
func newWorld(t *testing.T, change func(*Config, *Options)) *world {
	t.Helper()
	w := &world{t: t, net: &rtptest.Network{}}
	cfg := DefaultConfig()
	o := Options{LocalAddress: relayIP, Listen: listenOn(w.net)}
	if change != nil {
		change(&cfg, &o)
	}
	var err error
	if w.relay, err = NewRelay(cfg, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.relay.Close)
	if w.session, err = w.relay.Open(SessionOptions{ID: "call-1"}); err != nil {
		t.Fatal(err)
	}
	w.trunk = w.peer(netip.AddrPortFrom(trunkIP, 4000), 0x1111)
	w.device = w.peer(netip.AddrPortFrom(deviceIP, 5000), 0x2222)
	return w
}

// listenOn fits a test network to Options.Listen.
func listenOn(n *rtptest.Network) func(netip.AddrPort) (PacketConn, error) {
	return func(a netip.AddrPort) (PacketConn, error) { return n.Listen(a) }
}

// peer binds a peer's socket.
func (w *world) peer(addr netip.AddrPort, ssrc uint32) *peer {
	w.t.Helper()
	conn, err := w.net.Listen(addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return &peer{w: w, conn: conn, talker: rtptest.Talker{SSRC: ssrc, Payload: 8, Seq: 100, Timestamp: 1000}}
}

// body is a description with the given address, formats and further attributes.
func body(addr netip.AddrPort, formats string, attributes ...string) []byte {
	kind := "IP4"
	if addr.Addr().Is6() {
		kind = "IP6"
	}
	lines := []string{"v=0", "o=- 1 1 IN " + kind + " " + addr.Addr().String(), "s=-", "c=IN " + kind + " " + addr.Addr().String(), "t=0 0",
		fmt.Sprintf("m=audio %d RTP/AVP %s", addr.Port(), formats), "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15"}
	for _, a := range attributes {
		lines = append(lines, "a="+a)
	}
	return []byte(strings.Join(lines, "\r\n") + "\r\n")
}

// sdp is the description of a peer by its own address.
func (p *peer) sdp(formats string, attributes ...string) []byte {
	return body(p.conn.Addr(), formats, attributes...)
}

// learn reads our description.
func (p *peer) learn(ours []byte, err error) {
	p.w.t.Helper()
	if err != nil {
		p.w.t.Fatal(err)
	}
	if p.ours, err = sdp.Parse(ours); err != nil {
		p.w.t.Fatal(err)
	}
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// ring brings the call to ringing with early media: trunk answered, device offered.
func (w *world) ring(formats string, attributes ...string) {
	w.t.Helper()
	w.must(w.session.SetOffer(Trunk, w.trunk.sdp(formats, attributes...)))
	w.trunk.learn(w.session.Answer(Trunk))
	w.device.learn(w.session.Offer(Device))
}

// connect is a plain answered call in PCMA.
func (w *world) connect() {
	w.t.Helper()
	w.ring("8 0 101")
	w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
	w.session.Connect()
}

// send sends a packet to our RTP port.
func (p *peer) send(packet []byte) { p.sendTo(p.ours.Addr, packet) }

func (p *peer) sendTo(to netip.AddrPort, packet []byte) {
	if _, err := p.conn.WriteToUDPAddrPort(packet, to); err != nil {
		p.w.t.Error(err)
	}
}

// talk sends n packets of speech, 20 ms apart, and gives them back.
func (p *peer) talk(n int) [][]byte {
	var sent [][]byte
	for range n {
		packet := p.talker.Next(bytes.Repeat([]byte{byte(p.talker.Seq)}, 160))
		sent = append(sent, packet)
		p.send(packet)
		time.Sleep(20 * time.Millisecond)
	}
	synctest.Wait()
	return sent
}

// heard gives all that has come to a peer.
func (p *peer) heard() (packets [][]byte) {
	p.w.t.Helper()
	synctest.Wait()
	if err := p.conn.SetReadDeadline(time.Now().Add(time.Nanosecond)); err != nil {
		p.w.t.Fatal(err)
	}
	for {
		buf := make([]byte, 2000)
		n, _, err := p.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return packets
		}
		packets = append(packets, buf[:n])
	}
}

// same fails the test unless what was heard is what was sent, bit for bit.
func (w *world) same(what string, got, want [][]byte) {
	w.t.Helper()
	if len(got) != len(want) {
		w.t.Fatalf("%s: %d packets, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			w.t.Fatalf("%s: packet %d is\n%x, want\n%x", what, i, got[i], want[i])
		}
	}
}

// events gives those that have come.
func (w *world) events() (list []Event) {
	synctest.Wait()
	for {
		select {
		case e := <-w.session.Events():
			list = append(list, e)
		default:
			return list
		}
	}
}
