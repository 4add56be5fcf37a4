package sip

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/siptest"
)

// overUDP runs a test in virtual time, with a bed and a raw UDP far end.
func overUDP(t *testing.T, test func(t *testing.T, b *bed, w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), nil, "udp://192.0.2.1:5060", "tcp://192.0.2.1:5060")
		test(t, b, udpWire(t, n))
	})
}

func overTCP(t *testing.T, test func(t *testing.T, b *bed, w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), nil, "udp://192.0.2.1:5060", "tcp://192.0.2.1:5060")
		test(t, b, tcpWire(t, n))
	})
}

func TestInviteIsAbsorbedAndItsRefusalRepeatedUntilTheAck(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("INVITE"))
		synctest.Wait()
		b.reply(t, b.last(t), 180)
		w.expect("SIP/2.0 180")
		w.send(request("INVITE"))
		w.expect("SIP/2.0 180") // repeated, and not handed up again
		b.reply(t, b.last(t), 486)
		start := time.Now()
		var gaps []string
		for range 5 { // Timer G: T1, doubled up to T2
			w.next(10 * time.Second)
			gaps = append(gaps, time.Since(start).String())
		}
		if got := strings.Join(gaps, " "); got != "0s 500ms 1.5s 3.5s 7.5s" {
			t.Errorf("486 sent at %s", got)
		}
		w.send(request("ACK"))
		w.silence(40 * time.Second)
		if got := b.seen(); got != "INVITE one" {
			t.Errorf("handled: %s", got)
		}
		if n := b.pendingCount(); n != 0 {
			t.Errorf("%d transactions are left", n)
		}
	})
}

func TestAnswersAllCarryOneToTag(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("INVITE"))
		synctest.Wait()
		tags := map[string]bool{}
		take := func(start string) {
			_, tag, _ := strings.Cut(headerOf(w.expect(start), "To"), ";tag=")
			tags[tag] = true
		}
		b.reply(t, b.last(t), 180)
		take("SIP/2.0 180")
		w.send(request("CANCEL"))
		take("SIP/2.0 200")
		b.reply(t, b.last(t), 487)
		take("SIP/2.0 487")
		if len(tags) != 1 || tags[""] || !tags[b.last(t).toTag] {
			t.Errorf("To tags: %v", tags)
		}
	})
}

func TestTryingIsSentWhenTheHandlerIsSlow(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("INVITE"))
		w.silence(199 * time.Millisecond)
		w.expect("SIP/2.0 100")
		b.last(t).drop()
		w.silence(time.Minute)
	})
}

func TestReplyGoesToTheSource(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("OPTIONS", "Via: SIP/2.0/UDP 10.0.0.1:9999;branch=z9hG4bKx"))
		synctest.Wait()
		b.reply(t, b.last(t), 200)
		via := headerOf(w.expect("SIP/2.0 200"), "Via")
		if via != "SIP/2.0/UDP 10.0.0.1:9999;branch=z9hG4bKx;received=192.0.2.2;rport=5060" {
			t.Errorf("Via: %s", via)
		}
	})
}

func TestCancel(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("CANCEL"))
		w.expect("SIP/2.0 481")
		w.send(request("INVITE"))
		w.send(request("CANCEL"))
		w.expect("SIP/2.0 200")
		w.send(request("CANCEL")) // again: answered, not reported
		w.expect("SIP/2.0 200")
		if got := b.seen(); got != "INVITE one, CANCEL one" {
			t.Errorf("handled: %s", got)
		}
		b.reply(t, b.last(t), 487)
		w.expect("SIP/2.0 487")
		w.send(request("ACK"))
		w.silence(time.Minute)
	})
}

func TestLateCancelHasNoEffect(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("INVITE"))
		synctest.Wait()
		b.reply(t, b.last(t), 200)
		w.expect("SIP/2.0 200")
		w.send(request("CANCEL"))
		w.expect("SIP/2.0 200")
		if got := b.seen(); got != "INVITE one" {
			t.Errorf("handled: %s", got)
		}
	})
}

func TestAckToA2xxGoesUp(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("INVITE"))
		synctest.Wait()
		tx := b.last(t)
		b.reply(t, tx, 200)
		b.reply(t, tx, 200) // repeated by its owner
		w.expect("SIP/2.0 200")
		w.expect("SIP/2.0 200")
		w.send(request("ACK", "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKother"))
		w.send(request("ACK")) // with the INVITE's branch, as some send it
		synctest.Wait()
		if got := b.seen(); got != "INVITE one, ACK one, ACK one" {
			t.Errorf("handled: %s", got)
		}
		for _, code := range []int{180, 486} {
			err := tx.respond(sipgo.NewResponseFromRequest(tx.request(), code, Phrase(code), nil))
			if !errors.Is(err, errAnswered) {
				t.Errorf("%d after 200: %v", code, err)
			}
		}
		w.silence(time.Minute)
	})
}

