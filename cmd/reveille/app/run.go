package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// clearing is how long ended calls may take to say BYE and CANCEL before the
// sockets close: a CANCEL needs one round trip, and its 487 another.
const clearing = 2 * time.Second

// retryAfter is what a refused caller is told to wait while we drain; a
// restart takes seconds.
const retryAfter = 30 * time.Second

// Run opens the sockets and serves until Drain has come to its end or ctx
// ends, which hangs up at once. It returns after all it has started. The error
// says which socket could not be opened, or what failed; a drain is none.
func (a *App) Run(ctx context.Context) error {
	defer a.close()
	stopHTTP, err := a.serveHTTP(ctx)
	if err != nil {
		return err
	}
	defer stopHTTP()

	bridgeCtx, stopBridge := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBridge()
	bridged := make(chan struct{})
	go func() {
		defer close(bridged)
		a.bridge.Run(bridgeCtx)
	}()
	sipCtx, stopSIP := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSIP()
	served := make(chan error, 1)
	go func() { served <- a.sip.Serve(sipCtx, a.bridge) }()

	err = a.live(ctx, served)
	stopBridge()
	<-bridged
	if err != nil { // SIP has ended already
		return err
	}
	a.clear()
	stopSIP() // trunks unregister
	return <-served
}

// live waits for the end: of ctx, of a drain, or of SIP by a fault.
func (a *App) live(ctx context.Context, served <-chan error) error {
	open := a.sockets.open
	for {
		select {
		case <-open:
			open = nil
			a.log.Info("ready for calls", "sip", a.SIPAddresses(), "http", a.HTTPAddress())
			close(a.ready)
		case err := <-served:
			return explain(err)
		case <-a.drain:
			a.wind(ctx)
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// wind refuses new calls and lets the live ones go on for drain_timeout.
func (a *App) wind(ctx context.Context) {
	a.sip.Drain(retryAfter)
	limit := a.Config().DrainTimeout
	a.log.Info("draining: new calls are refused", "calls", a.bridge.Active(), "drain_timeout", limit.String())
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if left := a.bridge.Drain(ctx); left > 0 {
		a.log.Warn("drain_timeout is over; the calls that are left are hung up", "calls", left)
	}
}

// clear waits until the calls that were ended have said so.
func (a *App) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), clearing)
	defer cancel()
	if left := a.bridge.Drain(ctx); left > 0 {
		a.log.Warn("calls did not end in time", "calls", left)
	}
}

// explain adds the mend to the commonest faults of listening.
func explain(err error) error {
	var op *net.OpError
	switch {
	case err == nil:
		return errors.New("SIP has stopped unexpectedly")
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; another program has this port (find it with: ss -lntup), stop it or choose another port in sip.listen or http.listen", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w; this machine does not have the address, choose one of those that: ip addr lists, or 0.0.0.0", err)
	case errors.Is(err, syscall.EACCES) && errors.As(err, &op):
		return fmt.Errorf("%w; ports below 1024 need the capability CAP_NET_BIND_SERVICE", err)
	}
	return err
}
