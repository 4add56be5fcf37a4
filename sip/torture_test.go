package sip

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// torture says what becomes of each message of RFC 4475 at this layer: "4xx" or
// "5xx" is the answer, "handled" means that it went up to the server (which has
// its own answers: 405, 415, 420, 483…), "dropped" that it got no answer.
// tcp is empty where it is the same as over UDP; a message without a usable
// Content-Length also ends the stream.
var torture = []struct{ name, udp, tcp string }{
	// §3.1.1 valid
	{"wsinv", "handled", ""},
	{"intmeth", "handled", ""},
	{"esc01", "handled", ""},
	{"escnull", "handled", ""},
	{"esc02", "handled", ""},
	{"lwsdisp", "handled", ""},
	{"longreq", "handled", ""},
	{"dblreq", "handled", "handled handled closed"}, // in a datagram the second is ignored; a stray byte follows its body
	{"semiuri", "handled", ""},
	{"transports", "handled", ""},
	{"mpart01", "handled", ""},
	{"unreason", "handled", ""},
	{"noreason", "handled", ""},
	// §3.1.2 invalid
	{"badinv01", "400", ""},
	{"clerr", "400", "dropped"}, // over TCP the rest of the body may still come
	{"ncl", "400", "400 closed"},
	{"scalar02", "400", ""},
	{"scalarlg", "dropped", ""},
	{"quotbal", "400", ""},
	{"ltgtruri", "400", ""},
	{"lwsruri", "400", ""},
	{"lwsstart", "400", ""},
	{"trws", "400", ""},
	{"escruri", "400", ""},
	{"baddate", "handled", ""}, // Date is not read
	{"regbadct", "400", ""},
	{"badaspec", "handled", ""},     // spaces inside <> are borne
	{"baddn", "handled", "dropped"}, // so are unquoted display names; the file lacks its empty line
	{"badvers", "505", ""},
	{"mismatch01", "400", ""},
	{"mismatch02", "400", ""},
	{"bigcode", "dropped", ""},
	// §3.2 transaction layer
	{"badbranch", "400", ""},
	// §3.3 application layer
	{"insuf", "400", ""},
	{"unkscm", "416", ""},
	{"novelsc", "416", ""},
	{"unksm2", "400", ""},
	{"bext01", "handled", ""},
	{"invut", "handled", ""},
	{"regaut01", "handled", ""},
	{"multi01", "400", ""},
	{"mcl01", "400", "400 closed"},
	{"bcast", "dropped", ""}, // a second Via: meant for someone else
	{"zeromf", "handled", ""},
	{"cparam01", "handled", ""},
	{"cparam02", "handled", ""},
	{"regescrt", "handled", ""},
	{"sdp01", "handled", ""},
	// §3.4 backward compatibility
	{"inv2543", "handled", "400 closed"}, // no Content-Length
	// not of the RFC: no version, and a line without a colon
	{"test", "dropped", "closed"},
}

func TestTorture(t *testing.T) {
	files, err := filepath.Glob("testdata/rfc4475/*.dat")
	if err != nil || len(files) != len(torture) {
		t.Fatalf("%d files for %d lines of the table (%v)", len(files), len(torture), err)
	}
	for _, c := range torture {
		data, err := os.ReadFile("testdata/rfc4475/" + c.name + ".dat")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(c.name+"/udp", func(t *testing.T) { tortureOver(t, udpWire, string(data), c.udp) })
		want := c.tcp
		if want == "" {
			want = c.udp
		}
		t.Run(c.name+"/tcp", func(t *testing.T) { tortureOver(t, tcpWire, string(data), want) })
	}
}

func tortureOver(t *testing.T, dial func(testing.TB, *siptest.Network) *wire, data, want string) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host("192.0.2.1"), nil, "udp://192.0.2.1:5060", "tcp://192.0.2.1:5060")
		w := dial(t, n)
		w.send(data)
		synctest.Wait()
		var got []string
		for _, e := range strings.Split(b.seen(), ", ") {
			if e != "" {
				got = append(got, "handled")
			}
		}
		for m := w.next(time.Millisecond); m != ""; m = w.next(time.Millisecond) {
			if m == "closed" {
				got = append(got, m)
				break
			}
			got = append(got, strings.Fields(m)[1])
		}
		if len(got) == 0 {
			got = []string{"dropped"}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("got %s, want %s", s, want)
		}
	})
}
