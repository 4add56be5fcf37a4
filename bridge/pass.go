package bridge

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"reveille/rtp"
	"reveille/sip"
)

// sender is the leg that a request is passed to.
type sender interface {
	Send(ctx context.Context, o sip.Outgoing) sip.Reply
}

// passTimeout is how long the other leg has for its answer. The sender's own
// transaction ends after 32 s (Timer F) and it must hear of ours before.
const passTimeout = 10 * time.Second

// acceptable lists the bodies that cross a call: digits, the fast update of a
// picture that some phones ask for even in calls without one, and plain text.
func acceptable(method string) []string {
	if method == "MESSAGE" {
		return []string{"text/plain"}
	}
	return []string{"application/dtmf-relay", "application/dtmf", "application/media_control+xml"}
}

// requested answers a request that came within the dialog of a side, or sees
// to its answer. It does not block: the far end of the other leg may be slow.
func (c *Call) requested(ctx context.Context, side rtp.Side, r *sip.Request) {
	switch r.Method {
	case "INFO", "MESSAGE":
		c.pass(ctx, side, r)
	case "REFER":
		c.referred(ctx, side, r)
	case "NOTIFY":
		c.notified(side, r)
	case "INVITE":
		c.replaced(ctx, r)
	default:
		r.Answer(501, "")
	}
}

// pass sends an INFO or MESSAGE on by the other leg. A new message is made:
// only the body and the two headers that say what it is get across.
func (c *Call) pass(ctx context.Context, side rtp.Side, r *sip.Request) {
	kind, _, _ := strings.Cut(r.ContentType, ";")
	switch {
	case len(r.Body) == 0:
		r.Answer(200, "") // RFC 2976 §2.2: a sign of life, of which nothing is left to pass
		return
	case !slices.Contains(acceptable(r.Method), kind):
		r.Answer(415, "", sip.Header{Name: "Accept", Value: strings.Join(acceptable(r.Method), ", ")})
		return
	}
	if r.Method == "INFO" && c.dialled(side, kind, r) {
		return
	}
	o := sip.Outgoing{Method: r.Method, ContentType: r.ContentType, Body: r.Body}
	if r.InfoPackage != "" {
		o.Headers = []sip.Header{{Name: "Info-Package", Value: r.InfoPackage}}
	}
	c.rec.step(r.Method, "", side.String())
	c.courier(side).take(ctx, parcel{request: r, out: o, to: c.other(side), from: side})
}

// courier is the one for what comes from a side.
func (c *Call) courier(side rtp.Side) *courier {
	if c.couriers == nil {
		c.couriers = &[2]courier{}
	}
	return &c.couriers[side]
}

// other is the leg across from a side.
func (c *Call) other(side rtp.Side) sender {
	if side == rtp.Trunk {
		return c.winner.out
	}
	return c.in
}

// parcel is a request on its way to the other leg.
type parcel struct {
	request *sip.Request
	out     sip.Outgoing
	to      sender
	from    rtp.Side

	digit bool // it is an INFO of our own, of which not too many may wait

	// Of a request of our own, which nobody waits for; then may be nil.
	notify func(context.Context)
	then   func()
}

// courier passes the requests of one leg on, one after the other: the digits of
// a PIN must not overtake each other. It has a goroutine only while there is
// something to pass.
type courier struct {
	mu      sync.Mutex // guards the following
	waiting []parcel
	busy    bool
}

// courierRoom bounds what waits for the other leg; the rest is asked to come later.
const courierRoom = 8

func (k *courier) take(ctx context.Context, p parcel) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p.request != nil && len(k.waiting) >= courierRoom {
		p.request.Answer(500, "", sip.Header{Name: "Retry-After", Value: "2"})
		return
	}
	if p.digit && len(k.waiting) >= digitRoom {
		return
	}
	k.waiting = append(k.waiting, p)
	if !k.busy {
		k.busy = true
		go k.run(ctx)
	}
}

func (k *courier) run(ctx context.Context) {
	for p, ok := k.next(); ok; p, ok = k.next() {
		p.deliver(ctx)
	}
}

func (k *courier) next() (parcel, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiting) == 0 {
		k.waiting, k.busy = nil, false
		return parcel{}, false
	}
	p := k.waiting[0]
	k.waiting = k.waiting[1:]
	return p, true
}

// deliver sends the request and gives the far end's answer back.
func (p parcel) deliver(ctx context.Context) {
	if p.request == nil {
		p.notify(ctx)
		if p.then != nil {
			p.then()
		}
		return
	}
	wait, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	reply := p.to.Send(wait, p.out)
	if ctx.Err() != nil { // the call is over meanwhile (RFC 3261 §15.1.2)
		p.request.Answer(487, "")
		return
	}
	p.request.Answer(passedOn(reply, p.from))
}

// passedOn is the answer to a request that the other leg has answered. A
// challenge is ours to meet, not the sender's; silence is 480 from a phone, which
// may be asleep, and 504 from a trunk.
func passedOn(reply sip.Reply, from rtp.Side) (code int, phrase string) {
	switch {
	case reply.Local && from == rtp.Trunk:
		return 480, ""
	case reply.Local || reply.Code == 408:
		return 504, ""
	case reply.Code == 401 || reply.Code == 407:
		return 403, ""
	case reply.Code/100 == 3: // nobody follows a redirection within a dialog
		return 480, ""
	case reply.Code == 481: // it is that leg which is over, not this one
		return 480, ""
	}
	return reply.Code, reply.Phrase
}
