package demo

import (
	"context"
	"time"

	"reveille/sip/siptest"
)

// keep leaves the bridge running, with a simulated phone that sleeps, for
// trying by hand.
func keep(ctx context.Context, w *world, out *printer) error {
	st := newStage(ctx, w, out, kept)
	st.ladder = siptest.NewLadder(siptest.Bridge, "APNs", "phone")
	w.enter(st)
	defer func() {
		w.enter(nil)
		st.stop()
		for _, p := range st.phones {
			p.Close()
		}
	}()
	if err := st.keepPhone(); err != nil {
		return err
	}
	out.line("\n%s", out.paint(bold, "The bridge keeps running. End it with Ctrl-C."))
	out.line("  call      sip:%s@%s (UDP), from this machine: it counts as the trunk", kept, w.udp)
	out.line("  register  your own phone as %s, password %s, at %s (TCP) or %s (UDP)", kept, password, w.tcp, w.udp)
	out.line("  look      http://%s/metrics and /api/v1/calls, /api/v1/devices", w.app.HTTPAddress())
	out.line("A simulated phone of extension %s sleeps: a call wakes it by push, it rings 2 s and answers.\n", kept)
	st.ladder.Live(out, lineWidth)
	<-ctx.Done()
	return nil
}

// keepPhone makes the phone; its script answers and plays until the end.
func (st *stage) keepPhone() (err error) {
	defer func() {
		if recover() != nil && len(st.faults) > 0 {
			err = faultError(st.faults[0])
		}
	}()
	st.sleeping("phone", wake, func(c *siptest.Call) {
		siptest.AnswerAfter(2 * time.Second)(c)
		_ = c.Talk(st.ctx, int(time.Hour/(20*time.Millisecond))) // ends with the call's socket
	})
	return nil
}

// faultError is a fault of a stage as an error.
type faultError string

func (e faultError) Error() string { return string(e) }
