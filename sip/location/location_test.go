package location

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func open(t *testing.T, s Store) *Service {
	t.Helper()
	l, err := New(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// phone is an app that registers; its fields are what its next REGISTER holds.
type phone struct {
	aor, uri, instance, prid, key, flow, callID string
	regID                                       int
	cseq                                        uint32
	noPush                                      bool
}

func ada() *phone {
	return &phone{aor: "1001", uri: "sip:1001@10.0.0.2:4000", instance: "urn:uuid:ADA",
		prid: "tokenA", flow: "tcp/1", callID: "a", regID: 1}
}

func (p *phone) update(expires time.Duration) Update {
	p.cseq++
	c := Contact{URI: p.uri, Instance: p.instance, RegID: p.regID, Expires: expires, NoPush: p.noPush}
	if p.prid != "" {
		c.Target = Target{Provider: "apns", Param: "T.com.example.voip", PRID: p.prid, Key: p.key}
	}
	return Update{
		AOR: p.aor, CallID: p.callID, CSeq: p.cseq, FlowID: p.flow, Transport: "TCP",
		Remote: "10.0.0.2:4000", UserAgent: "Phone", Contacts: []Contact{c}, MaxContacts: 3,
	}
}

func (p *phone) put(t *testing.T, l *Service, expires time.Duration) *Change {
	t.Helper()
	c, err := l.Put(t.Context(), p.update(expires))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *phone) register(t *testing.T, l *Service, expires time.Duration) {
	t.Helper()
	p.put(t, l, expires).Publish()
}

func flows(bindings []Binding) string {
	s := ""
	for _, b := range bindings {
		s += b.FlowID + " "
	}
	return s
}

func wantFlows(t *testing.T, l *Service, aor, want string) {
	t.Helper()
	if want != "" {
		want += " "
	}
	if got := flows(l.Lookup(aor)); got != want {
		t.Errorf("bindings on %q, want %q", got, want)
	}
}

func TestBindingIdentity(t *testing.T) {
	type change func(p *phone)
	for name, tt := range map[string]struct {
		before, second change
		want           string
	}{
		"same instance and reg-id, new Contact and flow": {nil, func(p *phone) { p.uri = "sip:1001@10.9.9.9" }, "tcp/2"},
		"instance differs in case only":                  {nil, func(p *phone) { p.instance = "urn:uuid:ada" }, "tcp/2"},
		"another reg-id":                                 {nil, func(p *phone) { p.regID = 2 }, "tcp/2 tcp/1"},
		"another instance":                               {nil, func(p *phone) { p.instance, p.prid = "urn:uuid:b", "tokenB" }, "tcp/2 tcp/1"},
		"no instance: same token":                        {func(p *phone) { p.instance = "" }, func(p *phone) { p.uri = "sip:x@y" }, "tcp/2"},
		"no instance: another phone":                     {func(p *phone) { p.instance = "" }, func(p *phone) { p.prid = "tokenB" }, "tcp/2 tcp/1"},
		"no instance: a plain phone":                     {func(p *phone) { p.instance = "" }, func(p *phone) { p.prid = "" }, "tcp/2 tcp/1"},
		"plain: same Contact":                            {func(p *phone) { p.instance, p.prid = "", "" }, nil, "tcp/2"},
		"plain: another Contact":                         {func(p *phone) { p.instance, p.prid = "", "" }, func(p *phone) { p.uri = "sip:x@y" }, "tcp/2 tcp/1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, NewMemory())
				p := ada()
				if tt.before != nil {
					tt.before(p)
				}
				p.register(t, l, time.Hour)
				time.Sleep(time.Second)
				if tt.second != nil {
					tt.second(p)
				}
				p.flow, p.callID = "tcp/2", "b"
				p.register(t, l, time.Hour)
				wantFlows(t, l, "1001", tt.want)
			})
		})
	}
}

func TestBindingExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		p, q := ada(), &phone{aor: "1001", uri: "sip:desk@h", flow: "udp/9", callID: "q"}
		p.register(t, l, time.Minute)
		q.register(t, l, time.Hour)
		time.Sleep(30 * time.Second)
		p.register(t, l, time.Minute) // a refresh moves the expiry
		time.Sleep(59 * time.Second)
		wantFlows(t, l, "1001", "tcp/1 udp/9")
		time.Sleep(time.Second)
		synctest.Wait()
		wantFlows(t, l, "1001", "udp/9")
		if got := len(l.Devices("1001")); got != 2 {
			t.Errorf("%d devices: the push device must outlive its binding", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		wantFlows(t, l, "1001", "")
		if got := l.Devices("1001"); len(got) != 1 || got[0].Target.PRID != "tokenA" {
			t.Errorf("devices %v: want the one with a target", got)
		}
	})
}

func TestCSeqOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		p := ada()
		p.register(t, l, time.Hour)
		for _, u := range []Update{
			func() Update { p.cseq = 0; return p.update(time.Hour) }(),
			func() Update { p.cseq = 0; return p.update(0) }(),
			{AOR: "1001", CallID: "a", CSeq: 1, RemoveAll: true},
		} {
			// A second Contact that would be fine must not slip through.
			if !u.RemoveAll {
				u.Contacts = append([]Contact{{URI: "sip:other@h", Expires: time.Hour}}, u.Contacts...)
			}
			if _, err := l.Put(t.Context(), u); !errors.Is(err, ErrStaleCSeq) {
				t.Errorf("CSeq 1 again: %v", err)
			}
			wantFlows(t, l, "1001", "tcp/1")
		}
		p.callID, p.cseq, p.flow = "rebooted", 0, "tcp/2"
		p.register(t, l, time.Hour) // a new Call-ID replaces whatever its CSeq
		wantFlows(t, l, "1001", "tcp/2")
	})
}

func TestMaxContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		var phones []*phone
		for i := range 3 {
			p := ada()
			p.instance, p.prid, p.callID = fmt.Sprint("i", i), fmt.Sprint("t", i), fmt.Sprint(i)
			p.register(t, l, time.Hour)
			phones = append(phones, p)
		}
		fourth := ada()
		if _, err := l.Put(t.Context(), fourth.update(time.Hour)); !errors.Is(err, ErrTooManyContacts) {
			t.Errorf("fourth: %v", err)
		}
		if n := len(l.Devices("1001")); n != 3 {
			t.Errorf("%d devices: the refused one left a trace", n)
		}
		phones[0].register(t, l, time.Hour) // a refresh is not another one
		phones[0].register(t, l, 0)
		fourth.register(t, l, time.Hour)
	})
}

func TestRestart(t *testing.T) {
	for name, kind := range storeKinds {
		t.Run(name, func(t *testing.T) {
			reopen := kind(t)
			l := open(t, reopen())
			p := ada()
			p.register(t, l, time.Hour)
			device := l.Devices("1001")[0]
			l.SetEnvironment(device, "production")
			l.Bury(Tombstone{CallUUID: "U", AOR: "1001", DeviceID: device.ID, Expires: time.Now().Add(time.Hour)})
			l.Bury(Tombstone{CallUUID: "claimed", AOR: "1001", DeviceID: device.ID, Expires: time.Now().Add(time.Hour)})
			l.Exhume("claimed", device.ID)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, reopen())
			wantFlows(t, l, "1001", "") // the flows are gone
			d := l.Devices("1001")
			if len(d) != 1 || d[0].ID != device.ID || d[0].Target.PRID != "tokenA" || d[0].Target.Environment != "production" {
				t.Fatalf("devices %+v", d)
			}
			if tombs := l.Tombstones("1001", device.ID); len(tombs) != 1 || tombs[0].CallUUID != "U" {
				t.Errorf("tombstones %v", tombs)
			}
			if l.Exhume("claimed", device.ID) {
				t.Error("claimed again after the restart")
			}
		})
	}
}

