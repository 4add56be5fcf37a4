package sip

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// pairs is how many pairs of messages are sent back to back over real sockets,
// for each kind and transport, which takes half a second. ORDER_PAIRS changes it.
func pairs(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("ORDER_PAIRS"))
	switch {
	case err != nil && (raced || testing.Short()):
		return 1000
	case err != nil:
		return 10_000
	}
	t.Logf("%d pairs", n)
	return n
}

// window is how many pairs are under way at once: small enough for the socket
// buffers of any system.
const window = 64

// orderBed is a bed on loopback with a far end that can write to it.
type orderBed struct {
	*bed
	f       *flow                     // towards the far end
	write   func(text string)         // from the far end, one datagram or one write
	inbound func(m func(text string)) // hands every message the far end gets to m

	tokens chan struct{}
	mu2    sync.Mutex // guards the following
	halves map[string]int
	wrong  int
}

func (o *orderBed) began(id string) {
	o.mu2.Lock()
	defer o.mu2.Unlock()
	if o.halves[id] != done {
		o.halves[id]++
	}
}

// ended notes the second message of a pair. On a slow machine a request is
// retransmitted and its answers come again: only the first time counts.
func (o *orderBed) ended(id string) {
	o.mu2.Lock()
	defer o.mu2.Unlock()
	switch o.halves[id] {
	case done:
		return
	case 0:
		o.wrong++
	}
	o.halves[id] = done
	<-o.tokens
}

// done stands in halves for a pair that is complete; later firsts do not undo it.
const done = 1 << 20

func (o *orderBed) onRequest(_ *flow, req *sipgo.Request, tx *serverTx) {
	switch req.Method {
	case sipgo.INVITE:
		o.began(string(*req.CallID()))
	case sipgo.BYE:
		o.ended(string(*req.CallID()))
		tx.respond(sipgo.NewResponseFromRequest(req, 200, "OK", nil))
	}
}
func (o *orderBed) onAck(_ *flow, req *sipgo.Request) { o.began(string(*req.CallID())) }
func (o *orderBed) onCancel(tx *serverTx, cancel *sipgo.Request) {
	o.ended(string(*cancel.CallID()))
	tx.drop()
}
func (o *orderBed) onStrayResponse(*flow, *sipgo.Response) {}

func newOrderBed(t *testing.T, network string) *orderBed {
	t.Helper()
	o := &orderBed{tokens: make(chan struct{}, window), halves: map[string]int{}}
	o.bed = newBedFor(t, o, SystemNetwork(), nil, network+"://127.0.0.1:0")
	_, addr, _ := strings.Cut(o.transport.addresses()[0], "://")
	if network == "udp" {
		o.overUDP(t, addr)
	} else {
		o.overTCP(t)
	}
	return o
}

func (o *orderBed) overUDP(t *testing.T, addr string) {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUDP("udp", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	o.f = o.transport.udpFlowTo(addrPort(c.LocalAddr()))
	o.write = func(text string) { io.WriteString(c, text) }
	o.inbound = func(m func(string)) {
		buf := make([]byte, 1<<16)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			m(string(buf[:n]))
		}
	}
}

func (o *orderBed) overTCP(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if o.f, err = o.transport.dial(context.Background(), "tcp", l.Addr().String(), "", nil); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	o.write = func(text string) { io.WriteString(c, text) }
	o.inbound = func(m func(string)) {
		var rest string
		buf := make([]byte, 1<<16)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			rest += string(buf[:n])
			for {
				head, after, ok := strings.Cut(rest, "\r\n\r\n")
				if !ok {
					break
				}
				m(head + "\r\n\r\n")
				rest = after
			}
		}
	}
}

// run makes all pairs and waits for the last; the window slides as they end.
func (o *orderBed) run(t *testing.T, pair func(id string)) {
	t.Helper()
	stuck := time.NewTimer(time.Minute)
	defer stuck.Stop()
	total := pairs(t)
	for i := range total + window {
		select {
		case o.tokens <- struct{}{}:
		case <-stuck.C:
			t.Fatalf("stuck after %d pairs", i)
		}
		if i < total {
			pair(fmt.Sprintf("pair-%d", i))
		}
	}
	o.mu2.Lock()
	defer o.mu2.Unlock()
	if o.wrong != 0 || len(o.halves) != total {
		t.Errorf("%d of %d pairs came in the wrong order", o.wrong, len(o.halves))
	}
}

func overBoth(t *testing.T, test func(t *testing.T, o *orderBed)) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) { test(t, newOrderBed(t, network)) })
	}
}

func TestOrderOfAnswers(t *testing.T) {
	overBoth(t, func(t *testing.T, o *orderBed) {
		go o.inbound(func(m string) {
			if strings.HasPrefix(m, "INVITE") {
				o.write(answerTo(m, 183, "x"))
				o.write(answerTo(m, 200, "x"))
			}
		})
		o.run(t, func(id string) {
			req := outgoingBy(o.f, sipgo.INVITE)
			callID := sipgo.CallIDHeader(id)
			req.ReplaceHeader(&callID)
			_, err := o.request(o.f, req, func(res *sipgo.Response, err error) {
				switch {
				case err != nil:
				case res.StatusCode == 183:
					o.began(id)
				default:
					o.ended(id)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	})
}

// The far end answers and hangs up at once.
func TestOrderOf200AndBye(t *testing.T) {
	overBoth(t, func(t *testing.T, o *orderBed) {
		go o.inbound(func(m string) {
			if strings.HasPrefix(m, "INVITE") {
				id := headerOf(m, "Call-ID")
				o.write(answerTo(m, 200, "x"))
				o.write(request("BYE", "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKb"+id, "Call-ID: "+id, "To: <sip:b@example.com>;tag=b"))
			}
		})
		o.run(t, func(id string) {
			req := outgoingBy(o.f, sipgo.INVITE)
			callID := sipgo.CallIDHeader(id)
			req.ReplaceHeader(&callID)
			_, err := o.request(o.f, req, func(res *sipgo.Response, err error) {
				if err == nil {
					o.began(id)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	})
}

func TestOrderOfInviteAndCancel(t *testing.T) {
	overBoth(t, func(t *testing.T, o *orderBed) {
		go o.inbound(func(string) {})
		o.run(t, func(id string) {
			via := "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK" + id
			o.write(request("INVITE", via, "Call-ID: "+id))
			o.write(request("CANCEL", via, "Call-ID: "+id))
		})
	})
}

func TestOrderOfAckAndBye(t *testing.T) {
	overBoth(t, func(t *testing.T, o *orderBed) {
		go o.inbound(func(string) {})
		o.run(t, func(id string) {
			o.write(request("ACK", "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKa"+id, "Call-ID: "+id, "To: <sip:b@example.com>;tag=b"))
			o.write(request("BYE", "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKb"+id, "Call-ID: "+id, "To: <sip:b@example.com>;tag=b"))
		})
	})
}
