package push

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// reloaded puts other apps in force.
func (w *world) reloaded(apps ...APNsConfig) {
	w.t.Helper()
	cfg := w.cfg
	cfg.APNs = apps
	if err := w.sender.Reload(cfg); err != nil {
		w.t.Fatal(err)
	}
}

// appOf is an app like the world's first, with a key of its own.
func (w *world) appOf(topic, team, environment, only string) APNsConfig {
	w.t.Helper()
	cfg := w.cfg.APNs[0]
	file, id, err := w.service.NewKeyOf(w.t.TempDir(), team, only)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.Topic, cfg.TeamID, cfg.KeyFile, cfg.KeyID, cfg.Environment = topic, team, file, id, environment
	return cfg
}

// TestTeamsAndKeysSideBySide: two teams, two keys of one team, and a key with
// two topics: connections and provider tokens are shared by the key alone.
func TestTeamsAndKeysSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		a := w.appOf("com.example.a", "TEAMONE001", "", "")
		b := w.appOf("com.example.b", "TEAMONE001", "", "")
		c := w.appOf("com.example.c", "TEAMTWO002", "", "")
		a2 := a
		a2.Topic = "com.example.a2"
		w.reloaded(a, a2, b, c)
		synctest.Wait()
		if n := w.service.Counts().Open; n != 6 { // three keys, two connections each
			t.Errorf("%d connections", n)
		}
		conns := map[int]string{}
		for i, cfg := range []APNsConfig{a, a2, b, c} {
			token := fmt.Sprintf("%02x%s", i, testToken)
			w.service.AddToken(Production, token, cfg.Topic)
			out := w.send(testMessage(cfg.Topic), func(t *Target) { t.PRID, t.Param = token, cfg.TeamID+"."+cfg.Topic+".voip" })
			if out.Verdict != Sent {
				t.Fatalf("%s: %+v", cfg.Topic, out)
			}
			push := <-w.service.Pushes()
			if key := conns[push.Conn]; key != "" && key != cfg.KeyID {
				t.Errorf("%s goes by the connection of key %s", cfg.Topic, key)
			}
			conns[push.Conn] = cfg.KeyID
		}
		if n := w.service.Counts().Bearers; n != 3 {
			t.Errorf("%d provider tokens", n)
		}
	})
}

// TestOneBundleInTwoTeams: the pn-param's team picks the app; without one it is
// the first in the configuration.
func TestOneBundleInTwoTeams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		one, two := w.appOf(testBundle, "TEAMONE001", "", ""), w.appOf(testBundle, "TEAMTWO002", "", "")
		w.reloaded(one, two)
		a := w.sender.current().providers[0].(*apns)
		for param, key := range map[string]string{
			"TEAMONE001." + testBundle + ".voip":   one.KeyID,
			"TEAMTWO002." + testBundle + ".voip":   two.KeyID,
			"TEAMTWO002." + testBundle + ".remote": two.KeyID,
			testBundle + ".voip":                   one.KeyID,
			testBundle:                             one.KeyID,
			"TEAMTRE003." + testBundle:             "",
			"":                                     "",
		} {
			got := ""
			if app, _ := a.find(param); app != nil {
				got = app.sides[Production].cfg.KeyID
			}
			if got != key {
				t.Errorf("%q: key %q, want %q", param, got, key)
			}
		}
	})
}

// TestKeyForEachEnvironment: two entries of one topic are one app; a token
// flips from one key to the other, on connections of its own.
func TestKeyForEachEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.service.AddToken(Sandbox, "aa"+testToken, testBundle)
		w.reloaded(w.appOf(testBundle, "TESTTEAM01", Production, Production), w.appOf(testBundle, "TESTTEAM01", Sandbox, Sandbox))
		out := w.send(testMessage("u1"), func(t *Target) { t.PRID = "aa" + testToken })
		if out.Verdict != Sent || out.Environment != Sandbox || out.Attempts != 2 {
			t.Errorf("outcome %+v", out)
		}
		if out := w.send(testMessage("u2")); out.Verdict != Sent || out.Environment != Production || out.Attempts != 1 {
			t.Errorf("outcome %+v", out)
		}
		if c := w.service.Counts(); len(c.Answers) != 1 || c.Answers["BadDeviceToken"] != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestKeyForOneEnvironmentOnly: with `auto` and such a key the first token that
