package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/bridge"
	"reveille/sip"
	"reveille/sip/location"
)

var update = flag.Bool("update", false, "write the golden files anew")

const token = "0123456789abcdef"

// someCalls are records as the bridge would give them.
type someCalls struct {
	records []bridge.Record
	hungUp  []string
}

func (s *someCalls) Calls() []bridge.Record { return s.records }

func (s *someCalls) Call(id string) (bridge.Record, bool) {
	for _, r := range s.records {
		if r.Call == id {
			return r, true
		}
	}
	return bridge.Record{}, false
}

func (s *someCalls) Hangup(id string) error {
	if r, ok := s.Call(id); !ok || !live(r) {
		return bridge.ErrNoCall
	}
	s.hungUp = append(s.hungUp, id)
	return nil
}

func (s *someCalls) TestPush(_ context.Context, extension string) ([]bridge.PushRecord, error) {
	if extension == "1002" {
		return nil, nil
	}
	return []bridge.PushRecord{{Device: "d1", Provider: "apns", Outcome: "refused", Status: 403, Reason: "InvalidProviderToken", Millis: 41.5}}, nil
}

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func after(ms int) time.Time { return noon().Add(time.Duration(ms) * time.Millisecond) }

func records() []bridge.Record {
	return []bridge.Record{
		{Call: "11111111-0000-4000-8000-000000000001", Trunk: "carrier", State: "waking", From: "+49301", FromName: "Ada <b>\x1b[2J", To: "+49302",
			Extension: "1001", Start: noon(), Pushes: []bridge.PushRecord{{Device: "d1", Provider: "apns", Outcome: "sent", Status: 200, ID: "A1", Millis: 80}},
			Timeline: []bridge.Step{{At: noon(), Event: "INVITE", Detail: "abc@carrier"}, {At: after(1), Millis: 1.2, Event: "push", Device: "d1", Detail: "apns"}}},
		{Call: "22222222-0000-4000-8000-000000000002", Trunk: "carrier", State: "over", From: "+49301", To: "+49302", Extension: "1001", Device: "d1",
			Start: noon(), Answer: after(4000), End: after(9000), Seconds: 5, Ending: "caller_hung_up", Code: 200, Verdict: "answered; the caller hung up",
			WakeMS: 900, RingMS: 1100, Timeline: []bridge.Step{{At: noon(), Event: "INVITE"}},
			Media: map[string]bridge.MediaRecord{"trunk": {Packets: 250, Lost: 1, JitterMS: 0.4, FirstMS: 12}, "device": {Packets: 249, LossRatio: .004, MOS: 4.2, Codec: "PCMA",
				Hears: &bridge.HearingRecord{Reports: 1, Lost: 2, XR: &bridge.XRRecord{MOSLQ: 4.1}}}}},
	}
}

