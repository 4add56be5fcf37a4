package bridge

import (
	"fmt"
	"sync"
	"time"
)

// LimitsConfig is `calls.limits`: what one callee may be made to bear. 0 turns a
// limit off.
//
// A call that is answered gives its pushes back, so that a receptionist who
// takes call after call is never without one: what counts are pushes that
// nobody wanted. A device that has no push left is still rung on its live
// connection.
type LimitsConfig struct {
	PushPerMinute  int `yaml:"push_per_minute"`  // of one device, for calls that were not answered
	PushPerHour    int `yaml:"push_per_hour"`    // likewise
	CallsPerCallee int `yaml:"calls_per_callee"` // at a time
	CallsPerCaller int `yaml:"calls_per_caller"` // of one caller to one callee that push, in a minute, not answered
}

// defaultLimits: three calls are one on the line, one on hold and one knocking;
// who redials gives up before the fifth attempt in a minute; and 60 missed
// calls in an hour are no longer somebody's who wants to be reached.
func defaultLimits() LimitsConfig {
	return LimitsConfig{PushPerMinute: 6, PushPerHour: 60, CallsPerCallee: 3, CallsPerCaller: 5}
}

func (l LimitsConfig) validate(report func(path, problem string)) {
	for _, k := range []struct {
		path string
		n    int
	}{{"push_per_minute", l.PushPerMinute}, {"push_per_hour", l.PushPerHour}, {"calls_per_callee", l.CallsPerCallee}, {"calls_per_caller", l.CallsPerCaller}} {
		if k.n < 0 {
			report("limits."+k.path, fmt.Sprintf("%d is no number of things; use 1 or more, or 0 for no limit", k.n))
		}
	}
}

// maxForks is the most devices that one call goes to (RFC 5393 §5: breadth must
// be bounded); those seen last come first.
const maxForks = 10

// budget bounds the pushes of devices, and the calls that each caller may wake
// a callee with. Its tables hold extensions' devices and callers of the last
// hour; both had to come through a trunk.
type budget struct {
	cfg LimitsConfig

	mu      sync.Mutex // guards the following
	devices map[string]*allowance
	callers map[string]*allowance
	room    int // entries before those that are full again are dropped
}

// allowance is when what was spent so far would be due at an even pace, in Unix
// nanoseconds (the generic cell rate algorithm, ITU-T I.371): n at once, and
// n in each window after that.
type allowance struct{ minute, hour int64 }

func newBudget(cfg LimitsConfig) *budget {
	return &budget{cfg: cfg, devices: map[string]*allowance{}, callers: map[string]*allowance{}, room: 1000}
}

// left reports whether one more may be spent at a pace of n in a window.
func left(due, now int64, n int, window time.Duration) bool {
	return n == 0 || max(due, now)-now <= int64(n-1)*int64(window)/int64(n)
}

// spent is due after one more, or one less.
func spent(due, now int64, n int, window time.Duration, more int64) int64 {
	if n == 0 {
		return 0
	}
	return max(due, now) + more*int64(window)/int64(n)
}

// push spends one push of a device; what is used up, or "".
func (b *budget) push(device string) string {
	now := time.Now().UnixNano()
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.of(b.devices, device, now)
	switch {
	case !left(a.minute, now, b.cfg.PushPerMinute, time.Minute):
		return "push_per_minute"
	case !left(a.hour, now, b.cfg.PushPerHour, time.Hour):
		return "push_per_hour"
	}
	b.adjust(a, now, 1)
	return ""
}

// call counts a caller's call to a callee; false if there were too many.
func (b *budget) call(caller, callee string) bool {
	now := time.Now().UnixNano()
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.of(b.callers, callee+"\x00"+caller, now)
	if !left(a.minute, now, b.cfg.CallsPerCaller, time.Minute) {
		return false
	}
	a.minute = spent(a.minute, now, b.cfg.CallsPerCaller, time.Minute, 1)
	return true
}

