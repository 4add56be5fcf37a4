package push

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestConformance is the one table that every provider passes: what a push
// comes to in each situation that a push service can make, in virtual time over
// in-memory connections. A new provider is one row in conformants.
//
// In every cell the outcome's verdict, alarm and uncertainty must be as
// expected, the service must have seen the expected number of requests and
// taken the push the expected number of times, never twice; the next call must
// get through; no secret may be in logs, errors or outcomes; and when the
// Sender is closed, no connection is left, and no goroutine either, which the
// bubble would not let pass.
func TestConformance(t *testing.T) {
	for _, row := range conformants() {
		t.Run(row.name, func(t *testing.T) {
			for _, s := range situations() {
				t.Run(s.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newParty(t, row)
						defer p.close()
						want := s.want(row)
						if other, ok := row.other[s.name]; ok {
							want = other
						}
						s.run(p, want)
						p.nextCall(s)
					})
				})
			}
		})
	}
}

// conformant is a row: a provider, and in what it differs from the others.
type conformant struct {
	name  string
	start func(*party) // makes service, configuration and target

	// The answers by which this service says what all can say.
	dead, throttled, misconfigured pushtest.Answer

	attempts  int  // requests for a push that the service fails, 5xx
	throttles int  // requests for a push that the service throttles, and does not say for how long
	repeats   bool // the service knows a repetition, so that a lost answer is asked for again

	// other has cells that differ from what holds for the rest, by situation.
	other map[string]cell
}

// cell is what must come of a push.
type cell struct {
	verdict   Verdict
	alarm     bool
	uncertain bool
	requests  int // that the service has seen
	accepted  int // that it took
}

// situation is a column: what the service does, and what must come of it.
type situation struct {
	name  string
	run   func(p *party, want cell)
	want  func(row conformant) cell
	after time.Duration // when the service is well again
}

// The cells that most situations have.
func sent(requests int) func(conformant) cell {
	return func(conformant) cell { return cell{verdict: Sent, requests: requests, accepted: 1} }
}

func notSent(conformant) cell { return cell{verdict: Failed} }

// lost is the answer that never comes: the push is uncertain, unless the
// service knows a repetition, of which taken says how often it took the first.
func lost(taken int) func(conformant) cell {
	return func(row conformant) cell {
		if row.repeats {
			return cell{verdict: Sent, requests: 2, accepted: 1}
		}
		return cell{verdict: Failed, uncertain: true, requests: 1, accepted: taken}
	}
}

// gives is a push that the service answers so.
func gives(answers ...pushtest.Answer) func(*party, cell) {
	return func(p *party, want cell) {
		p.answer(answers...)
		p.check(p.send(p.t.Context(), "u1"), want)
	}
}

// givesOn is the same with an answer of the row's own.
func givesOn(answer func(conformant) pushtest.Answer) func(*party, cell) {
	return func(p *party, want cell) {
		a := answer(p.row)
		gives(a, a, a, a)(p, want)
	}
}

