package bridge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// This file transfers an answered call to another extension of ours (RFC 5589
// §6), within the call: the trunk's dialog and its audio stay where they are,
// and the devices of the other extension are woken and rung as those of the
// first were.

// handover is such a transfer under way, and what the call had before.
type handover struct {
	transfer *transfer
	from     *device // who asked; its leg may end meanwhile
	left     bool    // it has
	ext      *Extension
	devices  []*device
	watch    *location.Watcher
	undo     func() // puts the audio back
}

// handOver takes the REFER; the call goes on in transferring.
func (c *Call) handOver(r *sip.Request, to *Extension) {
	switch {
	case to.Name == c.ext.Name: // its devices know this call's UUID already, and no CallKit takes it twice
		r.Answer(403, "That Is the Extension Itself")
		return
	case c.mid != nil && c.mid.carrying != nil: // the audio is being changed
		r.Answer(491, "")
		return
	case !c.bridge.room(to): // it has as many calls as it may
		r.Answer(486, "")
		return
	}
	t := &transfer{refer: r, device: c.winner.out, first: c.transfer == nil, over: make(chan struct{})}
	c.transfer = t
	c.rec.step("REFER", c.winner.ID, "to extension "+to.Name)
	c.handover = &handover{transfer: t, from: c.winner, ext: c.ext, devices: c.devices, watch: c.watch, undo: c.session.Handover()}
	c.setAside()
	c.ext, c.devices, c.winner, c.rang, c.refused = to, nil, nil, false, EndFailed
	t.answer()
	c.tellTransferor(100, nil)
}

// setAside notes the devices that are about to be exchanged for others.
func (c *Call) setAside() {
	c.former += len(c.devices)
	for _, d := range c.devices {
		if d.pushed && !slices.Contains(c.pushed, d.ID) {
			c.pushed = append(c.pushed, d.ID)
		}
	}
}

// transferring wakes and rings the devices of the other extension, while the
// caller hears the ringing, or what a PBX plays on hold.
func (c *Call) transferring(ctx context.Context) state {
	h := c.handover
	if err := c.session.Ringback(); err != nil {
		c.log().Debug("no ringback while the call is transferred", "err", err)
	}
	c.watch = c.bridge.loc.Watch(c.ext.Name)
	c.rouseAll(ctx)
	if err := c.inviteAll(ctx); err != nil { // those that are awake
		return c.transferFailed(c.mediaEnding(err).Code)
	}
	deadline := time.NewTimer(c.bridge.cfg.PushTimeout + c.bridge.cfg.WakeTimeout)
	defer deadline.Stop()
	for {
		if len(c.devices) == 0 || c.hopeless() {
			return c.transferFailed(c.best().Code)
		}
		out := h.from.out
		left := out.Ended()
		if h.left {
			left = nil
		}
		select {
		case <-c.in.Ended():
			c.takeBack()
			return c.over(c.endedByTrunk())
		case <-left: // it has done its part; many phones do not wait for the end
			h.left = true
		case r := <-c.in.Requests():
			c.requestedMeanwhile(rtp.Trunk, r)
		case r := <-out.Requests():
			c.requestedMeanwhile(rtp.Device, r)
		case ch := <-c.in.Changes():
			c.changed(ctx, rtp.Trunk, ch)
		case ch := <-out.Changes():
			ch.Refuse(&sip.Refused{Code: 491})
		case do := <-c.changesDone():
			do()
		case e := <-c.session.Events(): // of before, maybe: it is not told again
			if ending := c.heard(e); ending != nil {
				c.takeBack()
				return c.over(ending)
			}
		case <-c.watch.Ready():
			if err := c.inviteAll(ctx); err != nil {
				return c.transferFailed(c.mediaEnding(err).Code)
			}
		case e := <-c.events:
			if next := c.takeTransferred(ctx, e, deadline); next.run != nil {
				return next
			}
		case <-deadline.C:
			if !c.wait(deadline) {
				return c.transferFailed(480)
			}
		case <-ctx.Done():
			c.takeBack()
			return c.stopped()
		}
	}
}

