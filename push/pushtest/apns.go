package pushtest

import (
	"crypto/tls"
	"net"
	"strings"
	"time"
)

// The environments: which of the two hosts a push came to.
const (
	Production = "production"
	Sandbox    = "sandbox"
)

// Options of an APNs service. All may be zero.
type Options struct {
	// Production and Sandbox are where the two hosts listen; nil: loopback, on
	// ports of the system's choice. The service closes them.
	Production, Sandbox net.Listener
	// ProductionHost and SandboxHost ("host:port") go into the URLs and the
	// certificate when the listener's own address is not what clients dial.
	ProductionHost, SandboxHost string
	// AnyToken accepts every well-formed device token, for peers whose tokens
	// are not known beforehand.
	AnyToken bool
	// MaxStreams is the limit of concurrent streams after the first request
	// with a good provider token; 0: 1000. Before it, as with Apple, it is 1.
	MaxStreams uint32
	// ResetEvery n resets (TCP RST) the connection of about every n-th push
	// once that is answered, at random; 0: none. What else was under way on it
	// is lost with it.
	ResetEvery int
	// Seen is told of every complete request at the moment of its answer, for
	// diagrams; nil: nobody. It must not block.
	Seen func(Push, Answer)
}

// APNs is Apple's service. Make one with NewAPNs.
type APNs struct {
	*Service
	anyToken bool

	// guarded by Service.mu
	keys    map[string]signingKey // by key id
	made    int                   // keys
	bearers map[string]verified   // provider tokens whose signature was checked
	tokens  map[string]device     // by environment + " " + token
}

// device is a registered device token.
type device struct {
	topic string    // bundle id; "" any
	alert bool      // it is for alerts; else for VoIP pushes
	gone  time.Time // unregistered then; zero: alive
}

// NewAPNs starts the service on its two hosts.
func NewAPNs(o Options) (*APNs, error) {
	a := &APNs{
		anyToken: o.AnyToken,
		keys:     map[string]signingKey{},
		bearers:  map[string]verified{},
		tokens:   map[string]device{},
	}
	var err error
	a.Service, err = newService(a, settings{o.MaxStreams, o.ResetEvery, o.Seen},
		&host{name: Production, addr: o.ProductionHost, ln: o.Production, streams: 1},
		&host{name: Sandbox, addr: o.SandboxHost, ln: o.Sandbox, streams: 1})
	if err != nil {
		return nil, err
	}
	a.ca.config.ClientAuth = tls.RequestClientCert
	a.start()
	return a, nil
}

// URL is the production host's base URL, SandboxURL the sandbox's.
func (a *APNs) URL() string        { return a.url(Production) }
func (a *APNs) SandboxURL() string { return a.url(Sandbox) }

// Endpoint is both, as the configuration key push.apns.endpoint takes them.
func (a *APNs) Endpoint() string { return a.URL() + "," + a.SandboxURL() }

// AddToken registers a device token in an environment for an app's bundle id;
// "" for any app.
func (a *APNs) AddToken(environment, token, bundle string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[environment+" "+strings.ToLower(token)] = device{topic: bundle}
}

// AddAlertToken is AddToken for a token that takes alerts and no VoIP pushes.
func (a *APNs) AddAlertToken(environment, token, bundle string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[environment+" "+strings.ToLower(token)] = device{topic: bundle, alert: true}
}

// Unregister makes a token one that answers 410 with this time.
func (a *APNs) Unregister(environment, token string, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := environment + " " + strings.ToLower(token)
	d := a.tokens[key]
	d.gone = at
	a.tokens[key] = d
}

// Answer is Service.Answer; tokens compare without case.
func (a *APNs) Answer(token string, answers ...Answer) {
	a.Service.Answer(strings.ToLower(token), answers...)
}
