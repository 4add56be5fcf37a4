package sip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/location"
)

// dialled sends an INVITE to a device that is a raw socket at 192.0.2.2.
func dialled(b *serverBed, w *wire, inv Invitation) (*Outbound, string) {
	b.t.Helper()
	f := b.srv.transport.udpFlowTo(addrPort(w.udp.LocalAddr()))
	b.srv.transport.keep(f)
	if inv.CallID == "" {
		inv.CallID = "out"
	}
	o, err := b.srv.Dial(location.Binding{AOR: "1001", DeviceID: "d", Contact: "sip:1001@192.0.2.2:5060", FlowID: f.id()}, inv)
	if err != nil {
		b.t.Fatal(err)
	}
	return o, w.expect("INVITE sip:1001@192.0.2.2:5060 SIP/2.0")
}

// answered is the device's answer with a To tag of a fork's.
func answered(invite string, code int, tag string, headers ...string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "SIP/2.0 %d x\r\n", code)
	for _, name := range []string{"Via", "From", "Call-ID", "CSeq"} {
		s.WriteString(name + ": " + headerOf(invite, name) + "\r\n")
	}
	s.WriteString("To: " + headerOf(invite, "To") + ";tag=" + tag + "\r\n")
	fmt.Fprintf(&s, "Contact: <sip:%s@192.0.2.2:5060>\r\n", tag)
	for _, h := range headers {
		s.WriteString(h + "\r\n")
	}
	return s.String() + "Content-Length: 0\r\n\r\n"
}

// steps are the codes that the leg has reported so far.
func steps(o *Outbound) (codes []int) {
	synctest.Wait()
	for {
		select {
		case p := <-o.Progress():
			codes = append(codes, p.Code)
		default:
			return codes
		}
	}
}

func wantSteps(t *testing.T, o *Outbound, want ...int) {
	t.Helper()
	if got := steps(o); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the leg reported %v, want %v", got, want)
	}
}

// A forking proxy in front of the device: several early dialogs, of which the
// one with the 200 becomes the call (RFC 3261 §13.2.2.4).
func TestOfSeveralEarlyDialogsTheOneWithThe200Wins(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		o, invite := dialled(b, w, Invitation{})
		for _, fork := range []string{"one", "two", "three"} {
			w.send(answered(invite, 180, fork))
		}
		w.send(answered(invite, 199, "one")) // that early dialog has ended (RFC 6228)
		w.send(answered(invite, 200, "two"))
		if ack := w.expect("ACK sip:two@192.0.2.2:5060"); toTag(ack) != "two" {
			t.Errorf("the ACK goes to %q", headerOf(ack, "To"))
		}
		wantSteps(t, o, 180, 180, 180, 199, 200)
		w.send(message("BYE sip:192.0.2.1 SIP/2.0", "", "Call-ID: out", "From: <sip:1001@192.0.2.1>;tag=three",
			"To: <sip:x@192.0.2.1>;tag="+tagIn(invite, "From"), "CSeq: 1 BYE"))
		w.expect("SIP/2.0 481") // that dialog is no more
		o.Hangup(Reason{})
		if bye := w.expect("BYE sip:two@192.0.2.2:5060"); toTag(bye) != "two" {
			t.Errorf("the BYE goes to %q", headerOf(bye, "To"))
		}
	})
}

func tagIn(m, header string) string {
	_, tag, _ := strings.Cut(headerOf(m, header), ";tag=")
	return tag
}

func TestSecond200FromAnotherForkGetsACKAndBYE(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		o, invite := dialled(b, w, Invitation{})
		w.send(answered(invite, 200, "one"))
		w.expect("ACK sip:one@192.0.2.2:5060")
		w.send(answered(invite, 200, "two"))
		if ack := w.expect("ACK sip:two@192.0.2.2:5060"); toTag(ack) != "two" {
			t.Errorf("the ACK goes to %q", headerOf(ack, "To"))
		}
		bye := w.expect("BYE sip:two@192.0.2.2:5060")
		if toTag(bye) != "two" || !strings.Contains(headerOf(bye, "Reason"), "cause=200") {
			t.Errorf("the BYE is %q", bye)
		}
		w.send(strings.Replace(answered(bye, 200, "x"), ";tag=x", "", 1))
		wantSteps(t, o, 200)
		w.send(answered(invite, 200, "one")) // sent again: the ACK too, and no BYE
		w.expect("ACK sip:one@192.0.2.2:5060")
		w.silence(20 * time.Second)
		select {
		case <-o.Ended():
			t.Error("the call has ended")
		default:
		}
		o.Hangup(Reason{})
	})
}

