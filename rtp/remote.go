package rtp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"reveille/rtp/ng"
	"reveille/rtp/sdp"
)

// ErrNoEngine says that no rtpengine daemon takes the call. SIP answers 503.
var ErrNoEngine = ng.ErrNoEngine

// remote stands in for the sockets of a session: an rtpengine daemon has them. The session goes on with offers and answers
// of its own; the daemon is told what each side has said, as a description that we write, and gives the addresses and keys
// that go into ours. It is guarded by the session's mu, and asks the daemon with that held: what waits for it are the steps
// of this one call.
//
// To the daemon the trunk is one tag. The device's side gets a new one for each offer with keys, as no two phones may share
// them, and for each phone that another one's call is handed to; "port latching" keeps the addresses of a tag. Before the
// other side is known, a placeholder stands for it.
type remote struct {
	s      *Session
	ctx    context.Context // the session's lifetime
	end    context.CancelFunc
	engine *ng.Engine
	call   string // call-id
	moves  int    // how many daemons have had the call before
	tags   int    // how many were made

	device string                    // the device's tag; "" before its first offer
	holder string                    // tag of the placeholder that the trunk was described with; "" if none
	others []string                  // further tags at the daemon: of offers that are out
	offers map[netip.AddrPort]string // tag of each offer that is out, by our address in it
	told   [2]string                 // what the daemon knows of each side
	opened bool                      // the daemon passes packets
	shut   [2]bool                   // no packets of a side are passed: the other side holds

	fresh [2]bool // the side does not know the daemon that the call has moved to
	given bool    // a peer knows an address at the daemon

	lost  bool      // the daemon does not know the call any more
	heard time.Time // when it last answered
	bell  *bell     // rings the trunk; nil when silent
	seen  [2]figures
}

// figures are what the daemon has counted of a side.
type figures struct {
	packets, bytes, errors uint64
}

// trunkTag names the trunk to the daemon.
const trunkTag = "trunk"

