package sip

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// reliably sends the trunk's INVITE with the given header, such as "Require: 100rel".
func reliably(b *serverBed, w *wire, header string) *Inbound {
	b.t.Helper()
	w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", trunksSDP, "Content-Type: application/sdp", "Contact: <sip:trunk@192.0.2.2:5060>", header))
	in := b.taken()
	w.expect("SIP/2.0 100")
	return in
}

// prack acknowledges a provisional; body may be an offer.
func prack(m string, seq int, body string) string {
	headers := []string{
		fmt.Sprintf("Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKprack%d", seq),
		"To: <sip:b@example.com>;tag=" + toTag(m), fmt.Sprintf("CSeq: %d PRACK", seq),
		"RAck: " + headerOf(m, "RSeq") + " 1 INVITE"}
	if body != "" {
		headers = append(headers, "Content-Type: application/sdp")
	}
	return message("PRACK sip:192.0.2.1 SIP/2.0", body, headers...)
}

// refusalAck is the ACK to a refusal of message's INVITE.
func refusalAck(tag string) string {
	return message("ACK sip:1001@192.0.2.1 SIP/2.0", "", "To: <sip:b@example.com>;tag="+tag)
}

func rseqOf(t *testing.T, m string) int {
	t.Helper()
	n, err := strconv.Atoi(headerOf(m, "RSeq"))
	if err != nil || n < 1 || n > math.MaxInt32+10 || headerOf(m, "Require") != "100rel" {
		t.Fatalf("RSeq %q, Require %q", headerOf(m, "RSeq"), headerOf(m, "Require"))
	}
	return n
}

func mustNot(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReliableProvisionalIsRepeatedUntilItsPRACK(t *testing.T) {
	for _, dial := range []string{"udp", "tcp"} { // on every transport (RFC 3262 §3)
		inServer(t, bedOptions{}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			if dial == "tcp" {
				w = tcpWire(b.t, b.net)
			}
			in := reliably(b, w, "Require: 100rel")
			start := time.Now()
			mustNot(t, in.Progress(180, nil))
			m := w.expect("SIP/2.0 180")
			rseqOf(t, m)
			for _, at := range []time.Duration{500, 1500, 3500, 7500} {
				again := w.next(time.Minute)
				if d := time.Since(start); again != m || d != at*time.Millisecond {
					t.Errorf("after %v came %q", d, again)
				}
			}
			w.send(prack(m, 2, ""))
			if ok := w.expect("SIP/2.0 200"); headerOf(ok, "CSeq") != "2 PRACK" {
				t.Errorf("the answer to PRACK is for %s", headerOf(ok, "CSeq"))
			}
			w.silence(20 * time.Second)
			in.Refuse(&Refused{Code: 480})
			w.expect("SIP/2.0 480")
		})
	}
}

func TestProvisionalWithoutPRACKRefusesTheCallWith504(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := reliably(b, w, "Require: 100rel")
		start := time.Now()
		mustNot(t, in.Progress(183, []byte(ourSDP)))
		for {
			m := w.next(time.Minute)
			if strings.HasPrefix(m, "SIP/2.0 183") {
				continue
			}
			if !strings.HasPrefix(m, "SIP/2.0 504") || time.Since(start) != timer64T1 {
				t.Errorf("after %v came %q", time.Since(start), m)
			}
			break
		}
		synctest.Wait()
		if end := in.End(); end.Kind != EndNoPrack {
			t.Errorf("the leg ended as %s", end.Kind)
		}
		w.send(refusalAck(in.id.localTag))
		w.drain(time.Minute)
		b.nothingLeft()
	})
}

func TestOneReliableProvisionalAtATimeAndRSeqCountsUp(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := reliably(b, w, "Require: 100rel")
		for _, code := range []int{180, 183, 182} {
			mustNot(t, in.Progress(code, nil))
		}
		first := w.expect("SIP/2.0 180")
		w.silence(400 * time.Millisecond) // the second waits
		before, last := rseqOf(t, first), first
		for i, want := range []string{"SIP/2.0 183", "SIP/2.0 182"} {
			w.send(prack(last, 2+i, ""))
			w.expect("SIP/2.0 200")
			last = w.expect(want)
			if n := rseqOf(t, last); n != before+1 {
				t.Errorf("RSeq %d after %d", n, before)
			}
			before++
		}
		w.send(prack(last, 4, ""))
		w.expect("SIP/2.0 200")
		in.Refuse(&Refused{Code: 480})
		w.expect("SIP/2.0 480")
	})
}

func TestRSeqStartsAtRandom(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		seen := map[string]bool{}
		for i := range 8 {
			w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", "Call-ID: "+fmt.Sprint(i),
				fmt.Sprintf("Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK%d", i), "Require: 100rel", "Content-Type: application/sdp"))
			in := b.taken()
			in.offer = []byte(trunksSDP)
			w.expect("SIP/2.0 100")
			mustNot(t, in.Progress(180, nil))
			seen[headerOf(w.expect("SIP/2.0 180"), "RSeq")] = true
			in.Refuse(&Refused{Code: 480})
			w.expect("SIP/2.0 480")
		}
		if len(seen) < 7 {
			t.Errorf("8 calls began at %d values of RSeq", len(seen))
		}
	})
}

