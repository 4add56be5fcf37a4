package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"reveille/push"
	"reveille/sip/location"
)

// Test pushes of one device, whoever asks for them: each shows a call screen on
// an iPhone. They have an allowance of their own, so that no test uses up what
// calls need, and no calls.limits that is 0 lets a script ring a phone for ever.
const (
	testsPerMinute = 6
	testsPerHour   = 60
)

// TestPush sends a push that starts no call to each device of an extension, to
// all at the same time, and returns when the push services have answered. The
// payload says that it is a test; an app that registers upon it gets no INVITE.
// What the answers say of the targets is kept as after a call: a dead token is
// dropped.
func (b *Bridge) TestPush(ctx context.Context, extension string) ([]PushRecord, error) {
	if b.routes.Load().extensions[extension] == nil {
		return nil, errors.New("no such extension: " + extension)
	}
	var devices []location.Device
	for _, d := range b.loc.Devices(extension) {
		if !d.Target.IsZero() {
			devices = append(devices, d)
		}
	}
	out := make([]PushRecord, len(devices))
	var all sync.WaitGroup
	for i, d := range devices {
		all.Go(func() { out[i] = b.testDevice(ctx, d) })
	}
	all.Wait()
	return out, nil
}

func (b *Bridge) testDevice(ctx context.Context, d location.Device) PushRecord {
	device := d.AOR + "/" + d.ID
	if !b.budget.test(device) {
		return PushRecord{Device: d.ID, Provider: d.Target.Provider, Outcome: "budget", Reason: "push_test",
			Error: fmt.Sprintf("no push was sent: a device gets %d test pushes a minute and %d an hour", testsPerMinute, testsPerHour)}
	}
	id, now := uuid.NewString(), time.Now()
	ctx, cancel := context.WithTimeout(ctx, b.cfg.PushTimeout)
	defer cancel()
	o := b.push.Send(ctx, device, pushTarget(d.Target), push.Message{
		UUID: id, CallID: id, Handle: "0", HandleType: "number", CallerName: "Test push", To: d.AOR, Trunk: "push-test", Test: true,
		IssuedAt: now, ExpiresAt: now.Add(b.cfg.patience(d)), TargetSince: d.Confirmed,
		Still: func() bool { return b.loc.HasTarget(d) },
	})
	b.learn(d, o)
	return pushRecord(d, o)
}

// test spends one test push of a device; false if none is left.
func (b *budget) test(device string) bool {
	now := time.Now().UnixNano()
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.of(b.devices, "test\x00"+device, now)
	if !left(a.minute, now, testsPerMinute, time.Minute) || !left(a.hour, now, testsPerHour, time.Hour) {
		return false
	}
	a.minute = spent(a.minute, now, testsPerMinute, time.Minute, 1)
	a.hour = spent(a.hour, now, testsPerHour, time.Hour, 1)
	return true
}
