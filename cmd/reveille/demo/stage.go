package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"reveille/bridge"
	"reveille/push/pushtest"
	"reveille/sip"
	"reveille/sip/siptest"
)

// patience is how long anything on this machine may take before it counts as
// missing.
const patience = 5 * time.Second

// stage is one scenario at play: its peers, its ladder, and what held so far.
type stage struct {
	ctx    context.Context
	stop   context.CancelFunc
	world  *world
	out    *printer
	name   string // the scenario's, and its extension's
	ladder *siptest.Ladder
	trunk  *siptest.Trunk
	phones []*phone
	call   *siptest.Call

	facts, faults []string // used by the scenario's goroutine only

	mu     sync.Mutex // guards the following
	pushes map[string]int
}

// phone is a simulated phone and its app, which a push starts.
type phone struct {
	*siptest.Phone
	stage *stage
	token string
	wakes time.Duration // from the push to the start of the app; negative: never
}

// failed ends a scenario early; run recovers it.
type failed struct{}

func newStage(ctx context.Context, w *world, out *printer, name string) *stage {
	ctx, stop := context.WithCancel(ctx)
	return &stage{ctx: ctx, stop: stop, world: w, out: out, name: name, pushes: map[string]int{}}
}

// run plays the scenario, then clears the stage.
func (st *stage) run(s scenario, place string) {
	st.out.title(place, s)
	st.ladder = siptest.NewLadder("carrier", siptest.Bridge, "APNs", "phone")
	st.world.enter(st)
	defer st.clear()
	defer func() {
		switch p := recover().(type) {
		case nil, failed:
		default:
			panic(p)
		}
	}()
	trunk, err := siptest.NewTrunk(st.ctx, siptest.TrunkOptions{Name: "carrier", Sockets: sip.SystemNetwork(),
		Local: loopback + ":0", Bridge: st.world.udp, Ladder: st.ladder})
	st.must(err)
	st.trunk = trunk
	s.run(st)
	st.sleep(settle)
	st.onePush()
}

func (st *stage) clear() {
	st.world.enter(nil)
	st.ladder.Live(nil, 0)
	st.stop()
	if st.trunk != nil {
		st.trunk.Close()
	}
	for _, p := range st.phones {
		p.Close()
	}
	st.out.outcome(st.facts, st.faults)
}

// must ends the scenario with a fault.
func (st *stage) must(err error) {
	if err != nil {
		st.fault("%v", err)
		panic(failed{})
	}
}

func (st *stage) fact(format string, args ...any) {
	st.facts = append(st.facts, fmt.Sprintf(format, args...))
}

func (st *stage) fault(format string, args ...any) {
	st.faults = append(st.faults, fmt.Sprintf(format, args...))
}

// hold notes a fact if it is one, else a fault.
func (st *stage) hold(ok bool, format string, args ...any) {
	if ok {
		st.fact(format, args...)
		return
	}
	st.fault("not so: "+format, args...)
}

func (st *stage) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-st.ctx.Done():
		st.must(st.ctx.Err())
	}
}

// two gives the ladder a column for a second phone.
func (st *stage) two() {
	st.ladder = siptest.NewLadder("carrier", siptest.Bridge, "APNs", "phone", "tablet")
	st.trunk.Draw(st.ladder)
}

// sleeping makes a phone that registered once and whose app was then ended by
// the system: only a push starts it again.
func (st *stage) sleeping(name string, wakes time.Duration, script func(*siptest.Call)) *phone {
	p := st.awake(name, wakes, script)
	p.Drop()
	return p
}

// awake makes a phone whose app is open.
func (st *stage) awake(name string, wakes time.Duration, script func(*siptest.Call)) *phone {
	sum := sha256.Sum256([]byte(st.name + name + fmt.Sprint(time.Now().UnixNano())))
	token := hex.EncodeToString(sum[:])
	p := &phone{stage: st, token: token, wakes: wakes, Phone: siptest.NewPhone(siptest.PhoneOptions{
		Name: name, Sockets: sip.SystemNetwork(), Local: loopback, Bridge: st.world.tcp,
		User: st.name, Password: password, Instance: "urn:uuid:" + uuidOf(sum[:]), RegID: 1,
		Provider: "apns", Param: st.world.team + "." + bundle + ".voip", PRID: token, Script: script,
	})}
	st.phones = append(st.phones, p)
	st.world.service.AddToken(pushtest.Production, token, bundle)
	st.world.add(p)
	ctx, cancel := context.WithTimeout(st.ctx, patience)
	defer cancel()
	st.must(p.Register(ctx))
	p.Phone.Draw(st.ladder)
	return p
}

