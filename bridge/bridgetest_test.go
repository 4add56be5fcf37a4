package bridge_test

import (
	"context"
	"crypto/tls"
	"flag"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/bridge"
	"reveille/push"
	"reveille/push/pushtest"
	"reveille/rtp"
	"reveille/rtp/ng"
	"reveille/sip"
	"reveille/sip/location"
	"reveille/sip/siptest"
)

var update = flag.Bool("update", false, "write the ladders instead of comparing them")

// The hosts of a whole call, and how far they are from the bridge. No two are
// equally far, so that what happens at once at the bridge is seen in one order.
const (
	bridgeIP, bridgeSIP = "192.0.2.1", "192.0.2.1:5060"
	bridgeTLS           = "192.0.2.1:5061"
	bridgeWSS           = "192.0.2.1:8443"
	trunkIP             = "192.0.2.2"
	pushIP              = "192.0.2.3"
	trunkDelay          = 5 * time.Millisecond
	pushDelay           = 16 * time.Millisecond
	phoneDelay          = 21 * time.Millisecond
	bundle              = "com.example.phone"
	number              = "+4930123456"
)

// setup is what a test may change before the world begins.
type setup struct {
	calls     bridge.Config
	trunk     sip.TrunkConfig
	extension bridge.Extension
	more      []bridge.Extension // besides it
	media     rtp.Config
	columns   []string
	state     string       // directory of the database; "": in memory
	log       slog.Handler // nil: the test's output
	tcpTrunk  bool
	trunkTLS  *tls.Config // of a trunk that calls by TLS; nil: it does not
	dual      bool        // the bridge is on IPv6 too
	trunkHost string      // where the trunk calls from; "": trunkIP
	tls       *tls.Config // of further listeners; nil: none
	payload   push.PayloadConfig
	engines   ng.Dial                    // to rtpengine daemons
	noSockets error                      // what the system says in place of giving a media socket; nil: it gives one
	services  func(*world, *push.Config) // changes the push services; nil: Apple's alone
}

// world is a bridge with all its real parts on an in-memory network, a push
// service, a trunk, and phones.
type world struct {
	*setup
	t       *testing.T
	net     *siptest.Network
	ladder  *siptest.Ladder
	service *pushtest.APNs
	trunk   *siptest.Trunk
	cdr     string
	keyFile string
	recalls int
	keyID   string
	teamID  string
	caFile  string
	work    sync.WaitGroup

	// the bridge, replaced by restart
	stop     context.CancelFunc
	served   sync.WaitGroup
	location *location.Service
	sender   *push.Sender
	relay    *rtp.Relay
	sip      *sip.Server
	bridge   *bridge.Bridge
	metrics  *prometheus.Registry

	mu     sync.Mutex // guards the following
	phones map[string]*phone
	pushes []pushtest.Push
}

// phone is a scripted phone and how it wakes.
type phone struct {
	*siptest.Phone
	token string
	wakes time.Duration // from the push to the start of the app; negative: never
}

// call runs a test in virtual time.
func call(t *testing.T, change func(*setup), run func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		run(newWorld(t, change))
	})
}

func newWorld(t *testing.T, change func(*setup)) *world {
	t.Helper()
	s := &setup{
		calls: bridge.DefaultConfig(), media: rtp.DefaultConfig(),
		trunk:     sip.TrunkConfig{Name: "carrier", Peers: []string{trunkIP}},
		extension: bridge.Extension{Name: "1001", Password: "secret", Numbers: []string{number}},
		columns:   []string{"trunk", siptest.Bridge, "push", "phone"},
	}
	if change != nil {
		change(s)
	}
	w := &world{setup: s, t: t, net: siptest.NewNetwork(), ladder: siptest.NewLadder(s.columns...),
		cdr: filepath.Join(t.TempDir(), "cdr.jsonl"), phones: map[string]*phone{}}
	w.distance(trunkIP, siptest.Link{Delay: trunkDelay})
	w.distance(pushIP, siptest.Link{Delay: pushDelay})
	t.Cleanup(w.close)
	w.startPush()
	w.start()
	w.startTrunk()
	return w
}

