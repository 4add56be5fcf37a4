package app

import (
	"context"
	"net"
)

// serveHTTP listens on http.listen and serves the API there. stop ends it and
// waits for it.
func (a *App) serveHTTP(ctx context.Context) (stop func(), err error) {
	address := a.Config().HTTP.Listen
	if address == "" {
		return func() {}, nil
	}
	l, err := a.options.Network.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, explain(err)
	}
	a.setHTTP(l.Addr())
	return func() { l.Close() }, nil
}

func (a *App) setHTTP(addr net.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.http = addr
}
