package location

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func provisionOf(aor, instance, prid string) Provision {
	return Provision{AOR: aor, DeviceID: DeviceIDOf(instance), Instance: instance,
		Target: Target{Provider: "apns", Param: "TEAM.app.voip", PRID: prid}}
}

func provision(t *testing.T, l *Service, p Provision) (Device, bool) {
	t.Helper()
	d, made, err := l.Provision(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return d, made
}

func TestProvisionIsDurableAndTheDeviceIsThatOfItsRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		p := ada()
		d, made := provision(t, l, provisionOf("1001", p.instance, "tokenX"))
		if s, _ := store.Load(); !made || len(s.Devices) != 1 || s.Devices[0] != d || d.Target.PRID != "tokenX" {
			t.Fatalf("made %v, stored %v, returned %v", made, s.Devices, d)
		}
		time.Sleep(time.Minute)
		again, made := provision(t, l, provisionOf("1001", p.instance, "tokenX"))
		if made || again.Registered != d.Registered || !again.Seen.After(d.Seen) {
			t.Errorf("repeated: made %v, %+v", made, again)
		}
		l.Close()
		l = open(t, store)
		p.prid = "" // the app leaves its push target to its backend
		p.register(t, l, time.Hour)
		if got := l.Devices("1001"); len(got) != 1 || got[0].ID != d.ID || got[0].Target != d.Target {
			t.Errorf("devices after its REGISTER: %v", got)
		}
	})
}

func TestProvisionMovesATokenToItsNewAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		p := ada()
		p.register(t, l, time.Hour)
		time.Sleep(2 * time.Hour)
		provision(t, l, provisionOf("1002", "urn:uuid:other", p.prid))
		if s, _ := store.Load(); len(l.Devices("1001")) != 0 || len(s.Devices) != 1 || s.Devices[0].AOR != "1002" {
			t.Errorf("devices %v, stored %v", l.AllDevices(), s.Devices)
		}
	})
}

func TestProvisionOutlivesNoDeviceLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		provision(t, l, provisionOf("1001", "urn:uuid:1", "x"))
		time.Sleep(80 * 24 * time.Hour)
		provision(t, l, provisionOf("1001", "urn:uuid:1", "x"))
		time.Sleep(80 * 24 * time.Hour)
		if len(l.Devices("1001")) != 1 {
			t.Error("gone 80 days after it was provisioned")
		}
		time.Sleep(11 * 24 * time.Hour)
		if synctest.Wait(); len(l.Devices("1001")) != 0 {
			t.Error("kept after 90 days")
		}
	})
}

func TestProvisionRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		for i := range 3 {
			provision(t, l, provisionOf("1001", fmt.Sprint("urn:uuid:", i), fmt.Sprint(i)))
		}
		unnamed := ada() // of another account, without an instance
		unnamed.aor, unnamed.instance, unnamed.regID = "1002", "", 0
		unnamed.register(t, l, time.Hour)
		named := l.Devices("1002")[0]
		full := provisionOf("1001", "urn:uuid:new", "new")
		full.MaxDevices = 3
		for name, tt := range map[string]struct {
			p    Provision
			want error
		}{
			"no instance":     {Provision{AOR: "1001", DeviceID: "nobody", Target: full.Target}, ErrUnknownDevice},
			"too many":        {full, ErrTooManyDevices},
			"named by token":  {Provision{AOR: "1002", DeviceID: named.ID, Target: full.Target}, ErrTokenNamesDevice},
			"unknown account": {Provision{AOR: "1003", DeviceID: "nobody", Target: full.Target}, ErrUnknownDevice},
		} {
			if _, _, err := l.Provision(t.Context(), tt.p); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		known := provisionOf("1001", "urn:uuid:2", "newer")
		known.MaxDevices = 3
		provision(t, l, known)
		provision(t, l, Provision{AOR: "1002", DeviceID: named.ID, Target: named.Target})
		if _, ok := l.accounts["1003"]; ok || len(l.AllDevices()) != 4 {
			t.Errorf("devices %v", l.AllDevices())
		}
	})
}

func TestUnprovisionLeavesTheBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		p := ada()
		p.register(t, l, time.Hour)
		id := DeviceIDOf(p.instance)
		for range 2 {
			if err := l.Unprovision(t.Context(), "1001", id); err != nil {
				t.Fatal(err)
			}
		}
		wantFlows(t, l, "1001", p.flow)
		if s, _ := store.Load(); len(s.Devices) != 0 || !l.Devices("1001")[0].Target.IsZero() {
			t.Errorf("stored %v", s.Devices)
		}
		time.Sleep(2 * time.Hour)
		if synctest.Wait(); len(l.AllDevices()) != 0 {
			t.Errorf("devices %v without binding and target", l.AllDevices())
		}
	})
}

func TestProvisionFailsWithTheStoreAndCanBeRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &failing{Memory: NewMemory()}
		l := open(t, store)
		store.err = errors.New("disk full")
		p := provisionOf("1001", "urn:uuid:1", "x")
		if _, _, err := l.Provision(t.Context(), p); err == nil {
			t.Error("no error")
		}
		if err := l.Unprovision(t.Context(), "1001", p.DeviceID); err == nil {
			t.Error("no error of Unprovision")
		}
		if err := l.Unprovision(t.Context(), "1001", p.DeviceID); err == nil {
			t.Error("no error of a repeated Unprovision")
		}
		store.err = nil
		provision(t, l, p)
		if s, _ := store.Load(); len(s.Devices) != 1 {
			t.Errorf("stored %v", s.Devices)
		}
		l.Close()
		if _, _, err := l.Provision(context.Background(), p); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if err := l.Unprovision(context.Background(), "1001", "x"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
