package rtp

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/ng/ngtest"
)

// These tests have the daemons in memory, in virtual time; TestDaemon… have real ones.

// remoteWorld is a call over two daemons.
func remoteWorld(t *testing.T) (w *world, first, second *ngtest.Daemon) {
	t.Helper()
	a, b := &ngtest.Daemon{Port: 30000}, &ngtest.Daemon{Port: 40000}
	w = newWorld(t, func(c *Config, o *Options) {
		c.Engine, c.RTPEngine.Address = "rtpengine", Addresses{"udp://a:1", "udp://b:1"}
		o.EngineDial = ngtest.Dialer(map[string]*ngtest.Daemon{"a:1": a, "b:1": b})
	})
	if w.session.remote.engine.URL() == "udp://b:1" {
		return w, b, a
	}
	return w, a, b
}

// commands are those that a daemon was asked for.
func commands(d *ngtest.Daemon) string {
	var list []string
	for _, r := range d.Asked("") {
		list = append(list, r.Text("command"))
	}
	return strings.Join(list, ", ")
}

func TestRemoteCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, d, other := remoteWorld(t)
		w.connect()
		if ours := w.trunk.ours.Addr; ours.Port() < 30000 || ours.Addr() != relayIP && ours.Addr().IsUnspecified() {
			t.Errorf("the trunk was told %v", ours)
		}
		d.Count("trunk", 50)
		time.Sleep(1500 * time.Millisecond)
		d.Count("device2", 50)
		time.Sleep(time.Second)
		if got := w.events(); len(got) != 2 || got[0].Kind != FirstPacket || got[0].Side != Trunk || got[1].Side != Device {
			t.Errorf("events %v", got)
		}
		d.Count("trunk", 70)
		if got := w.session.Close(); got.Trunk.Packets != 70 || got.Device.Packets != 50 {
			t.Errorf("figures %+v", got)
		}
		if got := commands(d); got != "offer, answer, offer, offer, answer, delete, query, query, query, delete" {
			t.Errorf("asked for %s", got)
		}
		if d.Calls() != 0 || len(other.Asked("")) > 0 {
			t.Error("a daemon has something left, or the other was asked")
		}
	})
}

// The daemon is gone when the call comes: another one has it, and the caller notices nothing.
func TestRemoteFailover(t *testing.T) {
	for _, refused := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			w, first, second := remoteWorld(t)
			synctest.Wait()
			first.Stop(refused)
			w.connect()
			if second.Calls() != 1 {
				t.Errorf("the second daemon has %d calls", second.Calls())
			}
			w.session.Close()
		})
	}
}

// Once the caller knows an address of a daemon, its end is the call's.
func TestRemoteGoneWhileRinging(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, first, _ := remoteWorld(t)
		w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 0 101")))
		w.trunk.learn(w.session.Answer(Trunk))
		first.Stop(true)
		if _, err := w.session.Offer(Device); !errors.Is(err, ErrNoEngine) {
			t.Errorf("err %v, want ErrNoEngine", err)
		}
		w.session.Close()
	})
}

// A daemon that was started anew knows nothing of the call: that is its end, with the cause.
func TestRemoteForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, d, _ := remoteWorld(t)
		w.connect()
		d.Count("trunk", 50)
		time.Sleep(20 * time.Second)
		d.Start()
		time.Sleep(70 * time.Second)
		events := w.events()
		last := events[len(events)-1]
		if last.Kind != EngineLost || !strings.Contains(last.Cause, "does not know the call any more") {
			t.Errorf("%v", events)
		}
		w.session.Close()
	})
}

// A call on a daemon that is gone moves to another one with the next offer of a side, whichever asks; the other side is
// asked too, as its address changes.
func TestRemoteMoves(t *testing.T) {
	for _, side := range []Side{Trunk, Device} {
		bubble(t, func(t *testing.T) {
			w, first, second := remoteWorld(t)
			w.connect()
			first.Stop(false)
			time.Sleep(5 * time.Second)
			from, other := w.trunk, w.device
			if side == Device {
				from, other = other, from
			}
			was, were := from.ours.Addr, other.ours.Addr
			p, err := w.session.Propose(side, from.sdp("8 101"))
			w.must(err)
			if !p.Carry() {
				t.Fatal("the other side is not asked")
			}
			other.learn(p.Offer())
			from.learn(p.Accept(other.sdp("8 101")))
			if from.ours.Addr == was || other.ours.Addr == were || second.Calls() != 1 {
				t.Errorf("%v and %v are as before", was, were)
			}
			if p := w.session.Follow(side); p != nil {
				t.Error("a side is to be asked again")
			}
			first.Start()
			w.session.Close()
			if second.Calls() != 0 {
				t.Error("the second daemon keeps the call")
			}
		})
	}
}

