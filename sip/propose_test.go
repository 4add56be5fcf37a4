package sip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// proposal of a test: an offer, and how it ended.
type proposed struct {
	sdp []byte
	err error
}

// propose has a leg change the session in the background.
func propose(in *Inbound, p Proposal) <-chan proposed {
	done := make(chan proposed, 1)
	go func() {
		sdp, err := in.Propose(context.Background(), p)
		done <- proposed{sdp, err}
	}()
	return done
}

func offer() ([]byte, error) { return []byte(ourSDP), nil }

// answering builds the trunk's response to a request of ours.
func answering(req, status, sdp string, headers ...string) string {
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		headers = append(headers, name+": "+headerOf(req, name))
	}
	if sdp != "" {
		headers = append(headers, "Content-Type: application/sdp")
	}
	return message("SIP/2.0 "+status, sdp, headers...)
}

// ackTo is the ACK to a refusal of the trunk's INVITE.
func ackTo(res string) string {
	var headers []string
	for _, name := range []string{"Via", "From", "To", "Call-ID"} {
		headers = append(headers, name+": "+headerOf(res, name))
	}
	return message("ACK sip:192.0.2.1 SIP/2.0", "", append(headers, "CSeq: "+strings.Replace(headerOf(res, "CSeq"), "INVITE", "ACK", 1))...)
}

func bodyOf(m string) string {
	_, body, _ := strings.Cut(m, "\r\n\r\n")
	return body
}

// ends waits for the end of a proposal.
func ends(t *testing.T, done <-chan proposed) proposed {
	t.Helper()
	select {
	case p := <-done:
		return p
	case <-time.After(time.Minute):
		t.Fatal("the proposal does not end")
		return proposed{}
	}
}