// home is a location service with an awake and a sleeping device.
func home(t *testing.T) *location.Service {
	l, err := location.New(location.NewMemory(), location.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i, aor := range []string{"1001", "1002"} {
		change, err := l.Put(t.Context(), location.Update{
			AOR: aor, CallID: aor, CSeq: 1, FlowID: "tcp/" + aor, Transport: "TCP", Remote: "198.51.100.7:40000", UserAgent: "App/1.0",
			Contacts: []location.Contact{{URI: "sip:" + aor + "@198.51.100.7:40000;transport=tcp;pn-provider=apns;pn-param=TEAM.app.voip;pn-prid=SECRETTOKEN",
				Instance: "urn:uuid:" + aor, Expires: time.Hour, Target: location.Target{Provider: "apns", Param: "TEAM.app.voip", PRID: "SECRETTOKEN" + aor}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		change.Publish()
		if i == 1 {
			l.FlowClosed("tcp/" + aor)
		}
	}
	return l
}

type api struct {
	t     *testing.T
	url   string
	calls *someCalls
	loc   *location.Service
	phase Phase
}

// serve runs the API on real loopback.
func serve(t *testing.T, change func(*Options)) *api {
	a := &api{t: t, calls: &someCalls{records: records()}, phase: Running, loc: home(t)}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "reveille_test_total"}))
	o := Options{
		Loopback: true, Gatherer: registry, Version: "v1", Node: "node-a", Started: noon(), Push: func() []string { return []string{"apns"} },
		Calls: a.calls, Devices: a.loc, Phase: func() Phase { return a.phase },
		Listening: func() []string { return []string{"udp://192.0.2.1:5060"} },
		Trunks: func() []sip.TrunkState {
			return []sip.TrunkState{
				{Name: "carrier", Kind: "registration", Up: false, State: "failed", Since: noon(), Server: "sip:carrier.example", NextTry: after(60000), LastCode: 403, LastError: "403 Forbidden"},
				{Name: "pbx", Kind: "peer", Up: true, State: "reachable", Since: noon(), Server: "192.0.2.10", LastCode: 200},
				{Name: "office", Kind: "upstream", Up: true, State: "reachable", Since: noon(), Server: "sip:pbx.example", Upstreams: &sip.UpstreamCounts{Registered: 1, Registering: 2, Failed: 3}},
			}
		},
		Upstreams: func() map[string]sip.UpstreamState {
			return map[string]sip.UpstreamState{"1001": {Trunk: "office", Username: "ada", State: "failed", NextTry: after(60000), LastCode: 401, Problem: "the registrar refused the login"}}
		},
		Extensions: func() []bridge.Extension {
			return []bridge.Extension{{Name: "1001", Password: "hidden-password", DisplayName: "Ada", Numbers: []string{"+49302"}, Fallback: "480"},
				{Name: "1002", HA1: map[string]string{"MD5": "hidden-hash"}}}
		},
	}
	o.Provisioner = registrarOf(t, a.loc, o.Extensions())
	if change != nil {
		change(&o)
	}
	h, err := NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

// do asks and gives the answer and its body.
func (a *api) do(method, path string, headers ...string) (*http.Response, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return res, string(body)
}

// wantProblem checks a problem document.
func (a *api) wantProblem(res *http.Response, body string, status int, says string) {
	a.t.Helper()
	var p Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		a.t.Fatalf("no problem document but %q", body)
	}
	want := Problem{"about:blank", http.StatusText(status), status, p.Detail}
	if res.StatusCode != status || p != want || res.Header.Get("Content-Type") != "application/problem+json" {
		a.t.Errorf("status %d, %s, %+v; want %+v", res.StatusCode, res.Header.Get("Content-Type"), p, want)
	}
	if !strings.Contains(p.Detail, says) {
		a.t.Errorf("%q does not say %q", p.Detail, says)
	}
}

func TestAnswersAreTheGoldenOnes(t *testing.T) {
	for path, file := range map[string]string{
		"/api/v1/status":     "status.json",
		"/api/v1/calls":      "calls.json",
		"/api/v1/trunks":     "trunks.json",
		"/api/v1/extensions": "extensions.json",
		"/api/v1/devices":    "devices.json",
		"/api/v1/calls/11111111-0000-4000-8000-000000000001": "call.json",
		"/readyz":  "readyz.json",
		"/healthz": "healthz.json",
	} {
		t.Run(file, func(t *testing.T) {
			res, body := serve(t, nil).do("GET", path)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("status %d, header %v", res.StatusCode, res.Header)
			}
			golden(t, file, steady(t, body))
		})
	}
}

// steady puts a fixed time in place of those that the location service took
// from the clock.
func steady(t *testing.T, body string) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, item := range v {
				if text, ok := item.(string); ok && (key == "seen" || key == "registered" || key == "confirmed" || key == "expires") {
					at, err := time.Parse(time.RFC3339, text)
					if err != nil || time.Since(at).Abs() > 2*time.Hour {
						t.Errorf("%s is %v", key, item)
					}
					v[key] = "TIME"
				}
				walk(item)
			}
		case []any:
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(v)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant (%s)\n%s", got, path, want)
	}
}

func TestCallsCanBeChosen(t *testing.T) {
	a := serve(t, nil)
	for query, want := range map[string]string{
		"?state=live":  "11111111",
		"?state=over":  "22222222",
		"?limit=1":     "11111111",
		"":             "11111111 22222222",
		"?limit=10000": "11111111 22222222",
	} {
		_, body := a.do("GET", "/api/v1/calls"+query)
		var list CallList
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range list.Calls {
			got = append(got, c.Call[:8])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q gives %v, want %s", query, got, want)
		}
	}
	for _, query := range []string{"?state=asleep", "?limit=0", "?limit=x"} {
		res, body := a.do("GET", "/api/v1/calls"+query)
		a.wantProblem(res, body, 400, "use")
	}
}

