package admin

import (
	"cmp"
	_ "embed"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"reveille/bridge"
	"reveille/sip"
	"reveille/sip/location"
)

//go:embed openapi.yaml
var description []byte

func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	s.json(w, map[string]string{"status": "alive"})
}

// readyz fails while calls would not be taken. A trunk that is down does not
// make it fail: the other trunks' calls still come.
func (s *server) readyz(w http.ResponseWriter, _ *http.Request) {
	if p := s.Phase(); p != Running {
		s.problem(w, http.StatusServiceUnavailable, "the bridge is "+string(p))
		return
	}
	if engines := s.engines(); len(engines) > 0 && !slices.ContainsFunc(engines, Engine.takesCalls) {
		s.problem(w, http.StatusServiceUnavailable, "no rtpengine takes calls now; reveille status shows why")
		return
	}
	s.json(w, map[string]any{"status": "ready", "trunks_down": s.trunkCounts().Down})
}

// engines are the rtpengine daemons; not nil.
func (s *server) engines() []Engine {
	if s.Engines == nil {
		return []Engine{}
	}
	return append([]Engine{}, s.Engines()...)
}

func (s *server) metrics() http.HandlerFunc {
	return promhttp.HandlerFor(s.Gatherer, promhttp.HandlerOpts{
		ErrorLog: promLog{s}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	}).ServeHTTP
}

// promLog takes what promhttp has to complain about.
type promLog struct{ s *server }

// Println implements promhttp.Logger.
func (l promLog) Println(v ...any) { l.s.log.Warn("metrics", "err", fmt.Sprintln(v...)) }

func (s *server) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(description) // nobody to tell
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) {
	out := Status{
		Version: s.Version, Node: s.Node, Phase: s.Phase(), Started: s.Started,
		SIP: notNil(s.Listening()), Push: notNil(s.Push()),
		Calls: map[string]int{}, Trunks: s.trunkCounts(), Devices: map[string]int{}, Bindings: map[string]int{},
	}
	for _, c := range s.Calls.Calls() {
		if live(c) {
			out.Calls[c.State]++
		}
	}
	devices := s.Devices.AllDevices()
	for _, d := range devices {
		out.Devices[cmp.Or(d.Target.Provider, "none")]++
	}
	for _, b := range s.bindings(devices) {
		for i := range b {
			out.Bindings[b[i].Transport]++
		}
	}
	if s.Banned != nil {
		out.Banned = s.Banned()
	}
	out.Engines = s.engines()
	s.json(w, out)
}

func (s *server) trunkCounts() TrunkCounts {
	out := TrunkCounts{Down: []string{}}
	for _, t := range s.Trunks() {
		if t.Up {
			out.Up++
		} else {
			out.Down = append(out.Down, t.Name)
		}
	}
	return out
}

// callsShown is how many calls a list has unless the request says how many.
const callsShown = 100

func (s *server) calls(w http.ResponseWriter, r *http.Request) {
	limit, state := callsShown, r.URL.Query().Get("state")
	if q := r.URL.Query().Get("limit"); q != "" {
		n, err := strconv.Atoi(q)
		if err != nil || n < 1 {
			s.problem(w, http.StatusBadRequest, "limit="+printable(q)+" is no number of calls; use 1 or more")
			return
		}
		limit = n
	}
	if state != "" && state != "live" && state != "over" {
		s.problem(w, http.StatusBadRequest, "state="+printable(state)+"; use live or over")
		return
	}
	out := CallList{Calls: []CallSummary{}}
	for _, c := range s.Calls.Calls() {
		if len(out.Calls) < limit && (state == "" || live(c) == (state == "live")) {
			out.Calls = append(out.Calls, CallSummary{Record: c, Why: Why(c)})
		}
	}
	s.json(w, out)
}

func (s *server) call(w http.ResponseWriter, r *http.Request) {
	c, ok := s.Calls.Call(r.PathValue("uuid"))
	if !ok {
		s.problem(w, http.StatusNotFound, "no call "+printable(r.PathValue("uuid"))+" among the live and the recent ones; older ones are in the CDR file")
		return
	}
	if c.Timeline == nil {
		c.Timeline = []bridge.Step{}
	}
	s.json(w, CallDetail{Record: c, Why: Why(c)})
}

func (s *server) trunks(w http.ResponseWriter, _ *http.Request) {
	active := map[string]int{}
	for _, c := range s.Calls.Calls() {
		if live(c) {
			active[c.Trunk]++
		}
	}
	out := TrunkList{Trunks: []Trunk{}}
	for _, t := range s.Trunks() {
		out.Trunks = append(out.Trunks, Trunk{t, active[t.Name]})
	}
	s.json(w, out)
}

func (s *server) extensions(w http.ResponseWriter, _ *http.Request) {
	devices := s.Devices.AllDevices()
	owned := map[string]int{}
	for _, d := range devices {
		owned[d.AOR]++
	}
	upstreams := map[string]sip.UpstreamState{}
	if s.Upstreams != nil {
		upstreams = s.Upstreams()
	}
	out := ExtensionList{Extensions: []Extension{}}
	for _, e := range s.Extensions() {
		view := Extension{
			Name: e.Name, DisplayName: e.DisplayName, Numbers: notNil(e.Numbers), Fallback: e.Fallback,
			Devices: owned[e.Name], Bindings: len(s.Devices.Lookup(e.Name)),
		}
		if up, ok := upstreams[e.Name]; ok {
			view.Upstream = &up
		}
		out.Extensions = append(out.Extensions, view)
	}
	s.json(w, out)
}

func (s *server) devices(w http.ResponseWriter, r *http.Request) {
	only := r.URL.Query().Get("extension")
	devices := s.Devices.AllDevices()
	bindings := s.bindings(devices)
	out := DeviceList{Devices: []Device{}}
	for _, d := range devices {
		if only == "" || d.AOR == only {
			out.Devices = append(out.Devices, s.deviceView(d, bindings[d.AOR]))
		}
	}
	slices.SortFunc(out.Devices, func(a, b Device) int {
		return strings.Compare(a.Extension+" "+a.ID, b.Extension+" "+b.ID)
	})
	s.json(w, out)
}

// bindings looks each extension that has devices up once.
func (s *server) bindings(devices []location.Device) map[string][]location.Binding {
	out := map[string][]location.Binding{}
	for _, d := range devices {
		if _, known := out[d.AOR]; !known {
			out[d.AOR] = s.Devices.Lookup(d.AOR)
		}
	}
	return out
}

func live(c bridge.Record) bool { return c.End.IsZero() }

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