// takeTransferred is one event while the other extension is rung. What comes
// of the first one's devices is as late as in any answered call.
func (c *Call) takeTransferred(ctx context.Context, e *event, deadline *time.Timer) state {
	if e.dev == nil || c.find(e.dev.ID) != e.dev {
		c.takeLate(ctx, e)
		return state{}
	}
	if e.out != nil && e.out == e.dev.out && e.step.Code > 100 && e.step.Code != 199 && !e.step.Local {
		switch code := e.step.Code; {
		case code < 200:
			c.ringsTransferred(e, deadline)
			return state{}
		case code < 300:
			e.dev.heard, e.dev.answer = true, e.step.SDP
			return c.transferred(ctx, e.dev)
		case code >= 600:
			c.rec.step(fmt.Sprint(code, " from device"), e.dev.ID, e.step.Phrase)
			e.dev.finished, e.dev.out = true, nil
			return c.transferFailed(code)
		}
	}
	switch next := c.take(ctx, e); next.name {
	case "connecting": // by INVITE with Replaces
		return c.transferred(ctx, c.winner)
	case "over":
		return c.transferFailed(500)
	}
	c.wait(deadline)
	return state{}
}

// ringsTransferred tells who asked that a device rings, once.
func (c *Call) ringsTransferred(e *event, deadline *time.Timer) {
	e.dev.heard = true
	c.rec.step(fmt.Sprint(e.step.Code, " from device"), e.dev.ID, "")
	if c.rang {
		return
	}
	c.rang = true
	deadline.Reset(c.bridge.cfg.RingTimeout)
	c.tellTransferor(180, nil)
}

// tellTransferor sends a NOTIFY after those that are under way; then is done
// after its answer.
func (c *Call) tellTransferor(code int, then func()) {
	t := c.handover.transfer
	c.courier(rtp.Trunk).take(c.ctx, parcel{to: t.device, then: then, notify: func(ctx context.Context) { t.tell(ctx, code) }})
}

// requestedMeanwhile answers what cannot be passed on: there is nobody to get it.
func (c *Call) requestedMeanwhile(side rtp.Side, r *sip.Request) {
	switch {
	case r.Method == "REFER" && side == rtp.Trunk:
		r.Answer(603, "")
	case r.Method == "REFER" || r.Method == "INVITE":
		r.Answer(491, "")
	case r.Method == "NOTIFY":
		r.Answer(481, "Subscription Does Not Exist")
	case len(r.Body) == 0:
		r.Answer(200, "")
	default:
		r.Answer(480, "")
	}
}

// transferred connects the caller with the device that has answered; the one
// that asked for the transfer hears of it and then gets its BYE.
func (c *Call) transferred(ctx context.Context, d *device) state {
	c.rec.step("200", d.ID, "")
	if err := c.deviceAnswered(d); err != nil {
		c.mediaEnding(err)
		c.winner = nil
		d.out.Cancel(sip.Reason{Protocol: "SIP", Cause: EndNoCodec.Code, Text: sip.Phrase(EndNoCodec.Code)})
		d.out, d.finished = nil, true
		return state{}
	}
	c.session.Connect()
	h := c.handover
	c.tellTransferor(200, func() { h.from.out.Hangup(sip.Reason{Protocol: "SIP", Cause: 200, Text: "Call transferred"}) })
	h.watch.Close()
	close(h.transfer.over)
	c.bridge.leaveRoom(c.counted)
	c.winner, c.handover, c.counted = d, nil, c.ext
	c.giveBack()
	c.completed()
	c.buryRest(sip.CompletedElsewhere())
	c.rec.update(func(r *Record) { r.Extension, r.Device = c.ext.Name, d.ID })
	c.log().Info("call is transferred", "aor", c.ext.Name, "device", d.ID)
	c.passOn(ctx, rtp.Device) // the trunk may be on hold, or be using another codec
	return state{"talking", c.talking}
}

// transferFailed puts the call back to where it was. If the one that asked has
// gone meanwhile there is nothing to go back to.
func (c *Call) transferFailed(code int) state {
	c.rec.step(fmt.Sprint("transfer ", code), "", "")
	h := c.handover
	c.tellTransferor(code, nil)
	c.takeBack()
	if h.left {
		return c.over(EndTransferFailed)
	}
	return state{"talking", c.talking}
}

// takeBack ends the other extension's part, and gives the call its own again.
func (c *Call) takeBack() {
	h := c.handover
	c.release(sip.Reason{})
	c.buryRest(sip.Reason{})
	c.watch.Close()
	c.setAside()
	c.bridge.leaveRoom(c.ext)
	c.ext, c.devices, c.watch, c.winner, c.rang, c.handover = h.ext, h.devices, h.watch, h.from, true, nil
	h.undo()
	close(h.transfer.over)
}
