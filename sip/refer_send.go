package sip

import (
	"context"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// Why an app's REFER may go to a trunk at all: it goes within the dialog of a
// call that the trunk itself has made to us, as the callee's own phone would
// send it. The trunk places the new call, or not, by the rights that it gives
// to that callee; this bridge places none. The app's words do not get there:
// the number is rebuilt from digits and letters alone, at the trunk's own
// domain, and Referred-By is the number that the trunk has dialled. A carrier
// that charges for transfers is kept out of it by transfer: false.

// Transfers reports whether the trunk may be asked to transfer: its
// configuration permits it, and its INVITE did not list methods without REFER.
// One without Allow says nothing about it (RFC 3261 §20.5) and can refuse.
func (in *Inbound) Transfers() bool {
	return *in.trunk.cfg.Transfer && in.refers
}

// takesRefer reads Allow.
func takesRefer(req *sipgo.Request) bool {
	return len(req.GetHeaders("Allow")) == 0 || hasToken(req, "Allow", "REFER")
}

// Refer asks the trunk to connect its caller with a number of its own (blind
// transfer, RFC 5589 §6). user is that of a Refer that was read here.
func (in *Inbound) Refer(ctx context.Context, user string) Reply {
	to := sipgo.Uri{Scheme: "sip", User: escapeUser(user), Host: in.trunkHost()}
	return in.refer(ctx, to.String())
}

// Join asks the trunk to connect its caller with the one of another of its
// calls to us (attended transfer, RFC 5589 §7). That call's dialog is named as
// the trunk has it: to-tag is the trunk's tag, from-tag is ours.
func (in *Inbound) Join(ctx context.Context, other *Inbound) Reply {
	other.mu.Lock()
	named := Replaces{CallID: other.id.callID, To: other.remote.tag, From: other.id.localTag}
	to := other.target.Clone()
	other.mu.Unlock()
	to.Headers = nil
	return in.refer(ctx, to.String()+"?Replaces="+named.escaped())
}

func (in *Inbound) refer(ctx context.Context, to string) Reply {
	in.mu.Lock()
	by := *in.local.uri.Clone()
	in.mu.Unlock()
	by.Headers, by.UriParams = nil, nil
	return in.Send(ctx, Outgoing{Method: "REFER", Headers: []Header{
		{"Refer-To", "<" + to + ">"}, {"Referred-By", "<" + by.String() + ">"},
	}})
}

// trunkHost is the domain that the trunk knows its numbers by: that of its
// registrar, else where its calls come from.
func (in *Inbound) trunkHost() string {
	if u, err := parseURI(in.trunk.cfg.Registrar); err == nil && u.Host != "" {
		return u.Host
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return strings.ToLower(in.target.Host)
}

// Replaced finds the confirmed call leg of an extension's device that a
// Replaces names, as the device has it: its to-tag is ours. nil: there is none.
func (s *Server) Replaced(aor string, r *Replaces) *Outbound {
	o, ok := s.dialogs.find(dialogID{r.CallID, r.To}).(*Outbound)
	if !ok {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.aor != aor || o.over || !o.confirmed || o.remote.tag != r.From {
		return nil
	}
	return o
}