// newRemote takes a daemon for a session.
func newRemote(s *Session, id string) (*remote, error) {
	r := &remote{s: s, call: id, offers: map[netip.AddrPort]string{}}
	if r.call == "" {
		r.call = fmt.Sprintf("%016x", s.exchanges[Trunk].writer.ID)
	}
	var err error
	if r.engine, err = s.relay.cluster.Take(); err != nil {
		return nil, err
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r, nil
}

// name is the call-id at the daemon: another one after each move, so that a daemon that comes back knows nothing of it.
func (r *remote) name() string {
	if r.moves == 0 {
		return r.call
	}
	return fmt.Sprintf("%s.%d", r.call, r.moves)
}

// do asks the daemon about the call.
func (r *remote) do(command string, args ng.Dict) (ng.Dict, error) {
	request := ng.Dict{"call-id": r.name()}
	for key, value := range args {
		request[key] = value
	}
	answer, err := r.engine.Do(r.ctx, command, request)
	r.note(err)
	return answer, err
}

// note remembers what an answer says of the call itself.
func (r *remote) note(err error) {
	if ng.UnknownCall(err) {
		r.lost = true
	} else if !errors.Is(err, ng.ErrNoAnswer) {
		r.heard = time.Now()
	}
}

// cause says why nothing is heard of the call's media; "" if the daemon has it.
func (r *remote) cause() string {
	up, why := r.engine.Up()
	switch {
	case r.lost:
		return fmt.Sprintf("the rtpengine at %s does not know the call any more: it was restarted, or a timeout of its own has ended the call", r.engine.URL())
	case !up:
		return fmt.Sprintf("the rtpengine at %s %s; it last answered at %s", r.engine.URL(), why, r.heard.Format(time.TimeOnly))
	}
	return ""
}

// tag makes a new one.
func (r *remote) tag(kind string) string {
	r.tags++
	return fmt.Sprintf("%s%d", kind, r.tags)
}

// tagOf is that of a side.
func (r *remote) tagOf(side Side) string {
	if side == Trunk {
		return trunkTag
	}
	return r.device
}

// known reports whether a side's peer has described itself, and our description has gone to it.
func (r *remote) known(side Side) bool {
	return r.s.exchanges[side].remote != nil && (side == Trunk || r.device != "")
}

// place puts the daemon's address, and its keys if it is to have any, into our answer to a side that is about to go out, or
// into our offer. If the daemon gives no answer, and nobody knows an address of it, another one gets the call.
func (r *remote) place(side Side, d *sdp.Description, offering bool) error {
	if r.s.closed {
		return errClosed
	}
	for {
		var got *sdp.Description
		var err error
		if offering {
			got, err = r.offer(side, d)
		} else {
			got, err = r.answer(side, d)
		}
		if err == nil {
			r.given, r.fresh[side] = true, false
			return r.fill(side, d, got)
		}
		if !errors.Is(err, ng.ErrNoAnswer) || r.given {
			return fmt.Errorf("%w: %w", ErrNoEngine, err)
		}
		if err := r.move(); err != nil {
			return err
		}
	}
}

// fill puts what the daemon gave into our description.
func (r *remote) fill(side Side, d, got *sdp.Description) error {
	d.Addr, d.RTCP = got.Addr, got.RTCP
	if d.Mux && r.s.exchanges[side].remote != nil {
		d.RTCP = d.Addr
	}
	if d.Crypto != nil {
		if d.Crypto = got.Crypto; len(d.Crypto) == 0 {
			return fmt.Errorf("%w: the rtpengine at %s gave no key of SRTP", ErrNotAcceptable, r.engine.URL())
		}
	}
	return nil
}

// offer gets an address for a side that has described nothing yet.
func (r *remote) offer(side Side, d *sdp.Description) (*sdp.Description, error) {
	other := side.Other()
	from := r.tagOf(other)
	if side == Device && (r.device == "" || d.Crypto != nil && r.s.exchanges[side].remote == nil) {
		if r.device != "" {
			r.others = append(r.others, r.device)
		}
		r.device = r.tag("device")
	}
	body := r.placeholder(side, d)
	if r.known(other) {
		body = r.describe(other)
	} else if other == Device {
		from = r.hold()
	}
	got, err := r.exchange(step{command: "offer", says: other, hears: side, from: from, to: r.tagOf(side), body: body, secure: d.Crypto != nil})
	if err == nil && side == Device {
		r.offers[got.Addr] = r.device
	}
	return got, err
}

// answer tells the daemon a side's offer, and what the other side says to it, and gets what to answer.
func (r *remote) answer(side Side, d *sdp.Description) (*sdp.Description, error) {
	other := side.Other()
	to, body := r.tagOf(other), ""
	if r.known(other) {
		body = r.describe(other)
	} else {
		if body = r.placeholder(other, d); other == Device {
			to = r.hold()
		}
	}
	offered := r.describeAs(side, d)
	got, err := r.both(side, r.tagOf(side), to, offered, body)
	if err == nil {
		r.told[side], r.told[other] = offered, body
	}
	return got, err
}

// both tells the daemon what both sides say, and gives our answer to the one that is to have offered.
func (r *remote) both(offerer Side, from, to, offer, answer string) (*sdp.Description, error) {
	other := offerer.Other()
	st := step{command: "offer", says: offerer, hears: other, from: from, to: to, body: offer, secure: strings.Contains(answer, "RTP/SAVP")}
	if _, err := r.exchange(st); err != nil {
		return nil, err
	}
	return r.exchange(step{command: "answer", says: other, hears: offerer, from: from, to: to, body: answer})
}

// hold is the tag of a placeholder for the device.
func (r *remote) hold() string {
	if r.holder == "" {
		r.holder = r.tag("nobody")
	}
	return r.holder
}

// chose takes the answer to one of several offers: its tag is the device's.
func (r *remote) chose(ours netip.AddrPort) {
	tag, ok := r.offers[ours]
	if !ok || tag == r.device {
		return
	}
	r.others = append(slices.DeleteFunc(r.others, func(t string) bool { return t == tag }), r.device)
	r.device = tag
}

// sync brings what the sides have said since to the daemon, once packets flow.
func (r *remote) sync() {
	if !r.s.audio.path.connected || !r.known(Trunk) || !r.known(Device) || r.dead() {
		return
	}
	trunk, device := r.describe(Trunk), r.describe(Device)
	if r.told != [2]string{trunk, device} || !r.opened {
		if _, err := r.both(Trunk, trunkTag, r.device, trunk, device); err != nil {
			r.s.log.Error("rtpengine has not taken what a side says: there may be no sound", "err", err)
			return
		}
		r.told, r.opened = [2]string{trunk, device}, true
		r.prune()
	}
	r.obey()
}

// prune ends what the daemon has besides the two sides: its ports would be open to strangers.
func (r *remote) prune() {
	if r.holder != "" {
		r.others = append(r.others, r.holder)
	}
	for _, tag := range r.others {
		_, _ = r.do("delete", ng.Dict{"from-tag": tag, "delete-delay": 0})
	}
	r.holder, r.others = "", nil
	clear(r.offers)
}

// obey stops the packets of a side whose other side does not want any; the daemon pays directions no heed.
func (r *remote) obey() {
	for _, side := range []Side{Trunk, Device} {
		shut := !r.s.audio.path.ends[side.Other()].takes
		if shut == r.shut[side] {
			continue
		}
		command := "unblock media"
		if shut {
			command = "block media"
		}
		if _, err := r.do(command, ng.Dict{"from-tag": r.tagOf(side)}); err != nil {
			r.s.log.Warn("rtpengine does not follow a hold", "side", side.String(), "err", err)
			continue
		}
		r.shut[side] = shut
	}
}

// dead reports whether the daemon has no more of the call.
func (r *remote) dead() bool {
	up, _ := r.engine.Up()
	return r.lost || !up
}

// revive moves a call whose daemon is gone, as far as another one takes it: a new offer of a side is the chance for it.
func (r *remote) revive() error {
	if !r.dead() {
		return nil
	}
	return r.move()
}

// staleLocked reports whether a side has to hear of another address of ours.
func (s *Session) staleLocked(side Side) bool { return s.remote != nil && s.remote.fresh[side] }

// rehouseLocked puts that address into a further offer of ours to the side.
func (s *Session) rehouseLocked(side Side, d *sdp.Description) error {
	if !s.staleLocked(side) {
		return nil
	}
	return s.remote.place(side, d, true)
}

// renew is for an offer of ours with fresh keys, made by us, to a side that has asked for one: the daemon's take their
// place. It cannot exchange those that it has.
func (r *remote) renew(side Side, d *sdp.Description) error {
	ours := r.s.exchanges[side].ours
	if err := r.revive(); err != nil {
		return err
	}
	if d.Crypto != nil && ours.Crypto != nil && !r.fresh[side] {
		d.Crypto = ours.Crypto
		return nil
	}
	if d.Crypto == nil && !r.fresh[side] {
		return nil
	}
	return r.place(side, d, true)
}

// move gives the call to another daemon. Both sides have to hear of their new addresses.
func (r *remote) move() error {
	next, err := r.s.relay.cluster.Take()
	if err != nil {
		return err
	}
	r.s.log.Warn("the media of a call goes to another rtpengine", "from", r.engine.URL(), "to", next.URL(), "cause", r.cause())
	r.engine.Release()
	r.engine, r.lost, r.given, r.opened = next, false, false, false
	r.moves++
	r.holder, r.others, r.told, r.shut = "", nil, [2]string{}, [2]bool{}
	clear(r.offers)
	if r.device != "" {
		r.device = r.tag("device")
	}
	for side := range r.fresh {
		r.fresh[side] = r.s.exchanges[side].ours != nil
	}
	return nil
}

// handover takes the device out of the call; undo puts it back, for the next sync.
func (r *remote) handover() (undo func()) {
	before, moves := r.device, r.moves
	if r.shut[Device] {
		_, _ = r.do("unblock media", ng.Dict{"from-tag": before})
		r.shut[Device] = false
	}
	r.others, r.device, r.opened = append(r.others, before), "", false
	if e := &r.s.exchanges[Trunk]; e.remote != nil && e.ours != nil {
		offer := r.describe(Trunk)
		if _, err := r.both(Trunk, trunkTag, r.hold(), offer, r.placeholder(Device, e.ours)); err != nil {
			r.s.log.Warn("rtpengine has not set a device aside", "err", err)
		}
	}
	return func() {
		r.others = slices.DeleteFunc(r.others, func(tag string) bool { return tag == before })
		if r.device != "" {
			r.others = append(r.others, r.device)
		}
		r.device, r.opened = before, false
		if r.moves != moves {
			r.fresh[Device] = true
		}
	}
}

// close ends the call at the daemon; the figures are its last.
func (r *remote) close() {
	r.hush()
	if r.given && !r.dead() {
		answer, err := r.do("query", nil)
		r.read(answer, err)
		_, _ = r.do("delete", ng.Dict{"delete-delay": 0})
	}
	r.end()
	r.engine.Release()
}