// uuidOf makes a version 4 UUID of random bytes (RFC 9562 §5.4).
func uuidOf(b []byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// pushed starts the app after the time that a phone takes for it.
func (p *phone) pushed(pushtest.Push) {
	if p.wakes < 0 {
		return
	}
	p.stage.world.work.Go(func() {
		timer := time.NewTimer(p.wakes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.stage.ctx.Done():
			return
		}
		// A failure shows: the INVITE does not come.
		_ = p.Register(p.stage.ctx)
	})
}

// push draws a push, and the answer it got.
func (st *stage) push(p pushtest.Push, a pushtest.Answer) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ladder.Arrow(p.At, siptest.Bridge, "APNs", "VoIP push", "")
	st.ladder.Arrow(time.Now(), "APNs", siptest.Bridge, fmt.Sprint(a.Status), a.Reason)
	if a.Status == http.StatusOK {
		st.pushes[p.Token]++
	}
}

// onePush holds that no device was pushed twice for the call.
func (st *stage) onePush() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, n := range st.pushes {
		if n > 1 {
			st.fault("a device got %d pushes for one call", n)
		}
	}
}

// invite begins the call, and the drawing.
func (st *stage) invite() {
	st.ladder.Reset()
	st.ladder.Live(st.out, lineWidth)
	c, err := st.trunk.Invite(siptest.Invitation{To: st.name, From: "+4930123456", FromName: "Ada Lovelace"})
	st.must(err)
	st.call = c
}

// answered waits for a final answer of the bridge's to the carrier.
func (st *stage) answered(code int) *siptest.Message {
	m, err := st.call.Await(patience, "final")
	st.must(err)
	if m.Code() != code {
		st.fault("the carrier got %d, want %d", m.Code(), code)
		panic(failed{})
	}
	return m
}

// taken is the call that came to a phone.
func (st *stage) taken(p *phone) *siptest.Call {
	c, err := p.AwaitCall(patience)
	st.must(err)
	return c
}

// told waits for a request to a phone, and holds its Reason.
func (st *stage) told(c *siptest.Call, method, reason string) {
	m, err := c.Await(patience, method)
	st.must(err)
	if got := m.Get("Reason"); !strings.HasPrefix(got, reason) {
		st.fault("%s came with Reason %q, want %q", method, got, reason)
	}
}

// talk plays a second of sound both ways and compares it bit by bit.
func (st *stage) talk(phone *siptest.Call) {
	const frames = 50
	var both sync.WaitGroup
	for _, c := range []*siptest.Call{st.call, phone} {
		both.Go(func() { _ = c.Talk(st.ctx, frames) }) // what is missing shows below
	}
	both.Wait()
	var toPhone, toCarrier siptest.Hearing
	whole := false
	for until := time.Now().Add(patience); !whole && time.Now().Before(until); st.sleep(20 * time.Millisecond) {
		toPhone, toCarrier = phone.Audio.Hearing(st.call.Audio), st.call.Audio.Hearing(phone.Audio)
		whole = toPhone.Whole(0) && toCarrier.Whole(0) && toPhone.Sent == frames && toCarrier.Sent == frames
	}
	st.hold(whole, "audio bit for bit: %d of %d packets to the phone, %d of %d back", toPhone.Heard, toPhone.Sent, toCarrier.Heard, toCarrier.Sent)
}

// hangUp ends the call from the carrier's side.
func (st *stage) hangUp(phone *siptest.Call) {
	_, err := st.call.Bye().Await(patience, "200")
	st.must(err)
	st.told(phone, "BYE", "")
}

// over waits until the call's record is closed, and holds its ending.
func (st *stage) over(ending string) bridge.Record {
	until := time.Now().Add(patience)
	for {
		r, found := st.record()
		if found && r.Ending != "" {
			st.hold(r.Ending == ending, "ending %s", r.Ending)
			return r
		}
		if time.Now().After(until) {
			st.fault("the call is not over: it is %s", r.State)
			panic(failed{})
		}
		st.sleep(5 * time.Millisecond)
	}
}

// record is this scenario's call; each has an extension of its own.
func (st *stage) record() (bridge.Record, bool) {
	for _, r := range st.world.app.Bridge().Calls() {
		if r.To == st.name {
			return r, true
		}
	}
	return bridge.Record{}, false
}
