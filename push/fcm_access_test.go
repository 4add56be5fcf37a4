package push

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestFCMNoCallWaitsForOAuth: the access token is there before the first call
// and is replaced ahead of its end, though fetching one takes a second.
func TestFCMNoCallWaitsForOAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil, slices.Repeat([]pushtest.Answer{{Delay: time.Second}}, 100)...)
		defer w.close()
		time.Sleep(2 * time.Second)
		for i := range 24 * 60 {
			if out := w.send(testMessage(fmt.Sprint(i))); out.Verdict != Sent || out.Took != 0 || out.Attempts != 1 {
				t.Fatalf("after %d minutes: %+v", i, out)
			}
			time.Sleep(time.Minute)
		}
		if c := w.service.Counts(); c.Bearers < 31 || c.Bearers > 33 {
			t.Errorf("%d access tokens in a day, want one each 45 minutes", c.Bearers)
		}
	})
}

// TestFCMCallsShareAFetch: calls that come before the first access token wait
// for the one fetch, and no longer than they have time.
func TestFCMCallsShareAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, func(o *pushtest.FCMOptions, _ *FCMConfig) { o.AnyToken = true }, pushtest.Answer{Delay: 2 * time.Second})
		defer w.close()
		var calls sync.WaitGroup
		for i := range 100 {
			calls.Go(func() {
				if out := w.send(testMessage(fmt.Sprint(i))); out.Verdict != Sent || out.Took != 2*time.Second {
					t.Errorf("outcome %+v", out)
				}
			})
		}
		calls.Wait()
		if c := w.service.Counts(); c.ByEnvironment[pushtest.TokenHost] != 1 || c.Accepted != 100 {
			t.Errorf("%+v", c)
		}
	})
}

// TestFCMTokenEndpointFails: a call fails in its time, the endpoint is not
// hammered, and all is well as soon as it is.
func TestFCMTokenEndpointFails(t *testing.T) {
	for name, answer := range map[string]pushtest.Answer{
		"down":               {Status: 503, Body: "<html>"},
		"internal":           {Status: 500, Reason: "internal_failure"},
		"too many":           {Status: 429, Reason: "rate_limit_exceeded"},
		"no JSON":            {Status: 200, Body: "<html>Log in to the hotel's network"},
		"no token":           {Status: 200, Body: `{"token_type":"Bearer"}`},
		"token with newline": {Status: 200, Body: `{"access_token":"ya29.a\nb","expires_in":3599}`},
		"not a bearer":       {Status: 200, Body: `{"access_token":"ya29.a","token_type":"mac","expires_in":3599}`},
		"redirect":           {Status: 302},
		"cut off":            {Do: pushtest.CutOff},
		"half an answer":     {Do: pushtest.HalfAnswer},
		"stalled":            {Do: pushtest.Stall},
		"too large":          {Status: 400, Body: strings.Repeat("x", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFCMPipeWorld(t, nil, slices.Repeat([]pushtest.Answer{answer}, 1000)...)
				defer w.close()
				outs := []Outcome{}
				for i := range 60 { // a minute of calls
					out := w.send(testMessage(fmt.Sprint(i)))
					if out.Verdict != Failed || out.Alarm || (out.Reason != "AccessToken" && out.Reason != "Deadline") || out.Took > 5*time.Second || out.Attempts != 0 || out.Uncertain {
						t.Fatalf("outcome %+v", out)
					}
					outs = append(outs, out)
					time.Sleep(time.Second)
				}
				asked := w.service.Counts().ByEnvironment[pushtest.TokenHost]
				if asked > 61 { // one a second at most, with a call each second
					t.Errorf("the token endpoint was asked %d times in a minute", asked)
				}
				time.Sleep(time.Hour)
				if more := w.service.Counts().ByEnvironment[pushtest.TokenHost] - asked; more > 65 {
					t.Errorf("and %d times in an hour without calls", more)
				}
				w.noSecrets(outs...)
				if got := strings.Count(w.logs.String(), "no access token for FCM"); got == 0 || got > 60 {
					t.Errorf("%d lines in the log", got)
				}
			})
		})
	}
}

