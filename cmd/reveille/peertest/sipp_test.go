package peertest

import (
	"embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"
)

//go:embed scenarios/*.xml
var scenarios embed.FS

// carrier is one call that SIPp makes, as a carrier would; or, on the phone's address, takes (see takes).
type carrier struct {
	Scenario string // of scenarios/, without .xml
	To       string // host:port of whom it calls
	Number   string // user part of the Request-URI
	Audio    []byte // A-law that SIPp sends from the answer on

	Echo       bool // send back what is heard, in place of Audio
	Ear        *ear // hears in place of SIPp, which then sends no audio
	Offerless  bool // INVITE without SDP, the answer in the ACK
	NoTrying   bool // 100 may be missing
	MayNotRing bool // 180 may be missing
	Final      int  // status that scenario "refused" expects

	IP     string // default carrierIP
	TCP    bool   // default UDP
	Header string // further lines of its INVITE, each with its end, in scenarios that have a place for them
	Asks   bool   // in scenario "plain": INFO and REFER within the call
	Hops   int    // Max-Forwards of that INVITE
	Status string // status line of the answer, such as "486 Busy Here", in scenarios that refuse
	Login  *login // whom scenario "registers" registers

	sip      int // port that it calls from
	process  *process
	messages string // file of SIPp's own record
}

// The fields of a scenario's template.
func (c *carrier) EarPort() int      { return c.Ear.conn.LocalAddr().(*net.UDPAddr).Port }
func (c *carrier) AudioFile() string { return filepath.Join(filepath.Dir(c.messages), "source.al") }

// start writes the scenario and starts SIPp on it. SIPp answers for what the scenario says: see finish.
func (c *carrier) start(t testing.TB) *carrier {
	t.Helper()
	dir := t.TempDir()
	c.messages = filepath.Join(dir, "messages.log")
	if c.IP == "" {
		c.IP = carrierIP
	}
	if c.sip == 0 {
		c.sip = freePort(t, c.IP, 1)
	}
	c.write(t, dir)
	args := []string{"-c", `exec "$@" >/dev/null`, "sipp", // its screens are of no use
		program(t, "sipp"), c.To, "-sf", "scenario.xml", "-m", "1", "-nostdin", "-s", c.Number,
		"-t", c.transport(), "-i", c.IP, "-bind_local", "-p", strconv.Itoa(c.sip), "-ci", c.IP, "-cp", port(t, c.IP, 1),
		"-mi", c.IP, "-mp", port(t, c.IP, 4), // it binds that port even if the Ear listens on another
		"-timeout", "60", "-timeout_error", "-trace_msg", "-message_file", c.messages,
		"-trace_err", "-error_file", filepath.Join(dir, "errors.log"),
		"-trace_screen", "-screen_file", filepath.Join(dir, "screen.log")}
	if c.Echo {
		args = append(args, "-rtp_echo")
	}
	if c.Login != nil {
		args = append(args, "-au", c.Login.User, "-ap", c.Login.Password)
	}
	if c.Scenario == "resent" || c.Scenario == "phone_resends" {
		args = append(args, "-nr")
	}
	attach(t, filepath.Join(dir, "errors.log"))
	attach(t, c.messages)
	c.process = start(t, "sipp "+c.Scenario, dir, "/bin/sh", args...)
	return c
}

// transport is SIPp's word for one socket of the protocol.
func (c *carrier) transport() string {
	if c.TCP {
		return "t1"
	}
	return "u1"
}

func (c *carrier) write(t testing.TB, dir string) {
	t.Helper()
	list := template.FuncMap{"list": func(s ...string) []string { return s }}
	text, err := template.New("").Funcs(list).ParseFS(scenarios,
		"scenarios/common.xml", "scenarios/parts.xml", "scenarios/"+c.Scenario+".xml")
	must(t, err)
	f, err := os.Create(filepath.Join(dir, "scenario.xml"))
	must(t, err)
	defer f.Close()
	if err := text.ExecuteTemplate(f, c.Scenario+".xml", c); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.AudioFile(), c.Audio, 0o600); err != nil {
		t.Fatal(err)
	}
}

