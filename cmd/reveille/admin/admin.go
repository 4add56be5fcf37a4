// Package admin is the HTTP side of a bridge: the API under /api/v1, /metrics,
// /healthz and /readyz. openapi.yaml describes it, and a test holds the two
// against each other. Errors are problem documents (RFC 9457).
//
// Who may ask: everyone who has the bearer token (RFC 6750); without a token
// the listener must be on loopback, and then only requests to a loopback name
// or an IP address count, so that no web page can reach us by rebinding its
// own name (DNS rebinding). /healthz and /readyz are open to all. An app may
// provision its own devices with its SIP credentials (HTTP Digest, RFC 7616).
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/bridge"
	"reveille/sip"
	"reveille/sip/location"
)

// Calls is what the API needs of the bridge.
type Calls interface {
	Calls() []bridge.Record
	Call(id string) (bridge.Record, bool)
	Hangup(id string) error
	TestPush(ctx context.Context, extension string) ([]bridge.PushRecord, error)
}

// Devices is what the API needs of the location service.
type Devices interface {
	AllDevices() []location.Device
	Lookup(aor string) []location.Binding
	LastPush(aor, id string) (location.LastPush, bool)
}

// Phase is where in its life the bridge is.
type Phase string

// The phases, as /api/v1/status shows them.
const (
	Starting Phase = "starting" // not all sockets are open yet
	Running  Phase = "running"
	Draining Phase = "draining" // refuses new calls and waits for the live ones
)

// Options are what the API shows and acts on. The functions are called for
// each request.
type Options struct {
	Log      *slog.Logger
	Token    sip.Secret // bearer token; "" needs Loopback
	Loopback bool       // the listener is on a loopback address
	Gatherer prometheus.Gatherer
	Version  string
	Node     string
	Started  time.Time
	Push     func() []string // names of the push providers

	Calls       Calls
	Devices     Devices
	Provisioner Provisioner
	Trunks      func() []sip.TrunkState
	Extensions  func() []bridge.Extension
	Upstreams   func() map[string]sip.UpstreamState // by extension; nil: none
	Phase       func() Phase
	Listening   func() []string // SIP addresses
	Banned      func() int      // addresses that are banned; nil: not known
	Engines     func() []Engine // rtpengine daemons; nil: none
}

// ErrNoToken: the API would be open to the network.
var ErrNoToken = errors.New("http.listen can be reached from other machines and there is no token: set http.token_file, or listen on 127.0.0.1")

// server holds the handlers.
type server struct {
	Options
	log *slog.Logger
}

// What a client may cost us. A push test waits for the providers, 5 s for each
// device by default, hence the long write timeout.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	maxBody       = 64 << 10
)

// NewServer makes the HTTP server; the caller gives it a listener.
func NewServer(o Options) (*http.Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h, err := NewHandler(o)
	if err != nil {
		return nil, err
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // broken clients are no news
	}, nil
}

// NewHandler makes the API alone. It fails with ErrNoToken.
func NewHandler(o Options) (http.Handler, error) {
	if o.Token == "" && !o.Loopback {
		return nil, ErrNoToken
	}
	s := &server{Options: o, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	for path, methods := range s.byPath() {
		mux.Handle(path, methods)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, http.StatusNotFound, "there is nothing at "+printable(r.URL.Path)+"; the paths are in /api/v1/openapi.yaml")
	})
	return s.guard(mux), nil
}

// route is one operation of the API.
type route struct {
	method, path string
	who          who
	serve        http.HandlerFunc
}

// who may use a route.
type who int

const (
	operator  who = iota // has the token
	anyone               // needs none
	extension            // the operator, and the app of the extension in the path: the handler asks
)

// routes are all operations; openapi.yaml has the same.
func (s *server) routes() []route {
	return []route{
		{"GET", "/healthz", anyone, s.healthz},
		{"GET", "/readyz", anyone, s.readyz},
		{"GET", "/metrics", operator, s.metrics()},
		{"GET", "/api/v1/openapi.yaml", operator, s.openapi},
		{"GET", "/api/v1/status", operator, s.status},
		{"GET", "/api/v1/calls", operator, s.calls},
		{"GET", "/api/v1/calls/{uuid}", operator, s.call},
		{"DELETE", "/api/v1/calls/{uuid}", operator, s.hangup},
		{"GET", "/api/v1/trunks", operator, s.trunks},
		{"GET", "/api/v1/extensions", operator, s.extensions},
		{"POST", "/api/v1/extensions/{name}/push-test", operator, s.pushTest},
		{"GET", "/api/v1/devices", operator, s.devices},
		{"PUT", "/api/v1/extensions/{name}/devices/{id}", extension, s.provision},
		{"DELETE", "/api/v1/extensions/{name}/devices/{id}", extension, s.unprovision},
	}
}

// byPath groups the routes, so that a wrong method can be told from a wrong path.
func (s *server) byPath() map[string]*resource {
	out := map[string]*resource{}
	for _, r := range s.routes() {
		if out[r.path] == nil {
			out[r.path] = &resource{server: s, methods: map[string]route{}}
		}
		out[r.path].methods[r.method] = r
	}
	return out
}
