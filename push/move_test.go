package push

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestConnectionsFollowTheDNS: when a host's name leads to another address, the
// connections have moved within an hour, though the old address still answers,
// and no push is lost on the way.
func TestConnectionsFollowTheDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, sandbox := pushtest.NewPipeListener("api.push.test:443"), pushtest.NewPipeListener("api.sandbox.push.test:443")
		var moved atomic.Pointer[pushtest.PipeListener]
		moved.Store(old)
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return moved.Load().Dial(ctx) }
		w := newWorld(t, pushtest.Options{Production: old, Sandbox: sandbox}, Options{Dial: dial}, nil)
		defer w.close()
		for range 10_000 {
			w.service.Answer(testToken, pushtest.Answer{Delay: 300 * time.Millisecond})
		}
		stop := w.flow(time.Second)
		time.Sleep(time.Minute)
		// The other listener is another of the service's hosts, which a push
		// tells by its Environment.
		moved.Store(sandbox)
		w.service.AddToken(Sandbox, testToken, testBundle)
		time.Sleep(connAge + connAgeMore + time.Second)
		drain(w.service.Pushes())
		time.Sleep(time.Minute)
		for _, push := range drain(w.service.Pushes()) {
			if push.Environment != Sandbox {
				t.Error("a push goes to the old address after an hour")
				break
			}
		}
		outs := stop()
		for _, out := range outs {
			if out.Verdict != Sent || out.Attempts != 1 {
				t.Fatalf("outcome %+v", out)
			}
		}
		if c := w.service.Counts(); c.Accepted != len(outs) || c.Open != 2 || c.Connections > 8 {
			t.Errorf("%d pushes, %+v", len(outs), c)
		}
	})
}

// TestAgedConnectionsStayWhileNoOtherCanBeMade: an outage of the DNS, say, does
// not cost the connections that work.
func TestAgedConnectionsStayWhileNoOtherCanBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		production, sandbox := pushtest.NewPipeListener("api.push.test:443"), pushtest.NewPipeListener("api.sandbox.push.test:443")
		any := pushtest.DialAny(production, sandbox)
		w := newWorld(t, pushtest.Options{Production: production, Sandbox: sandbox}, Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if down.Load() {
				return nil, &net.DNSError{Err: "server misbehaving", Name: addr}
			}
			return any(ctx, network, addr)
		}}, nil)
		defer w.close()
		w.send(testMessage("u1"))
		synctest.Wait() // both connections are there
		down.Store(true)
		time.Sleep(5 * time.Hour)
		if out := w.send(testMessage("u2")); out.Verdict != Sent || out.Took != 0 || w.service.Counts().Open != 2 {
			t.Errorf("outcome %+v, %+v", out, w.service.Counts())
		}
		down.Store(false)
		time.Sleep(time.Minute)
		if c := w.service.Counts(); c.Open != 2 || c.Connections != 4 {
			t.Errorf("afterwards %+v", c)
		}
	})
}

// drain takes what has been accepted so far.
func drain(pushes <-chan pushtest.Push) (all []pushtest.Push) {
	for {
		synctest.Wait()
		select {
		case p := <-pushes:
			all = append(all, p)
		default:
			return all
		}
	}
}
