package bridge

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// Call is one call, from the INVITE to the CDR. One goroutine, Call.run, owns
// all of its fields. Each state is a method that waits in one select and
// returns the next:
//
//	admitting → waking ─180→ alerting ─200→ connecting → talking
//	     └─────────┴────────────┴─── over(Ending) ┴─────────┘
type Call struct {
	id      string // the call UUID
	bridge  *Bridge
	in      *sip.Inbound
	rec     *record
	started time.Time

	state   string // where it is, for logs and metrics
	ext     *Extension
	session *rtp.Session // the audio; opened before the first push
	early   []byte       // SDP of our 180s, nil for plain ones
	devices []*device
	watch   *location.Watcher
	events  chan *event // from pushes and device legs
	winner  *device
	refused *Ending // the best refusal of a device so far
	answer  time.Time
	rang    bool
	told    string     // the last X-Reveille-Push
	muted   bool       // its caller may not wake the callee again so soon
	counted *Extension // whose calls it is among; nil: nobody's yet
	mid     *midcall   // changes of the session; nil before the first

	couriers *[2]courier                  // of requests within the dialogs; made when needed
	handover *handover                    // to another extension, while it is under way
	typed    *digits                      // made with the first
	former   int                          // devices that the call had before
	pushed   []string                     // those of them that have had their one push
	transfer *transfer                    // the last that the device asked for
	speaks   atomic.Pointer[sip.Outbound] // the device leg of a call that is answered

	ctx    context.Context         // the lifetime of all that is under the call
	cancel context.CancelCauseFunc // with an *Ending as cause; may be called from any goroutine
}

// state is one phase of a call: its name in metrics and logs, and what it does
// until the next one. The zero state is the end.
type state struct {
	name string
	run  func(context.Context) state
}

// repeat180 is Timer C's remedy (RFC 3261 §13.3.1.1): a provisional at least
// every minute keeps proxies from giving up.
const repeat180 = time.Minute