// distance sets the link between the bridge and a host, both ways.
func (w *world) distance(ip string, l siptest.Link) {
	ours := bridgeIP
	if strings.Contains(ip, ":") {
		ours = bridgeSix
	}
	w.net.Link(ip, ours, l)
	w.net.Link(ours, ip, l)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) startPush() {
	host := w.net.Host(pushIP)
	production, err := host.Listen(context.Background(), "tcp", pushIP+":443")
	w.must(err)
	sandbox, err := host.Listen(context.Background(), "tcp", pushIP+":444")
	w.must(err)
	w.service, err = pushtest.NewAPNs(pushtest.Options{Production: production, Sandbox: sandbox, Seen: w.pushed})
	w.must(err)
	dir := w.t.TempDir()
	w.keyFile, w.keyID, w.teamID, err = w.service.NewKey(dir)
	w.must(err)
	w.caFile, err = w.service.CAFile(dir)
	w.must(err)
	w.work.Go(w.wakePhones)
}

// pushed draws a push and its answer.
func (w *world) pushed(p pushtest.Push, a pushtest.Answer) {
	w.mu.Lock() // two pushes at once are drawn one after the other
	defer w.mu.Unlock()
	where := ""
	if p.Environment == pushtest.Sandbox {
		where = "sandbox"
	}
	w.ladder.Arrow(p.At, siptest.Bridge, "push", "VoIP push", where)
	if a.Do == pushtest.Nothing {
		w.ladder.Arrow(time.Now(), "push", siptest.Bridge, strconv.Itoa(a.Status), a.Reason)
	}
}

// wakePhones lets each phone start when its push arrives.
func (w *world) wakePhones() {
	for p := range w.service.Pushes() {
		w.mu.Lock()
		w.pushes = append(w.pushes, p)
		ph, after := w.phones[p.Token], time.Duration(-1)
		if ph != nil {
			after = ph.wakes
		}
		w.mu.Unlock()
		if after < 0 {
			continue
		}
		w.work.Go(func() {
			time.Sleep(after)
			if err := ph.Register(context.Background()); err != nil {
				w.t.Log(err)
			}
		})
	}
}

// wakes changes how long a phone takes to wake; below 0 it sleeps on.
func (w *world) wakes(p *phone, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.wakes = after
}

// start makes a bridge as a process does: over the state that is there.
func (w *world) start() {
	var store location.Store = location.NewMemory()
	var err error
	if w.state != "" {
		store, err = location.OpenBolt(w.state)
		w.must(err)
	}
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	if w.log != nil {
		log = slog.New(w.log)
	}
	host := w.net.DualHost(bridgeIP, bridgeSix)
	w.metrics = prometheus.NewRegistry()
	w.location, err = location.New(store, location.Options{Log: log, Registerer: w.metrics})
	w.must(err)
	pc := push.DefaultConfig()
	pc.APNs = []push.APNsConfig{{Topic: bundle, TeamID: w.teamID, KeyID: w.keyID, KeyFile: w.keyFile,
		Endpoint: w.service.Endpoint(), RootCA: w.caFile, PayloadConfig: w.payload}}
	if w.services != nil {
		w.services(w, &pc)
	}
	w.sender, err = push.NewSender(pc, push.Options{Log: log, Registerer: w.metrics, Dial: host.DialContext})
	w.must(err)
	w.relay, err = rtp.NewRelay(w.media, rtp.Options{Log: log, Registerer: w.metrics, LocalAddress: netip.MustParseAddr(bridgeIP),
		Sounds: []rtp.Sound{{Ringback: w.setup.trunk.Ringback, Tone: w.setup.trunk.Tone}}, EngineDial: w.engines,
		Listen: func(a netip.AddrPort) (rtp.PacketConn, error) {
			if w.noSockets != nil {
				return nil, w.noSockets
			}
			return host.ListenUDP(a)
		}})
	w.must(err)
	extensions := append([]bridge.Extension{w.extension}, w.more...)
	accounts, err := bridge.NewAccounts(extensions)
	w.must(err)
	sc := sip.DefaultConfig()
	sc.Listen = []string{"udp://" + bridgeSIP, "tcp://" + bridgeSIP}
	if w.dual {
		sc.Listen = append(sc.Listen, "udp://[::]:5060", "tcp://[::]:5060")
	}
	if w.tls != nil {
		sc.Listen = append(sc.Listen, "tls://"+bridgeTLS, "wss://"+bridgeWSS)
	}
	w.sip, err = sip.New(sc, []sip.TrunkConfig{w.setup.trunk}, sip.Options{Log: log, Registerer: w.metrics, Network: host,
		Location: w.location, Accounts: accounts, Push: w.sender,
		TLS: func() (*tls.Config, error) { return w.tls, nil }})
	w.must(err)
	cdr, err := bridge.NewCDRWriter(w.cdr, log)
	w.must(err)
	w.bridge, err = bridge.New(w.calls, extensions, bridge.Options{Log: log, Registerer: w.metrics, Location: w.location,
		Dialer: w.sip, Pusher: w.sender, Relay: w.relay, CDR: cdr})
	w.must(err)
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.served.Go(func() { w.bridge.Run(ctx) })
	w.served.Go(func() {
		if err := w.sip.Serve(ctx, w.bridge); err != nil {
			w.t.Error(err)
		}
	})
	synctest.Wait() // the sockets are open
}