// RFC 3261 §14.1 and §13.2.2.4: a re-INVITE of ours, its answer, the ACK to
// each copy of the 2xx, and the target that follows the Contact.
func TestReinviteOfOurs(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, tag := established(b, w)
		done := propose(in, Proposal{SDP: offer})
		invite := w.expect("INVITE sip:trunk@192.0.2.2:5060")
		if bodyOf(invite) != ourSDP || headerOf(invite, "Contact") == "" || !strings.HasSuffix(headerOf(invite, "From"), "tag="+tag) {
			t.Errorf("sent\n%s", invite)
		}
		w.send(answering(invite, "100 Trying", ""))
		ok := answering(invite, "200 OK", trunksSDP, "Contact: <sip:moved@192.0.2.2:5060>")
		w.send(ok)
		ack := w.expect("ACK sip:moved@192.0.2.2:5060")
		if headerOf(ack, "CSeq") != strings.Replace(headerOf(invite, "CSeq"), "INVITE", "ACK", 1) {
			t.Errorf("ACK %s for %s", headerOf(ack, "CSeq"), headerOf(invite, "CSeq"))
		}
		if p := ends(t, done); p.err != nil || string(p.sdp) != trunksSDP {
			t.Errorf("%q, %v", p.sdp, p.err)
		}
		for range 3 {
			w.send(ok)
			if again := w.expect("ACK "); again != ack {
				t.Errorf("another ACK\n%s\nbefore\n%s", again, ack)
			}
		}
		in.Hangup(Reason{})
		w.expect("BYE sip:moved@192.0.2.2:5060")
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// The ACK goes to where the Contact of the 2xx says (RFC 3261 §13.2.2.4).
func TestAckOfOursFollowsTheContact(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, _ := established(b, w)
		other, err := b.net.Host("192.0.2.2").ListenPacket(b.t.Context(), "udp", "192.0.2.2:5070")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		there := &wire{t: t, udp: other, to: w.to}
		done := propose(in, Proposal{SDP: offer})
		ok := answering(w.expect("INVITE "), "200 OK", trunksSDP, "Contact: <sip:moved@192.0.2.2:5070>")
		w.send(ok)
		there.expect("ACK sip:moved@192.0.2.2:5070")
		ends(t, done)
		w.send(ok)
		there.expect("ACK ")
		w.silence(time.Second)
		in.Hangup(Reason{})
		there.expect("BYE ")
		there.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// Without an offer in it the 2xx has one, and the ACK our answer.
func TestReinviteOfOursWithoutOffer(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, _ := established(b, w)
		done := propose(in, Proposal{Answer: func(offer []byte) ([]byte, error) {
			if string(offer) != trunksSDP {
				t.Errorf("offered %q", offer)
			}
			return []byte(ourSDP), nil
		}})
		invite := w.expect("INVITE ")
		if bodyOf(invite) != "" {
			t.Errorf("sent\n%s", invite)
		}
		w.send(answering(invite, "200 OK", trunksSDP))
		if ack := w.expect("ACK "); bodyOf(ack) != ourSDP {
			t.Errorf("sent\n%s", ack)
		}
		if p := ends(t, done); p.err != nil {
			t.Error(p.err)
		}
		in.Hangup(Reason{})
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// RFC 3261 §14.2, RFC 3311 §5.2: what crosses an offer of ours gets 491; an
// UPDATE that offers nothing does not cross it.
func TestRequestsThatCrossOurOffer(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, tag := established(b, w)
		propose(in, Proposal{SDP: offer})
		invite := w.expect("INVITE ")
		w.send(answering(invite, "100 Trying", ""))
		w.send(withSDP("INVITE", tag, 2))
		w.send(ackTo(w.expect("SIP/2.0 491")))
		w.send(withSDP("UPDATE", tag, 3))
		w.expect("SIP/2.0 491")
		w.send(within("UPDATE", tag, 4))
		w.expect("SIP/2.0 200")
		w.send(answering(invite, "488 No", ""))
		w.expect("ACK ")
		in.Hangup(Reason{})
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

func withSDP(method, tag string, seq int, headers ...string) string {
	m := within(method, tag, seq, append(headers, "Content-Type: application/sdp", fmt.Sprintf("Content-Length: %d", len(trunksSDP)))...)
	return m + trunksSDP
}

// RFC 3311 §5.2: an UPDATE while another one has no answer, and a re-INVITE
// while an UPDATE's offer has none.
func TestRequestsThatCrossAnUpdateOfTheFarEnd(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, tag := established(b, w)
		w.send(withSDP("UPDATE", tag, 2))
		synctest.Wait()
		first := <-in.Changes()
		for i, text := range []string{within("UPDATE", tag, 3), withSDP("UPDATE", tag, 4), withSDP("INVITE", tag, 5)} {
			w.send(text)
			m := w.expect("SIP/2.0 500")
			if n := headerOf(m, "Retry-After"); n == "" || len(n) > 2 {
				t.Errorf("request %d: Retry-After %q", i, n)
			}
			if strings.HasSuffix(headerOf(m, "CSeq"), "INVITE") {
				w.send(ackTo(m))
			}
		}
		if err := first.Accept([]byte(ourSDP)); err != nil {
			t.Error(err)
		}
		if ok := w.expect("SIP/2.0 200"); headerOf(ok, "CSeq") != "2 UPDATE" || bodyOf(ok) != ourSDP || headerOf(ok, "Contact") == "" {
			t.Errorf("answered\n%s", ok)
		}
		in.Hangup(Reason{})
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// A far end that has forgotten the dialog, or says nothing, ends it, by BYE
// (RFC 3261 §12.2.1.2, §14.1).
func TestReinviteOfOursToWhoHasGone(t *testing.T) {
	for _, status := range []string{"481 Gone", "408 Late", ""} {
		inServer(t, bedOptions{}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			in, _ := established(b, w)
			done := propose(in, Proposal{SDP: offer})
			invite := w.expect("INVITE ")
			if status != "" {
				w.send(answering(invite, status, ""))
			}
			if p := ends(t, done); p.err == nil {
				t.Error("no error")
			}
			if end := in.End(); end.Kind != EndGone {
				t.Errorf("%q: the leg ended as %s", status, end.Kind)
			}
			if got := strings.Join(w.drain(time.Second), "|"); !strings.Contains(got, "BYE ") {
				t.Errorf("%q: there came %s", status, got)
			}
			w.drain(2 * time.Minute)
			b.nothingLeft()
		})
	}
}

// A re-INVITE whose wait ends is cancelled, once there was a provisional (RFC 3261 §9.1).
func TestReinviteOfOursThatIsTakenBack(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, _ := established(b, w)
		ctx, cancel := context.WithTimeout(b.t.Context(), 200*time.Millisecond)
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := in.Propose(ctx, Proposal{SDP: offer})
			done <- err
		}()
		invite := w.expect("INVITE ")
		w.silence(300 * time.Millisecond)
		w.send(answering(invite, "100 Trying", ""))
		bye := w.expect("CANCEL ")
		if headerOf(bye, "Via") != headerOf(invite, "Via") {
			t.Error("the CANCEL has another branch")
		}
		w.send(answering(bye, "200 OK", ""))
		w.send(answering(invite, "487 Terminated", ""))
		w.expect("ACK ")
		var r *Refused
		if err := <-done; !errors.As(err, &r) || r.Code != 487 {
			t.Errorf("%v", err)
		}
		if in.End().Kind != EndLocal || isDone(in.Ended()) {
			t.Error("the leg has ended")
		}
		in.Hangup(Reason{})
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A trunk that challenges the re-INVITE gets it again with credentials (RFC
// 3261 §22.2), once.
func TestReinviteOfOursIsChallenged(t *testing.T) {
	trunk := TrunkConfig{Name: "peer", Peers: []string{"192.0.2.2"}, Username: "us", Password: "secret"}
	inServer(t, bedOptions{trunks: []TrunkConfig{trunk}}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, _ := established(b, w)
		done := propose(in, Proposal{SDP: offer})
		invite := w.expect("INVITE ")
		for range 2 {
			w.send(answering(invite, "407 Who", "", `Proxy-Authenticate: Digest realm="x", nonce="n", algorithm=MD5, qop="auth"`))
			w.expect("ACK ")
			invite = w.next(time.Second)
			if invite == "" {
				break
			}
			if !strings.Contains(headerOf(invite, "Proxy-Authorization"), `username="us"`) || headerOf(invite, "CSeq") != "2 INVITE" {
				t.Errorf("again with\n%s", invite)
			}
		}
		var r *Refused
		if p := ends(t, done); !errors.As(p.err, &r) || r.Code != 407 {
			t.Errorf("%v", p.err)
		}
		in.Hangup(Reason{})
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// Our 2xx to a re-INVITE comes again until its ACK (RFC 3261 §13.3.1.4); a
// re-INVITE or an offer of ours that comes before that has to wait.
func TestReinviteBeforeTheAck(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, tag := established(b, w)
		w.send(withSDP("INVITE", tag, 2, "Contact: <sip:moved@192.0.2.2:5060>"))
		w.expect("SIP/2.0 100")
		if err := (<-in.Changes()).Accept([]byte(ourSDP)); err != nil {
			t.Fatal(err)
		}
		w.expect("SIP/2.0 200")
		w.send(withSDP("INVITE", tag, 3))
		w.send(ackTo(w.expect("SIP/2.0 491")))
		propose(in, Proposal{SDP: offer})
		w.expect("SIP/2.0 200")
		w.send(within("ACK", tag, 2))
		w.expect("INVITE sip:moved@192.0.2.2:5060")
		in.Hangup(Reason{})
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// Without any ACK to it the dialog ends by BYE (RFC 3261 §14.2).
func TestReinviteIsNeverAcknowledged(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, tag := established(b, w)
		w.send(withSDP("INVITE", tag, 2))
		w.expect("SIP/2.0 100")
		if err := (<-in.Changes()).Accept([]byte(ourSDP)); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(w.drain(40*time.Second), "|")
		if strings.Count(got, "SIP/2.0 200") != 11 || !strings.Contains(got, "BYE ") { // at 0, 0.5, 1.5, 3.5, then every 4 s before 32 s
			t.Errorf("there came %s", got)
		}
		if end := in.End(); end.Kind != EndNoAck {
			t.Errorf("the leg ended as %s", end.Kind)
		}
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// RFC 6141 §4: a target that comes with a refused re-INVITE is not followed.
func TestRefusedReinviteMovesNothing(t *testing.T) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := udpWire(b.t, b.net)
		in, tag := established(b, w)
		w.send(withSDP("INVITE", tag, 2, "Contact: <sip:moved@192.0.2.2:5060>"))
		w.expect("SIP/2.0 100")
		(<-in.Changes()).Refuse(&Refused{Code: 488})
		w.send(ackTo(w.expect("SIP/2.0 488")))
		in.Hangup(Reason{})
		w.expect("BYE sip:trunk@192.0.2.2:5060")
		w.drain(2 * time.Minute)
		b.nothingLeft()
	})
}

// RFC 4028 §4, §5: the headers as they may be written.
func TestSessionExpiresAsWritten(t *testing.T) {
	for value, want := range map[string]sessionRequest{
		"1800":                          {expires: 1800},
		"1800;refresher=uac":            {expires: 1800, refresher: refresherUAC},
		" 90 ; other=1 ;Refresher=UAS ": {expires: 90, refresher: refresherUAS},
		"90;refresher=nobody":           {expires: 90},
		"-1":                            {}, "": {}, "x": {}, "99999999999999": {}, "90;;": {expires: 90},
	} {
		if n, by := parseSessionExpires(value); n != want.expires || by != want.refresher {
			t.Errorf("%q: %d by %d", value, n, by)
		}
	}
}

func FuzzSessionExpires(f *testing.F) {
	f.Add("1800;refresher=uac")
	f.Add(`90;a="b;c";refresher=uas`)
	f.Fuzz(func(t *testing.T, value string) {
		if n, by := parseSessionExpires(value); n > 1<<31-1 || by > refresherUAS {
			t.Errorf("%q: %d by %d", value, n, by)
		}
	})
}