func newCall(b *Bridge, in *sip.Inbound) *Call {
	c := &Call{
		id: uuid.NewString(), bridge: b, in: in, started: time.Now(),
		events:  make(chan *event),
		refused: EndFailed,
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	to := ""
	if d := in.Dialled(); len(d) > 0 {
		to = d[0]
	}
	c.rec = newRecord(c.id, in, to, c.started)
	c.rec.step("INVITE", "", in.CallID())
	return c
}

// log is made when there is something to say: a parked call keeps no logger.
func (c *Call) log() *slog.Logger {
	return c.bridge.log.With("call", c.id, "trunk", c.in.Trunk().Name())
}

// run is the sole place where a call changes state.
func (c *Call) run() {
	defer c.leave()
	for s := (state{"admitting", c.admitting}); s.run != nil; {
		c.enter(s.name)
		s = s.run(c.ctx)
	}
}

// leave is the end of a call, even of one that a defect ended.
func (c *Call) leave() {
	defer func() {
		c.enter("")
		c.cancel(nil)
		if c.watch != nil {
			c.watch.Close()
		}
		c.bridge.forget(c)
	}()
	if c.handover != nil {
		c.takeBack()
	}
	if c.state != "over" {
		c.enter("over")
		c.end(EndInternal)
	}
}

// enter logs, counts and records a transition; "" is the end.
func (c *Call) enter(name string) {
	c.bridge.metrics.moved(c.state, name)
	if name != "" {
		if c.bridge.log.Enabled(c.ctx, slog.LevelDebug) {
			c.log().Debug("call is "+name, "from", c.state)
		}
		c.rec.update(func(r *Record) { r.State = name })
	}
	c.state = name
}

// admitting finds the callee, opens the audio and answers 180.
func (c *Call) admitting(ctx context.Context) state {
	if ctx.Err() != nil { // nobody is to be woken by a bridge that ends
		return c.stopped()
	}
	c.ext = c.bridge.routes.Load().calleeOf(c.in)
	if c.ext == nil {
		return c.over(EndUnknownNumber)
	}
	c.rec.update(func(r *Record) { r.Extension = c.ext.Name })
	if c.bridge.full(c.in.Trunk()) {
		return c.over(EndTooManyCalls)
	}
	if ending := c.turnedAway(); ending != nil {
		return c.refuseEarly(ending)
	}
	if ending := c.openAudio(); ending != nil {
		return c.over(ending)
	}
	if err := c.in.Progress(180, c.early); err != nil {
		return c.gone()
	}
	c.rec.step("180", "", "")
	if c.early != nil {
		if err := c.session.Ringback(); err != nil {
			c.log().Warn("no ringback tone", "err", err)
		}
	}
	return state{"waking", c.waking}
}

// waking has the devices pushed and waits for them to register. It watches the
// location first and pushes then: a fast device may register before the push
// service has answered us. Present bindings come first, so that a phone that
// is awake rings at once.
func (c *Call) waking(ctx context.Context) state {
	c.watch = c.bridge.loc.Watch(c.ext.Name)
	c.rouseAll(ctx)
	if len(c.devices) == 0 {
		return c.over(EndNoDevice)
	}
	return c.await(ctx, c.bridge.cfg.PushTimeout+c.bridge.cfg.WakeTimeout, EndNoWake)
}

// alerting: at least one device rings. Others may still come and fork in.
func (c *Call) alerting(ctx context.Context) state {
	return c.await(ctx, c.bridge.cfg.RingTimeout, EndNoAnswer)
}

// await is the wait of a call that nobody has answered yet: for devices to
// register, ring, answer or refuse, until the deadline.
func (c *Call) await(ctx context.Context, longest time.Duration, late *Ending) state {
	// The timers are not stopped: the collector takes them, and without a defer
	// the frame is small enough for the stack of a parked call to shrink.
	deadline := time.NewTimer(longest)
	var again <-chan time.Time
	if longest > repeat180 {
		again = time.NewTicker(repeat180).C
	}
	for {
		if c.hopeless() {
			return c.over(c.best())
		}
		select {
		case <-c.watch.Ready():
			if err := c.inviteAll(ctx); err != nil {
				return c.over(c.mediaEnding(err))
			}
		case e := <-c.events:
			if next := c.take(ctx, e); next.run != nil {
				return next
			}
			c.wait(deadline) // from now on for those that are left
		case ch := <-c.in.Changes(): // an UPDATE: nobody else is concerned yet
			c.changed(ctx, rtp.Trunk, ch)
		case <-again:
			c.tellCaller()
		case <-c.in.Ended():
			return c.gone()
		case <-deadline.C:
			if !c.wait(deadline) {
				return c.over(c.tooLate(late))
			}
		case <-ctx.Done():
			return c.stopped()
		}
	}
}

// gone: the trunk ended the call before the answer.
func (c *Call) gone() state {
	return c.over(unanswered(c.in.End()))
}

// unanswered is the ending of a call that the trunk ended before our 200.
func unanswered(end sip.End) *Ending {
	switch end.Kind {
	case sip.EndFlowLost:
		return EndCallerLost
	case sip.EndNoPrack:
		return EndNoPrack
	}
	return EndCancelled.with(sip.Reason{}, end.Reason)
}

// stopped: an administrator hung up, or the bridge ends.
func (c *Call) stopped() state {
	if e, ok := context.Cause(c.ctx).(*Ending); ok {
		return c.over(e)
	}
	return c.over(EndShutdown)
}

// connecting brings the winner's answer to the trunk; only then the other
// devices hear that the call was completed elsewhere.
func (c *Call) connecting(ctx context.Context) state {
	won := c.winner
	c.rec.step("200", won.ID, "")
	if err := c.deviceAnswered(won); err != nil {
		c.mediaEnding(err)
		return c.discard(won)
	}
	offerless := c.in.Offer() == nil
	sdp, err := c.ourSDP(offerless)
	if err != nil {
		c.winner = nil // nobody: the devices must not hear that one has answered
		return c.over(c.mediaEnding(err))
	}
	if !offerless {
		c.session.Connect() // before the 200: the trunk's first packet may come a moment after it
	}
	c.answer = time.Now()
	if err := c.in.Answer(sdp); err != nil {
		c.winner = nil
		return c.gone() // the CANCEL was faster: nobody won, and who answered gets BYE
	}
	c.rec.update(func(r *Record) { r.Answer, r.Device = c.answer, won.ID })
	c.giveBack()
	c.completed()
	if offerless {
		if next := c.awaitAnswer(ctx); next.run != nil {
			return next
		}
		c.session.Connect()
	}
	c.log().Info("call is answered", "device", won.ID, "after", c.answer.Sub(c.started))
	c.buryRest(sip.CompletedElsewhere()) // now: a device that comes late must not ring until the call ends
	return state{"talking", c.talking}
}

// discard hangs up on a device whose answer is of no use. The others may still
// answer with a better one.
func (c *Call) discard(d *device) state {
	d.out.Cancel(sip.Reason{Protocol: "SIP", Cause: EndNoCodec.Code, Text: sip.Phrase(EndNoCodec.Code)})
	d.out, d.finished, c.winner = nil, true, nil
	if c.refused.Name != EndBusy.Name {
		c.refused = EndNoCodec
	}
	return state{"alerting", c.alerting}
}

// awaitAnswer waits for the SDP in the ACK of an offerless INVITE
// (RFC 3261 §13.2.1); the zero state means that it came.
func (c *Call) awaitAnswer(ctx context.Context) state {
	select {
	case sdp := <-c.in.Acked():
		if err := c.session.SetAnswer(rtp.Trunk, sdp); err != nil {
			return c.over(c.mediaEnding(err))
		}
		return state{}
	case <-c.in.Ended():
		return c.over(c.endedByTrunk())
	case <-c.winner.out.Ended():
		return c.over(endedByDevice(c.winner.out.End()))
	case <-ctx.Done():
		return c.stopped()
	}
}

// talking: both sides hear each other. It ends when either hangs up.
func (c *Call) talking(ctx context.Context) state {
	longest := time.NewTimer(c.bridge.cfg.MaxDuration - time.Since(c.answer))
	defer longest.Stop()
	if c.session.VideoLeft(rtp.Trunk) { // it had to be answered before the device was asked
		c.passOn(ctx, rtp.Device)
	} else { // what it has said since the device was asked
		c.passOn(ctx, rtp.Trunk)
	}
	for {
		out := c.winner.out // which may be replaced
		c.speaks.Store(out)
		select {
		case <-c.in.Ended():
			return c.over(c.afterTransfer(c.endedByTrunk()))
		case <-out.Ended():
			return c.over(c.afterTransfer(endedByDevice(out.End())))
		case r := <-c.in.Requests():
			c.requested(ctx, rtp.Trunk, r)
		case r := <-out.Requests():
			c.requested(ctx, rtp.Device, r)
		case ch := <-c.in.Changes():
			c.changed(ctx, rtp.Trunk, ch)
		case ch := <-out.Changes():
			c.changed(ctx, rtp.Device, ch)
		case do := <-c.changesDone():
			do()
		case d := <-c.session.Digits():
			c.heardDigit(ctx, d)
		case e := <-c.session.Events():
			if ending := c.heard(e); ending != nil {
				return c.over(ending)
			}
		case <-c.watch.Ready():
			c.roamed(ctx)
		case e := <-c.events:
			if e.deaf && c.deafened(ctx, e) {
				return c.over(EndCalleeGone)
			}
			c.takeLate(ctx, e)
		case <-longest.C:
			return c.over(EndTooLong)
		case <-ctx.Done():
			return c.stopped()
		}
		if c.handover != nil {
			return state{"transferring", c.transferring}
		}
	}
}

// over ends everything that is left of the call. Only the ending decides what
// the trunk, the devices, the CDR and the metrics are told.
func (c *Call) over(e *Ending) state {
	return state{"over", func(context.Context) state { return c.end(e) }}
}

func (c *Call) end(e *Ending) state {
	refusal := e.refusal(c.fallback())
	refusal.Headers = c.whyNot(e)
	c.in.Refuse(refusal) // does nothing after the answer
	c.in.Hangup(e.Trunk) // does nothing before it
	c.notSent(refusal)
	c.release(e.Device)
	c.buryRest(e.Device)
	c.finishRecord(e, refusal)
	return state{}
}

func (c *Call) fallback() string {
	if c.ext != nil && c.ext.Fallback != "" {
		return c.ext.Fallback
	}
	return c.in.Trunk().Config().Fallback
}
