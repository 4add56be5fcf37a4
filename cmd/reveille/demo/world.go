package demo

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"reveille/bridge"
	"reveille/cmd/reveille/app"
	"reveille/config"
	"reveille/push"
	"reveille/push/pushtest"
	"reveille/sip"
)

const (
	loopback = "127.0.0.1"
	bundle   = "com.example.phone"
	password = "demo-only"
	// wakeTimeout is calls.wake_timeout here; 20 s by default.
	wakeTimeout = 2 * time.Second
	// kept is the extension that stays for trying by hand.
	kept = "1001"
)

// world is the running bridge and the push service.
type world struct {
	app     *app.App
	udp     string // the bridge's addresses, "IP:port"
	tcp     string
	service *pushtest.APNs
	team    string
	work    sync.WaitGroup
	stop    context.CancelFunc
	done    chan error

	mu     sync.Mutex // guards the following
	phones map[string]*phone
	stage  *stage // the one that plays now
}

// newWorld starts the push service and the bridge; dir is for keys and state.
func newWorld(ctx context.Context, log *slog.Logger, dir string) (*world, error) {
	w := &world{phones: map[string]*phone{}, done: make(chan error, 1)}
	var err error
	if w.service, err = pushtest.NewAPNs(pushtest.Options{Seen: w.seen}); err != nil {
		return nil, fmt.Errorf("start the simulated push service: %w", err)
	}
	cfg, err := w.configure(dir)
	if err == nil {
		w.app, err = app.New(cfg, app.Options{Log: log, Version: "demo"})
	}
	if err != nil {
		w.service.Close()
		return nil, err
	}
	w.work.Go(w.wakePhones)
	return w, w.serve(ctx)
}

// serve runs the bridge and waits until it listens.
func (w *world) serve(ctx context.Context) error {
	ctx, w.stop = context.WithCancel(ctx)
	go func() { w.done <- w.app.Run(ctx) }()
	select {
	case <-w.app.Ready():
	case err := <-w.done:
		w.done <- err
		w.close()
		return fmt.Errorf("start the bridge: %w", err)
	}
	for _, a := range w.app.SIPAddresses() {
		if addr, ok := strings.CutPrefix(a, "udp://"); ok {
			w.udp = addr
		} else if addr, ok := strings.CutPrefix(a, "tcp://"); ok {
			w.tcp = addr
		}
	}
	return nil
}

func (w *world) close() {
	w.stop()
	<-w.done
	w.service.Close()
	w.work.Wait()
}

// configure is the bridge's configuration: one trunk known by its address, one
// app at the push service, and an extension for each scenario.
func (w *world) configure(dir string) (*config.Config, error) {
	keyFile, keyID, team, err := w.service.NewKey(dir)
	if err != nil {
		return nil, err
	}
	ca, err := w.service.CAFile(dir)
	if err != nil {
		return nil, err
	}
	w.team = team
	cfg := config.Default()
	cfg.StateDir, cfg.Node = dir+"/state", "demo"
	cfg.SIP.Listen = []string{"udp://" + loopback + ":0", "tcp://" + loopback + ":0"}
	cfg.HTTP.Listen = loopback + ":0"
	cfg.Trunks = []sip.TrunkConfig{sip.TrunkConfig{Name: "carrier", Peers: []string{loopback}}.WithDefaults()}
	cfg.Extensions = []bridge.Extension{extension(kept)}
	for _, name := range Scenarios() {
		cfg.Extensions = append(cfg.Extensions, extension(name))
	}
	cfg.Calls.WakeTimeout = wakeTimeout
	cfg.Push.APNs = []push.APNsConfig{{Topic: bundle, TeamID: team, KeyID: keyID, KeyFile: keyFile,
		Endpoint: w.service.Endpoint(), RootCA: ca}}
	cfg.Media.ExternalAddress = loopback
	return cfg, nil
}

func extension(name string) bridge.Extension {
	return bridge.Extension{Name: name, Password: password, Numbers: []string{name}}
}

// seen draws a push and its answer on the ladder of the present scenario.
func (w *world) seen(p pushtest.Push, a pushtest.Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stage != nil {
		w.stage.push(p, a)
	}
}

// wakePhones starts the app of a phone when its push has arrived.
func (w *world) wakePhones() {
	for p := range w.service.Pushes() {
		w.mu.Lock()
		ph := w.phones[p.Token]
		w.mu.Unlock()
		if ph != nil {
			ph.pushed(p)
		}
	}
}

func (w *world) enter(st *stage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stage = st
}

func (w *world) add(p *phone) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phones[p.token] = p
}
