// Package app puts the parts together into a running bridge. It is the one
// place that does: the service, the demo and the tests of whole calls all run
// what New builds.
//
//	New: state loaded, parts built, no socket yet
//	Run: HTTP and SIP listen → Ready → … Drain → calls end → trunks unregister → done
package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"reveille/bridge"
	"reveille/config"
	"reveille/push"
	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// Options are what an App works with besides its configuration. All may be
// zero: then it runs on the real network, disk and clock.
type Options struct {
	Log      *slog.Logger
	Registry *prometheus.Registry // nil: a new one, with the Go runtime's and the process's own metrics
	Version  string               // shown by the API

	Network    sip.Network                                       // SIP and HTTP sockets
	RTPListen  func(addr netip.AddrPort) (rtp.PacketConn, error) // media sockets
	RTPAddress netip.Addr                                        // our address in SDP where nothing else says one
	PushDial   func(ctx context.Context, network, addr string) (net.Conn, error)
	LogTo      io.Writer                   // where pushes are printed when no provider is configured; nil: standard output
	Store      location.Store              // nil: the database in state_dir, or memory; the App closes it
	TLS        func() (*tls.Config, error) // of the tls:// listeners; nil: from the configuration
}

// App is a bridge with all that belongs to it.
type App struct {
	log      *slog.Logger
	options  Options
	registry *prometheus.Registry
	started  time.Time

	location *location.Service
	sender   *push.Sender
	relay    *rtp.Relay
	sip      *sip.Server
	bridge   *bridge.Bridge
	accounts *accounts
	sockets  *sockets

	config   atomic.Pointer[config.Config] // replaced by Reload
	ready    chan struct{}                 // closed when every socket is open
	drain    chan struct{}                 // closed by Drain
	draining sync.Once

	mu   sync.Mutex // guards the following
	http net.Addr
}

// New loads the state and builds the parts. It opens no socket. Errors name
// the key of the configuration that is at fault.
func New(cfg *config.Config, o Options) (*App, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Network == nil {
		o.Network = sip.SystemNetwork()
	}
	a := &App{
		log: o.Log, options: o, registry: o.Registry, started: time.Now(),
		sockets: newSockets(o.Network, cfg.SIP.Listen),
		ready:   make(chan struct{}), drain: make(chan struct{}),
	}
	a.config.Store(cfg)
	if a.registry == nil {
		a.registry = prometheus.NewRegistry()
		a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	if err := a.build(cfg); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// build makes the parts in the order of their needs.
func (a *App) build(cfg *config.Config) (err error) {
	if a.location, err = a.openLocation(cfg); err != nil {
		return err
	}
	if a.sender, err = push.NewSender(cfg.Push, push.Options{
		Log: a.log, Registerer: a.registry, Dial: a.options.PushDial, LogTo: a.options.LogTo,
	}); err != nil {
		return err
	}
	if a.relay, err = rtp.NewRelay(mediaConfig(cfg), rtp.Options{
		Log: a.log, Registerer: a.registry, Listen: a.options.RTPListen, LocalAddress: a.options.RTPAddress,
		Sounds: cfg.Sounds(),
	}); err != nil {
		return err
	}
	if a.accounts, err = newAccounts(cfg.Extensions); err != nil {
		return err
	}
	if a.sip, err = sip.New(cfg.SIP, cfg.Trunks, sip.Options{
		Log: a.log, Registerer: a.registry, Network: a.sockets, Location: a.location,
		Accounts: a.accounts, Push: a.sender, TLS: a.options.TLS,
	}); err != nil {
		return err
	}
	if err = a.sip.SetUpstreams(bridge.Upstreams(cfg.Extensions)); err != nil {
		return err
	}
	cdr, err := bridge.NewCDRWriter(cfg.Telemetry.CDR, a.log)
	if err != nil {
		return err
	}
	a.bridge, err = bridge.New(cfg.Calls, cfg.Extensions, bridge.Options{
		Log: a.log, Registerer: a.registry, Location: a.location, Dialer: a.sip,
		Pusher: a.sender, Relay: a.relay, CDR: cdr, UUIDHeader: cfg.Push.Header,
	})
	return err
}

func (a *App) openLocation(cfg *config.Config) (*location.Service, error) {
	store := a.options.Store
	switch {
	case store != nil:
	case cfg.StateDir == "":
		store = location.NewMemory()
	default:
		db, err := location.OpenBolt(cfg.StateDir)
		if err != nil {
			return nil, err
		}
		store = db
	}
	return location.New(store, location.Options{Log: a.log, Registerer: a.registry, DeviceLifetime: cfg.Location.DeviceLifetime,
		Providers: func() []string { return a.sender.Providers() }})
}

// mediaConfig lets the audio use the address that the signalling has behind
// NAT, where the configuration gives none for the audio.
func mediaConfig(cfg *config.Config) rtp.Config {
	media := cfg.Media
	if media.ExternalAddress != "" || media.Engine != "builtin" {
		return media
	}
	if _, err := netip.ParseAddr(cfg.SIP.ExternalAddress); err == nil {
		media.ExternalAddress = cfg.SIP.ExternalAddress
	}
	return media
}

// Ready is closed when every socket is open.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Drain makes Run come to its end: new calls are refused, live ones may go on
// for drain_timeout. It returns at once and may be called again.
func (a *App) Drain() { a.draining.Do(func() { close(a.drain) }) }

// SIPAddresses are the addresses that SIP listens on, such as
// "udp://127.0.0.1:5060", in the order of the configuration; ports that the
// system chose are filled in. It is complete once Ready is closed.
func (a *App) SIPAddresses() []string { return a.sockets.addresses() }

// HTTPAddress is the host:port that the API listens on, "" if nowhere. It is
// known once Ready is closed.
func (a *App) HTTPAddress() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.http == nil {
		return ""
	}
	return a.http.String()
}

// Bridge is the part that owns the calls.
func (a *App) Bridge() *bridge.Bridge { return a.bridge }

// Location is the part that knows the devices.
func (a *App) Location() *location.Service { return a.location }

// SIP is the part that owns sockets, dialogs and trunks.
func (a *App) SIP() *sip.Server { return a.sip }

// Registry holds the metrics.
func (a *App) Registry() *prometheus.Registry { return a.registry }

// Config is the configuration in force.
func (a *App) Config() *config.Config { return a.config.Load() }

// close frees what build has made, in the reverse order.
func (a *App) close() {
	if a.relay != nil {
		a.relay.Close()
	}
	if a.sender != nil {
		a.sender.Close()
	}
	if a.location != nil {
		if err := a.location.Close(); err != nil {
			a.log.Error("the state could not be closed", "err", fmt.Errorf("state_dir: %w", err))
		}
	}
}