func TestMergedRequestIsRefused(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("INVITE"))
		w.send(request("INVITE", "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKother"))
		w.expect("SIP/2.0 482")
		b.reply(t, b.last(t), 401)
		w.expect("SIP/2.0 401")
		w.send(request("ACK"))
		// The same CSeq again, now with credentials: some user agents do that.
		w.send(request("INVITE", "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKthird"))
		synctest.Wait()
		if got := b.seen(); got != "INVITE one, INVITE one" {
			t.Errorf("handled: %s", got)
		}
	})
}

func TestHandlerPanicIsA500(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		b.takes = func(*flow, *sipgo.Request, *serverTx) { panic("a defect") }
		w.send(request("OPTIONS"))
		w.expect("SIP/2.0 500")
		b.takes = nil
		w.send(request("OPTIONS", "Call-ID: two", "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKtwo"))
		synctest.Wait()
		if got := b.seen(); got != "OPTIONS one, OPTIONS two" || b.rejectedFor(rejectedPanic) != 1 {
			t.Errorf("handled: %s", got)
		}
	})
}

func TestFullTableGives503(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		b.limit = 1
		w.send(request("OPTIONS"))
		w.send(request("OPTIONS", "Call-ID: two", "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKtwo"))
		if m := w.expect("SIP/2.0 503"); headerOf(m, "Retry-After") == "" {
			t.Errorf("no Retry-After in %s", m)
		}
		if _, err := b.request(b.transport.udpFlowTo(peerAddr()), b.outgoing("OPTIONS"), nil); !errors.Is(err, errTooManyPending) {
			t.Errorf("request: %v", err)
		}
	})
}

func peerAddr() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.2:5060") }

// outgoing builds a request from the bed to the far end.
func (b *bed) outgoing(method sipgo.RequestMethod) *sipgo.Request {
	return outgoingBy(b.transport.udpFlowTo(peerAddr()), method)
}

func outgoingBy(f *flow, method sipgo.RequestMethod) *sipgo.Request {
	uri := sipgo.Uri{Scheme: "sip", User: "b", Host: "192.0.2.2"}
	req := sipgo.NewRequest(method, uri)
	callID := sipgo.CallIDHeader("ours")
	req.AppendHeader(newVia(f, ""))
	req.AppendHeader(&sipgo.FromHeader{Address: uri, Params: sipgo.HeaderParams{{K: "tag", V: "us"}}})
	req.AppendHeader(&sipgo.ToHeader{Address: uri})
	req.AppendHeader(&callID)
	req.AppendHeader(&sipgo.CSeqHeader{SeqNo: 1, MethodName: method})
	return req
}

// reports collects what a client transaction says.
type reports struct {
	mu   sync.Mutex // guards the following
	said []string
}

func (r *reports) on(res *sipgo.Response, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.said = append(r.said, err.Error())
	default:
		r.said = append(r.said, fmt.Sprint(res.StatusCode))
	}
}

func (r *reports) String() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.said, " ")
}

// start sends a request of ours and gives what the far end sees of it.
func (b *bed) start(t *testing.T, w *wire, method sipgo.RequestMethod) (*clientTx, *reports, string) {
	t.Helper()
	r := &reports{}
	tx, err := b.request(b.transport.udpFlowTo(peerAddr()), b.outgoing(method), r.on)
	if err != nil {
		t.Fatal(err)
	}
	return tx, r, w.expect(string(method))
}

// answerTo writes a response to a request that the wire has read.
func answerTo(req string, code int, toTag string) string {
	return fmt.Sprintf("SIP/2.0 %d %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s;tag=%s\r\nCall-ID: %s\r\nCSeq: %s\r\nContent-Length: 0\r\n\r\n",
		code, Phrase(code), headerOf(req, "Via"), headerOf(req, "From"), headerOf(req, "To"), toTag, headerOf(req, "Call-ID"), headerOf(req, "CSeq"))
}

func TestInviteClientHearsEveryAnswerInOrder(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		_, r, req := b.start(t, w, sipgo.INVITE)
		for _, code := range []int{100, 180, 183, 200, 200} {
			w.send(answerTo(req, code, "x"))
		}
		w.send(answerTo(req, 200, "y")) // another branch of a fork
		if got := r.String(); got != "100 180 183 200 200 200" {
			t.Errorf("heard %s", got)
		}
		time.Sleep(33 * time.Second) // Timer M
		w.send(answerTo(req, 200, "x"))
		synctest.Wait()
		if got := r.String(); got != "100 180 183 200 200 200" {
			t.Errorf("heard %s", got)
		}
		if got := b.seen(); got != "stray 200 ours" || b.pendingCount() != 0 {
			t.Errorf("handled %q, %d pending", got, b.pendingCount())
		}
	})
}

func TestRefusalIsAcknowledgedAtOnceEachTime(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		_, r, req := b.start(t, w, sipgo.INVITE)
		for range 3 {
			start := time.Now()
			w.send(answerTo(req, 486, "x"))
			ack := w.expect("ACK sip:b@192.0.2.2 SIP/2.0")
			if time.Since(start) != 0 {
				t.Errorf("ACK after %v", time.Since(start))
			}
			if headerOf(ack, "Via") != headerOf(req, "Via") || headerOf(ack, "CSeq") != "1 ACK" || !strings.HasSuffix(headerOf(ack, "To"), ";tag=x") {
				t.Errorf("ACK does not match: %s", ack)
			}
		}
		for range 40 {
			w.send(answerTo(req, 486, "x"))
		}
		synctest.Wait()
		acks := 0
		for w.next(time.Second) != "" {
			acks++
		}
		if acks > maxReACKs {
			t.Errorf("%d further ACKs: no bound", acks)
		}
		if got := r.String(); got != "486" {
			t.Errorf("heard %s", got)
		}
	})
}

