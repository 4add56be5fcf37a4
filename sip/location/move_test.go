package location

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A new token of the same installation: the old one is nobody's, on the disk too.
func TestChangedTokenReplacesTheOldOne(t *testing.T) {
	for name, kind := range storeKinds {
		t.Run(name, func(t *testing.T) {
			reopen := kind(t)
			l := open(t, reopen())
			p := ada()
			for _, token := range []string{"old", "new"} {
				p.prid = token
				p.register(t, l, time.Hour)
			}
			l.Close()
			l = open(t, reopen())
			if d := l.Devices("1001"); len(d) != 1 || d[0].Target.PRID != "new" || len(l.tokens) != 1 {
				t.Fatalf("devices %v, %d tokens", d, len(l.tokens))
			}
			other := provisionOf("1002", "urn:uuid:other", "old") // an old phone, sold
			provision(t, l, other)
			if d := l.Devices("1001"); len(d) != 1 || d[0].Target.PRID != "new" {
				t.Errorf("the device lost its token with the old one: %v", d)
			}
		})
	}
}

// What a push service says of a token is true of the time when it was asked.
func TestLateAnswerOfAPushServiceTouchesNoNewerTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		p := ada()
		p.register(t, l, time.Hour)
		pushed := l.Devices("1001")[0]
		time.Sleep(time.Second)
		p.register(t, l, time.Hour) // the same token: the app has it still
		l.TargetGone(pushed)
		confirmed := l.Devices("1001")[0]
		if confirmed.Target.IsZero() || !confirmed.Confirmed.After(confirmed.Registered) || !l.HasTarget(pushed) {
			t.Errorf("a target that was confirmed since is gone: %+v", confirmed)
		}
		p.register(t, l, 0) // logout
		time.Sleep(time.Second)
		p.register(t, l, time.Hour) // login, with the same token
		l.TargetGone(confirmed)
		if l.Devices("1001")[0].Target.IsZero() {
			t.Error("a target that was registered since is gone")
		}
		time.Sleep(time.Second)
		moved := l.Devices("1001")[0]
		provision(t, l, Provision{AOR: "1001", DeviceID: moved.ID, Target: moved.Target}) // a backend repeats itself
		if d := l.Devices("1001")[0]; d.Confirmed != moved.Confirmed || !d.Seen.After(moved.Seen) {
			t.Errorf("confirmed at %v, by a backend", d.Confirmed)
		}
		provision(t, l, provisionOf("1002", "urn:uuid:2", p.prid))
		l.TargetGone(moved) // of the former owner's push
		l.SetEnvironment(moved, "sandbox")
		if d := l.Devices("1002")[0]; d.Target.IsZero() || d.Target.Environment != "" || l.HasTarget(moved) {
			t.Errorf("the new owner has %v %q", d, d.Target.Environment)
		}
		l.TargetGone(l.Devices("1002")[0])
		synctest.Wait()
		if s, _ := store.Load(); len(l.Devices("1002")) != 0 || len(s.Devices) != 0 {
			t.Errorf("a dead target is still there: %v, stored %v", l.AllDevices(), s.Devices)
		}
	})
}

// A dead token that the device brings again is taken again, whatever was between.
func TestDeadTokenComesAgainAfterARestart(t *testing.T) {
	for name, kind := range storeKinds {
		t.Run(name, func(t *testing.T) {
			reopen := kind(t)
			l := open(t, reopen())
			p := ada()
			p.register(t, l, time.Hour)
			l.TargetGone(l.Devices("1001")[0])
			l.Close()
			l = open(t, reopen())
			if d := l.AllDevices(); len(d) != 0 {
				t.Fatalf("devices %v after a restart", d)
			}
			p.register(t, l, time.Hour)
			l.Close()
			l = open(t, reopen())
			if d := l.Devices("1001"); len(d) != 1 || d[0].Target.PRID != p.prid {
				t.Errorf("devices %v", d)
			}
		})
	}
}

// mover does at random what devices and backends do with a few tokens that
// they all want: register, log out, provision, log out by the API.
func mover(l *Service, n int, r *rand.Rand) error {
	prids := []string{hexCall, hexCall + ":voip&" + hexAlert + ":remote", hexAlert + ":remote", "t1", "t2"}
	flow := fmt.Sprint("tcp/", n)
	for i := range 60 {
		aor, instance := fmt.Sprint(1000+r.IntN(3)), fmt.Sprint("urn:uuid:", r.IntN(3))
		target := Target{Provider: []string{"apns", "apns.dev", "fcm"}[r.IntN(3)], Param: "T.app.voip", PRID: prids[r.IntN(len(prids))]}
		u := Update{AOR: aor, CallID: flow, CSeq: uint32(i + 1), FlowID: flow, Transport: "TCP",
			Contacts: []Contact{{URI: "sip:x@y", Instance: instance, Target: target, Expires: time.Duration(r.IntN(2)) * time.Hour}}}
		var err error
		switch r.IntN(5) {
		case 0:
			_, _, err = l.Provision(context.Background(), Provision{AOR: aor, DeviceID: DeviceIDOf(instance), Instance: instance, Target: target})
		case 1:
			err = l.Unprovision(context.Background(), aor, DeviceIDOf(instance))
		case 2:
			for _, d := range l.Devices(aor) {
				l.TargetGone(d)
			}
		default:
			var c *Change
			if c, err = l.Put(context.Background(), u); err == nil {
				c.Publish()
			} else if errors.Is(err, ErrStaleCSeq) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTokens holds the index against the devices, and the store against both.
func checkTokens(t *testing.T, l *Service, s Store) {
	t.Helper()
	owners, stored := map[token]DeviceKey{}, map[DeviceKey]Target{}
	snap, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range snap.Devices {
		stored[d.key()] = d.Target
	}
	for _, d := range l.AllDevices() {
		for k := range d.Target.tokens().each {
			if other, taken := owners[k]; taken {
				t.Errorf("one token is %v's and %v's", other, d.key())
			}
			if owners[k] = d.key(); l.tokens[k] == nil || l.tokens[k].key() != d.key() {
				t.Errorf("a token of %v is not found as its own", d.key())
			}
		}
		if stored[d.key()] != d.Target {
			t.Errorf("%v has %v, stored is %v", d.key(), d.Target, stored[d.key()])
		}
		delete(stored, d.key())
	}
	if len(stored) != 0 || len(owners) != len(l.tokens) {
		t.Errorf("stored beyond the devices: %v; %d tokens known, %d owned", stored, len(l.tokens), len(owners))
	}
}

// Eight movers at once: at the end each token is one device's, in memory, on
// the disk, and after a restart.
func TestTokensMovedAtOnceBelongToOneDevice(t *testing.T) {
	for seed := range uint64(8) {
		store := NewMemory()
		l := open(t, store)
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				if err := mover(l, n, rand.New(rand.NewPCG(seed, uint64(n)))); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		l.Close()
		checkTokens(t, l, store)
		before := len(l.tokens)
		l = open(t, store)
		checkTokens(t, l, store)
		if len(l.tokens) != before {
			t.Errorf("seed %d: %d tokens, %d after a restart", seed, before, len(l.tokens))
		}
	}
}
