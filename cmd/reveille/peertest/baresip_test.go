package peertest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// phone is baresip as the app on a device.
type phone struct {
	User, Password string
	Registrar      string // "sip:127.0.0.1:5060;transport=tcp"; "": does not register and waits for calls
	CAFile         string // PEM that the registrar's certificate is checked with, for TLS
	Instance       string // UUID of +sip.instance
	SRTP           string // its mediaenc: srtp, srtp-mand or dtls_srtp; "": it does not encrypt
	Auto           bool   // answers at once, with no 180
	Audio          []byte // A-law that it plays, whatever law is used on the wire

	dir     string
	sip     int // port of its own listener
	control string
	process *process
}

// start writes baresip's configuration and runs it: G.711 only, audio from and to files.
func (p *phone) start(t testing.TB) *phone {
	t.Helper()
	p.dir = t.TempDir()
	p.sip = freePort(t, phoneIP, 2) // it also listens on the next port, for TLS
	p.control = hostPort(phoneIP, freePort(t, phoneIP, 1))
	if err := writeWAV(filepath.Join(p.dir, "source.wav"), samples(p.Audio)); err != nil {
		t.Fatal(err)
	}
	p.file(t, "config", p.config(t))
	p.file(t, "accounts", p.account())
	p.file(t, "uuid", p.Instance)
	p.process = start(t, "baresip", p.dir, "/usr/bin/stdbuf", "-oL", // it would keep its output back in a pipe
		program(t, "baresip"), "-f", p.dir, "-s")
	p.process.waitFor(t, "baresip is ready")
	return p
}

func (p *phone) file(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *phone) config(t testing.TB) string {
	text := fmt.Sprintf(`poll_method epoll
sip_listen %[1]s:%[2]d
net_interface %[1]s
audio_source aufile,%[3]s/source.wav
audio_player aubridge,nowhere
audio_alert aubridge,nowhere
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports 20000-32000
jitter_buffer_delay 1-50
module_path %[4]s
module g711.so
module sndfile.so
module aufile.so
module aubridge.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen %[5]s
snd_path %[3]s
`, phoneIP, p.sip, p.dir, modules(t), p.control)
	if p.SRTP != "" {
		text += "module srtp.so\nmodule dtls_srtp.so\n"
	}
	if p.CAFile != "" {
		text += "sip_cafile " + p.CAFile + "\n"
	}
	return text
}

// modules returns the folder of baresip's modules.
func modules(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/baresip/modules/g711.so")
	if more, _ := filepath.Glob("/usr/lib/baresip/modules/g711.so"); len(found)+len(more) > 0 {
		return filepath.Dir(append(found, more...)[0])
	}
	t.Fatal("baresip's modules are not installed; mend it with: apt-get install --no-install-recommends baresip-core")
	return ""
}

func (p *phone) account() string {
	mode := "manual"
	if p.Auto {
		mode = "auto"
	}
	common := ";answermode=" + mode + ";audio_codecs=pcma,pcmu;ptime=20;mwi=no"
	if p.SRTP != "" {
		common += ";mediaenc=" + p.SRTP
	}
	if p.Registrar == "" {
		return fmt.Sprintf("<sip:%s@%s;transport=udp>;regint=0%s\n", p.User, phoneIP, common)
	}
	return fmt.Sprintf("<sip:%s@%s>;auth_pass=%s;regint=3600%s\n", p.User, p.Registrar[len("sip:"):], p.Password, common)
}

// command gives baresip one of its commands, over its control port.
func (p *phone) command(t testing.TB, name string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"command": name, "token": name})
	must(t, err)
	c := dial(t, p.control)
	defer c.Close()
	if _, err := fmt.Fprintf(c, "%d:%s,", len(body), body); err != nil { // a netstring
		t.Fatal(err)
	}
	waitForReply(t, c)
}

// waitForReply reads until something came: the command has been carried out then.
func waitForReply(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 4096)); err != nil {
		t.Fatalf("baresip does not answer on its control port: %v", err)
	}
}

// registered waits for the 200 to its REGISTER.
func (p *phone) registered(t testing.TB) *phone {
	t.Helper()
	p.process.waitFor(t, `\{\d+/\w+/\w+\} 200 |useragents? registered|200 OK \(.*\) \[\d+ binding`)
	return p
}

// ringing waits for a call and for the phone to ring.
func (p *phone) ringing(t testing.TB) *phone {
	t.Helper()
	p.process.waitFor(t, `Incoming call from:`)
	return p
}

// answer accepts the call that rings, and waits until it stands and audio has come.
func (p *phone) answer(t testing.TB) *phone {
	t.Helper()
	p.ringing(t).command(t, "accept")
	return p.established(t)
}

func (p *phone) established(t testing.TB) *phone {
	t.Helper()
	p.process.waitFor(t, `Call established`)
	p.process.waitFor(t, `incoming rtp for 'audio' established`)
	return p
}

// cancelled waits until the caller's CANCEL has ended the ringing.
func (p *phone) cancelled(t testing.TB) *phone {
	t.Helper()
	p.process.waitFor(t, `^\S+ CANCEL sip:`)
	p.process.waitFor(t, `SIP/2.0 487 `)
	p.process.waitFor(t, `session closed`)
	return p
}

// traced returns the messages, sent or received, whose first line begins with the given text, without their bodies.
func (p *phone) traced(begin string) []string {
	var found []string
	lines, _ := p.process.since(0)
	for i, line := range lines {
		if !strings.HasPrefix(unstamped(line), begin) {
			continue
		}
		var text strings.Builder
		for ; i < len(lines) && unstamped(lines[i]) != ""; i++ {
			text.WriteString(unstamped(lines[i]) + "\n")
		}
		found = append(found, text.String())
	}
	return found
}

// unstamped is a line without the time that process puts before it.
func unstamped(line string) string {
	_, text, _ := strings.Cut(line, " ")
	return text
}

// invitedOnce fails the test if the phone has got another number of INVITEs than one; one that is sent again has the
// same Via.
func (p *phone) invitedOnce(t testing.TB) {
	t.Helper()
	got := map[string]bool{}
	for _, m := range p.traced("INVITE sip:") {
		got[header(m, "Via")] = true
	}
	if len(got) != 1 {
		t.Errorf("the phone got %d INVITEs, want 1: %v", len(got), got)
	}
}

// hangUp ends the call from the phone's side, or declines it (486) if it rings.
func (p *phone) hangUp(t testing.TB) { p.command(t, "hangup") }

// recording waits for the end of the call and returns what the phone heard. It is taken after the decoder, before
// anything that plays it.
func (p *phone) recording(t testing.TB) []int16 {
	t.Helper()
	p.process.waitFor(t, `Call with .* terminated|session closed`)
	p.process.stop(t) // closes the file
	if n := len(p.recordings()); n != 1 {
		t.Fatalf("the phone has written %d recordings, want 1", n)
	}
	heard, err := readWAV(p.recordings()[0])
	must(t, err)
	return heard
}

func (p *phone) recordings() []string {
	found, _ := filepath.Glob(filepath.Join(p.dir, "dump-*-dec.wav"))
	return found
}

// hears waits, in the midst of a call, until enough of the source has reached the phone.
func (p *phone) hears(t testing.TB, alaw []byte) *phone {
	t.Helper()
	hears(t, "the phone to hear the other side", alaw, func() []int16 {
		if len(p.recordings()) == 0 {
			return nil
		}
		pcm, _ := readWAV(p.recordings()[0]) // an error: it has no data yet
		return pcm
	})
	return p
}
