package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"reveille/bridge"
	"reveille/cmd/reveille/admin"
	"reveille/sip"
)

// lastAnswers is how long requests that are under way may take when we end.
const lastAnswers = time.Second

// serveHTTP listens on http.listen and serves the API there. stop ends it and
// waits for it.
func (a *App) serveHTTP(ctx context.Context) (stop func(), err error) {
	address := a.Config().HTTP.Listen
	if address == "" {
		return func() {}, nil
	}
	l, err := a.options.Network.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, explain(fmt.Errorf("http.listen: %w", err))
	}
	server, err := admin.NewServer(a.adminOptions(l.Addr()))
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	a.setHTTP(l.Addr())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("the HTTP listener failed; calls go on, the API does not", "err", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // the listener is closed, the rest is cut off
		}
		<-done
	}, nil
}

func (a *App) adminOptions(addr net.Addr) admin.Options {
	cfg := a.Config()
	return admin.Options{
		Log: a.log, Token: cfg.HTTP.Token, Loopback: loopback(addr), Gatherer: a.registry,
		Version: a.options.Version, Node: cfg.Node, Started: a.started, Push: a.sender.Providers,
		Calls: a.bridge, Devices: a.location, Provisioner: a.sip, Phase: a.phase, Listening: a.SIPAddresses, Banned: a.sip.BannedSources,
		Trunks:     a.trunks,
		Engines:    a.engines,
		Upstreams:  a.sip.Upstreams,
		Extensions: func() []bridge.Extension { return a.Config().Extensions },
	}
}

// engines are the rtpengine daemons as the API shows them.
func (a *App) engines() []admin.Engine {
	var out []admin.Engine
	for _, e := range a.relay.Engines() {
		out = append(out, admin.Engine{URL: e.URL, Up: e.Up, Drain: e.Drain, Calls: e.Calls, Since: e.Since, Cause: e.Cause})
	}
	return out
}

func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func (a *App) trunks() []sip.TrunkState {
	var out []sip.TrunkState
	for _, t := range a.sip.Trunks() {
		out = append(out, t.State())
	}
	return out
}

func (a *App) phase() admin.Phase {
	select {
	case <-a.drain:
		return admin.Draining
	default:
	}
	select {
	case <-a.ready:
		return admin.Running
	default:
		return admin.Starting
	}
}

func (a *App) setHTTP(addr net.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.http = addr
}
