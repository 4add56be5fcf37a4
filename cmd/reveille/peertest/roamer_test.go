package peertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"reveille/sip"
	"reveille/sip/siptest"
)

// roaming is a phone in a process of its own. It does what its standard input says, and
// answers each command with a line.
type roaming struct {
	ctx   context.Context
	phone *siptest.Phone
	call  *siptest.Call
	quiet context.CancelFunc // ends its talk
}

// commands are one thing that a host can do. known: it was one of its commands.
type commands interface {
	command(words []string) (answer string, known bool, err error)
}

// hostMain is the program of a host's process: it reads commands and answers each with a line.
func hostMain() int {
	can := []commands{&machine{}, &roaming{ctx: context.Background()}, &calling{ctx: context.Background()}, &probe{}, &bleeder{}, &swapper{}}
	in := bufio.NewScanner(os.Stdin)
	for n := 1; in.Scan(); n++ {
		answer, err := obey(can, strings.Fields(in.Text()))
		if err != nil {
			fmt.Printf("answer %d failed:%v\n", n, err)
		} else {
			fmt.Printf("answer %d ok:%s\n", n, strings.ReplaceAll(answer, "\n", " "))
		}
	}
	return 0
}

func obey(can []commands, words []string) (string, error) {
	for _, c := range can {
		if answer, known, err := c.command(words); known {
			return answer, err
		}
	}
	return "", errors.New("no such command")
}

func (r *roaming) command(words []string) (answer string, known bool, err error) {
	switch words[0] {
	case "phone":
		r.phone = siptest.NewPhone(siptest.PhoneOptions{Sockets: sip.SystemNetwork(), Bridge: words[1], Local: words[2],
			User: words[3], Password: words[4], Instance: "urn:uuid:" + words[5], Transport: strings.Join(words[6:], "")})
	case "register":
		err = r.phone.Register(r.ctx)
	case "roam":
		err = r.phone.Roam(r.ctx, sip.SystemNetwork(), words[1])
	default:
		if r.phone == nil {
			return "", false, nil
		}
		return r.ofCall(words)
	}
	return "", true, err
}

// ofCall are the commands for the latest call.
func (r *roaming) ofCall(words []string) (answer string, known bool, err error) {
	switch words[0] {
	case "ring":
		r.call, err = r.phone.AwaitCall(patience)
		if err == nil {
			r.call.Ring()
		}
	case "heard":
		h := r.call.Audio.Hearing(r.call.Audio)
		if h.Wrong > 0 {
			err = fmt.Errorf("%d packets came back altered", h.Wrong)
		}
		answer = strconv.Itoa(h.Heard)
	case "hearing":
		answer = hearingOf(r.call.Audio.Received()).String()
	case "uuid":
		answer = r.call.UUID()
	case "answer":
		err = r.call.Answer()
		r.talk()
	case "answer-quietly":
		err = r.call.Answer()
	case "say": // so many packets, and then nothing
		frames, _ := strconv.Atoi(words[1])
		err = r.call.Audio.Play(r.ctx, frames)
	case "resound":
		err = r.phone.Resound(r.ctx, r.call)
		r.talk()
	case "reinvite":
		_, err = r.call.Reinvite(r.call.Audio.SDP("sendrecv")).Await(patience, "200")
	case "reinvite-anew": // from where the bridge does not know it
		x := r.call.Reinvite(r.call.Audio.SDP("sendrecv"))
		if _, err = x.Await(patience, "401"); err == nil {
			_, err = r.phone.Authorized(x).Await(patience, "200")
		}
	case "reinvited":
		_, err = r.call.Await(patience, "INVITE")
	case "over":
		err = r.call.AwaitOver(patience)
	default:
		return "", false, nil
	}
	return answer, true, err
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
