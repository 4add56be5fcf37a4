package sip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// A server that ends while a 200 of its own still waits for the ACK sends the
// BYE that waits behind it, and does end.
func TestServerEndsWhileAByeWaitsForItsAck(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		for i := range 3 {
			id := fmt.Sprint("call", i)
			w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", trunksSDP, "Content-Type: application/sdp",
				"Contact: <sip:trunk@192.0.2.2:5060>", "Call-ID: "+id, "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK"+id))
			in := b.taken()
			w.expect("SIP/2.0 100")
			if err := in.Answer([]byte(ourSDP)); err != nil {
				t.Fatal(err)
			}
			w.expect("SIP/2.0 200")
			in.Hangup(Reason{})
		}
		go b.end()
		byes := map[string]bool{}
		for range 20 {
			if m := w.next(time.Second); strings.HasPrefix(m, "BYE ") {
				byes[headerOf(m, "Call-ID")] = true
			}
		}
		if len(byes) != 3 {
			t.Errorf("%d of 3 calls got their BYE", len(byes))
		}
	})
}

// A re-INVITE that has had a provisional answer and never gets a final one is
// forgotten 64*T1 after the end of its call, or after its CANCEL.
func TestReinviteWithoutAFinalAnswerIsForgotten(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, _ := established(b, w)
		done := propose(in, Proposal{SDP: offer})
		w.send(answering(w.expect("INVITE "), "100 Trying", ""))
		synctest.Wait()
		in.Hangup(Reason{})
		if p := ends(t, done); p.err == nil {
			t.Error("no error of a leg that is over")
		}
		w.send(answering(w.expect("BYE "), "200 OK", ""))
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// Timer A may have fired, and wait for its turn, when the provisional answer
// comes that stops it (RFC 3261 §17.1.1.2).
func TestTimerAThatHasFiredHeedsTheProvisional(t *testing.T) {
	overUDP(t, func(t *testing.T, b *bed, w *wire) {
		tx, r, req := b.start(t, w, sipgo.INVITE)
		w.send(answerTo(req, 180, "x"))
		synctest.Wait()
		tx.repeat()
		time.Sleep(10 * time.Minute)
		tx.terminate()
		w.silence(time.Second)
		if got := r.String(); got != "180" || b.pendingCount() != 0 {
			t.Errorf("heard %s, %d pending", got, b.pendingCount())
		}
	})
}

// However many provisionals nobody has read yet, the loss of the flow and the
// final answer that comes by another one have room.
func TestFinalAnswerHasRoomBehindALostFlow(t *testing.T) {
	inServer(t, bedOptions{trunks: []TrunkConfig{{Name: "peer", Peers: []string{"192.0.2.0/24"}}}}, func(b *serverBed) {
		w := tcpWire(b.t, b.net)
		w.send(request("OPTIONS"))
		w.expect("SIP/2.0 200")
		out, err := b.srv.Dial(location.Binding{AOR: "1001", DeviceID: "d", Contact: "sip:1001@192.0.2.2;transport=tcp",
			FlowID: onlyStream(b), Transport: "TCP"}, Invitation{CallID: "leg"})
		if err != nil {
			t.Fatal(err)
		}
		invite := w.expect("INVITE ")
		for range 2 * progressRoom {
			w.send(answerTo(invite, 180, "callee"))
		}
		synctest.Wait()
		w.conn.Close()
		synctest.Wait()
		again := tcpWire(b.t, b.net)
		again.send(answerTo(invite, 486, "callee"))
		again.send(request("OPTIONS", "Call-ID: two", "Via: SIP/2.0/TCP 192.0.2.2:5060;branch=z9hG4bKtwo"))
		again.expect("SIP/2.0 200") // the reader is not stuck
		var last Progress
		for len(out.Progress()) > 0 {
			last = <-out.Progress()
		}
		if last.Code != 486 {
			t.Errorf("the last step is %+v", last)
		}
		time.Sleep(2 * time.Minute)
		b.nothingLeft()
	})
}

// onlyStream is the name of the one connection.
func onlyStream(b *serverBed) (id string) {
	b.srv.transport.mu.Lock()
	defer b.srv.transport.mu.Unlock()
	for key := range b.srv.transport.streams {
		id = key
	}
	return id
}

// RFC 3261 §15: the callee must not send BYE before its answer. One that does
// has refused, and leaves nothing behind even if it never answers the INVITE.
func TestByeOfADeviceBeforeItsAnswerIsARefusal(t *testing.T) {
	inServer(t, bedOptions{trunks: []TrunkConfig{{Name: "peer", Peers: []string{"192.0.2.0/24"}}}}, func(b *serverBed) {
		w := tcpWire(b.t, b.net)
		w.send(request("OPTIONS"))
		w.expect("SIP/2.0 200")
		out, err := b.srv.Dial(location.Binding{AOR: "1001", DeviceID: "d", Contact: "sip:1001@192.0.2.2;transport=tcp",
			FlowID: onlyStream(b), Transport: "TCP"}, Invitation{CallID: "leg"})
		if err != nil {
			t.Fatal(err)
		}
		invite := w.expect("INVITE ")
		w.send(answerTo(invite, 180, "callee"))
		_, ours, _ := strings.Cut(headerOf(invite, "From"), ";tag=")
		w.send(message("BYE sip:x@192.0.2.1 SIP/2.0", "", "Via: SIP/2.0/TCP 192.0.2.2;branch="+sipgo.RFC3261BranchMagicCookie+"bye",
			"From: <sip:1001@reveille>;tag=callee", "To: <sip:a@reveille>;tag="+ours, "Call-ID: leg", "CSeq: 1 BYE"))
		w.expect("SIP/2.0 200")
		w.send(answerTo(w.expect("CANCEL "), 200, "callee"))
		if first, last := <-out.Progress(), <-out.Progress(); first.Code != 180 || last.Code != 480 {
			t.Errorf("steps %+v, %+v", first, last)
		}
		if end := out.End(); end.Kind != EndHungUp {
			t.Errorf("the leg ended as %s", end.Kind)
		}
		time.Sleep(2 * time.Minute)
		b.nothingLeft()
	})
}
