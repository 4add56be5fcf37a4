package push

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

func (w *world) probe() []ProbeResult {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	found := w.sender.Probe(ctx)
	for _, r := range found {
		if r.Err != nil {
			w.noSecrets(Outcome{Err: r.Err})
		}
		if r.Err != nil && (strings.Contains(r.Err.Error(), noToken) || strings.Contains(r.Err.Error(), "\n")) {
			w.t.Errorf("%v", r.Err)
		}
	}
	return found
}

// TestProbeOfGoodCredentials: both environments are tried, nothing is pushed,
// and the clocks are compared.
func TestProbeOfGoodCredentials(t *testing.T) {
	w := newSocketWorld(t)
	w.service.SetClock(2 * time.Minute)
	found := w.probe()
	if len(found) != 2 {
		t.Fatalf("%+v", found)
	}
	for i, env := range []string{Production, Sandbox} {
		r := found[i]
		if r.Err != nil || r.Environment != env || r.App != testBundle || !strings.Contains(r.Proved, "takes key "+w.cfg.APNs[0].KeyID) {
			t.Errorf("%s: %+v", env, r)
		}
		if !r.Dated || r.Skew < -121*time.Second || r.Skew > -119*time.Second {
			t.Errorf("%s: skew %v", env, r.Skew)
		}
	}
	if c := w.service.Counts(); c.Accepted != 0 || c.Requests != 2 {
		t.Errorf("%+v", c)
	}
}

// TestProbeSaysWhatAppleMeans: the fault is named with its next step, whatever
// Apple's word for it is.
func TestProbeSaysWhatAppleMeans(t *testing.T) {
	for name, tt := range map[string]struct {
		fault    func(w *world)
		doubtful bool
		want     []string
	}{
		"revoked":           {func(w *world) { w.service.Revoke(w.cfg.APNs[0].KeyID) }, false, []string{"403 InvalidProviderToken", "not revoked"}},
		"clock behind":      {func(w *world) { w.service.SetClock(90 * time.Minute) }, false, []string{"403 ExpiredProviderToken", "this machine's clock is 1h", "behind that of APNs: set it"}},
		"clock ahead":       {func(w *world) { w.service.SetClock(-90 * time.Minute) }, false, []string{"403 InvalidProviderToken", "this machine's clock is 1h30m", "ahead of that of APNs"}},
		"other environment": {answering(pushtest.Reject(403, "BadEnvironmentKeyInToken")), false, []string{"one environment only", "push.apns.environment"}},
		"topic":             {answering(pushtest.Reject(400, "TopicDisallowed")), false, []string{"TopicDisallowed", "push.apns.topic"}},
		"busy":              {answering(pushtest.Reject(503, "ServiceUnavailable")), true, []string{"503", "try again"}},
		"no APNs":           {answering(pushtest.Answer{Status: 404, Body: "<html>"}), false, []string{"404", "push.apns.endpoint"}},
		"cut off":           {answering(pushtest.Answer{Do: pushtest.CutOff}), false, []string{"gives no answer"}},
		"gone":              {answering(pushtest.Reject(410, "Unregistered")), false, nil},
		"takes anything":    {answering(pushtest.Answer{Status: 200}), false, nil},
	} {
		w := newSocketWorld(t)
		tt.fault(w)
		r := w.probe()[0]
		if tt.want == nil {
			if r.Err != nil {
				t.Errorf("%s: %v", name, r.Err)
			}
			continue
		}
		for _, want := range tt.want {
			if r.Err == nil || !strings.Contains(r.Err.Error(), want) || r.Doubtful != tt.doubtful {
				t.Errorf("%s: %v (doubtful: %v), want %q", name, r.Err, r.Doubtful, want)
			}
		}
	}
}

func answering(a pushtest.Answer) func(*world) {
	return func(w *world) { w.service.Answer(noToken, a, a, a, a) }
}

