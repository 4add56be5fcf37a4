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

// carrier is one call that SIPp makes, as a carrier would.
type carrier struct {
	Scenario string // of scenarios/, without .xml
	To       string // host:port of whom it calls
	Number   string // user part of the Request-URI
	Audio    []byte // A-law that SIPp sends from the answer on

	Echo       bool          // send back what is heard, in place of Audio
	Ear        *ear          // hears in place of SIPp, which then sends no audio
	Offerless  bool          // INVITE without SDP, the answer in the ACK
	NoTrying   bool          // 100 may be missing
	MayNotRing bool          // 180 may be missing
	Talk       time.Duration // from the answer to our BYE; default 4 s
	Ring       time.Duration // from the 180 to our CANCEL; default 500 ms
	Final      int           // status that scenario "refused" expects

	process  *process
	messages string // file of SIPp's own record
}

// The fields of a scenario's template.
func (c *carrier) TalkMS() int64     { return c.Talk.Milliseconds() }
func (c *carrier) RingMS() int64     { return c.Ring.Milliseconds() }
func (c *carrier) AudioFile() string { return filepath.Join(filepath.Dir(c.messages), "source.al") }

// start writes the scenario and starts SIPp on it. SIPp answers for what the scenario says: see finish.
func (c *carrier) start(t testing.TB) *carrier {
	t.Helper()
	dir := t.TempDir()
	c.messages = filepath.Join(dir, "messages.log")
	c.Talk, c.Ring = cmpDuration(c.Talk, 4*time.Second), cmpDuration(c.Ring, 500*time.Millisecond)
	c.write(t, dir)
	media := port(t, carrierIP, 4)
	if c.Ear != nil {
		media = c.Ear.port()
	}
	args := []string{"-c", `exec "$@" >/dev/null`, "sipp", // its screens are of no use
		program(t, "sipp"), c.To, "-sf", "scenario.xml", "-m", "1", "-nostdin", "-s", c.Number,
		"-t", "u1", "-i", carrierIP, "-bind_local", "-p", port(t, carrierIP, 1), "-cp", port(t, bridgeIP, 1),
		"-mi", carrierIP, "-mp", media,
		"-timeout", "60", "-timeout_error", "-trace_msg", "-message_file", c.messages,
		"-trace_err", "-error_file", filepath.Join(dir, "errors.log"),
		"-trace_screen", "-screen_file", filepath.Join(dir, "screen.log")}
	if c.Echo {
		args = append(args, "-rtp_echo")
	}
	if c.Scenario == "resent" {
		args = append(args, "-nr")
	}
	attach(t, filepath.Join(dir, "errors.log"))
	attach(t, c.messages)
	c.process = start(t, "sipp "+c.Scenario, dir, "/bin/sh", args...)
	return c
}

func (c *carrier) write(t testing.TB, dir string) {
	t.Helper()
	list := template.FuncMap{"list": func(s ...string) []string { return s }}
	text, err := template.New("").Funcs(list).ParseFS(scenarios, "scenarios/common.xml", "scenarios/"+c.Scenario+".xml")
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

// received returns the messages that SIPp has received so far whose first line begins with the given text.
func (c *carrier) received(t testing.TB, begin string) []string {
	t.Helper()
	log, err := os.ReadFile(c.messages)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(log), "\r", "")
	var found []string
	marks := heading.FindAllStringSubmatchIndex(text, -1)
	for i, m := range marks {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		if body := text[m[1]:end]; text[m[2]:m[3]] == "received" && strings.HasPrefix(body, begin) {
			found = append(found, body)
		}
	}
	return found
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
