package main

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"reveille/rtp/ng/ngtest"
)

// TestDoctorAsksEngines: each rtpengine is asked for a call; one that is gone
// is a warning as long as another takes calls.
func TestDoctorAsksEngines(t *testing.T) {
	c := newClinic(t)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var daemon ngtest.Daemon
	go daemon.Serve(conn)
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	there, away := "udp://"+conn.LocalAddr().String(), "udp://"+gone.LocalAddr().String()
	run := func(addresses, drain string) string {
		c.engine = fmt.Sprintf(", engine: rtpengine, rtpengine: {address: [%s], drain: [%s]}", addresses, drain)
		return c.lines(c.file(c.apnsEntry()), true)
	}
	for _, x := range []struct{ addresses, drain, want string }{
		{there, "", "ok    rtpengine udp://127.0.0.1:PORT: takes calls, with audio at 127.0.0.1: trunks and phones must reach that\n"},
		{there + ", " + away, "", "warn  rtpengine udp://127.0.0.1:PORT: no answer: "},
		{away, "", "FAIL  rtpengine udp://127.0.0.1:PORT: no answer: "},
		{"udp://engine.invalid:2223", "", "FAIL  rtpengine udp://engine.invalid:2223: its name is not known: "},
		{away, "", "FAIL  media.engine: no rtpengine takes calls: callers will hear 503\n"},
		{there, there, "ok    rtpengine udp://127.0.0.1:PORT: takes calls, with audio at 127.0.0.1, and is drained: it gets none\n"},
		{there, there, "FAIL  media.engine: no rtpengine takes calls: callers will hear 503\n"},
	} {
		out := run(x.addresses, x.drain)
		if !strings.Contains(out, x.want) {
			t.Errorf("want %q in\n%s", x.want, out)
		}
	}
	if daemon.Calls() > 0 {
		t.Error("a call is left at the daemon")
	}
	conn.Close()
}