// RFC 3262 §3: no 2xx while a provisional with SDP has no PRACK.
func TestAnswerWaitsForThePRACKOfSDP(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := reliably(b, w, "Supported: timer, 100rel")
		mustNot(t, in.Progress(183, []byte(ourSDP)))
		m := w.expect("SIP/2.0 183")
		mustNot(t, in.Progress(183, []byte(ourSDP))) // not worth sending after the answer
		mustNot(t, in.Answer([]byte(ourSDP)))
		if in.Answer([]byte(ourSDP)) == nil || in.Progress(180, nil) == nil {
			t.Error("the leg takes a second answer, or a provisional behind its answer")
		}
		w.silence(400 * time.Millisecond)
		w.send(prack(m, 2, ""))
		if ok := w.expect("SIP/2.0 200"); headerOf(ok, "CSeq") != "2 PRACK" {
			t.Errorf("first came the 200 to %s", headerOf(ok, "CSeq"))
		}
		if ok := w.expect("SIP/2.0 200"); headerOf(ok, "CSeq") != "1 INVITE" || toTag(ok) != toTag(m) || headerOf(ok, "Supported") == "" {
			t.Errorf("then came %q", ok)
		}
		w.send(within("ACK", toTag(m), 1))
		synctest.Wait()
		select {
		case <-in.Acked():
		default:
			t.Error("the ACK did not come")
		}
		w.silence(5 * time.Second)
		w.send(within("BYE", toTag(m), 3))
		w.expect("SIP/2.0 200")
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// Without SDP the 200 may overtake (RFC 3262 §3); the PRACK that comes then
// still gets its 200, and nothing is repeated any more.
func TestAnswerDoesNotWaitForThePRACKWithoutSDP(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := reliably(b, w, "Require: 100rel")
		mustNot(t, in.Progress(180, nil))
		m := w.expect("SIP/2.0 180")
		mustNot(t, in.Answer([]byte(ourSDP)))
		w.expect("SIP/2.0 200")
		w.send(within("ACK", toTag(m), 1))
		w.silence(5 * time.Second)
		w.send(prack(m, 2, ""))
		w.expect("SIP/2.0 200")
		w.send(within("BYE", toTag(m), 3))
		w.expect("SIP/2.0 200")
	})
}

func TestCancelAndByeWhileAPRACKIsAwaited(t *testing.T) {
	for _, method := range []string{"CANCEL", "BYE"} {
		for _, answered := range []bool{false, true} {
			inServer(t, bedOptions{}, func(b *serverBed) {
				w := udpWire(b.t, b.net)
				in := reliably(b, w, "Require: 100rel")
				mustNot(t, in.Progress(183, []byte(ourSDP)))
				m := w.expect("SIP/2.0 183")
				if answered {
					mustNot(t, in.Answer([]byte(ourSDP)))
				}
				if method == "BYE" {
					w.send(within("BYE", toTag(m), 2))
				} else {
					w.send(message("CANCEL sip:1001@192.0.2.1 SIP/2.0", ""))
				}
				w.expect("SIP/2.0 200")
				if no := w.expect("SIP/2.0 487"); headerOf(no, "CSeq") != "1 INVITE" {
					t.Errorf("487 to %s", headerOf(no, "CSeq"))
				}
				w.send(refusalAck(toTag(m)))
				if end := in.End(); end.Kind != EndCancelled {
					t.Errorf("the leg ended as %s", end.Kind)
				}
				w.silence(20 * time.Second) // neither the 183 again nor a 200
				w.send(prack(m, 3, ""))     // crossed
				w.drain(time.Minute)
				b.nothingLeft()
			})
		}
	}
}

// The callee hangs up while our 200 waits: the trunk gets a refusal.
func TestRefusalWhileTheAnswerWaitsForAPRACK(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in := reliably(b, w, "Require: 100rel")
		mustNot(t, in.Progress(183, []byte(ourSDP)))
		w.expect("SIP/2.0 183")
		mustNot(t, in.Answer([]byte(ourSDP)))
		in.Refuse(&Refused{Reason: Reason{Protocol: "Q.850", Cause: 16}})
		w.expect("SIP/2.0 480")
	})
}

// A trunk's connection that dies while a PRACK is awaited ends the leg and all
// that would be repeated.
func TestConnectionDiesWhileAPRACKIsAwaited(t *testing.T) {
	for _, answered := range []bool{false, true} {
		inServer(t, bedOptions{}, func(b *serverBed) {
			w := tcpWire(b.t, b.net)
			in := reliably(b, w, "Require: 100rel")
			mustNot(t, in.Progress(183, []byte(ourSDP)))
			w.expect("SIP/2.0 183")
			if answered {
				mustNot(t, in.Answer([]byte(ourSDP)))
			}
			w.conn.Close()
			synctest.Wait()
			if end := in.End(); end.Kind != EndFlowLost {
				t.Errorf("the leg ended as %s", end.Kind)
			}
			time.Sleep(2 * time.Minute)
			b.nothingLeft()
		})
	}
}
