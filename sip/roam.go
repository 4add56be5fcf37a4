package sip

import (
	"context"
	"errors"

	"reveille/sip/location"
)

// This file lets a dialog follow its device from one network to another.

// ErrForgotten: the device does not know the dialog any more, or gave no
// answer (481, 408, RFC 3261 §12.2.1.2). The leg lives on: the device may yet
// come and take it up.
var ErrForgotten = errors.New("the device does not know the call")

// FlowID names the flow that the dialog lives on: that of the last request that
// the device changed it by, or that Follow has chosen.
func (o *Outbound) FlowID() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.flow.id()
}

// Follow moves a confirmed dialog to another binding of its device: a
// re-INVITE goes there, by its flow and to its Contact, and repeats what holds.
// What the device answers about its audio comes on Changes, Settled. It waits
// for the answer.
func (o *Outbound) Follow(ctx context.Context, b location.Binding) error {
	contact, err := parseURI(b.Contact)
	if err != nil {
		return err
	}
	f := o.srv.flowFor(b)
	if f == nil {
		return errFlowClosed
	}
	o.mu.Lock()
	o.flow, o.target, o.routes = f, contact, pathOf(b)
	o.mu.Unlock()
	answer, err := o.Propose(ctx, Proposal{refresh: true, patient: true, SDP: func() ([]byte, error) { return nil, nil }})
	if forgotten(err) {
		return ErrForgotten
	}
	if err == nil && answer != nil {
		o.settled(answer)
	}
	return err
}

// prove notes a flow that the device has not registered, but has proved itself
// on: if it moves the dialog there, what follows goes there as well.
func (l *leg) prove(f *flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inCall().proven = f
}

func forgotten(err error) bool {
	var r *Refused
	return errors.Is(err, errNoAnswer) || errors.As(err, &r) && (r.Code == 481 || r.Code == 408)
}
