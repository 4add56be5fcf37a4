package peertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"reveille/sip"
	"reveille/sip/siptest"
)

// roaming is the phone of TestPhoneChangesNetworks, in a process of its own. It does what its standard input says, and
// answers each command with a line.
type roaming struct {
	ctx   context.Context
	phone *siptest.Phone
	call  *siptest.Call
	quiet context.CancelFunc // ends its talk
}

// roamerMain is the program of that process.
func roamerMain() int {
	r := &roaming{ctx: context.Background()}
	in := bufio.NewScanner(os.Stdin)
	for n := 1; in.Scan(); n++ {
		answer, err := r.command(strings.Fields(in.Text()))
		if err != nil {
			fmt.Printf("answer %d failed:%v\n", n, err)
		} else {
			fmt.Printf("answer %d ok:%s\n", n, answer)
		}
	}
	return 0
}

func (r *roaming) command(words []string) (answer string, err error) {
	switch words[0] {
	case "ip":
		out, err := exec.Command("ip", words[1:]...).CombinedOutput()
		return strings.ReplaceAll(string(out), "\n", " "), err
	case "phone":
		r.phone = siptest.NewPhone(siptest.PhoneOptions{Sockets: sip.SystemNetwork(), Bridge: words[1], Local: words[2],
			User: words[3], Password: words[4], Instance: "urn:uuid:" + words[5]})
	case "register":
		return "", r.phone.Register(r.ctx)
	case "roam":
		return "", r.phone.Roam(r.ctx, sip.SystemNetwork(), words[1])
	case "heard":
		h := r.call.Audio.Hearing(r.call.Audio)
		if h.Wrong > 0 {
			return "", fmt.Errorf("%d packets came back altered", h.Wrong)
		}
		return strconv.Itoa(h.Heard), nil
	default:
		return r.ofCall(words[0])
	}
	return "", nil
}

// ofCall are the commands for the latest call.
func (r *roaming) ofCall(command string) (answer string, err error) {
	switch command {
	case "ring":
		r.call, err = r.phone.AwaitCall(patience)
		if err == nil {
			r.call.Ring()
		}
	case "uuid":
		return r.call.UUID(), nil
	case "answer":
		err = r.call.Answer()
		r.talk()
	case "resound":
		err = r.phone.Resound(r.ctx, r.call)
		r.talk()
	case "reinvite":
		_, err = r.call.Reinvite(r.call.Audio.SDP("sendrecv")).Await(patience, "200")
	case "reinvited":
		_, err = r.call.Await(patience, "INVITE")
	case "over":
		err = r.call.AwaitOver(patience)
	default:
		err = errors.New("no such command")
	}
	return "", err
}

// talk goes on until the next talk, or the end of the test.
func (r *roaming) talk() {
	if r.quiet != nil {
		r.quiet()
	}
	var ctx context.Context
	ctx, r.quiet = context.WithCancel(r.ctx)
	audio := r.call.Audio
	go audio.Play(ctx, 1<<20)
}