// stopBridge ends the bridge as SIGTERM does, without a drain.
func (w *world) stopBridge() {
	w.stop()
	w.served.Wait()
	w.sender.Close()
	w.relay.Close()
	w.must(w.location.Close())
}

func (w *world) startTrunk() {
	o := siptest.TrunkOptions{Sockets: w.net.Host(trunkIP), Local: trunkIP + ":5060", Bridge: bridgeSIP, Ladder: w.ladder}
	if ip := w.trunkHost; ip != "" {
		o.Sockets, o.Local, o.Bridge = w.net.Host(ip), net.JoinHostPort(ip, "5060"), bridgeSixSIP
		w.distance(ip, siptest.Link{Delay: trunkDelay})
	}
	if w.tcpTrunk {
		o.Transport = "tcp"
	}
	if w.trunkTLS != nil {
		o.Transport, o.TLS, o.Bridge = "tls", w.trunkTLS, bridgeTLS
	}
	var err error
	w.trunk, err = siptest.NewTrunk(context.Background(), o)
	w.must(err)
}

func (w *world) close() {
	w.t.Helper()
	if n := w.bridge.Active(); n != 0 {
		w.t.Errorf("%d calls are still live", n)
	}
	w.onePushPerDevice()
	w.noneCounted()
	w.stopBridge()
	w.trunk.Close()
	for _, p := range w.phones {
		p.Close()
	}
	w.service.Close()
	w.work.Wait()
	time.Sleep(time.Second) // the ends of connections arrive
}

// onePushPerDevice holds that each device got one accepted push per call, and
// one more where the test says that its flow is provably gone.
func (w *world) onePushPerDevice() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]int{}
	for _, p := range w.pushes {
		key := p.Payload["uuid"].(string) + p.Token
		if seen[key]++; seen[key] > 1+w.recalls {
			w.t.Errorf("call %v was pushed twice to one device", p.Payload["uuid"])
		}
	}
}

// invite begins the call that is drawn.
func (w *world) invite(inv siptest.Invitation) *siptest.Call {
	w.t.Helper()
	if w.tcpTrunk || w.trunkTLS != nil { // a connection that says nothing for 10 s is closed
		w.trunk.Close()
		w.startTrunk()
	}
	w.ladder.Reset()
	if inv.To == "" {
		inv.To = number
	}
	c, err := w.trunk.Invite(inv)
	w.must(err)
	return c
}

// await is Call.Await that must succeed.
func (w *world) await(c interface {
	Await(time.Duration, string) (*siptest.Message, error)
}, d time.Duration, what string) *siptest.Message {
	w.t.Helper()
	m, err := c.Await(d, what)
	w.must(err)
	return m
}

// taken is the next call that came to a phone.
func (w *world) taken(p *phone) *siptest.Call {
	w.t.Helper()
	c, err := p.AwaitCall(time.Minute)
	w.must(err)
	return c
}

// notTaken holds that no further call came to a phone.
func (w *world) notTaken(p *phone) {
	w.t.Helper()
	if n := len(p.Calls()); n > 0 {
		w.t.Errorf("%d further INVITEs came to a phone", n)
	}
}

// talk plays two seconds both ways and holds that they arrive bit for bit.
func (w *world) talk(a, b *siptest.Call) {
	w.t.Helper()
	before := [2]int{a.Audio.Hearing(b.Audio).Sent, b.Audio.Hearing(a.Audio).Sent}
	var both sync.WaitGroup
	for _, c := range []*siptest.Call{a, b} {
		both.Go(func() {
			if err := c.Talk(context.Background(), 100); err != nil {
				w.t.Error(err)
			}
		})
	}
	both.Wait()
	time.Sleep(200 * time.Millisecond)
	for i, h := range []siptest.Hearing{a.Audio.Hearing(b.Audio), b.Audio.Hearing(a.Audio)} {
		if h.Sent != before[i]+100 || !h.Whole(0) {
			w.t.Errorf("audio, direction %d: %s (%+v)", i, h, h)
		}
	}
}