// TestProbeTellsTheStepsApart: name, connection, certificate and answer each
// have their own words.
func TestProbeTellsTheStepsApart(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*world, *APNsConfig)
		want   string
	}{
		"no such host": {func(_ *world, c *APNsConfig) { c.Endpoint = "https://push.invalid" }, "DNS: "},
		"port closed":  {func(_ *world, c *APNsConfig) { c.Endpoint = "https://" + closedPort }, "refuses connections"},
		"unknown CA":   {func(_ *world, c *APNsConfig) { c.RootCA = "" }, `is signed by "pushtest CA", which this machine does not trust`},
		"other name": {func(w *world, c *APNsConfig) {
			c.Endpoint = strings.Replace(w.service.URL(), "127.0.0.1", "127.0.0.2", 1)
		}, "is not for the name 127.0.0.2"},
	} {
		w := newSocketWorld(t)
		if name == "other name" && strings.Contains(w.service.URL(), "127.0.0.1") {
			relay(t, strings.Replace(strings.TrimPrefix(w.service.URL(), "https://"), "127.0.0.1", "127.0.0.2", 1), strings.TrimPrefix(w.service.URL(), "https://"))
		}
		tt.change(w, &w.cfg.APNs[0])
		w.sender.Close()
		var err error
		if w.sender, err = NewSender(w.cfg, Options{}); err != nil {
			t.Fatal(err)
		}
		if r := w.probe()[0]; r.Err == nil || !strings.Contains(r.Err.Error(), tt.want) {
			t.Errorf("%s: %v", name, r.Err)
		}
		w.sender.Close()
	}
}

// relay passes connections to an address on to another.
func relay(t *testing.T, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			go copyBoth(c, d)
		}
	}()
}

func copyBoth(a, b net.Conn) {
	go func() {
		_, _ = a.(*net.TCPConn).ReadFrom(b)
		a.Close()
	}()
	_, _ = b.(*net.TCPConn).ReadFrom(a)
	b.Close()
}

// TestProbeEnds: a service that hangs before or after the handshake is told
// apart, and costs its own time only.
func TestProbeEnds(t *testing.T) {
	never := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	mute := func(context.Context, string, string) (net.Conn, error) {
		c, _ := net.Pipe()
		return c, nil
	}
	for want, fault := range map[string]any{
		"does not take the connection within 3s": DialFunc(never),
		"no TLS handshake within 3s":             DialFunc(mute),
		"and gives no answer within 5s: it":      answering(pushtest.Answer{Do: pushtest.Stall}),
		"and gives no answer within 5s":          func(w *world) { w.service.Deafen(true) },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newPipeWorld(t, nil)
			defer w.close()
			switch fault := fault.(type) {
			case func(*world):
				fault(w)
			case DialFunc:
				w.sender.Close()
				var err error
				if w.sender, err = NewSender(w.cfg, Options{Dial: fault}); err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			for _, r := range w.probe() {
				if r.Err == nil || !strings.Contains(r.Err.Error(), want) {
					t.Errorf("%v, want %q", r.Err, want)
				}
			}
			if took := time.Since(start); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestProbeKnowsKeysByTheirFiles: a key_id that is not the one in the file's
// name is the likeliest mistake.
func TestProbeKnowsKeysByTheirFiles(t *testing.T) {
	w := newSocketWorld(t)
	good := w.cfg.APNs[0].KeyID
	w.cfg.APNs[0].KeyID = "WRONGKEYID"
	w.sender.Close()
	var err error
	if w.sender, err = NewSender(w.cfg, Options{}); err != nil {
		t.Fatal(err)
	}
	defer w.sender.Close()
	if r := w.probe()[0]; r.Err == nil || !strings.Contains(r.Err.Error(), "set key_id to "+good) {
		t.Errorf("%v", r.Err)
	}
	named := filepath.Join(t.TempDir(), "push.p8")
	if err := os.Rename(w.cfg.APNs[0].KeyFile, named); err != nil {
		t.Fatal(err)
	}
	w.cfg.APNs[0].KeyFile = named
	w.sender.Close()
	if w.sender, err = NewSender(w.cfg, Options{}); err != nil {
		t.Fatal(err)
	}
	if r := w.probe()[0]; r.Err == nil || !strings.Contains(r.Err.Error(), "compare push.apns.key_id") {
		t.Errorf("%v", r.Err)
	}
}
