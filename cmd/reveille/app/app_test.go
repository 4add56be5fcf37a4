package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/bridge"
	"reveille/config"
	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
	"reveille/sip/siptest"
)

const (
	bridgeIP  = "192.0.2.1"
	carrierIP = "192.0.2.9"
	token     = "0123456789abcdef"
)

// world is a bridge on an in-memory network, and a carrier that speaks bare
// datagrams.
type world struct {
	t       *testing.T
	net     *siptest.Network
	app     *App
	carrier *siptest.PacketConn
	pushes  *bytes.Buffer
	stop    context.CancelFunc
	done    chan struct{} // closed when Run has returned err
	err     error
}

func testConfig() *config.Config {
	cfg := config.Default()
	cfg.StateDir, cfg.Node = "", "test"
	cfg.SIP.Listen = []string{"udp://" + bridgeIP + ":5060", "tcp://" + bridgeIP + ":0"}
	cfg.HTTP.Listen, cfg.HTTP.Token = bridgeIP+":8060", token
	cfg.Trunks = []sip.TrunkConfig{sip.TrunkConfig{Name: "carrier", Peers: []string{carrierIP}}.WithDefaults()}
	cfg.Extensions = []bridge.Extension{{Name: "1001", Password: "secret", Numbers: []string{"+4930123456"}}}
	cfg.DrainTimeout = 5 * time.Second
	return cfg
}

// newWorld starts a bridge that knows one sleeping device.
func newWorld(t *testing.T, cfg *config.Config, change ...func(*Options)) *world {
	w := &world{t: t, net: siptest.NewNetwork(), pushes: &bytes.Buffer{}, done: make(chan struct{})}
	here := netip.MustParseAddr(bridgeIP)
	o := Options{
		Log:        slog.New(slog.NewTextHandler(t.Output(), nil)),
		Network:    w.net.Host(bridgeIP),
		RTPListen:  func(a netip.AddrPort) (rtp.PacketConn, error) { return w.net.Host(bridgeIP).ListenUDP(a) },
		RTPAddress: here, LogTo: w.pushes, Store: oneDevice(t),
	}
	for _, f := range change {
		f(&o)
	}
	app, err := New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	w.app = app
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	go func() {
		defer close(w.done)
		w.err = app.Run(ctx)
	}()
	<-app.Ready()
	w.carrier, err = w.net.Host(carrierIP).ListenUDP(netip.MustParseAddrPort(carrierIP + ":5060"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		<-w.done
		w.carrier.Close()
	})
	return w
}

func oneDevice(t *testing.T) location.Store {
	store := location.NewMemory()
	d := location.Device{ID: "d1", AOR: "1001", Instance: "urn:uuid:1", Seen: time.Now(), Registered: time.Now(),
		Target: location.Target{Provider: "apns", Param: "TEAM.app.voip", PRID: "token-of-d1"}}
	batch := location.Batch{Devices: map[location.DeviceKey]*location.Device{{AOR: d.AOR, ID: d.ID}: &d}}
	if err := store.Apply(batch); err != nil {
		t.Fatal(err)
	}
	return store
}

func (w *world) invite(callID string) {
	w.t.Helper()
	w.send("INVITE", callID, "<sip:+4930123456@"+bridgeIP+">")
}

func (w *world) send(method, callID, to string) {
	w.t.Helper()
	text := strings.ReplaceAll(fmt.Sprintf(`%[4]s sip:+4930123456@%[1]s SIP/2.0
Via: SIP/2.0/UDP %[2]s:5060;branch=z9hG4bK%[3]s;rport
Max-Forwards: 70
From: <sip:+4940555@%[2]s>;tag=%[3]s
To: %[5]s
Call-ID: %[3]s
CSeq: 1 %[4]s
Contact: <sip:carrier@%[2]s:5060>
Content-Length: 0

`, bridgeIP, carrierIP, callID, method, to), "\n", "\r\n")
	if _, err := w.carrier.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(bridgeIP+":5060")); err != nil {
		w.t.Fatal(err)
	}
}

