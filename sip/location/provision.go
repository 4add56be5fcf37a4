package location

import (
	"context"
	"errors"
	"time"
)

// Errors of Provision. Nothing has changed then.
var (
	// ErrUnknownDevice: no device of the AOR has this id, and no instance is
	// given to make one of.
	ErrUnknownDevice = errors.New("no such device")
	// ErrTokenNamesDevice: the device has no instance, its push token is its
	// name. With another token it would be another device.
	ErrTokenNamesDevice = errors.New("the device has no instance and is known by its push token alone")
	// ErrTooManyDevices: the AOR would have more devices than Provision.MaxDevices.
	ErrTooManyDevices = errors.New("too many devices for one address-of-record")
)

// Provision is a push target that comes by another way than a REGISTER, with
// the same authority as one that is authenticated.
type Provision struct {
	AOR, DeviceID string
	Instance      string // whose DeviceID is this; "": the device is known already
	Target        Target
	MaxDevices    int // of the AOR, for a new one; 0: no limit
}

// DeviceIDOf is the id of the device that registers with an instance.
func DeviceIDOf(instance string) string { return Contact{Instance: instance}.DeviceID() }

// Provision gives a device its push target and makes the device if it is not
// known: it can then be woken without ever having registered. Its lifetime
// begins anew. A token that belonged to another device, of whichever AOR,
// leaves it, as on a REGISTER. The target is durable when Provision returns
// without an error; made reports whether the device is new.
func (l *Service) Provision(ctx context.Context, p Provision) (d Device, made bool, err error) {
	d, made, durable, err := l.provision(p, time.Now())
	if err != nil {
		return Device{}, false, err
	}
	return d, made, durable.wait(ctx)
}

func (l *Service) provision(p Provision, now time.Time) (d Device, made bool, durable *flush, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Device{}, false, nil, ErrClosed
	}
	a := l.account(p.AOR)
	a.held = true
	defer func() { a.held = false; l.prune(a) }()
	r := a.devices[p.DeviceID]
	if err := a.mayProvision(r, p); err != nil {
		return Device{}, false, nil, err
	}
	if made = r == nil; made {
		r = l.insertDevice(Device{ID: p.DeviceID, AOR: a.aor, Instance: p.Instance, Seen: now})
	}
	r.Seen = now
	l.schedule(&r.alarm, now.Add(l.lifetime))
	switch {
	case l.retarget(r, p.Target, now) || r.durable.failed():
		r.durable = l.save(r)
	case now.Sub(r.saved) > seenGrain:
		l.save(r) // no one needs to wait for this
	}
	return r.Device, made, r.durable, nil
}

// mayProvision holds a provision against what is known; r is the device, nil if
// it is new. Service.mu is held.
func (a *account) mayProvision(r *deviceRecord, p Provision) error {
	switch {
	case r == nil && p.Instance == "":
		return ErrUnknownDevice
	case r == nil && p.MaxDevices > 0 && len(a.devices) >= p.MaxDevices:
		return ErrTooManyDevices
	case r != nil && r.ID == Contact{Target: r.Target}.DeviceID() && r.ID != Contact{Target: p.Target}.DeviceID():
		return ErrTokenNamesDevice
	}
	return nil
}

// Unprovision takes a device's push target away, as its logout does, and the
// device with it if it is not bound. A binding that lives on still rings. That
// there was no target is no error. It is durable when Unprovision returns nil.
func (l *Service) Unprovision(ctx context.Context, aor, deviceID string) error {
	durable, err := l.unprovision(aor, deviceID)
	if err != nil {
		return err
	}
	return durable.wait(ctx)
}

func (l *Service) unprovision(aor, deviceID string) (*flush, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if a := l.accounts[aor]; a != nil {
		durable := l.dropTarget(a, deviceID)
		l.prune(a)
		if durable != nil {
			return durable, nil
		}
	}
	// Also where there is nothing: an earlier try may have failed on the disk.
	return l.writer.dropDevice(DeviceKey{aor, deviceID}), nil
}