// TestFCMFailedFetchIsNotRepeatedAtOnce: nor for the calls that came while it
// was under way.
func TestFCMFailedFetchIsNotRepeatedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil, slices.Repeat([]pushtest.Answer{{Status: 503, Delay: time.Second / 2}}, 9)...)
		defer w.close()
		for i := range 50 {
			go w.send(testMessage(fmt.Sprint(i)))
		}
		time.Sleep(time.Second/2 + fetchAtMost - time.Millisecond)
		if n := w.service.Counts().ByEnvironment[pushtest.TokenHost]; n != 1 {
			t.Errorf("the token endpoint was asked %d times", n)
		}
		time.Sleep(10 * time.Second)
	})
}

// TestFCMTokenEndpointComesBack: calls go on with the token in hand while the
// endpoint is down, and without one again within a second of its return.
func TestFCMTokenEndpointComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		defer w.close()
		synctest.Wait()
		for range 10_000 {
			w.service.AnswerToken(pushtest.Answer{Status: 503})
		}
		time.Sleep(58 * time.Minute)
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Took != 0 {
			t.Errorf("with the token in hand: %+v", out)
		}
		time.Sleep(2 * time.Minute)
		if out := w.send(testMessage("u2")); out.Verdict != Failed || out.Reason != "AccessToken" {
			t.Errorf("with none: %+v", out)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil, slices.Repeat([]pushtest.Answer{{Status: 503}}, 12)...)
		defer w.close()
		time.Sleep(20 * time.Minute) // more than enough for twelve
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Took != 0 {
			t.Errorf("afterwards: %+v", out)
		}
		if !strings.Contains(w.logs.String(), "there is an access token for FCM again") {
			t.Error("the log does not say that all is well again")
		}
	})
}

// TestFCMRefusedGrants: what the token endpoint refuses for good is an alarm
// that says how to mend it.
func TestFCMRefusedGrants(t *testing.T) {
	for name, tt := range map[string]struct {
		answer pushtest.Answer
		want   string
	}{
		"key deleted":     {pushtest.Answer{Status: 400, Reason: "invalid_grant", Message: "Invalid JWT Signature."}, "key was deleted"},
		"account deleted": {pushtest.Answer{Status: 400, Reason: "invalid_grant", Message: "Invalid grant: account not found"}, "account was deleted"},
		"clock": {pushtest.Answer{Status: 400, Reason: "invalid_grant", Message: "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."},
			"set this machine's clock"},
		"something else": {pushtest.Answer{Status: 403, Reason: "access_denied"}, "service_account_file"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFCMPipeWorld(t, nil, tt.answer, tt.answer, tt.answer)
				defer w.close()
				out := w.send(testMessage("u1"))
				if out.Verdict != Refused || !out.Alarm || out.Reason != tt.answer.Reason || !strings.Contains(out.Err.Error(), tt.want) || out.Attempts != 0 {
					t.Errorf("outcome %+v, want %q", out, tt.want)
				}
				if !strings.Contains(w.logs.String(), "level=ERROR") {
					t.Error("no alarm in the log")
				}
				w.noSecrets(out)
			})
		})
	}
}

// TestFCMAccountIsReplaced: a new key in the file's place is taken up without a
// restart, and a broken one is not.
func TestFCMAccountIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		defer w.close()
		synctest.Wait()
		file := w.cfg.FCM[0].ServiceAccountFile
		replace := func(text []byte) {
			t.Helper()
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			// The bubble's clock differs from the disk's: a change in the same
			// moment must be seen all the same.
			at := time.Now().Add(time.Duration(len(text)) * time.Second)
			if err := os.Chtimes(file, at, at); err != nil {
				t.Fatal(err)
			}
		}
		replace([]byte("{"))
		time.Sleep(time.Hour) // fetched again meanwhile, with the key as it was
		if out := w.send(testMessage("u1")); out.Verdict != Sent || out.Took != 0 {
			t.Errorf("with a broken file: %+v", out)
		}
		if !strings.Contains(w.logs.String(), "level=ERROR") {
			t.Error("no alarm for a broken file")
		}
		w.service.DeleteKeys(testProject)
		w.service.RevokeAccess()
		if out := w.send(testMessage("u2")); out.Verdict != Refused || !strings.Contains(out.Err.Error(), "deleted") {
			t.Errorf("with a deleted key: %+v", out)
		}
		text, err := os.ReadFile(w.project(testProject).ServiceAccountFile)
		if err != nil {
			t.Fatal(err)
		}
		replace(text)
		time.Sleep(2*lookEvery + time.Second)
		if out := w.send(testMessage("u3")); out.Verdict != Sent || out.Took != 0 || out.Attempts != 1 {
			t.Errorf("with the new key: %+v", out)
		}
		w.noSecrets()
	})
}