func TestMoreThanTenProvisionals(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		o, invite := dialled(b, w, Invitation{})
		for range 50 { // nobody reads meanwhile
			w.send(answered(invite, 180, "one"))
		}
		w.send(answered(invite, 200, "one"))
		w.expect("ACK ")
		if got := steps(o); len(got) < 2 || got[0] != 180 || got[len(got)-1] != 200 {
			t.Errorf("the leg reported %v", got)
		}
		o.Hangup(Reason{})
	})
}

// A provisional that the 200 overtook is not the news.
func TestProvisionalAfterTheFinalAnswer(t *testing.T) {
	for _, final := range []int{200, 486} {
		inServer(t, bedOptions{}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			o, invite := dialled(b, w, Invitation{})
			w.send(answered(invite, final, "one"))
			w.expect("ACK ")
			for _, fork := range []string{"one", "two"} {
				w.send(answered(invite, 180, fork))
			}
			wantSteps(t, o, final)
			time.Sleep(40 * time.Second) // the transaction is over
			w.send(answered(invite, 180, "one"))
			wantSteps(t, o)
			o.Hangup(Reason{})
		})
	}
}

// We offer devices no 100rel. One that asks for PRACK all the same is heard,
// each time, and gets none.
func TestDeviceThatAsksForPRACKUninvited(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		o, invite := dialled(b, w, Invitation{})
		if strings.Contains(invite, "100rel") {
			t.Error("the INVITE to the device offers 100rel")
		}
		for range 3 {
			w.send(answered(invite, 183, "one", "Require: 100rel", "RSeq: 7"))
			w.silence(time.Second)
		}
		w.send(answered(invite, 200, "one"))
		w.expect("ACK ")
		wantSteps(t, o, 183, 183, 183, 200)
		w.send(message("PRACK sip:192.0.2.1 SIP/2.0", "", "Call-ID: out", "From: <sip:1001@192.0.2.1>;tag=one",
			"To: <sip:x@192.0.2.1>;tag="+tagIn(invite, "From"), "CSeq: 1 PRACK", "RAck: 7 1 INVITE"))
		w.expect("SIP/2.0 481")
		o.Hangup(Reason{})
	})
}

// CANCEL waits for the first provisional, of whatever fork (RFC 3261 §9.1).
func TestCancelWaitsForAProvisional(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		o, invite := dialled(b, w, Invitation{})
		o.Cancel(CompletedElsewhere())
		w.silence(400 * time.Millisecond)
		w.send(answered(invite, 100, "one"))
		cancel := w.expect("CANCEL sip:1001@192.0.2.2:5060")
		if headerOf(cancel, "Via") != headerOf(invite, "Via") || headerOf(cancel, "To") != headerOf(invite, "To") {
			t.Errorf("the CANCEL is %q", cancel)
		}
		w.send(answered(cancel, 200, "one"))
		w.send(answered(invite, 487, "one"))
		w.expect("ACK ")
		wantSteps(t, o, 487)
	})
}

func TestMaxForwardsGoesDownAcrossTheLegs(t *testing.T) {
	for given, want := range map[string]string{"Max-Forwards: 70": "69", "Max-Forwards: 12": "11", "Max-Forwards: 1": "0", "Max-Forwards: 255": "254"} {
		inServer(t, bedOptions{}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", given))
			in := b.taken()
			w.expect("SIP/2.0 100")
			o, invite := dialled(b, w, Invitation{MaxForwards: in.MaxForwards()})
			if got := headerOf(invite, "Max-Forwards"); got != want || strings.Count(invite, "Max-Forwards") != 1 {
				t.Errorf("%s became %s", given, got)
			}
			o.Abandon()
			in.Refuse(&Refused{Code: 480})
		})
	}
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", "Max-Forwards: 0"))
		w.expect("SIP/2.0 483")
	})
}
