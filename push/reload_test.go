package push

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"reveille/push/pushtest"
)

// flow pushes one call each interval until stop is called, which gives the
// outcomes.
func (w *world) flow(interval time.Duration) (stop func() []Outcome) {
	var mu sync.Mutex
	var outs []Outcome
	var tasks sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	tasks.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			tasks.Go(func() {
				out := w.send(testMessage(fmt.Sprint("flow-", i)))
				mu.Lock()
				defer mu.Unlock()
				outs = append(outs, out)
			})
		}
	})
	return func() []Outcome {
		cancel()
		tasks.Wait()
		return outs
	}
}

// put replaces a file at once, as careful administrators do.
func put(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func contentOf(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (w *world) stale() float64 { return testutil.ToFloat64(w.sender.metrics.faulty) }

// TestReloadOfAKeyUnderLoad: pushes go on while a key is rolled: none is lost
// or doubled, the old key's connections are closed when their pushes are over.
func TestReloadOfAKeyUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		for range 2000 {
			w.service.Answer(testToken, pushtest.Answer{Delay: 700 * time.Millisecond})
		}
		stop := w.flow(50 * time.Millisecond)
		time.Sleep(10*time.Second + 10*time.Millisecond)
		next := w.cfg
		next.APNs = []APNsConfig{w.cfg.APNs[0]}
		next.APNs[0].KeyFile, next.APNs[0].KeyID, _, _ = w.service.NewKey(t.TempDir())
		if err := w.sender.Reload(next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		if c := w.service.Counts(); c.Open != 4 { // the old two have pushes under way
			t.Errorf("%d connections while the old pushes end, want 4", c.Open)
		}
		time.Sleep(time.Second)
		if c := w.service.Counts(); c.Open != 2 {
			t.Errorf("%d connections once they have, want 2", c.Open)
		}
		time.Sleep(10 * time.Second)
		outs := stop()
		for _, out := range outs {
			if out.Verdict != Sent || out.Attempts != 1 {
				t.Errorf("outcome %+v", out)
			}
		}
		c := w.service.Counts()
		if len(outs) < 400 || c.Accepted != len(outs) || c.Bearers != 2 || c.Connections != 4 {
			t.Errorf("%d pushes, %+v", len(outs), c)
		}
	})
}

// TestReloadKeepsWhatHasNotChanged: connections, provider tokens, the memory of
// accepted pushes and of tokens to be left alone.
func TestReloadKeepsWhatHasNotChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.Answer("aa"+testToken, pushtest.Answer{Status: 429, Reason: "TooManyRequests", RetryAfter: "200"})
		throttled := func(t *Target) { t.PRID = "aa" + testToken }
		w.send(testMessage("u1"))
		w.send(testMessage("u2"), throttled)
		for range 100 {
			put(t, w.cfg.APNs[0].KeyFile, contentOf(t, w.cfg.APNs[0].KeyFile)) // written anew, the same
			if err := w.sender.Reload(w.cfg); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if out := w.send(testMessage("u1")); !out.Duplicate {
			t.Errorf("the accepted push is forgotten: %+v", out)
		}
		if out := w.send(testMessage("u3"), throttled); out.Status != 429 || out.Attempts != 0 {
			t.Errorf("the throttled token is forgotten: %+v", out)
		}
		if c := w.service.Counts(); c.Connections != 2 || c.Bearers != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestReloadMintsNoSecondToken: a key that leaves the configuration and comes
// back, or moves to another endpoint, signs no other token within 20 minutes.
func TestReloadMintsNoSecondToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.send(testMessage("u1"))
		one := w.cfg
		one.APNs = []APNsConfig{w.cfg.APNs[0]}
		one.APNs[0].Endpoint = w.service.URL()
		for i, cfg := range []Config{DefaultConfig(), w.cfg, one} {
			if err := w.sender.Reload(cfg); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if out := w.send(testMessage(fmt.Sprint("again", i))); out.Verdict != Sent {
				t.Errorf("outcome %+v", out)
			}
		}
		if c := w.service.Counts(); c.Bearers != 1 || c.Accepted != 3 {
			t.Errorf("%+v", c)
		}
		if err := w.sender.Reload(DefaultConfig()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(bearerLife)
		if err := w.sender.Reload(w.cfg); err != nil || len(w.sender.options.accounts.minters) != 1 {
			t.Errorf("%v, %d keys remembered", err, len(w.sender.options.accounts.minters))
		}
		if out := w.send(testMessage("u2")); out.Verdict != Sent || w.service.Counts().Bearers != 2 {
			t.Errorf("a day later: %+v", out)
		}
	})
}

// TestReloadFailsAsAWhole: a fault in one entry leaves all as it was.
func TestReloadFailsAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		next := w.cfg
		good, bad := w.cfg.APNs[0], w.cfg.APNs[0]
		good.Topic, bad.Topic, bad.KeyFile = "com.example.new", "com.example.bad", "/none.p8"
		good.KeyFile, good.KeyID, _, _ = w.service.NewKey(t.TempDir())
		next.APNs = []APNsConfig{good, bad}
		if err := w.sender.Reload(next); err == nil || !strings.Contains(err.Error(), "push.apns[1].key_file") {
			t.Errorf("Reload gives %v", err)
		}
		if w.sender.Supports("apns", "com.example.new.voip") || !w.sender.Supports("apns", testParam) {
			t.Error("the topics have changed")
		}
		if out := w.send(testMessage("u1")); out.Verdict != Sent {
			t.Errorf("outcome %+v", out)
		}
		synctest.Wait() // the second connection is made beside the push
		if c := w.service.Counts(); c.Connections != 2 || len(w.sender.options.accounts.inUse) != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestReloadAddsAndRemoves: topics and providers come and go.
func TestReloadAddsAndRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.AddToken(Production, "dd"+testToken, "com.example.other")
		second := func(t *Target) { t.PRID, t.Param = "dd"+testToken, "com.example.other.voip" }
		synctest.Wait() // both connections are there
		if out := w.send(testMessage("u1"), second); out.Reason != "UnknownTopic" {
			t.Errorf("before: %+v", out)
		}
		both := w.cfg
		both.APNs = append([]APNsConfig{}, w.cfg.APNs[0], w.cfg.APNs[0])
		both.APNs[1].Topic = "com.example.other"
		if err := w.sender.Reload(both); err != nil {
			t.Fatal(err)
		}
		out := w.send(testMessage("u2"), second)
		synctest.Wait() // both warm connections are there
		if out.Verdict != Sent || w.service.Counts().Connections != 2 {
			t.Errorf("added: %+v", out)
		}
		if err := w.sender.Reload(DefaultConfig()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p := w.sender.Providers(); len(p) != 1 || p[0] != logName || w.service.Counts().Open != 0 {
			t.Errorf("without APNs: providers %q, %d connections", p, w.service.Counts().Open)
		}
		w.sender.Close()
		if err := w.sender.Reload(w.cfg); err == nil || len(w.sender.options.accounts.inUse) != 0 {
			t.Errorf("a closed Sender reloads: %v", err)
		}
	})
}

// TestWatcherKeepsTheOldKeyWhileTheNewIsFaulty: one line when the file is
// spoilt, one when it is mended, whatever the time between, and a metric.
func TestWatcherKeepsTheOldKeyWhileTheNewIsFaulty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		file := w.cfg.APNs[0].KeyFile
		good := contentOf(t, file)
		time.Sleep(time.Minute)
		put(t, file, good[:len(good)/2])
		time.Sleep(time.Hour)
		if n := strings.Count(w.logs.String(), "level=ERROR"); n != 1 || !strings.Contains(w.logs.String(), "copy it whole") && !strings.Contains(w.logs.String(), "PEM") {
			t.Errorf("%d errors in\n%s", n, w.logs)
		}
		if out := w.send(testMessage("u1")); out.Verdict != Sent || w.stale() != 1 {
			t.Errorf("outcome %+v, metric %v", out, w.stale())
		}
		put(t, file, good)
		time.Sleep(2*lookEvery + time.Second)
		if n := strings.Count(w.logs.String(), "in order again"); n != 1 || w.stale() != 0 {
			t.Errorf("%d lines of mending, metric %v", n, w.stale())
		}
		os.Remove(file)
		time.Sleep(time.Minute)
		if out := w.send(testMessage("u2")); out.Verdict != Sent || w.stale() != 1 {
			t.Errorf("the file is gone: %+v, metric %v", out, w.stale())
		}
		put(t, file, good)
		time.Sleep(time.Minute)
		if w.stale() != 0 || strings.Contains(w.logs.String(), "PRIVATE KEY-----\n") {
			t.Errorf("metric %v", w.stale())
		}
	})
}

// TestWatcherFollowsLinks: a Kubernetes secret is a link to a link, and changes
// by the second one.
func TestWatcherFollowsLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		dir := t.TempDir()
		roll := func(generation, keyFile string) {
			gen := filepath.Join(dir, generation)
			if err := os.Mkdir(gen, 0o700); err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(gen, "key"), contentOf(t, keyFile))
			if err := os.Symlink(generation, filepath.Join(dir, "data.new")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "data.new"), filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		}
		w = newPipeWorld(t, func(c *APNsConfig) {
			roll("1", c.KeyFile)
			if err := os.Symlink(filepath.Join("..data", "key"), filepath.Join(dir, "key")); err != nil {
				t.Fatal(err)
			}
			c.KeyFile = filepath.Join(dir, "key")
		})
		defer w.close()
		before := w.sender.current()
		time.Sleep(time.Hour)
		if w.sender.current() != before {
			t.Error("reloaded without a change")
		}
		other, _, _ := w.service.NewKeyOf(t.TempDir(), "TESTTEAM01", "")
		roll("2", other)
		time.Sleep(2*lookEvery + time.Second)
		if w.sender.current() == before || strings.Count(w.logs.String(), "push credentials reloaded") != 1 {
			t.Errorf("not reloaded:\n%s", w.logs)
		}
	})
}

// TestReloadOfAWebhook: it is taken over with its connections while nothing of
// it changes, and made anew when its secret does.
func TestReloadOfAWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHookWorld(t, nil)
		defer w.close()
		before := w.sender.current().providers[0]
		if err := w.sender.Reload(w.sender.current().cfg); err != nil || w.sender.current().providers[0] != before {
			t.Errorf("an unchanged one is made anew, %v", err)
		}
		put(t, w.cfg.SecretFile, contentOf(t, w.cfg.SecretFile))
		time.Sleep(time.Minute)
		if w.sender.current().providers[0] != before {
			t.Error("one with the same content is made anew")
		}
		put(t, w.cfg.SecretFile, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.sender.current().providers[0] == before || len(w.sender.options.kept.list) != 1 {
			t.Errorf("the old secret is still in use:\n%s", w.logs)
		}
	})
}