// A call moves while its device is set aside: that hears of the other daemon when it has the call back.
func TestRemoteMovesWhileADeviceIsSetAside(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, first, second := remoteWorld(t)
		w.connect()
		undo := w.session.Handover()
		first.Stop(false)
		time.Sleep(5 * time.Second)
		p, err := w.session.Propose(Trunk, w.trunk.sdp("8 101"))
		w.must(err)
		w.trunk.learn(p.Locally())
		undo()
		was := w.device.ours.Addr
		p = w.session.Follow(Trunk)
		if p == nil {
			t.Fatal("the device is not asked")
		}
		w.device.learn(p.Offer())
		_, err = p.Accept(w.device.sdp("8 101"))
		w.must(err)
		if w.device.ours.Addr == was || second.Calls() != 1 || w.session.Follow(Trunk) != nil {
			t.Errorf("the device sends to %v as before, or is to be asked again", was)
		}
		w.session.Close()
		if second.Calls() != 0 {
			t.Error("the second daemon keeps the call")
		}
	})
}

// An answer of the daemon that is lost in mid-call is made up for.
func TestRemoteSyncedLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, d, _ := remoteWorld(t)
		w.ring("8 0 101")
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
		d.Lose(2 * time.Second)
		w.session.Connect()
		time.Sleep(4 * time.Second)
		w.session.mu.Lock()
		defer w.session.Close()
		defer w.session.mu.Unlock()
		if !w.session.remote.opened {
			t.Error("the daemon was not told of the answer")
		}
	})
}

// The ringback is asked for in rounds, not while the trunk holds, and not once the call is connected.
func TestRemoteRingback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, d, _ := remoteWorld(t)
		w.ring("8 0 101")
		w.must(w.session.Ringback())
		w.must(w.session.Ringback())
		time.Sleep(12 * time.Second)
		plays := d.Asked("play media")
		if len(plays) != 3 { // each 5 s
			t.Fatalf("played %d times", len(plays))
		}
		if blob := plays[0].Text("blob"); len(blob) != 44+8000 || blob[:4] != "RIFF" || plays[0].Text("from-tag") != "trunk" {
			t.Errorf("%d bytes, %.4q: want one second of sound", len(blob), blob)
		}
		if _, err := w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "sendonly")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Second)
		if n := len(d.Asked("play media")); n != 3 {
			t.Errorf("played %d times, the last while the trunk holds", n)
		}
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
		w.session.Connect()
		time.Sleep(12 * time.Second)
		if got := commands(d); strings.Count(got, "play media") != 3 {
			t.Error(got)
		}
		w.session.Close()
	})
}

// A second phone gets keys of its own; one without SRTP costs no further address.
func TestRemoteOffers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, d, _ := remoteWorld(t)
		w.ring("8 0 101")
		plain := w.device.ours.Addr
		w.device.learn(w.session.Offer(Device))
		if w.device.ours.Addr != plain {
			t.Error("a second plain offer has another address")
		}
		w.session.Secret(Device, true)
		offers := map[string]bool{}
		for range 3 {
			offer, err := w.session.Offer(Device)
			w.must(err)
			if offers[string(offer)] = true; !strings.Contains(string(offer), "a=crypto:7 AES_CM_128_HMAC_SHA1_80 ") {
				t.Errorf("no key in\n%s", offer)
			}
		}
		if len(offers) != 3 {
			t.Error("phones share keys")
		}
		w.session.Close()
		if d.Calls() != 0 {
			t.Error("the daemon keeps the call")
		}
	})
}

// What is not to be had with rtpengine is refused with the configuration.
func TestEngineValidate(t *testing.T) {
	for _, c := range []struct {
		change     func(*Config)
		path, hint string
	}{
		{func(c *Config) { c.RTPEngine.Address = nil }, "rtpengine.address", "udp://127.0.0.1:2223"},
		{func(c *Config) { c.RTPEngine.Address = Addresses{"127.0.0.1:2223"} }, "rtpengine.address", "udp://HOST:PORT"},
		{func(c *Config) { c.RTPEngine.Address = Addresses{"udp://a:1", "udp://a:1"} }, "rtpengine.address", "twice"},
		{func(c *Config) { c.RTPEngine.Drain = []string{"udp://a:1"} }, "rtpengine.drain", "none of media.rtpengine.address"},
		{func(c *Config) { c.RTPEngine.TrunkInterface = "pub" }, "rtpengine.trunk_interface", "device_interface"},
		{func(c *Config) { c.ExternalAddress = "203.0.113.5" }, "external_address", "interface=LOCAL!PUBLIC"},
	} {
		cfg := DefaultConfig()
		cfg.Engine = "rtpengine"
		c.change(&cfg)
		found := map[string]string{}
		cfg.Validate(func(path, problem string) { found[path] = problem })
		if len(found) != 1 || !strings.Contains(found[c.path], c.hint) {
			t.Errorf("%s: %v does not say %s", c.path, found, c.hint)
		}
	}
}
