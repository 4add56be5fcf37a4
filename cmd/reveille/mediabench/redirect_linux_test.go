package mediabench

import (
	"errors"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	tc "github.com/cilium/ebpf/link"
)

// tcShot is TC_ACT_SHOT: the frame goes no further. Taps have seen it by then.
const tcShot = 2

// drop keeps what arrives at an interface from the rest of the system, which would wonder whom it is for. It holds as
// long as the result is referred to.
func drop(name string) (tc.Link, error) {
	return attach(name, asm.Instructions{asm.Mov.Imm(asm.R0, tcShot), asm.Return()})
}

// redirect sends each frame that arrives at an interface out of another, as it is.
func redirect(from, to string) (tc.Link, error) {
	out, err := net.InterfaceByName(to)
	if err != nil {
		return nil, err
	}
	return attach(from, asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(out.Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	})
}

func attach(name string, program asm.Instructions) (tc.Link, error) {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: program, License: "MIT"})
	if err != nil {
		return nil, err
	}
	return tc.AttachTCX(tc.TCXOptions{Interface: ifc.Index, Program: p, Attach: ebpf.AttachTCXIngress})
}

// redirection is a row: no process, the programs alone.
type redirection struct{ links []tc.Link }

func startRedirection(*bed, row) (system, error) {
	r := &redirection{}
	for _, way := range [][2]string{{"relay-dev", "relay-trunk"}, {"relay-trunk", "relay-dev"}} {
		l, err := redirect(way[0], way[1])
		if err != nil {
			r.stop()
			return nil, errors.Join(errors.New("no TC program can be attached"), err)
		}
		r.links = append(r.links, l)
	}
	return r, nil
}

func (r *redirection) pid() int { return 0 }

func (r *redirection) open(calls []call) ([]route, error) {
	return straight(calls, [2]int{deviceLink, trunkLink}, [2]int{trunkLink, deviceLink}), nil
}

func (r *redirection) stop() {
	for _, l := range r.links {
		_ = l.Close()
	}
}

// nothing is a row: the wire.
type nothing struct{}

func startWire(*bed, row) (system, error) { return nothing{}, nil }
func (nothing) pid() int                  { return 0 }
func (nothing) stop()                     {}

func (nothing) open(calls []call) ([]route, error) {
	return straight(calls, [2]int{wireOut, wireOut}, [2]int{wireIn, wireIn}), nil
}