// is bad there alarms; from then on tokens are no longer tried in the other.
func TestKeyForOneEnvironmentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.reloaded(w.appOf(testBundle, "TESTTEAM01", "", Production))
		out := w.send(testMessage("u1"), func(t *Target) { t.PRID = "aa" + testToken })
		if out.Verdict != Refused || !out.Alarm || out.Reason != "BadEnvironmentKeyIdInToken" || out.Environment != "" || out.Attempts != 2 {
			t.Errorf("the first: %+v", out)
		}
		out = w.send(testMessage("u2"), func(t *Target) { t.PRID = "aa" + testToken })
		if out.Verdict != Gone || out.Attempts != 1 {
			t.Errorf("the second: %+v", out)
		}
		if out := w.send(testMessage("u3")); out.Verdict != Sent {
			t.Errorf("a good token: %+v", out)
		}
	})
}

// TestBadTokensAreNotSprayed: of many tokens that are bad in both environments
// a bounded number is tried in both; the rest stay with their devices.
func TestBadTokensAreNotSprayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		verdicts := map[Verdict]int{}
		for i := range 500 {
			out := w.send(testMessage(fmt.Sprint("u", i)), func(t *Target) { t.PRID = fmt.Sprintf("%08x%s", i, testToken) })
			verdicts[out.Verdict]++
			time.Sleep(20 * time.Millisecond)
		}
		c := w.service.Counts()
		if most := flipBurst + 10; c.ByEnvironment[Sandbox] > most || c.ByEnvironment[Production] != 500 || verdicts[Gone] != c.ByEnvironment[Sandbox] ||
			verdicts[Gone]+verdicts[Failed] != 500 {
			t.Errorf("%v, %+v", verdicts, c)
		}
		time.Sleep(flipBurst * flipEvery)
		w.service.AddToken(Sandbox, "aa"+testToken, testBundle)
		if out := w.send(testMessage("after"), func(t *Target) { t.PRID = "aa" + testToken }); out.Verdict != Sent {
			t.Errorf("afterwards: %+v", out)
		}
	})
}

// TestAlertPushes: which push a device gets by its tokens and the app's
// push_type.
func TestAlertPushes(t *testing.T) {
	remote := strings.Repeat("ee", 32)
	both := testToken + ":voip&" + remote + ":remote"
	for name, tt := range map[string]struct {
		pushType, param, prid, token string
		verdict                      Verdict
	}{
		"a VoIP token":                         {"", testParam, testToken, testToken, Sent},
		"both tokens":                          {"", testParam, both, testToken, Sent},
		"a token for alerts":                   {"", "TESTTEAM01." + testBundle + ".remote", remote + ":remote", remote, Sent},
		"a bare token for alerts, by pn-param": {"", "TESTTEAM01." + testBundle + ".remote", remote, remote, Sent},
		"push_type alert, both tokens":         {"alert", testParam, both, remote, Sent},
		"push_type alert, a VoIP token":        {"alert", testParam, testToken, testToken, Sent},
		"push_type alert, a token for alerts":  {"alert", testBundle, remote + ":remote", remote, Sent},
		"a VoIP token that says remote":        {"", testParam, testToken + ":remote", "", Refused},
		"a token for alerts that says voip":    {"", testParam, remote + ":voip", "", Refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPipeWorld(t, func(c *APNsConfig) { c.PushType = tt.pushType })
				defer w.close()
				w.service.AddAlertToken(Production, remote, testBundle)
				m := testMessage("u1")
				m.Headers["X-Long"] = strings.Repeat("x", 250)
				out := w.send(m, func(t *Target) { t.Param, t.PRID = tt.param, tt.prid })
				if out.Verdict != tt.verdict || (tt.verdict == Refused && out.Reason != "DeviceTokenNotForTopic") {
					t.Fatalf("outcome %+v", out)
				}
				if tt.verdict != Sent {
					return
				}
				got := <-w.service.Pushes()
				topic, kind := testBundle+".voip", "voip"
				if tt.token == remote {
					topic, kind = testBundle, "alert"
				}
				if got.Token != tt.token || got.Topic != topic || got.Header.Get("apns-push-type") != kind || got.Header.Get("apns-priority") != "10" || got.Payload["uuid"] != "u1" {
					t.Errorf("push %+v", got)
				}
			})
		})
	}
}
