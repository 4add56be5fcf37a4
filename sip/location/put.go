package location

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// Change is an update that is durable but not yet announced. The registrar
// sends the 200 first and then calls Publish, so that no INVITE overtakes it.
type Change struct {
	// Bindings are all of the AOR's, as the 200 lists them.
	Bindings []Binding

	l       *Service
	aor     string
	records []*record
}

// Put applies an update: bindings are removed at once, new ones stay unseen
// until Publish, devices and targets are durable when it returns. When ctx
// ends first, or the store fails, the new bindings are gone again.
func (l *Service) Put(ctx context.Context, u Update) (*Change, error) {
	c, durable, err := l.put(u)
	if err != nil {
		return nil, err
	}
	if err := durable.wait(ctx); err != nil {
		c.Drop()
		return nil, err
	}
	return c, nil
}

func (l *Service) put(u Update) (*Change, *flush, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, ErrClosed
	}
	a := l.account(u.AOR)
	a.held = true
	defer func() { a.held = false; l.prune(a) }()
	if err := a.check(u); err != nil {
		return nil, nil, err
	}
	c := &Change{l: l, aor: u.AOR}
	var durable *flush
	if u.RemoveAll {
		durable = l.removeAll(a, u)
	}
	now := time.Now()
	for _, contact := range u.Contacts {
		var f *flush
		if contact.Expires <= 0 {
			f = l.logout(a, u, contact)
		} else {
			f = l.login(a, u, contact, now)
			r := newRecord(u, contact, now)
			l.attach(a, r)
			c.records = append(c.records, r)
		}
		if f != nil {
			durable = f // a later write is durable no sooner than an earlier one
		}
	}
	c.Bindings = a.list(func(*record) bool { return true })
	return c, durable, nil
}

func newRecord(u Update, c Contact, now time.Time) *record {
	return &record{
		key: c.bindingKey(), uriKey: c.uriKey(),
		Binding: Binding{
			AOR: u.AOR, DeviceID: c.DeviceID(), Contact: c.URI,
			Instance: c.Instance, RegID: c.RegID,
			FlowID: u.FlowID, Transport: u.Transport, Remote: u.Remote, Path: u.Path,
			CallID: u.CallID, CSeq: u.CSeq, UserAgent: u.UserAgent,
			Registered: now, Expires: now.Add(c.Expires), Q: c.Q,
		},
	}
}

// check holds an update against the AOR's bindings before anything changes.
func (a *account) check(u Update) error {
	stale := func(r *record) bool { return r.CallID == u.CallID && r.CSeq >= u.CSeq }
	after := map[string]bool{}
	for key, r := range a.bindings {
		if u.RemoveAll && stale(r) {
			return ErrStaleCSeq
		}
		after[key] = true
	}
	before := len(after)
	for _, c := range u.Contacts {
		if old := a.find(u, c); old != nil {
			if stale(old) {
				return ErrStaleCSeq
			}
			delete(after, old.key)
		}
		if c.Expires > 0 {
			after[c.bindingKey()] = true
		}
	}
	if u.MaxContacts > 0 && len(after) > u.MaxContacts && len(after) > before {
		return ErrTooManyContacts
	}
	return nil
}

// find returns the binding that a Contact replaces or removes, or nil. A device
// without an instance may come with a new token, or with none when it wants no
// more pushes (RFC 8599 §4.1.2): it is then known by its URI. Since two phones
// behind two NATs may have the same one, Call-ID or flow must agree too, or
// there must be no doubt.
func (a *account) find(u Update, c Contact) *record {
	if r := a.bindings[c.bindingKey()]; r != nil || c.Instance != "" {
		return r
	}
	same := a.sorted(func(r *record) bool { return r.Instance == "" && r.uriKey == c.uriKey() })
	for _, r := range same {
		if r.CallID == u.CallID || r.FlowID == u.FlowID {
			return r
		}
	}
	if c.NoPush && len(same) == 1 {
		return same[0]
	}
	return nil
}

// login makes room for a Contact's binding and enters its device. It returns
// what to wait for, or nil. mu is held.
func (l *Service) login(a *account, u Update, c Contact, now time.Time) *flush {
	var durable *flush
	if old := a.find(u, c); old != nil && old.key != c.bindingKey() {
		l.remove(old)
		durable = l.dropTarget(a, old.DeviceID)
	}
	if f := l.touch(a, u, c, now); f != nil {
		durable = f
	}
	return durable
}

// logout removes the Contact's binding and, if that was the device's last, its
// push target too (a REGISTER with expires=0 that is authenticated). mu is held.
func (l *Service) logout(a *account, u Update, c Contact) *flush {
	id := c.DeviceID()
	if old := a.find(u, c); old != nil {
		id = old.DeviceID
		l.remove(old)
	}
	if a.bound(id) || u.KeepTargets && !c.NoPush {
		return nil
	}
	return l.dropTarget(a, id)
}

// removeAll is Contact: *. Every binding goes. Targets go only with the devices
// that the REGISTER itself comes from, as far as can be told: one phone that
// clears the list must not keep the user's other phones from ever waking.
func (l *Service) removeAll(a *account, u Update) *flush {
	leaving := map[string]bool{}
	if len(a.devices) == 1 {
		for id := range a.devices {
			leaving[id] = true
		}
	}
	for _, r := range a.sorted(func(*record) bool { return true }) {
		if r.FlowID == u.FlowID || r.CallID == u.CallID {
			leaving[r.DeviceID] = true
		}
		l.remove(r)
	}
	var durable *flush
	if u.KeepTargets {
		return nil
	}
	for id := range leaving {
		if f := l.dropTarget(a, id); f != nil {
			durable = f
		}
	}
	return durable
}

// Publish makes the change's bindings visible and tells the watchers. A
// binding that has been replaced, or whose flow has closed since, is left out.
func (c *Change) Publish() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	for _, r := range c.records {
		a := c.l.accounts[c.aor]
		if a == nil || a.bindings[r.key] != r {
			continue
		}
		r.visible = true
		for w := range c.l.watching(a) {
			w.push(r)
		}
	}
}

// Drop takes the change's bindings back, where the 200 could not be sent. Who watches is woken: there is one hope less.
func (c *Change) Drop() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	for _, r := range c.records {
		if a := c.l.accounts[c.aor]; a != nil && a.bindings[r.key] == r {
			for w := range c.l.watching(a) {
				w.signal()
			}
			c.l.remove(r)
		}
	}
}

// bound reports whether the device has a binding.
func (a *account) bound(deviceID string) bool {
	for _, r := range a.bindings {
		if r.DeviceID == deviceID {
			return true
		}
	}
	return false
}

// sorted returns the bindings that pass keep: highest q first, then newest.
func (a *account) sorted(keep func(*record) bool) []*record {
	out := make([]*record, 0, len(a.bindings))
	for _, r := range a.bindings {
		if keep(r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(x, y *record) int {
		return cmp.Or(
			cmp.Compare(y.Q, x.Q),
			y.Registered.Compare(x.Registered),
			strings.Compare(x.key, y.key),
		)
	})
	return out
}

func (a *account) list(keep func(*record) bool) []Binding {
	records := a.sorted(keep)
	out := make([]Binding, len(records))
	for i, r := range records {
		out[i] = r.Binding
	}
	return out
}
