package loadtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sort"
	"sync"
	"syscall"
	"testing"
	"time"
)

// flooder sends REGISTERs with wrong passwords from loopback addresses other
// than 127.0.0.1, which alone is trusted (never_ban).
type flooder struct {
	to    *net.UDPAddr
	udp   *net.UDPConn
	sent  int
	conns []net.Conn
}

func newFlooder(tb testing.TB, to string) *flooder {
	tb.Helper()
	peer, err := net.ResolveUDPAddr("udp4", to)
	if err != nil {
		tb.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	go func() { // the answers
		buf := make([]byte, 4096)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
		}
	}()
	return &flooder{to: peer, udp: conn}
}

func (f *flooder) message(proto, nonce string) []byte {
	f.sent++
	user := f.sent%200 + 1
	return fmt.Appendf(nil, "REGISTER sip:reveille SIP/2.0\r\nVia: SIP/2.0/%s 192.0.2.66:5060;branch=z9hG4bKflood%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:%d@reveille>;tag=f\r\nTo: <sip:%d@reveille>\r\nCall-ID: flood-%d\r\nCSeq: 1 REGISTER\r\nContact: <sip:%d@192.0.2.66>\r\n"+
		"Authorization: Digest username=\"%d\", realm=\"reveille\", nonce=%q, uri=\"sip:reveille\", response=\"%032x\", algorithm=MD5, cnonce=\"c\", qop=auth, nc=00000001\r\n"+
		"Content-Length: 0\r\n\r\n", proto, f.sent, user, user, f.sent, user, user, nonce, f.sent)
}

// datagram sends from the source address; all of 127.0.0.0/8 is ours.
func (f *flooder) datagram(source netip.Addr, nonce string) {
	var oob bytes.Buffer // a cmsghdr and an in_pktinfo
	length := syscall.CmsgLen(syscall.SizeofInet4Pktinfo)
	_ = binary.Write(&oob, binary.NativeEndian, uint64(length))
	_ = binary.Write(&oob, binary.NativeEndian, [2]int32{syscall.IPPROTO_IP, syscall.IP_PKTINFO})
	a := source.As4()
	oob.Write(make([]byte, 4)) // any interface
	oob.Write(a[:])
	oob.Write(make([]byte, syscall.CmsgSpace(syscall.SizeofInet4Pktinfo)-oob.Len()))
	_, _, _ = f.udp.WriteMsgUDP(f.message("UDP", nonce), oob.Bytes(), f.to) // a full buffer loses it
}

// stream sends by one of a hundred connections of five addresses. The bridge
// lets them wait and closes them; those are opened again.
func (f *flooder) stream(i int) {
	if f.conns == nil {
		f.conns = make([]net.Conn, 100)
	}
	i %= len(f.conns)
	if f.conns[i] == nil {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i/20))}, Timeout: 50 * time.Millisecond}
		conn, err := d.Dial("tcp4", f.to.String())
		if err != nil {
			return
		}
		f.conns[i] = conn
	}
	f.conns[i].SetWriteDeadline(time.Now().Add(time.Millisecond))
	if _, err := f.conns[i].Write(f.message("TCP", "guess")); err != nil {
		f.conns[i].Close()
		f.conns[i] = nil
	}
}

// floods are the kinds, none first. Each sends its n-th message.
func (f *flooder) kinds(nonce string) (names []string, send []func(n int)) {
	return []string{"none", "one", "forged", "tcp"}, []func(int){
		nil,
		func(int) { f.datagram(netip.AddrFrom4([4]byte{127, 0, 1, 1}), nonce) },
		func(n int) {
			f.datagram(netip.AddrFrom4([4]byte{127, byte(10 + n>>16), byte(n >> 8), byte(n)}), "forged")
		},
		func(n int) { f.stream(n) },
	}
}

// nonce is a challenge that is good for 127.0.1.0/24.
func (f *flooder) nonce(tb testing.TB) string {
	tb.Helper()
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 1, 2)}, f.to)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write(f.message("UDP", "none yet")); err != nil {
		tb.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		tb.Fatal(err)
	}
	return param(string(header(buf[:n], "WWW-Authenticate")), "nonce")
}

// honest is the traffic whose waits are measured: call n of a round goes to an
// extension of its own, whose phone registers as soon as its push comes.
type honest struct {
	r *rig
	c *carrier

	repeated int // INVITEs

	mu sync.Mutex // guards the following

	sent     map[int]time.Time
	toPush   map[int]time.Duration
	toInvite map[int]time.Duration
	errs     []error
}

