package sip

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// tortureAnswers says what a trunk gets that sends us the messages of RFC 4475
// and RFC 5118: "call" where its INVITE is taken, a status, or "" for silence.
// tcp is empty where it is the same as over UDP. Where the RFC leaves a choice
// the comment says which we take.
var tortureAnswers = []struct{ name, udp, tcp string }{
	// RFC 4475 §3.1.1, valid
	{"rfc4475/wsinv", "481", ""}, // its To has a tag: an INVITE within a dialog that we do not have
	{"rfc4475/intmeth", "405", ""},
	{"rfc4475/esc01", "call", ""},
	{"rfc4475/escnull", "401", ""},
	{"rfc4475/esc02", "405", ""}, // RE%47IST%45R is not REGISTER: methods have no escapes
	{"rfc4475/lwsdisp", "200", ""},
	{"rfc4475/longreq", "call", ""},
	{"rfc4475/dblreq", "401", "call"}, // a datagram is one message, a stream is cut
	{"rfc4475/semiuri", "200", ""},
	{"rfc4475/transports", "200", ""},
	{"rfc4475/mpart01", "4xx", ""}, // we take no MESSAGE outside of a call
	{"rfc4475/unreason", "", ""},   // answers to nothing that we asked
	{"rfc4475/noreason", "", ""},
	// §3.1.2, invalid
	{"rfc4475/badinv01", "400", ""},
	{"rfc4475/clerr", "400", "-"}, // on a stream the rest may still come
	{"rfc4475/ncl", "400", "400 closed"},
	{"rfc4475/scalar02", "400", ""},
	{"rfc4475/scalarlg", "", ""},
	{"rfc4475/quotbal", "400", ""},
	{"rfc4475/ltgtruri", "400", ""},
	{"rfc4475/lwsruri", "400", ""},
	{"rfc4475/lwsstart", "400", ""}, // could be borne
	{"rfc4475/trws", "400", ""},     // could be borne
	{"rfc4475/escruri", "400", ""},
	{"rfc4475/baddate", "call", ""}, // we have no use for Date, and may ignore it
	{"rfc4475/regbadct", "400", ""},
	{"rfc4475/badaspec", "200", ""}, // borne, as the RFC allows
	{"rfc4475/baddn", "200", ""},    // borne, as the RFC allows
	{"rfc4475/badvers", "505", ""},
	{"rfc4475/mismatch01", "400", ""},
	{"rfc4475/mismatch02", "400", ""},
	{"rfc4475/bigcode", "", ""},
	// §3.2, transaction layer
	{"rfc4475/badbranch", "400", ""},
	// §3.3, application layer
	{"rfc4475/insuf", "400", ""},
	{"rfc4475/unkscm", "416", ""},
	{"rfc4475/novelsc", "416", ""},
	{"rfc4475/unksm2", "400", ""},
	{"rfc4475/bext01", "420", ""},
	{"rfc4475/invut", "415", ""},
	{"rfc4475/regaut01", "401", ""},
	{"rfc4475/multi01", "400", ""},
	{"rfc4475/mcl01", "400", "400 closed"},
	{"rfc4475/bcast", "", ""},     // two Vias: the answer is someone else's
	{"rfc4475/zeromf", "200", ""}, // OPTIONS for us; whoever forwards would give 483
	{"rfc4475/cparam01", "401", ""},
	{"rfc4475/cparam02", "401", ""},
	{"rfc4475/regescrt", "401", ""},
	{"rfc4475/sdp01", "406", ""}, // the answer would be of a type that it does not take
	// §3.4, backward compatibility
	{"rfc4475/inv2543", "call", "400 closed"}, // no Content-Length
	// RFC 5118
	{"rfc5118/ipv6-good", "401", ""},
	{"rfc5118/ipv6-bad", "400", ""},
	{"rfc5118/port-ambiguous", "401", ""},
	{"rfc5118/port-unambiguous", "401", ""},
	{"rfc5118/via-received-param-with-delim", "481", ""},
	{"rfc5118/via-received-param-no-delim", "200", ""},
	{"rfc5118/ipv6-in-sdp", "call", ""},
	{"rfc5118/mult-ip-in-header", "481", ""},
	{"rfc5118/mult-ip-in-sdp", "call", ""},
	{"rfc5118/ipv4-mapped-ipv6", "call", ""},
	{"rfc5118/ipv6-bug-abnf-3-colons", "200", ""}, // must be tolerated
	{"rfc5118/ipv6-correct-abnf-2-colons", "200", ""},
}

func tortureFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".dat")
	if err != nil {
		t.Fatal(err)
	}
	if name == "rfc4475/baddn" { // the archive's file lacks its empty line
		return string(data) + "\r\n"
	}
	return string(data)
}

func TestEachTortureMessageGetsTheAnswerOfTheRFC(t *testing.T) {
	for _, c := range tortureAnswers {
		data := tortureFile(t, c.name)
		t.Run(c.name+"/udp", func(t *testing.T) { tortureAnswer(t, udpWire, data, c.udp) })
		want := c.tcp
		switch want {
		case "":
			want = c.udp
		case "-":
			want = ""
		}
		t.Run(c.name+"/tcp", func(t *testing.T) { tortureAnswer(t, tcpWire, data, want) })
	}
}

func tortureAnswer(t *testing.T, dial func(testing.TB, *siptest.Network) *wire, data, want string) {
	inServer(t, bedOptions{}, func(b *serverBed) {
		w := dial(b.t, b.net)
		w.send(data)
		synctest.Wait()
		var got []string
		select {
		case in := <-b.calls:
			got = append(got, "call")
			in.Refuse(&Refused{Code: 480})
			w.drain(time.Second)
		default:
			for m := w.next(time.Millisecond); m != ""; m = w.next(time.Millisecond) {
				if m == "closed" {
					got = append(got, m)
					break
				}
				got = append(got, strings.Fields(m)[1])
			}
		}
		s := strings.Join(got, " ")
		if s != want && (want != "4xx" || len(s) != 3 || s[0] != '4') {
			t.Errorf("got %q, want %q", s, want)
		}
		time.Sleep(2 * time.Minute)
		b.nothingLeft()
	})
}

// A stranger's torture gets no more than one answer, and leaves nothing.
func TestTortureByAStrangerLeavesNothing(t *testing.T) {
	for _, c := range tortureAnswers {
		inServer(t, bedOptions{trunks: []TrunkConfig{{Name: "peer", Peers: []string{"192.0.2.9"}}}}, func(b *serverBed) {
			w := udpWire(b.t, b.net)
			w.send(tortureFile(t, c.name))
			synctest.Wait()
			if len(b.calls) > 0 {
				t.Errorf("%s: a stranger's call was taken", c.name)
			}
			if n := len(w.drain(40 * time.Second)); n > 1 {
				t.Errorf("%s: %d answers", c.name, n)
			}
			b.nothingLeft()
		})
	}
}
