package push

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestMoreConnectionsWhileStreamsAreUsedUp: 1000 calls a second, by a service
// that takes its time and gives a connection 100 streams, need more than two
// connections; an hour later those are gone again.
func TestMoreConnectionsWhileStreamsAreUsedUp(t *testing.T) {
	const second, seconds = 1000, 4
	synctest.Test(t, func(t *testing.T) {
		w := newFCMPipeWorld(t, func(o *pushtest.FCMOptions, _ *FCMConfig) { o.MaxStreams = 100 })
		defer w.close()
		synctest.Wait()
		for range 2 * second * seconds {
			w.service.Answer(testRegistration, pushtest.Answer{Delay: 400 * time.Millisecond})
		}
		var tasks sync.WaitGroup
		for i := range second * seconds {
			tasks.Go(func() {
				out := w.send(testMessage(fmt.Sprint("u", i)))
				if out.Verdict != Sent || out.Took > time.Second || i > second && out.Took > 500*time.Millisecond {
					t.Errorf("call %d: %+v", i, out)
				}
			})
			time.Sleep(time.Second / second)
		}
		tasks.Wait()
		if c := w.service.Counts(); c.Accepted != second*seconds || c.Connections > mostConns {
			t.Errorf("%+v", c)
		}
		time.Sleep(connAge + connAgeMore + time.Minute)
		if c := w.service.Counts(); c.Open != warmConns {
			t.Errorf("an hour later %d connections", c.Open)
		}
	})
}
