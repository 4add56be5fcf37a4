package sip

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/sip/location"
	"reveille/sip/siptest"
)

// serverBed is a whole server at 192.0.2.1 in virtual time, and its trunk, a
// raw socket at 192.0.2.2.
type serverBed struct {
	t     *testing.T
	net   *siptest.Network
	srv   *Server
	loc   *location.Service
	reg   *prometheus.Registry
	calls chan *Inbound // that the handler has in hand
	over  chan struct{} // closed when the test is
	end   func()

	prepared func(*serverBed) // called before Serve; nil for nothing
	through  Network          // nil: the host's
}

// Incoming is Handler: the test owns the leg until it is over.
func (b *serverBed) Incoming(in *Inbound) {
	b.calls <- in
	select {
	case <-in.Ended():
	case <-b.over: // a test that failed
	}
}

type bedOptions struct {
	trunks  []TrunkConfig // default: one peer at 192.0.2.2
	handler Handler       // default: the bed
	log     slog.Handler
	config  func(*Config)
}

func inServer(t *testing.T, o bedOptions, test func(b *serverBed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &serverBed{t: t, net: siptest.NewNetwork(), calls: make(chan *Inbound, 10), over: make(chan struct{}), reg: prometheus.NewRegistry()}
		b.start(o)
		defer func() { close(b.over); b.end() }()
		test(b)
	})
}

func (b *serverBed) start(o bedOptions) {
	b.t.Helper()
	cfg := DefaultConfig()
	cfg.Listen = []string{"udp://192.0.2.1:5060", "tcp://192.0.2.1:5060"}
	if o.config != nil {
		o.config(&cfg)
	}
	if o.trunks == nil {
		o.trunks = []TrunkConfig{{Name: "peer", Peers: []string{"192.0.2.2"}}}
	}
	if o.handler == nil {
		o.handler = b
	}
	if o.log == nil {
		o.log = slog.DiscardHandler
	}
	var network Network = b.net.Host("192.0.2.1")
	if b.through != nil {
		network = b.through
	}
	var err error
	if b.loc, err = location.New(location.NewMemory(), location.Options{}); err != nil {
		b.t.Fatal(err)
	}
	b.srv, err = New(cfg, o.trunks, Options{Log: slog.New(o.log), Registerer: b.registerer(), Network: network,
		Location: b.loc, Accounts: accountsOf{"1001": "secret"}})
	if err != nil {
		b.t.Fatal(err)
	}
	if b.prepared != nil {
		b.prepared(b)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.srv.Serve(ctx, o.handler) }()
	synctest.Wait()
	b.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
		b.loc.Close()
	})
}

// taken is the next call that came to the handler.
func (b *serverBed) taken() *Inbound {
	b.t.Helper()
	synctest.Wait()
	select {
	case in := <-b.calls:
		return in
	default:
		b.t.Fatal("no call came")
		return nil
	}
}

// nothingLeft holds that the server remembers no transaction and no dialog.
func (b *serverBed) nothingLeft() {
	b.t.Helper()
	synctest.Wait()
	if n := b.srv.txs.pendingCount(); n != 0 {
		b.t.Errorf("%d transactions are left", n)
	}
	if n := b.srv.dialogs.len(); n != 0 {
		b.t.Errorf("%d dialogs are left", n)
	}
	b.srv.txs.mu.Lock()
	defer b.srv.txs.mu.Unlock()
	if n := len(b.srv.txs.merged); n != 0 {
		b.t.Errorf("%d requests are left to be merged with", n)
	}
}

// count is the value of reveille_sip_requests_total.
func (b *serverBed) count(method string, code int) (n float64) {
	b.t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "reveille_sip_requests_total" && labels["method"] == method && labels["code"] == fmt.Sprint(code) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// drain is all that comes within a time, first lines only.
func (w *wire) drain(within time.Duration) (lines []string) {
	until := time.Now().Add(within)
	for time.Now().Before(until) {
		m := w.next(time.Until(until))
		if m == "" || m == "closed" {
			return lines
		}
		lines = append(lines, firstLine(m))
	}
	return lines
}

func firstLine(m string) string {
	line, _, _ := strings.Cut(m, "\r\n")
	return line
}

func (b *serverBed) registerer() prometheus.Registerer {
	if b.reg == nil {
		return nil
	}
	return b.reg
}