func TestTombstones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		l.Bury(Tombstone{CallUUID: "U", AOR: "1001", DeviceID: "d", Expires: time.Now().Add(time.Minute)})
		l.Bury(Tombstone{CallUUID: "V", AOR: "1001", DeviceID: "d", Expires: time.Now().Add(2 * time.Minute)})
		l.Bury(Tombstone{CallUUID: "U", AOR: "1001", DeviceID: "e", Expires: time.Now().Add(time.Minute)})
		if got := l.Tombstones("1001", "d"); len(got) != 2 || got[0].CallUUID != "U" {
			t.Fatalf("tombstones %v", got)
		}
		claims := make(chan bool)
		for range 10 {
			go func() { claims <- l.Exhume("U", "d") }()
		}
		claimed := 0
		for range 10 {
			if <-claims {
				claimed++
			}
		}
		if claimed != 1 {
			t.Errorf("claimed %d times", claimed)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if l.Exhume("U", "e") {
			t.Error("claimed after its expiry")
		}
		if got := l.Tombstones("1001", "d"); len(got) != 1 {
			t.Errorf("tombstones %v", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s, _ := store.Load(); len(s.Tombstones) != 0 {
			t.Errorf("store keeps %v", s.Tombstones)
		}
		if len(l.accounts) != 0 {
			t.Errorf("%d accounts for nothing", len(l.accounts))
		}
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		l, err := New(NewMemory(), Options{Registerer: reg})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ada().register(t, l, time.Hour)
		desk := &phone{aor: "1002", uri: "sip:desk@h", flow: "udp/9", callID: "q"}
		desk.register(t, l, time.Hour)
		if got := testutil.CollectAndCount(collector{l}); got != 3 {
			t.Errorf("%d series", got)
		}
		if b, d := l.BindingCounts(), l.DeviceCounts(); b["TCP"] != 2 || d["apns"] != 1 || d["none"] != 1 {
			t.Errorf("counts %v %v", b, d)
		}
		if _, err := New(NewMemory(), Options{Registerer: reg}); err == nil {
			t.Error("registered the same metrics twice")
		}
	})
}

// failing is a store whose disk is full while err is set.
type failing struct {
	*Memory
	err error
}

func (f *failing) Apply(b Batch) error {
	if f.err != nil {
		return f.err
	}
	return f.Memory.Apply(b)
}

func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &failing{NewMemory(), errors.New("disk full")}
		l := open(t, store)
		p := ada()
		if _, err := l.Put(t.Context(), p.update(time.Hour)); !errors.Is(err, store.err) {
			t.Fatalf("Put: %v", err)
		}
		wantFlows(t, l, "1001", "")
		// The same REGISTER again: its device is in memory but not on disk.
		if _, err := l.Put(t.Context(), p.update(time.Hour)); !errors.Is(err, store.err) {
			t.Fatalf("second Put: %v", err)
		}
		store.err = nil
		p.register(t, l, time.Hour)
		if s, _ := store.Load(); len(s.Devices) != 1 {
			t.Errorf("store has %v", s.Devices)
		}
	})
}

func TestPutAfterClose(t *testing.T) {
	l := open(t, NewMemory())
	l.Close()
	if _, err := l.Put(context.Background(), ada().update(time.Hour)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, ok := <-feed(context.Background(), l.Watch("1001")); ok {
		t.Error("a binding from a closed location")
	}
	l.Bury(Tombstone{CallUUID: "U"})
	if l.Exhume("U", "") {
		t.Error("exhumed")
	}
}

// TestIdleFlow: a flow is told of as idle once its last binding has left it.
func TestIdleFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, NewMemory())
		var idle []string
		l.OnIdleFlow(func(id string) { idle = append(idle, id) })
		p := ada()
		p.register(t, l, time.Hour)
		p.register(t, l, time.Hour)
		if len(idle) != 0 {
			t.Fatalf("%v idle while bound", idle)
		}
		p.flow = "tcp/2"
		p.register(t, l, time.Hour)
		p.register(t, l, 0)
		if fmt.Sprint(idle) != "[tcp/1 tcp/2]" {
			t.Errorf("idle %v", idle)
		}
	})
}

// A proxy's connection is not the device's: bindings behind it outlive it, in
// whichever store the devices are, until they expire or move.
func TestBindingBehindAProxyOutlivesItsFlow(t *testing.T) {
	for name, kind := range storeKinds {
		t.Run(name, func(t *testing.T) {
			reopen := kind(t)
			synctest.Test(t, func(t *testing.T) {
				l := open(t, reopen())
				behind, direct := ada(), &phone{aor: "1002", uri: "sip:1002@h", flow: "tcp/1", callID: "d"}
				u := behind.update(time.Hour)
				u.Path = "<sip:edge;lr>"
				c, err := l.Put(t.Context(), u)
				if err != nil {
					t.Fatal(err)
				}
				c.Publish()
				direct.register(t, l, time.Hour)
				l.FlowClosed("tcp/1")
				wantFlows(t, l, "1001", "tcp/1")
				wantFlows(t, l, "1002", "")
				if got := l.Lookup("1001")[0].Path; got != "<sip:edge;lr>" {
					t.Errorf("Path %q", got)
				}
				behind.flow = "tcp/2" // the device has left the proxy
				behind.register(t, l, time.Hour)
				if got := l.Lookup("1001")[0]; got.Path != "" || got.FlowID != "tcp/2" {
					t.Errorf("binding %+v", got)
				}
			})
		})
	}
}
