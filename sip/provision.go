package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"reveille/sip/location"
)

// TokenChecker is what PushSupport may know besides: what a push service's
// tokens look like. The error says what is wrong, and never has the token.
type TokenChecker interface {
	CheckToken(provider, prid string) error
}

// ErrBadTarget: a device or target that no REGISTER could have brought either.
// The errors that wrap it say how to mend it.
var ErrBadTarget = errors.New("this push target cannot be taken")

// Provision is a push target that comes over HTTP instead of in a REGISTER.
// AOR is an extension's name, and whoever asks has proved that he may.
// Printed in any way, the token does not show.
type Provision struct {
	AOR, DeviceID string
	Instance      string // the +sip.instance that DeviceID is derived from; "": the device is known already
	Target        location.Target
}

// String leaves the token out.
func (p Provision) String() string { return p.AOR + "/" + p.DeviceID + " " + p.Target.String() }

// GoString covers %#v.
func (p Provision) GoString() string { return p.String() }

// LogValue implements slog.LogValuer.
func (p Provision) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Provision gives a device a push target under the rules that hold for a
// REGISTER (RFC 8599 §5): the service and topic are configured, the token is
// within bounds, and it belongs to this device alone from now on. It is
// durable when it returns without an error; made reports whether the device is
// new. Errors are ErrBadTarget, those of location.Provision and of the store.
func (s *Server) Provision(ctx context.Context, p Provision) (d location.Device, made bool, err error) {
	p.Target.Provider = strings.ToLower(p.Target.Provider)
	if err = s.registrar.checkProvision(p); err == nil {
		ctx, cancel := context.WithTimeout(ctx, putTimeout)
		defer cancel()
		d, made, err = s.loc.Provision(ctx, location.Provision{AOR: p.AOR, DeviceID: p.DeviceID, Instance: p.Instance,
			Target: p.Target, MaxDevices: s.cfg.Registration.MaxContacts})
	}
	outcome := "changed"
	switch {
	case errors.Is(err, ErrBadTarget), errors.Is(err, location.ErrUnknownDevice), errors.Is(err, location.ErrTokenNamesDevice), errors.Is(err, location.ErrTooManyDevices):
		outcome = "refused"
	case err != nil:
		outcome = "failed"
	case made:
		outcome = "made"
	}
	s.metrics.provisioned.WithLabelValues(outcome).Inc()
	return d, made, err
}

// Unprovision takes a device's push target away, as its logout does. It is
// durable when it returns nil, also where there was no target.
func (s *Server) Unprovision(ctx context.Context, aor, deviceID string) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	err, outcome := s.loc.Unprovision(ctx, aor, deviceID), "removed"
	if err != nil {
		outcome = "failed"
	}
	s.metrics.provisioned.WithLabelValues(outcome).Inc()
	return err
}

// checkProvision is checkPush and the bounds of a Contact, for what did not
// come in one.
func (r *registrar) checkProvision(p Provision) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrBadTarget}, args...)...)
	}
	t := p.Target
	switch {
	case len(p.Instance) > maxInstance || !visible(p.Instance) || strings.ContainsAny(p.Instance, `<>"`):
		return bad("instance is the device's +sip.instance, a URN of at most %d bytes without angle brackets", maxInstance)
	case p.Instance != "" && location.DeviceIDOf(p.Instance) != p.DeviceID:
		return bad("this instance is that of device %s", location.DeviceIDOf(p.Instance))
	case t.PRID == "":
		return bad("prid is missing; it is the token that the push service gave to the app. To end the pushes, DELETE the device")
	case len(t.PRID) > maxToken || !visible(t.PRID):
		return bad("prid is at most %d bytes of ASCII without spaces", maxToken)
	case location.CheckKey(t.Key) != nil:
		return bad("key %v", location.CheckKey(t.Key))
	case r.o.Push == nil || t.Provider == "" || !r.o.Push.Supports(t.Provider, t.Param):
		r.o.Rejected("push_not_supported")
		return bad("provider %q with param %q is not configured; add it under push: or send one that is", SanitiseText(t.Provider, 32), SanitiseText(t.Param, 128))
	case len(t.Param) > maxInstance || !visible(t.Param):
		return bad("param is at most %d bytes of ASCII without spaces", maxInstance)
	}
	if c, ok := r.o.Push.(TokenChecker); ok {
		if err := c.CheckToken(t.Provider, t.PRID); err != nil {
			return bad("%v", err)
		}
	}
	return nil
}

// visible holds for printable ASCII without spaces.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