func newHonest(r *rig) *honest {
	h := &honest{r: r, c: newCarrier(r.tb, r.sip, true), sent: map[int]time.Time{}, toPush: map[int]time.Duration{}, toInvite: map[int]time.Duration{}}
	r.watchPushes(func(to string, at time.Time) {
		var number int
		fmt.Sscan(to, &number)
		go h.wake(number-100000, at)
	})
	return h
}

func (h *honest) wake(number int, pushed time.Time) {
	took, err := h.answer(number)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.toPush[number] = pushed.Sub(h.sent[number])
	h.toInvite[number] = took
	if err != nil {
		h.errs = append(h.errs, fmt.Errorf("phone %d: %w", number, err))
	}
}

func (h *honest) answer(number int) (time.Duration, error) {
	p, err := dialPhone(h.r.sip, number)
	if err != nil {
		return 0, err
	}
	defer p.conn.Close()
	start := time.Now()
	if _, err := p.register(3600); err != nil {
		return 0, err
	}
	_, invited, err := p.awaitInvite()
	time.Sleep(20 * time.Millisecond) // the ACK of the 486
	return invited.Sub(start), err
}

func (h *honest) call(number int) {
	h.mu.Lock()
	h.sent[number] = time.Now()
	h.mu.Unlock()
	h.c.invite(number, fmt.Sprintf("honest-%d", number))
}

// await waits for n calls in all; INVITEs that a full socket has lost are sent
// again, as Timer A would.
func (h *honest) await(n int) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		h.repeated += h.c.again()
		h.mu.Lock()
		done := len(h.toInvite) >= n
		h.mu.Unlock()
		if done {
			return
		}
	}
	h.r.tb.Fatal("calls have got lost")
}

func median(d []time.Duration) float64 {
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	return float64(d[len(d)/2].Microseconds()) / 1000
}

// BenchmarkFlood measures what an honest call waits (INVITE to push, REGISTER
// to INVITE) while REGISTERs with wrong passwords come at 5,000/s: from one
// address, from forged ones (50,000 of them in all), and over a hundred TCP
// connections, in turn with rounds without a flood. Carrier, phones, push
// service and flood share the bridge's cores.
func BenchmarkFlood(b *testing.B) {
	const rounds, calls, rate, flood = 4, 63, 25, 5000
	r := startRig(b, rounds*4*calls+500, fmt.Sprintf(peerTrunk, true))
	r.registerAll()
	h, f := newHonest(r), newFlooder(b, r.sip)
	names, send := f.kinds(f.nonce(b))
	warm := rounds * 4 * calls // so many calls before, that theirs is not taken for the flood's memory
	pace(warm+1, warm+500, 100, h.call)
	h.await(500)
	time.Sleep(trimmed)
	before := r.resident()
	toPush, toInvite, cpu := map[string][]time.Duration{}, map[string][]time.Duration{}, map[string]time.Duration{}
	number := 0
	for round := range rounds {
		for kind, name := range names {
			var flooding sync.WaitGroup
			if send[kind] != nil {
				flooding.Go(func() {
					pace(0, calls*flood/rate, flood, func(i int) { send[kind](round*calls*flood/rate + i) })
				})
			}
			used := r.cpu()
			pace(number+1, number+calls, rate, h.call)
			h.await(number + calls + 500)
			flooding.Wait()
			cpu[name] += r.cpu() - used
			h.mu.Lock()
			for i := number + 1; i <= number+calls; i++ {
				toPush[name], toInvite[name] = append(toPush[name], h.toPush[i]), append(toInvite[name], h.toInvite[i])
			}
			h.mu.Unlock()
			number += calls
		}
	}
	if len(h.errs) > 0 || len(h.toInvite) != number+500 {
		b.Fatalf("%d of %d calls came through: %v", len(h.toInvite), number+500, h.errs)
	}
	for _, name := range names {
		b.ReportMetric(median(toPush[name]), name+"-push-p50-ms")
		b.ReportMetric(median(toInvite[name]), name+"-invite-p50-ms")
		b.ReportMetric(cpu[name].Seconds()/rounds, name+"-cpu-s/round")
	}
	time.Sleep(trimmed)
	b.ReportMetric(float64(r.resident()-before)/(1<<20), "resident-growth-MB")
	b.ReportMetric(r.metric("reveille_rejected_total", "register_rate"), "over-rate")
	b.ReportMetric(r.metric("reveille_rejected_total", "banned"), "banned")
	b.ReportMetric(float64(f.sent), "flood-messages")
	b.ReportMetric(float64(h.repeated), "INVITEs-repeated")
	b.ReportMetric(0, "ns/op")
}