// TestFCMReloadKeepsWhatIsShared: connections, access tokens and the devices
// that are to be left alone are the same after a reload.
func TestFCMReloadKeepsWhatIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, func(o *pushtest.FCMOptions, _ *FCMConfig) { o.AnyToken = true })
		defer w.close()
		w.service.Answer(testRegistration, pushtest.Reject(429, "QUOTA_EXCEEDED"))
		w.send(testMessage("u1"))
		cfg := w.cfg
		cfg.FCM = []FCMConfig{w.cfg.FCM[0]}
		cfg.FCM[0].TTL = 5 * time.Second
		if err := w.sender.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		if out := w.send(testMessage("u2")); out.Attempts != 0 || out.Status != 429 {
			t.Errorf("the device that is left alone: %+v", out)
		}
		time.Sleep(2 * drainMost)
		out := w.send(testMessage("u3"), func(t *Target) { t.PRID = "another-" + testRegistration })
		got := <-w.service.Pushes()
		if c := w.service.Counts(); out.Verdict != Sent || c.Bearers != 1 || c.Connections != 2 || got.Expiration.Sub(got.At) != 5*time.Second {
			t.Errorf("%+v, %d access tokens, %d connections, %+v", out, c.Bearers, c.Connections, got)
		}
		for _, next := range []Config{DefaultConfig(), w.cfg} { // taken out, and back
			if err := w.sender.Reload(next); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * drainMost)
		}
		if out := w.send(testMessage("u4")); out.Verdict != Sent || w.service.Counts().Bearers != 2 {
			t.Errorf("taken out and back: %+v", out)
		}
	})
}

// TestFCMAccessIsRenewed: an access token that is refused is replaced within
// the call, and not for each call.
func TestFCMAccessIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, nil)
		defer w.close()
		w.send(testMessage("u1"))
		w.service.RevokeAccess()
		var calls sync.WaitGroup
		for i := range 50 {
			calls.Go(func() {
				if out := w.send(testMessage(fmt.Sprint(i))); out.Verdict != Sent || out.Attempts > 2 || out.Took != 0 {
					t.Errorf("outcome %+v", out)
				}
			})
		}
		calls.Wait()
		if c := w.service.Counts(); c.Bearers != 2 {
			t.Errorf("%d access tokens, want 2", c.Bearers)
		}
		w.service.RevokeAccess()
		if out := w.send(testMessage("again")); out.Verdict != Refused || !out.Alarm || out.Status != 401 || w.service.Counts().Bearers != 2 {
			t.Errorf("at once again: %+v", out)
		}
		time.Sleep(renewAtMost)
		if out := w.send(testMessage("later")); out.Verdict != Sent || out.Attempts != 2 {
			t.Errorf("later: %+v", out)
		}
	})
}

func TestFCMUntrustedCertificate(t *testing.T) {
	w := newFCMSocketWorld(t)
	w.cfg.FCM[0].RootCA = ""
	s := w.newSender(nil)
	out := s.Send(t.Context(), "d", Target{Provider: "fcm", PRID: testRegistration}, testMessage("u1"))
	if !out.Alarm || out.Reason != "Certificate" || !strings.Contains(out.Err.Error(), "push.fcm.root_ca") {
		t.Errorf("outcome %+v", out)
	}
}
