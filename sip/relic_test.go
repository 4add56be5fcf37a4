package sip

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// hungUpOn is a device leg over TCP that was answered and hung up by us; the
// wire has the INVITE.
func hungUpOn(b *serverBed, w *wire) (invite string) {
	b.t.Helper()
	w.send(request("OPTIONS"))
	w.expect("SIP/2.0 200")
	b.srv.transport.mu.Lock()
	id := ""
	for key := range b.srv.transport.streams {
		id = key
	}
	b.srv.transport.mu.Unlock()
	out, err := b.srv.Dial(location.Binding{AOR: "1001", DeviceID: "d", Contact: "sip:1001@192.0.2.2;transport=tcp", FlowID: id, Transport: "TCP"},
		Invitation{CallID: "leg"})
	if err != nil {
		b.t.Fatal(err)
	}
	invite = w.expect("INVITE ")
	w.send(answerTo(invite, 200, "callee"))
	w.expect("ACK ")
	out.Hangup(Reason{})
	w.send(answerTo(w.expect("BYE "), 200, "callee"))
	synctest.Wait()
	return invite
}

// A 200 that is sent again after the end of its dialog still gets its ACK (RFC
// 3261 §13.2.2.4), and that of a further fork its ACK and BYE; after 64*T1
// nothing is left.
func TestRepeated200AfterTheEndGetsItsAck(t *testing.T) {
	inServer(t, bedOptions{trunks: []TrunkConfig{{Name: "peer", Peers: []string{"192.0.2.0/24"}}}}, func(b *serverBed) {
		w := tcpWire(b.t, b.net)
		invite := hungUpOn(b, w)
		if n := len(b.srv.dialogs.legs); n != 0 {
			t.Errorf("%d whole legs are kept", n)
		}
		w.send(answerTo(invite, 200, "callee"))
		ack := w.expect("ACK ")
		if !strings.HasSuffix(headerOf(ack, "To"), ";tag=callee") || headerOf(ack, "CSeq") != "1 ACK" {
			t.Errorf("ACK:\n%s", ack)
		}
		w.send(strings.Replace(answerTo(invite, 200, "fork"), "Content-Length", "Contact: <sip:fork@192.0.2.2>\r\nContent-Length", 1))
		if ack := w.expect("ACK sip:fork@192.0.2.2 "); !strings.HasSuffix(headerOf(ack, "To"), ";tag=fork") {
			t.Errorf("ACK:\n%s", ack)
		}
		bye := w.expect("BYE sip:fork@192.0.2.2 ")
		if !strings.HasSuffix(headerOf(bye, "To"), ";tag=fork") || headerOf(bye, "CSeq") != "2 BYE" {
			t.Errorf("BYE:\n%s", bye)
		}
		w.send(answerTo(bye, 200, "fork"))
		time.Sleep(timer64T1 + 2*time.Second)
		w.send(answerTo(invite, 200, "callee"))
		w.silence(time.Second)
		b.nothingLeft()
	})
}

// A BYE that crosses ours gets 200 (RFC 3261 §15.1.2), but not one with another tag.
func TestByeThatCrossesOursGets200(t *testing.T) {
	inServer(t, bedOptions{trunks: []TrunkConfig{{Name: "peer", Peers: []string{"192.0.2.0/24"}}}}, func(b *serverBed) {
		w := tcpWire(b.t, b.net)
		invite := hungUpOn(b, w)
		bye := func(tag string) string {
			_, ours, _ := strings.Cut(headerOf(invite, "From"), ";tag=")
			return message("BYE sip:x@192.0.2.1 SIP/2.0", "", "Via: SIP/2.0/TCP 192.0.2.2;branch="+sipgo.RFC3261BranchMagicCookie+tag,
				"From: <sip:1001@reveille>;tag="+tag, "To: <sip:a@reveille>;tag="+ours, "Call-ID: leg", "CSeq: 7 BYE")
		}
		w.send(bye("callee"))
		w.expect("SIP/2.0 200")
		w.send(bye("liar"))
		w.expect("SIP/2.0 481")
		time.Sleep(timer64T1 + 2*time.Second)
		w.send(bye("callee"))
		w.expect("SIP/2.0 481")
	})
}
