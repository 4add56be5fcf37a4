package sip

import (
	"bytes"
	"errors"
)

// This file keeps the keys of media (a=crypto, RFC 4568) from flows that others
// can read.

// errKeysShow is a net below those who make the SDP: they ask first.
var errKeysShow = errors.New("the SDP has keys, and others can read the flow")

// secret reports whether nobody else can read what goes by the flow.
func (f *flow) secret() bool { return f.proto == "TLS" || f.proto == "WSS" }

// mayCarry reports whether a body may go by the flow.
func (f *flow) mayCarry(body []byte) bool {
	return f.secret() || !bytes.Contains(body, []byte("\na=crypto:"))
}

// Secret reports whether keys may go by the dialog's flow: the trunk's, or the
// newest of its device.
func (l *leg) Secret() bool {
	l.mu.Lock()
	f := l.flow
	l.mu.Unlock()
	if l.trunk == nil {
		f = l.srv.flowOf(l.aor, l.deviceID, f)
	}
	return f.secret()
}

// Secret reports whether the request came by a flow that nobody else can read.
func (c *Change) Secret() bool { return c.flow != nil && c.flow.secret() }

// Secret reports whether the INVITE came by a flow that nobody else can read.
func (r *Replacement) Secret() bool { return r.flow != nil && r.flow.secret() }

// Offer is the SDP of our INVITE; nil if the leg began with the device's own.
func (o *Outbound) Offer() []byte {
	if o.invite == nil {
		return nil
	}
	return o.invite.Body()
}
