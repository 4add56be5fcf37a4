package bridge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"reveille/push"
	"reveille/sip"
)

// pushHeader is X-Reveille-Push, by which the trunk's PBX sees how far the wake
// is: one value for each device that was pushed, the most hopeful first, so that
// a script which reads the first word alone is not wrong. docs/trunks.md has
// the table of the values. Those that are equal are one, with their number.
//
//	X-Reveille-Push: accepted;provider=apns;status=200, failed;provider=apns;status=410;reason=Unregistered
//
// A token is never in it.
const pushHeader = "X-Reveille-Push"

// maxPushValues bounds the header: ten devices with ten faults of their own
// would make a 180 with SDP too long for UDP.
const maxPushValues = 4

// pushState is what X-Reveille-Push says of a device; the order is that of hope.
type pushState int

const (
	pushFailed pushState = iota
	pushSent
	pushAccepted
	pushAwake
)

func (s pushState) String() string {
	return [...]string{"failed", "sent", "accepted", "awake"}[s]
}

// pushState is where a device is; false: it was not pushed.
func (d *device) pushState() (pushState, bool) {
	switch {
	case !d.pushed:
		return pushFailed, d.spent
	case d.woke:
		return pushAwake, true
	case d.pushing || !d.outcome.known || d.outcome.uncertain:
		return pushSent, true
	case d.outcome.verdict == push.Sent:
		return pushAccepted, true
	}
	return pushFailed, true
}

// pushValue is one value of the header, without the state's rank.
func (d *device) pushValue(state pushState) string {
	var b strings.Builder
	b.WriteString(state.String())
	param := func(name, value string) {
		if value = headerToken(value); value != "" {
			b.WriteString(";" + name + "=" + value)
		}
	}
	param("provider", strings.ToLower(d.Target.Provider))
	switch {
	case d.spent:
		param("reason", "Budget")
	case state == pushAwake:
		if d.wake > 0 {
			param("wake-ms", fmt.Sprint(d.wake.Milliseconds()))
		}
	case d.outcome.known:
		if d.outcome.status != 0 {
			param("status", fmt.Sprint(d.outcome.status))
		}
		param("reason", d.outcome.reason)
	}
	return b.String()
}

// pushStates is the header's value; "" if no device was to be pushed.
func (c *Call) pushStates() string {
	type value struct {
		state pushState
		text  string
		n     int
	}
	var values []value
	for _, d := range c.devices {
		state, known := d.pushState()
		if !known {
			continue
		}
		text := d.pushValue(state)
		if i := slices.IndexFunc(values, func(v value) bool { return v.text == text }); i >= 0 {
			values[i].n++
			continue
		}
		values = append(values, value{state, text, 1})
	}
	slices.SortStableFunc(values, func(a, b value) int { return cmp.Compare(b.state, a.state) })
	texts := make([]string, 0, maxPushValues)
	for _, v := range values[:min(len(values), maxPushValues)] {
		if v.n > 1 {
			v.text += fmt.Sprintf(";devices=%d", v.n)
		}
		texts = append(texts, v.text)
	}
	return strings.Join(texts, ", ")
}

// headerToken keeps what may stand as the value of a parameter (RFC 3261 §25.1:
// token), and no more of it than anybody reads.
func headerToken(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-.!%*_+`'~", r):
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), 48)]
}

// tellPushes sends a further 180 if X-Reveille-Push has changed.
func (c *Call) tellPushes() {
	if !c.answer.IsZero() {
		return
	}
	if states := c.pushStates(); states != c.told {
		c.told = states
		c.tellCaller(sip.Header{Name: pushHeader, Value: states})
	}
}

// tellCaller sends a further 180.
func (c *Call) tellCaller(extra ...sip.Header) {
	if err := c.in.Progress(180, c.early, extra...); err != nil {
		c.log().Debug("180 could not be sent", "err", err)
	}
}

// whyNot is what the final answer says of the pushes, for a call that no device
// could be woken for.
func (c *Call) whyNot(e *Ending) []sip.Header {
	if !e.Asleep {
		return nil
	}
	states := c.pushStates()
	switch {
	case states != "":
	case e == EndDeviceSilent:
		states = pushFailed.String() + ";reason=NoToken"
	default:
		states = pushFailed.String() + ";reason=NoDevice"
	}
	return []sip.Header{{Name: pushHeader, Value: states}}
}