// callWanted gives a caller's call back.
func (b *budget) callWanted(caller, callee string) {
	now := time.Now().UnixNano()
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.callers[callee+"\x00"+caller]; a != nil {
		a.minute = spent(a.minute, now, b.cfg.CallsPerCaller, time.Minute, -1)
	}
}

// pushWanted gives a device's pushes back.
func (b *budget) pushWanted(device string, pushes int) {
	now := time.Now().UnixNano()
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.devices[device]; a != nil && pushes > 0 {
		b.adjust(a, now, -int64(pushes))
	}
}

func (b *budget) adjust(a *allowance, now, more int64) {
	a.minute = spent(a.minute, now, b.cfg.PushPerMinute, time.Minute, more)
	a.hour = spent(a.hour, now, b.cfg.PushPerHour, time.Hour, more)
}

// of finds or makes an entry; those that are full again are the same as none. b.mu is held.
func (b *budget) of(table map[string]*allowance, key string, now int64) *allowance {
	if a := table[key]; a != nil {
		return a
	}
	if len(b.devices)+len(b.callers) >= b.room {
		for _, t := range []map[string]*allowance{b.devices, b.callers} {
			for k, a := range t {
				if a.minute <= now && a.hour <= now {
					delete(t, k)
				}
			}
		}
		b.room = max(1000, 2*(len(b.devices)+len(b.callers)))
	}
	a := &allowance{}
	table[key] = a
	return a
}

// turnedAway says why a call is not even tried, nil if it is.
func (c *Call) turnedAway() *Ending {
	caller := c.in.Caller()
	switch {
	case c.ext.RejectAnonymous && caller.Anonymous:
		return EndAnonymous
	case c.bridge.doubled(c):
		return EndDuplicate
	case !c.bridge.room(c.ext):
		return EndCalleeBusy
	}
	c.counted = c.ext
	c.muted = !c.bridge.budget.call(caller.Handle, c.ext.Name)
	return nil
}

// refuseEarly counts and ends a call that is turned away.
func (c *Call) refuseEarly(e *Ending) state {
	c.bridge.dial.Rejected(e.Name)
	return c.over(e)
}

// room counts a call among an extension's; false if those are too many already.
func (b *Bridge) room(ext *Extension) bool {
	limit := b.cfg.Limits.CallsPerCallee
	b.mu.Lock()
	defer b.mu.Unlock()
	if limit > 0 && b.perCallee[ext.Name] >= limit {
		return false
	}
	b.perCallee[ext.Name]++
	return true
}

// leaveRoom undoes room.
func (b *Bridge) leaveRoom(ext *Extension) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.perCallee[ext.Name]--; b.perCallee[ext.Name] == 0 {
		delete(b.perCallee, ext.Name)
	}
}

// mayPush spends a push of the device; if none is left the device is rung only
// if its connection is live.
func (c *Call) mayPush(d *device) bool {
	if d.spent {
		return false
	}
	why := "calls_per_caller"
	if !c.muted {
		why = c.bridge.budget.push(d.AOR + "/" + d.ID)
	}
	if why == "" {
		d.spends++
		return true
	}
	d.spent = true
	c.bridge.dial.Rejected("push_budget")
	c.rec.step("push budget", d.ID, "calls.limits."+why+" is used up: no push")
	c.rec.push(PushRecord{Device: d.ID, Provider: d.Target.Provider, Outcome: "budget", Reason: why})
	c.log().Warn("a device gets no push: too many calls that nobody answers", "device", d.ID, "aor", d.AOR, "limit", "calls.limits."+why)
	return false
}

// giveBack: the call is answered, so it was wanted, and so were its pushes.
func (c *Call) giveBack() {
	if !c.muted {
		c.bridge.budget.callWanted(c.in.Caller().Handle, c.ext.Name)
	}
	c.muted = false
	for _, d := range c.devices {
		c.bridge.budget.pushWanted(d.AOR+"/"+d.ID, d.spends)
	}
}
