package location

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeviceLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		p := ada()
		p.register(t, l, time.Minute)
		time.Sleep(80 * 24 * time.Hour)
		p.register(t, l, time.Minute)
		time.Sleep(80 * 24 * time.Hour)
		if len(l.Devices("1001")) != 1 {
			t.Fatal("device gone 80 days after its REGISTER")
		}
		l.Close()
		l = open(t, store)
		time.Sleep(10*24*time.Hour - time.Second)
		if len(l.Devices("1001")) != 1 {
			t.Fatal("device gone before 90 days")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(l.AllDevices()) != 0 {
			t.Fatal("device kept after 90 days")
		}
		l.Close()
		if s, _ := store.Load(); len(s.Devices) != 0 {
			t.Error("store keeps it")
		}
	})
}

func TestLogoutDropsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		wifi := ada()
		wifi.register(t, l, time.Hour)
		lte := ada()
		lte.regID, lte.flow, lte.callID = 2, "tcp/2", "lte"
		lte.register(t, l, time.Hour)

		wifi.register(t, l, 0) // one flow of two is not a logout
		if d := l.Devices("1001"); len(d) != 1 || d[0].Target.IsZero() {
			t.Fatalf("devices %v: target lost with one flow", d)
		}
		time.Sleep(2 * time.Hour) // now asleep, without a binding
		lte.register(t, l, 0)
		if d := l.AllDevices(); len(d) != 0 {
			t.Errorf("devices %v after logout", d)
		}
		if s, _ := store.Load(); len(s.Devices) != 0 {
			t.Errorf("logout was not durable when Put returned")
		}
	})
}

func TestRemoveAll(t *testing.T) {
	star := func(flow, callID string) Update {
		return Update{AOR: "1001", CallID: callID, CSeq: 100, FlowID: flow, RemoveAll: true}
	}
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		p, q := ada(), ada()
		q.instance, q.prid, q.flow, q.callID = "urn:uuid:Q", "tokenQ", "tcp/2", "q"
		p.register(t, l, time.Hour)
		q.register(t, l, time.Hour)
		if _, err := l.Put(t.Context(), star("tcp/1", "new")); err != nil {
			t.Fatal(err)
		}
		wantFlows(t, l, "1001", "")
		if d := l.Devices("1001"); len(d) != 1 || d[0].Instance != q.instance {
			t.Errorf("devices %v: want the other phone's alone", d)
		}
		if _, err := l.Put(t.Context(), star("tcp/5", "new")); err != nil {
			t.Fatal(err)
		}
		if d := l.Devices("1001"); len(d) != 0 {
			t.Errorf("devices %v: the only device is the one that asks", d)
		}
	})
}

func TestTokenBelongsToOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		p := ada()
		p.register(t, l, time.Minute)
		time.Sleep(time.Hour)
		p.aor, p.callID = "1002", "b"
		p.register(t, l, time.Minute)
		if d := l.Devices("1001"); len(d) != 0 {
			t.Errorf("old account keeps %v", d)
		}
		if d := l.Devices("1002"); len(d) != 1 || d[0].Target.PRID != "tokenA" {
			t.Errorf("new account has %v", d)
		}
		// Installed anew: another instance, the same token, the same account.
		p.instance, p.callID = "urn:uuid:NEW", "c"
		p.register(t, l, time.Minute)
		time.Sleep(time.Hour)
		if d := l.Devices("1002"); len(d) != 1 || d[0].Instance != "urn:uuid:NEW" {
			t.Errorf("account has %v: one phone must get one push", d)
		}
		if s, _ := store.Load(); len(s.Devices) != 1 {
			t.Errorf("store has %v", s.Devices)
		}
	})
}

func TestTokenRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		p := ada()
		p.register(t, l, time.Minute)
		first := l.Devices("1001")[0]
		time.Sleep(time.Second)
		p.prid = ""
		p.register(t, l, time.Minute) // a REGISTER that says nothing of push changes nothing
		if got := l.Devices("1001")[0].Target; got != first.Target {
			t.Errorf("target became %v", got)
		}
		p.prid = "tokenB"
		p.register(t, l, time.Minute)
		second := l.Devices("1001")[0]
		if second.ID != first.ID || second.Target.PRID != "tokenB" || !second.Registered.After(first.Registered) {
			t.Errorf("device became %+v", second)
		}
		l.SetEnvironment(second, "sandbox")
		l.TargetGone(first) // a late 410 for the old token
		if got := l.Devices("1001")[0].Target; got.PRID != "tokenB" || got.Environment != "sandbox" {
			t.Errorf("late 410 left %v %q", got, got.Environment)
		}
		l.TargetGone(second)
		if got := l.Devices("1001"); len(got) != 1 || !got[0].Target.IsZero() {
			t.Errorf("device %v: bound, so kept, but without target", got)
		}
		l.DropTarget("1001", first.ID)
		l.DropTarget("nobody", "x")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := l.AllDevices(); len(got) != 0 {
			t.Errorf("device %v without binding or target", got)
		}
	})
}

func TestTargetNeverShowsToken(t *testing.T) {
	d := Device{Target: Target{"apns", "topic", "s3cret", "sandbox", someKey(1)}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, d); containsSecret(s) {
			t.Errorf("%s gives %s", format, s)
		}
	}
	json, err := d.Target.MarshalJSON()
	if err != nil || containsSecret(string(json)) || containsSecret(d.Target.LogValue().String()) {
		t.Errorf("JSON %s", json)
	}
}

func containsSecret(s string) bool {
	for i := range len(s) - 5 {
		if s[i:i+6] == "s3cret" {
			return true
		}
	}
	return false
}

// TestNoPush has a device that turns pushes off by leaving its token out.
func TestNoPush(t *testing.T) {
	for _, instance := range []string{"urn:uuid:ADA", ""} {
		t.Run("instance "+instance, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewMemory()
				l := open(t, store)
				p, twin := ada(), ada() // twin: the same private address behind another NAT
				p.instance, p.regID = instance, 0
				twin.instance, twin.regID, twin.prid, twin.flow, twin.callID = "", 0, "tokenT", "tcp/t", "t"
				p.register(t, l, time.Hour)
				twin.register(t, l, time.Hour)
				p.prid, p.noPush = "", true
				p.register(t, l, time.Hour)
				if got := len(l.Lookup("1001")); got != 2 {
					t.Errorf("%d bindings", got)
				}
				if counts := l.DeviceCounts(); counts["apns"] != 1 || counts["none"] != 1 {
					t.Errorf("devices %v: want the twin's target alone", counts)
				}
				p.register(t, l, 0)
				wantFlows(t, l, "1001", "tcp/t")
				if s, _ := store.Load(); len(s.Devices) != 1 {
					t.Errorf("stored %v", s.Devices)
				}
				// Logout without the token, from a new connection.
				twin.prid, twin.noPush, twin.flow, twin.callID = "", true, "tcp/u", "u"
				twin.register(t, l, 0)
				wantFlows(t, l, "1001", "")
				if s, _ := store.Load(); len(s.Devices) != 0 {
					t.Errorf("stored %v", s.Devices)
				}
			})
		})
	}
}

// TestTokenRenewedWithoutInstance: the same Contact in the same series of
// REGISTERs is the same phone, whatever its token.
func TestTokenRenewedWithoutInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		p := ada()
		p.instance = ""
		for i := range 10 {
			p.prid = fmt.Sprint("token", i)
			p.register(t, l, time.Hour)
		}
		if b, d := l.Lookup("1001"), l.Devices("1001"); len(b) != 1 || len(d) != 1 || d[0].Target.PRID != "token9" {
			t.Errorf("bindings %v, devices %v", b, d)
		}
		if s, _ := store.Load(); len(s.Devices) != 1 {
			t.Errorf("stored %v", s.Devices)
		}
	})
}
