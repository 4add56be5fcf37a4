package bridge_test

import (
	"context"
	"strings"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// phoneOptions is a phone's name, its push token's digit, and what it does.
type phoneOptions struct {
	name   string // column; "" is "phone"
	digit  string // names token, instance and address: "1" to "9"; "" is "1"
	wakes  time.Duration
	script func(*siptest.Call)
	change func(*siptest.PhoneOptions)
}

// sleeping makes a phone that has registered once and was then suspended.
func (w *world) sleeping(o phoneOptions) *phone {
	w.t.Helper()
	p := w.awake(o)
	p.Drop()
	time.Sleep(time.Minute)
	return p
}

// awake makes a phone that has just registered.
func (w *world) awake(o phoneOptions) *phone {
	w.t.Helper()
	if o.digit == "" {
		o.digit = "1"
	}
	ip := "192.0.2.1" + o.digit
	delay := phoneDelay + time.Duration(o.digit[0]-'1')*4*time.Millisecond
	w.distance(ip, siptest.Link{Delay: delay})
	po := siptest.PhoneOptions{Name: o.name, Sockets: w.net.Host(ip), Local: ip, Bridge: bridgeSIP, Ladder: w.ladder,
		User: "1001", Password: "secret", Instance: "urn:uuid:00000000-0000-4000-8000-00000000000" + o.digit, RegID: 1,
		Provider: "apns", Param: w.teamID + "." + bundle + ".voip", PRID: strings.Repeat(o.digit, 64), Script: o.script}
	if o.change != nil {
		o.change(&po)
	}
	p := &phone{Phone: siptest.NewPhone(po), token: po.PRID, wakes: o.wakes}
	w.service.AddToken(pushtest.Production, p.token, bundle)
	w.mu.Lock()
	w.phones[p.token] = p
	w.mu.Unlock()
	w.must(p.Register(context.Background()))
	return p
}