func situations() []situation {
	page := "<html><title>not what you came for</title>"
	large := strings.Repeat("x", 3*maxAnswer)
	return []situation{
		{name: "accepted", run: gives(), want: sent(1)},
		{name: "dead token", run: givesOn(func(r conformant) pushtest.Answer { return r.dead }),
			want: func(conformant) cell { return cell{verdict: Gone, requests: 1} }},
		{name: "throttled", run: givesOn(func(r conformant) pushtest.Answer { return r.throttled }), after: time.Hour,
			want: func(r conformant) cell { return cell{verdict: Failed, requests: r.throttles} }},
		{name: "misconfigured", run: givesOn(func(r conformant) pushtest.Answer { return r.misconfigured }),
			want: func(conformant) cell { return cell{verdict: Refused, alarm: true, requests: 1} }},
		{name: "broken", run: gives(broken, broken, broken, broken),
			want: func(r conformant) cell { return cell{verdict: Failed, requests: r.attempts} }},
		{name: "broken once", run: gives(broken), want: sent(2)},
		{name: "stalled", run: gives(pushtest.Answer{Do: pushtest.Stall}), want: lost(0)},
		{name: "slow", run: gives(pushtest.Answer{Delay: 2 * time.Second}), want: sent(1)},
		{name: "cut off before it was processed", run: gives(pushtest.Answer{Do: pushtest.CutOff}), want: lost(0)},
		{name: "cut off after it was processed", run: gives(pushtest.Answer{Do: pushtest.CutOffAfter}), want: lost(1)},
		{name: "cut off within the answer", run: gives(pushtest.Answer{Do: pushtest.HalfAnswer}), want: sent(1)},
		{name: "accepted, no JSON", run: gives(pushtest.Answer{Status: 200, Body: page}), want: sent(1)},
		{name: "accepted, answer too large", run: gives(pushtest.Answer{Status: 200, Body: large}), want: sent(1)},
		{name: "broken, no JSON", run: gives(pushtest.Answer{Status: 502, Body: page}), want: sent(2)},
		{name: "broken, answer too large", run: gives(pushtest.Answer{Status: 500, Body: large}), want: sent(2)},
		{name: "GOAWAY", run: gives(pushtest.Answer{Do: pushtest.GoAway}), want: sent(2)},
		{name: "refused stream", run: gives(pushtest.Answer{Do: pushtest.Refuse}), want: sent(2)},
		{name: "unreachable", run: unreachable, want: notSent, after: time.Minute},
		{name: "unknown authority", run: unknownAuthority, want: func(conformant) cell { return cell{verdict: Failed, alarm: true} }},
		{name: "deadline already past", run: pastDeadline, want: notSent},
		{name: "call already over", run: callOver, want: notSent},
		{name: "cancelled before", run: cancelledBefore, want: notSent},
		{name: "cancelled under way", run: cancelledMidway,
			want: func(conformant) cell { return cell{verdict: Failed, uncertain: true, requests: 1} }},
		{name: "same call twice at once", run: twiceAtOnce, want: sent(1)},
		{name: "same call twice in turn", run: twiceInTurn, want: sent(1)},
	}
}

// broken is a service in trouble.
var broken = pushtest.Answer{Status: 503, Reason: "ServiceUnavailable"}

func unreachable(p *party, want cell) {
	p.dials.refuse(true)
	p.dials.closeAll()
	time.Sleep(time.Second) // what was connected is known to be gone
	p.check(p.send(p.t.Context(), "u1"), want)
	p.dials.refuse(false)
}

// unknownAuthority: a Sender beside the first, without the service's CA.
func unknownAuthority(p *party, want cell) {
	cfg := p.cfg.withoutRoots()
	s := p.newSender(cfg)
	defer s.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
	defer cancel()
	out := s.Send(ctx, "device-1", p.target, testMessage("u1"))
	p.check(out, want)
	if out.Err == nil || !strings.Contains(out.Err.Error(), "root_ca") {
		p.t.Errorf("the error does not name the key that mends it: %v", out.Err)
	}
}

func pastDeadline(p *party, want cell) {
	ctx, cancel := context.WithDeadline(p.t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	p.check(p.send(ctx, "u1"), want)
}

func callOver(p *party, want cell) {
	m := testMessage("u1")
	m.ExpiresAt = time.Now()
	p.check(p.sendMessage(p.t.Context(), m), want)
}

func cancelledBefore(p *party, want cell) {
	ctx, cancel := context.WithCancel(p.t.Context())
	cancel()
	p.check(p.send(ctx, "u1"), want)
}

func cancelledMidway(p *party, want cell) {
	p.answer(pushtest.Answer{Do: pushtest.Stall})
	ctx, cancel := context.WithCancel(p.t.Context())
	time.AfterFunc(time.Second, cancel)
	out := p.send(ctx, "u1")
	if out.Took != time.Second {
		p.t.Errorf("returned after %v", out.Took)
	}
	p.check(out, want)
}

func twiceAtOnce(p *party, want cell) {
	p.answer(pushtest.Answer{Delay: time.Second})
	outs := make([]Outcome, 2)
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() { outs[i] = p.send(p.t.Context(), "u1") })
	}
	wg.Wait()
	p.check(outs[0], want)
	p.check(outs[1], want)
	if outs[0].Duplicate == outs[1].Duplicate {
		p.t.Errorf("one of them is the duplicate: %+v", outs)
	}
}