func TestDevicesOfOneExtension(t *testing.T) {
	_, body := serve(t, nil).do("GET", "/api/v1/devices?extension=1002")
	var list DeviceList
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Devices) != 1 || list.Devices[0].Extension != "1002" || len(list.Devices[0].Bindings) != 0 {
		t.Errorf("devices of 1002 are %+v", list.Devices)
	}
}

func TestHangUp(t *testing.T) {
	a := serve(t, nil)
	res, body := a.do("DELETE", "/api/v1/calls/11111111-0000-4000-8000-000000000001")
	if res.StatusCode != 204 || body != "" || len(a.calls.hungUp) != 1 {
		t.Errorf("status %d %q, hung up %v", res.StatusCode, body, a.calls.hungUp)
	}
	res, body = a.do("DELETE", "/api/v1/calls/22222222-0000-4000-8000-000000000002")
	a.wantProblem(res, body, 404, "no live call")
}

func TestPushTestTellsWhatTheProviderSaid(t *testing.T) {
	a := serve(t, nil)
	_, body := a.do("POST", "/api/v1/extensions/1001/push-test")
	golden(t, "push-test.json", []byte(body))
	if _, body = a.do("POST", "/api/v1/extensions/1002/push-test"); strings.Join(strings.Fields(body), "") != `{"pushes":[]}` {
		t.Errorf("an extension without devices gives %s", body)
	}
	res, body := a.do("POST", "/api/v1/extensions/9/push-test")
	a.wantProblem(res, body, 404, `no extension "9"`)
}

func TestReadinessFollowsThePhase(t *testing.T) {
	a := serve(t, nil)
	for _, phase := range []Phase{Starting, Draining} {
		a.phase = phase
		res, body := a.do("GET", "/readyz")
		a.wantProblem(res, body, 503, string(phase))
		if res, _ = a.do("GET", "/healthz"); res.StatusCode != 200 {
			t.Errorf("/healthz gives %d while %s", res.StatusCode, phase)
		}
	}
}

func TestReadinessFollowsTheEngines(t *testing.T) {
	for _, c := range []struct {
		engines []Engine
		ready   bool
	}{
		{nil, true},
		{[]Engine{{Up: false}, {Up: true}}, true},
		{[]Engine{{Up: false}, {Up: true, Drain: true}}, false},
	} {
		a := serve(t, func(o *Options) { o.Engines = func() []Engine { return c.engines } })
		res, body := a.do("GET", "/readyz")
		if c.ready && res.StatusCode != 200 {
			t.Errorf("%+v: %d %s", c.engines, res.StatusCode, body)
		}
		if !c.ready {
			a.wantProblem(res, body, 503, "no rtpengine")
		}
	}
}

func TestMetrics(t *testing.T) {
	if _, body := serve(t, nil).do("GET", "/metrics"); !strings.Contains(body, "reveille_test_total 0") {
		t.Errorf("/metrics gives %s", body)
	}
}

func TestWrongPathsAndMethods(t *testing.T) {
	a := serve(t, nil)
	for _, path := range []string{"/", "/api", "/api/v1/", "/api/v1/call", "/api/v1/calls/", "/api/v2/status", "/%00%1b"} {
		res, body := a.do("GET", path)
		a.wantProblem(res, body, 404, "")
		if strings.ContainsRune(body, '\x1b') {
			t.Errorf("%q comes back as it was", path)
		}
	}
	res, body := a.do("PUT", "/api/v1/calls/x")
	a.wantProblem(res, body, 405, "DELETE, GET")
	if res.Header.Get("Allow") != "DELETE, GET" {
		t.Errorf("Allow is %q", res.Header.Get("Allow"))
	}
	res, body = a.do("GET", "/api/v1/calls/nobody")
	a.wantProblem(res, body, 404, "CDR")
}

func TestHeadHasNoBody(t *testing.T) {
	if res, body := serve(t, nil).do("HEAD", "/readyz"); res.StatusCode != 200 || body != "" {
		t.Errorf("HEAD gives %d %q", res.StatusCode, body)
	}
}