// finish waits for the end of the call and fails the test unless all went as the scenario says.
func (c *carrier) finish(t testing.TB) {
	t.Helper()
	if code := c.process.wait(t, 65*time.Second); code != 0 {
		t.Fatalf("SIPp's scenario %q failed (exit code %d); its record of the messages follows", c.Scenario, code)
	}
}

// heading matches the line between two messages of SIPp's record.
var heading = regexp.MustCompile(`(?m)^-{20,} .*\n(?:UDP|TCP) message (sent|received) .*\n\n?`)

// message is one of SIPp's record.
type message struct {
	sent bool
	text string
}

// exchanged returns what SIPp has sent and received so far, in that order.
func (c *carrier) exchanged(t testing.TB) []message {
	t.Helper()
	log, err := os.ReadFile(c.messages)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(log), "\r", "")
	var all []message
	marks := heading.FindAllStringSubmatchIndex(text, -1)
	for i, m := range marks {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		all = append(all, message{sent: text[m[2]:m[3]] == "sent", text: text[m[1]:end]})
	}
	return all
}

// received returns the messages that SIPp has received so far whose first line begins with the given text.
func (c *carrier) received(t testing.TB, begin string) []string { return c.only(t, false, begin) }

// sent is the same for what it has sent.
func (c *carrier) sent(t testing.TB, begin string) []string { return c.only(t, true, begin) }

func (c *carrier) only(t testing.TB, sent bool, begin string) []string {
	t.Helper()
	var found []string
	for _, m := range c.exchanged(t) {
		if m.sent == sent && strings.HasPrefix(m.text, begin) {
			found = append(found, m.text)
		}
	}
	return found
}

// proceed lets the scenario go on where it waits for the test: for an INFO in its call, which nobody else sends. It
// does so once the caller has a 180; where the scenario waits later than that, SIPp must have come that far.
func (c *carrier) proceed(t testing.TB) {
	t.Helper()
	waitUntil(t, "the caller's 180", func() bool { return len(c.received(t, "SIP/2.0 180")) > 0 })
	to := hostPort(carrierIP, c.sip)
	conn, err := net.Dial("udp", to)
	must(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "INFO sip:carrier@%[1]s SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[3]s\r\n"+
		"From: <sip:test@%[2]s>;tag=1\r\nTo: <sip:carrier@%[1]s>\r\nCall-ID: %[4]s\r\nCSeq: 1 INFO\r\n"+
		"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n", to, conn.LocalAddr(), newInstance(),
		header(c.sent(t, "INVITE ")[0], "Call-ID"))
	must(t, err)
}

// resend has scenario "resent" send two copies of its INVITE, and waits for the answer to each: one that the carrier
// has had before, byte for byte.
func (c *carrier) resend(t testing.TB) {
	t.Helper()
	for copies := range 2 {
		c.proceed(t)
		waitUntil(t, "a copy's answer", func() bool {
			return len(c.sent(t, "INVITE ")) == copies+2 && c.answeredAgain(t)
		})
	}
}

// answeredAgain tells whether the last INVITE was followed by an answer that an earlier one had got already.
func (c *carrier) answeredAgain(t testing.TB) bool {
	t.Helper()
	had, again := map[string]bool{}, false
	for _, m := range c.exchanged(t) {
		switch {
		case m.sent && strings.HasPrefix(m.text, "INVITE "):
			again = false
		case !m.sent:
			again = again || had[m.text]
			had[m.text] = true
		}
	}
	return again
}

// sdpOf returns the body of a message.
func sdpOf(message string) string {
	_, body, _ := strings.Cut(message, "\n\n")
	return strings.TrimSpace(body)
}

// header returns the value of a message's first header field of that name, or "".
func header(message, name string) string {
	head, _, _ := strings.Cut(message, "\n\n")
	for line := range strings.Lines(head) {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func cmpDuration(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// port returns a free port, the first of n, as text.
func port(t testing.TB, ip string, n int) string { return strconv.Itoa(freePort(t, ip, n)) }

// hostPort is net.JoinHostPort for a numeric port.
func hostPort(ip string, port int) string { return net.JoinHostPort(ip, fmt.Sprint(port)) }