// answer waits for the response to a call's INVITE with this status, and
// acknowledges a refusal: the bridge's end waits for that.
func (w *world) answer(callID string, code int) string {
	w.t.Helper()
	buf := make([]byte, 1<<16)
	_ = w.carrier.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		n, _, err := w.carrier.ReadFromUDPAddrPort(buf)
		if err != nil {
			w.t.Fatalf("no %d for %s: %v", code, callID, err)
		}
		text := string(buf[:n])
		if !strings.HasPrefix(text, fmt.Sprintf("SIP/2.0 %d ", code)) || !strings.Contains(text, callID) {
			continue
		}
		if code >= 300 {
			_, to, _ := strings.Cut(text, "\r\nTo: ")
			to, _, _ = strings.Cut(to, "\r\n")
			w.send("ACK", callID, to)
		}
		return text
	}
}

// get asks the API; the status and the body come back.
func (w *world) get(path string) (int, string) {
	w.t.Helper()
	transport := &http.Transport{DialContext: w.net.Host(carrierIP).DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", "http://"+w.app.HTTPAddress()+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := transport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// ended waits for Run.
func (w *world) ended() error {
	w.t.Helper()
	select {
	case <-w.done:
		return w.err
	case <-time.After(time.Minute):
		w.t.Fatal("Run has not returned")
		return nil
	}
}

func TestAddressesAndReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testConfig())
		got := w.app.SIPAddresses()
		if len(got) != 2 || got[0] != "udp://192.0.2.1:5060" || !strings.HasPrefix(got[1], "tcp://192.0.2.1:") || strings.HasSuffix(got[1], ":0") {
			t.Errorf("SIP addresses are %q", got)
		}
		if code, body := w.get("/readyz"); code != 200 {
			t.Errorf("/readyz gives %d %s", code, body)
		}
		if code, body := w.get("/metrics"); code != 200 || !strings.Contains(body, "reveille_devices") || !strings.Contains(body, "go_goroutines") {
			t.Errorf("/metrics gives %d without the metrics of location and runtime", code)
		}
		w.stop()
		if err := w.ended(); err != nil {
			t.Errorf("Run gives %v", err)
		}
	})
}

func TestDrainLetsALiveCallComeToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Calls.WakeTimeout = 3 * time.Second
		w := newWorld(t, cfg)
		w.invite("parked")
		w.answer("parked", 180)
		w.app.Drain()
		synctest.Wait()
		if code, body := w.get("/readyz"); code != 503 || !strings.Contains(body, "draining") {
			t.Errorf("/readyz while draining gives %d %s", code, body)
		}
		w.invite("late")
		if refusal := w.answer("late", 503); !strings.Contains(refusal, "Retry-After: 30") {
			t.Errorf("no Retry-After in\n%s", refusal)
		}
		w.answer("parked", 480) // by wake_timeout, not by us
		if err := w.ended(); err != nil {
			t.Errorf("Run gives %v", err)
		}
	})
}

func TestDrainTimeoutEndsTheCallsThatAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testConfig())
		w.invite("parked")
		w.answer("parked", 180)
		start := time.Now()
		w.app.Drain()
		w.app.Drain() // again does no harm
		w.answer("parked", 503)
		if took := time.Since(start); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("the call was ended after %v, drain_timeout is 5s", took)
		}
		if err := w.ended(); err != nil {
			t.Errorf("Run gives %v", err)
		}
	})
}

func TestEndOfContextHangsUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testConfig())
		w.invite("parked")
		w.answer("parked", 180)
		start := time.Now()
		w.stop()
		w.answer("parked", 503)
		if err := w.ended(); err != nil {
			t.Errorf("Run gives %v", err)
		}
		if took := time.Since(start); took > clearing {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestPushesGoToTheLogWithoutAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testConfig())
		w.invite("parked")
		w.answer("parked", 180)
		synctest.Wait()
		if got := w.pushes.String(); !strings.Contains(got, "+4940555") || strings.Contains(got, "token-of-d1") {
			t.Errorf("the push printed is %q", got)
		}
		if _, body := w.get("/api/v1/devices"); !strings.Contains(body, `"d1"`) || strings.Contains(body, "token-of-d1") {
			t.Errorf("devices are %s", body)
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testConfig())
		next := testConfig()
		next.Extensions = []bridge.Extension{{Name: "2002", Password: "other", Numbers: []string{"+4930123456"}}}
		next.DrainTimeout = time.Second
		next.Media.Tone, next.Trunks[0].MaxCalls = "us", 3
		waiting, err := w.app.Reload(next)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(waiting); got != "[trunks media]" {
			t.Errorf("what waits for a restart is %s", got)
		}
		if _, known := w.app.accounts.HA1("1001", "realm", "MD5"); known {
			t.Error("the extension that went can still log in")
		}
		if _, known := w.app.accounts.HA1("2002", "realm", "MD5"); !known {
			t.Error("the new extension cannot log in")
		}
		w.invite("call")
		w.answer("call", 480)
		if c := w.app.Bridge().Calls(); len(c) != 1 || c[0].Extension != "2002" {
			t.Errorf("the call went to %+v", c)
		}
		if got := w.app.Config(); got.DrainTimeout != time.Second || got.Media.Tone != "eu" {
			t.Errorf("in force are drain_timeout %v and tone %s", got.DrainTimeout, got.Media.Tone)
		}
	})
}

func TestReloadOfABadExtensionChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testConfig())
		next := testConfig()
		next.Extensions = []bridge.Extension{{Name: "2002", Password: "other", Numbers: []string{"/(/"}}}
		if _, err := w.app.Reload(next); err == nil {
			t.Fatal("a broken regular expression was taken")
		}
		if _, known := w.app.accounts.HA1("1001", "realm", "MD5"); !known {
			t.Error("the old extension is gone")
		}
	})
}

func TestTakenPortsAreNamedWithTheMend(t *testing.T) {
	for _, taken := range []string{"udp", "tcp"} {
		t.Run(taken, func(t *testing.T) {
			cfg := testConfig()
			cfg.HTTP.Listen = "127.0.0.1:0"
			cfg.SIP.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0"}
			where := occupy(t, taken)
			if taken == "udp" {
				cfg.SIP.Listen[0] = "udp://" + where
			} else {
				cfg.HTTP.Listen = where
			}
			a, err := New(cfg, Options{})
			if err != nil {
				t.Fatal(err)
			}
			err = a.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), where) || !strings.Contains(err.Error(), "choose another port") {
				t.Errorf("Run gives %v", err)
			}
		})
	}
}

func occupy(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestOpenAPIWithoutATokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.HTTP.Token = ""
		a, err := New(cfg, Options{Network: siptest.NewNetwork().Host(bridgeIP), RTPAddress: netip.MustParseAddr(bridgeIP)})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "http.token_file") {
			t.Errorf("Run gives %v", err)
		}
	})
}

func TestMediaTakesTheExternalAddressOfSIP(t *testing.T) {
	cfg := testConfig()
	cfg.SIP.ExternalAddress = "203.0.113.5"
	if got := mediaConfig(cfg).ExternalAddress; got != "203.0.113.5" {
		t.Errorf("media has %q", got)
	}
	cfg.Media.ExternalAddress = "203.0.113.6"
	if got := mediaConfig(cfg).ExternalAddress; got != "203.0.113.6" {
		t.Errorf("media has %q", got)
	}
	cfg.SIP.ExternalAddress, cfg.Media.ExternalAddress = "sip.example.com", ""
	if got := mediaConfig(cfg).ExternalAddress; got != "" {
		t.Errorf("media has %q", got)
	}
}