func TestNoAnswerIsAnErrorOnce(t *testing.T) {
	for _, method := range []sipgo.RequestMethod{sipgo.INVITE, sipgo.OPTIONS} {
		overUDP(t, func(t *testing.T, b *bed, w *wire) {
			start := time.Now()
			_, r, req := b.start(t, w, method)
			copies := 1
			for w.next(20*time.Second) == req {
				copies++
			}
			if want := map[sipgo.RequestMethod]int{sipgo.INVITE: 7, sipgo.OPTIONS: 11}[method]; copies != want {
				t.Errorf("%s sent %d times, want %d (RFC 3261 Timers A and E)", method, copies, want)
			}
			if want := string(method) + " to UDP 192.0.2.2:5060: " + errNoAnswer.Error(); r.String() != want {
				t.Errorf("heard %s after %v", r, time.Since(start))
			}
			w.send(answerTo(req, 200, "x"))
			if strings.HasSuffix(r.String(), "200") {
				t.Errorf("heard %s", r)
			}
		})
	}
}

func TestProvisionalStopsTimerB(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		tx, r, req := b.start(t, w, sipgo.INVITE)
		w.send(answerTo(req, 180, "x"))
		w.silence(10 * time.Minute)
		tx.terminate()
		w.send(answerTo(req, 200, "x"))
		if got := r.String(); got != "180" || b.pendingCount() != 0 {
			t.Errorf("heard %s, %d pending", got, b.pendingCount())
		}
	})
}

func TestClosedFlowEndsItsTransactions(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("INVITE"))
		synctest.Wait()
		server := b.last(t)
		r := &reports{}
		if _, err := b.request(server.flow(), outgoingBy(server.flow(), sipgo.INVITE), r.on); err != nil {
			t.Fatal(err)
		}
		w.conn.Close()
		synctest.Wait()
		if got := r.String(); strings.Count(got, errFlowClosed.Error()) != 1 {
			t.Errorf("heard %s", got)
		}
		if !server.ended() {
			t.Error("the server transaction lives on")
		}
		if err := server.respond(sipgo.NewResponseFromRequest(server.request(), 180, "Ringing", nil)); err == nil {
			t.Error("respond on a dead flow gives no error")
		}
		if _, err := b.request(server.flow(), outgoingBy(server.flow(), sipgo.OPTIONS), r.on); !errors.Is(err, errFlowClosed) {
			t.Errorf("request on a dead flow: %v", err)
		}
		if n := b.pendingCount(); n != 0 || b.gone != 1 {
			t.Errorf("%d pending, %d flows closed", n, b.gone)
		}
	})
}

// A connection may die before the first write to it: there is no timer yet.
func TestFlowDiesUnderTheFirstWrite(t *testing.T) {
	overTCP(t, func(t *testing.T, b *bed, w *wire) {
		w.send(request("OPTIONS"))
		synctest.Wait()
		f, r := b.last(t).flow(), &reports{}
		c := &clientTx{t: b.transactions, f: f, req: outgoingBy(f, sipgo.OPTIONS), key: b.seeds.client("x", sipgo.OPTIONS), on: r.on}
		if err := b.addClient(c); err != nil {
			t.Fatal(err)
		}
		w.conn.Close()
		synctest.Wait()
		if got := r.String(); strings.Count(got, errFlowClosed.Error()) != 1 {
			t.Errorf("heard %q", got)
		}
	})
}

func TestCloseTellsTheWaiting(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		_, r, _ := b.start(t, w, sipgo.OPTIONS)
		w.send(request("INVITE"))
		synctest.Wait()
		b.transactions.close()
		if got := r.String(); !strings.HasSuffix(got, errFlowClosed.Error()) {
			t.Errorf("heard %s", got)
		}
		w.send(request("OPTIONS", "Call-ID: two", "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKtwo"))
		w.expect("SIP/2.0 503")
	})
}

func TestCancelOfOurs(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		invite := b.outgoing(sipgo.INVITE)
		route := sipgo.RouteHeader{Address: sipgo.Uri{Scheme: "sip", Host: "192.0.2.3"}}
		invite.AppendHeader(&route)
		cancel := newCancel(invite).String()
		for _, name := range []string{"Via", "Route", "From", "To", "Call-ID"} {
			if got, want := headerOf(cancel, name), headerOf(invite.String(), name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		if !strings.HasPrefix(cancel, "CANCEL sip:b@192.0.2.2 SIP/2.0\r\n") || headerOf(cancel, "CSeq") != "1 CANCEL" || headerOf(cancel, "Content-Length") != "0" {
			t.Errorf("CANCEL:\n%s", cancel)
		}
	})
}
