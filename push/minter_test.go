package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"testing/synctest"
	"time"
)

// setClock is what a minter sees when the machine's clock is set by d.
func (m *minter) setClock(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current.issued = m.current.issued.Add(-d)
	m.previous.issued = m.previous.issued.Add(-d)
}

func (w *world) minter() *minter {
	return w.sender.current().providers[0].(*apns).apps[testBundle][0].sides[Production].account.minter
}

// TestClockIsSet: a token that the service has taken lives on when the clock is
// set, and is renewed after 20 minutes at the earliest; one that was not taken
// is made anew at once, since its time may have been the fault.
func TestClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{-24 * time.Hour, -time.Hour, -time.Minute, 45 * time.Minute, 24 * time.Hour} {
		for _, taken := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				m, err := newMinter(key, "KEY", "TEAM")
				if err != nil {
					t.Fatal(err)
				}
				first, _ := m.bearer()
				if taken {
					m.accepted(first)
				}
				time.Sleep(5 * time.Minute)
				m.setClock(by)
				if got, _ := m.bearer(); (got == first) != (taken || by == -time.Minute) {
					t.Errorf("by %v, taken %v: renewed at once: %v", by, taken, got != first)
				}
				if !taken {
					return
				}
				time.Sleep(mintAtMost - 5*time.Minute - time.Second)
				if got, _ := m.bearer(); got != first {
					t.Errorf("by %v: renewed before 20 minutes", by)
				}
				time.Sleep(mintEvery - mintAtMost + time.Second)
				if got, _ := m.bearer(); got == first {
					t.Errorf("by %v: not renewed at 40 minutes", by)
				}
			})
		}
	}
}

// TestClockSwings: however often the clock is set to and fro while pushes flow,
// the service sees no more than one new token each 20 minutes.
func TestClockSwings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		for i := range 120 {
			if out := w.send(testMessage(time.Duration(i).String())); out.Verdict != Sent {
				t.Fatalf("minute %d: %+v", i, out)
			}
			w.minter().setClock([]time.Duration{2 * time.Hour, -4 * time.Hour, 2 * time.Hour}[i%3])
			time.Sleep(time.Minute)
		}
		if c := w.service.Counts(); c.Bearers > 120/20+1 || c.Answers["TooManyProviderTokenUpdates"] > 0 {
			t.Errorf("%+v", c)
		}
	})
}

// TestMachineSlept: the monotonic clock stood still meanwhile, so that Apple
// calls the token expired; it is made anew and the push arrives.
func TestMachineSlept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, nil)
		defer w.close()
		w.send(testMessage("u1"))
		time.Sleep(8*time.Hour + time.Minute)
		m := w.minter()
		m.mu.Lock()
		m.current.made = m.current.made.Add(8 * time.Hour)
		m.mu.Unlock()
		if out := w.send(testMessage("u2")); out.Verdict != Sent || out.Attempts != 2 || w.service.Counts().Bearers != 2 {
			t.Errorf("outcome %+v, %+v", out, w.service.Counts())
		}
	})
}