func twiceInTurn(p *party, want cell) {
	p.check(p.send(p.t.Context(), "u1"), want)
	out := p.send(p.t.Context(), "u1")
	p.check(out, want)
	if !out.Duplicate {
		p.t.Errorf("not a duplicate: %+v", out)
	}
}

// party is a service and a Sender that is configured for it.
type party struct {
	t       *testing.T
	row     conformant
	service *pushtest.Service
	dial    DialFunc // reaches the service
	dials   *dialCounter
	cfg     Config
	target  Target
	token   string   // by which the service scripts its answers
	secrets []string // that nobody may see
	sender  *Sender
	logs    *logBuffer
}

func newParty(t *testing.T, row conformant) *party {
	p := &party{t: t, row: row, logs: &logBuffer{}, cfg: DefaultConfig()}
	row.start(p)
	t.Cleanup(p.service.Close)
	p.dials = &dialCounter{dial: p.dial, open: map[*countedConn]bool{}}
	p.sender = p.newSender(p.cfg)
	return p
}

func (p *party) newSender(cfg Config) *Sender {
	p.t.Helper()
	s, err := NewSender(cfg, Options{Dial: p.dials.Dial, Log: slog.New(slog.NewTextHandler(p.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(s.Close)
	return s
}

func (p *party) answer(answers ...pushtest.Answer) { p.service.Answer(p.token, answers...) }

func (p *party) send(ctx context.Context, uuid string) Outcome {
	return p.sendMessage(ctx, testMessage(uuid))
}

// sendMessage pushes with the time that a call has for it.
func (p *party) sendMessage(ctx context.Context, m Message) Outcome {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return p.sender.Send(ctx, "device-1", p.target, m)
}

// check holds the outcome and what the service saw against the cell.
func (p *party) check(out Outcome, want cell) {
	p.t.Helper()
	time.Sleep(10 * time.Second) // what is late comes now
	c := p.service.Counts()
	got := cell{out.Verdict, out.Alarm, out.Uncertain, c.Requests, c.Accepted}
	if got != want {
		p.t.Errorf("got %+v, want %+v: %+v", got, want, out)
	}
	if c.Accepted > 1 {
		p.t.Errorf("taken %d times", c.Accepted)
	}
	if (out.Err == nil) != (out.Verdict == Sent) {
		p.t.Errorf("%v with the error %v", out.Verdict, out.Err)
	}
	texts := fmt.Sprint(p.logs.String(), " ", out.Reason, " ", out.ID, " ", out.Err)
	for _, secret := range p.secrets {
		if strings.Contains(texts, secret) {
			p.t.Errorf("the secret %q is in: %s", secret, texts)
		}
	}
}

// nextCall must get through, once the service has no answers left for the
// push before it: no fault is for ever.
func (p *party) nextCall(s situation) {
	p.t.Helper()
	time.Sleep(s.after)
	var out Outcome
	for i := range 4 {
		if out = p.send(p.t.Context(), fmt.Sprint("next", i)); out.Verdict == Sent {
			return
		}
		time.Sleep(s.after)
	}
	p.t.Errorf("the next call: %+v", out)
}

// close ends both sides and holds that the Sender leaves nothing behind.
func (p *party) close() {
	p.sender.Close()
	synctest.Wait()
	if n := p.dials.live(); n != 0 {
		p.t.Errorf("%d connections are left", n)
	}
	p.service.Close()
}

// dialCounter knows what is connected, and can refuse.
type dialCounter struct {
	dial DialFunc

	mu      sync.Mutex // guards the following
	refused bool
	open    map[*countedConn]bool
}

type countedConn struct {
	net.Conn
	by *dialCounter
}

func (d *dialCounter) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	refused := d.refused
	d.mu.Unlock()
	if refused {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("connection refused")}
	}
	nc, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &countedConn{nc, d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[c] = true
	return c, nil
}

func (c *countedConn) Close() error {
	c.by.mu.Lock()
	delete(c.by.open, c)
	c.by.mu.Unlock()
	return c.Conn.Close()
}

func (d *dialCounter) refuse(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = on
}

func (d *dialCounter) live() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.open)
}

func (d *dialCounter) closeAll() {
	d.mu.Lock()
	open := d.open
	d.open = map[*countedConn]bool{}
	d.mu.Unlock()
	for c := range open {
		c.Conn.Close()
	}
}
