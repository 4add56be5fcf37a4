package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/icholy/digest"

	"reveille/bridge"
	"reveille/sip"
	"reveille/sip/location"
)

const (
	urn       = "urn:uuid:5a9f2f3e-0000-4000-8000-000000000001"
	pushToken = "00112233445566778899aabbccddeeff"
	topic     = "ABCDE12345.com.example.phone.voip"
	aPhone    = `{"instance": "` + urn + `", "provider": "apns", "param": "` + topic + `", "prid": "` + pushToken + `"}`
)

// services are push services as a configuration has them.
type services struct{}

func (services) Supports(provider, param string) bool {
	return provider == "apns" && param == topic || provider == "mypush"
}
func (services) Providers() []string { return []string{"apns", "mypush"} }
func (services) CheckToken(provider, prid string) error {
	if provider == "apns" && !strings.Contains(prid, ":") && len(prid)%2 == 1 {
		return errors.New("pn-prid is no device token")
	}
	return nil
}

// registrarOf is a SIP server without sockets.
func registrarOf(t *testing.T, l *location.Service, list []bridge.Extension) *sip.Server {
	t.Helper()
	accounts, err := bridge.NewAccounts(list)
	if err != nil {
		t.Fatal(err)
	}
	cfg := sip.DefaultConfig()
	cfg.Domains, cfg.Limits.NeverBan = []string{"example.com"}, nil // not even loopback
	s, err := sip.New(cfg, nil, sip.Options{Location: l, Accounts: accounts, Push: services{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withToken changes the options: a token, and no loopback.
func withToken(o *Options) { o.Token, o.Loopback = token, false }

// send asks with a body; via is how it is authorised.
func (a *api) send(via http.RoundTripper, method, path, body string, headers ...string) (*http.Response, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+"/api/v1/extensions/"+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := via.RoundTrip(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return res, string(text)
}

type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func app(user, password string) http.RoundTripper {
	return &digest.Transport{Username: user, Password: password}
}

// targetOf is the push token of a device as location has it.
func (a *api) targetOf(extension, id string) string {
	for _, d := range a.loc.Devices(extension) {
		if d.ID == id {
			return d.Target.PRID
		}
	}
	return ""
}

func TestProvisioningSetsAndRemovesAPushTarget(t *testing.T) {
	a, d := serve(t, withToken), readDescription(t)
	id := location.DeviceIDOf(urn)
	for i, path := range []string{"1001/devices/" + urn, "1001/devices/" + id, "1001/devices/" + strings.ToUpper(urn)} {
		status := []int{201, 200, 200}[i]
		res, body := a.send(bearer(token), "PUT", path, aPhone)
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil || res.StatusCode != status {
			t.Fatalf("%s: %d %s, want %d", path, res.StatusCode, body, status)
		}
		for _, wrong := range d.check("answer", d.schemaOf(t, "/api/v1/extensions/{name}/devices/{id}", "put", "201"), v) {
			t.Error(wrong)
		}
		if strings.Contains(body, pushToken) {
			t.Error("the answer shows the token")
		}
	}
	if got := a.targetOf("1001", id); got != pushToken {
		t.Errorf("the target is %q", got)
	}
	_, list := a.do("GET", "/api/v1/devices?extension=1001", "Authorization", "Bearer "+token)
	if !strings.Contains(list, id) || strings.Contains(list, pushToken) {
		t.Errorf("the devices are %s", list)
	}
	for range 2 {
		if res, body := a.send(bearer(token), "DELETE", "1001/devices/"+urn, ""); res.StatusCode != 204 || body != "" {
			t.Errorf("DELETE gives %d %s", res.StatusCode, body)
		}
	}
	if got := a.targetOf("1001", id); got != "" {
		t.Errorf("the target is %q after DELETE", got)
	}
}

func TestKnownDeviceIsProvisionedWithoutItsInstance(t *testing.T) {
	a := serve(t, withToken)
	body := strings.Replace(aPhone, `"instance": "`+urn+`",`, "", 1)
	res, text := a.send(bearer(token), "PUT", "1001/devices/"+location.DeviceIDOf("urn:uuid:1001"), body)
	if res.StatusCode != 200 || a.targetOf("1001", location.DeviceIDOf("urn:uuid:1001")) != pushToken {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	res, text = a.send(bearer(token), "PUT", "1001/devices/00000000000000000000", body)
	a.wantProblem(res, text, 422, "instance")
}

func TestAppProvisionsItselfWithItsSIPCredentials(t *testing.T) {
	for _, o := range []func(*Options){withToken, nil} { // also where the operator needs no token
		a := serve(t, o)
		me := app("1001", "hidden-password")
		if res, body := a.send(me, "PUT", "1001/devices/"+urn, aPhone); res.StatusCode != 201 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		if o == nil {
			continue // without a token nobody is asked
		}
		for range 3 { // the same nonce again
			if res, body := a.send(me, "DELETE", "1001/devices/"+urn, ""); res.StatusCode != 204 {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		}
	}
}

func TestAppProvisionsItsOwnExtensionOnly(t *testing.T) {
	a := serve(t, withToken)
	var bodies []string
	for _, other := range []string{"1002", "nobody"} { // whether there is one or not
		res, body := a.send(app("1001", "hidden-password"), "PUT", other+"/devices/"+urn, aPhone)
		a.wantProblem(res, body, 403, `own extension only, "1001"`)
		bodies = append(bodies, body)
	}
	if bodies[0] != bodies[1] || len(a.loc.Devices("1002")) != 1 {
		t.Errorf("%v; devices of 1002: %v", bodies, a.loc.Devices("1002"))
	}
}

// Strangers learn nothing of which extensions exist.
func TestProvisioningTellsStrangersNothing(t *testing.T) {
	a := serve(t, withToken)
	nonce := regexp.MustCompile(`nonce="[^"]*"`)
	for name, via := range map[string]func(string) http.RoundTripper{
		"no credentials": func(string) http.RoundTripper { return http.DefaultTransport },
		"wrong token":    func(string) http.RoundTripper { return bearer("wrong") },
		"wrong password": func(user string) http.RoundTripper { return app(user, "wrong") },
	} {
		var answers []string
		for _, extension := range []string{"1001", "nobody"} {
			res, body := a.send(via(extension), "PUT", extension+"/devices/"+urn, aPhone)
			a.wantProblem(res, body, 401, "")
			challenges := res.Header.Values("WWW-Authenticate")
			if len(challenges) != 3 || !strings.Contains(challenges[1], "algorithm=SHA-256") || !strings.Contains(challenges[2], "algorithm=MD5") ||
				!strings.Contains(challenges[1], `realm="example.com"`) {
				t.Errorf("%s: challenges %q", name, challenges)
			}
			answers = append(answers, body+nonce.ReplaceAllString(strings.Join(challenges, "\n"), ""))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s: the answers differ:\n%s\n%s", name, answers[0], answers[1])
		}
	}
	res, body := a.send(bearer(token), "PUT", "nobody/devices/"+urn, aPhone)
	a.wantProblem(res, body, 404, `no extension "nobody"`)
}

func TestWrongPasswordsOverHTTPAreLimited(t *testing.T) {
	a := serve(t, withToken)
	for range 5 {
		res, body := a.send(app("1001", "wrong"), "DELETE", "1001/devices/"+urn, "")
		a.wantProblem(res, body, 401, "SIP credentials")
	}
	res, body := a.send(app("1001", "hidden-password"), "DELETE", "1001/devices/"+urn, "")
	a.wantProblem(res, body, 429, "later")
	if res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if res, body = a.send(bearer(token), "DELETE", "1001/devices/"+urn, ""); res.StatusCode != 204 {
		t.Errorf("the operator gets %d %s", res.StatusCode, body)
	}
}

func TestProvisioningRefusesWhatIsWrongAndSaysHowToMendIt(t *testing.T) {
	a := serve(t, withToken)
	change := func(old, new string) string { return strings.Replace(aPhone, old, new, 1) }
	for name, tt := range map[string]struct {
		id, body string
		status   int
		says     string
	}{
		"no JSON":                    {urn, "provider=apns", 400, "not one JSON object"},
		"two objects":                {urn, aPhone + aPhone, 400, "not one JSON object"},
		"cut":                        {urn, aPhone[:60], 400, "not one JSON object"},
		"an unknown key":             {urn, change("prid", "PRID"), 400, `"PRID" is unknown`},
		"a key twice":                {urn, change(`"provider"`, `"prid": "00", "provider"`), 400, `"prid" is unknown or there twice`},
		"no string":                  {urn, change(`"apns"`, "1"), 400, "value of provider"},
		"too large":                  {urn, change(pushToken, strings.Repeat("0", 9000)), 413, "8192"},
		"a service of others":        {urn, change("apns", "fcm"), 422, `"fcm"`},
		"a topic of others":          {urn, change("phone.voip", "other.voip"), 422, "add it under push"},
		"no token":                   {urn, change(pushToken, ""), 422, "DELETE"},
		"a token too long":           {urn, change(pushToken, strings.Repeat("0", 1026)), 422, "1024"},
		"a token with a break":       {urn, change(pushToken, `00\n00`), 422, "without spaces"},
		"no key":                     {urn, change(`"prid"`, `"key": "c2hvcnQ", "prid"`), 422, "X25519"},
		"a token of no service":      {urn, change(pushToken, "000"), 422, "no device token"},
		"another instance in the id": {location.DeviceIDOf("urn:x"), aPhone, 422, location.DeviceIDOf(urn)},
		"two instances":              {"urn:uuid:other", aPhone, 422, "one of them is enough"},
		"an id that is none":         {"phone", aPhone, 422, "names no device"},
		"an instance that is none":   {location.DeviceIDOf("urn: x"), change(urn, "urn: x"), 422, "+sip.instance"},
	} {
		res, body := a.send(bearer(token), "PUT", "1001/devices/"+tt.id, tt.body)
		if a.wantProblem(res, body, tt.status, tt.says); t.Failed() {
			t.Fatal(name)
		}
	}
	res, body := a.send(bearer(token), "PUT", "1001/devices/"+urn, aPhone, "Content-Type", "text/plain")
	a.wantProblem(res, body, 415, "application/json")
	res, body = a.send(bearer(token), "GET", "1001/devices/"+urn, "")
	a.wantProblem(res, body, 405, "DELETE, PUT")
	if n := len(a.loc.Devices("1001")); n != 1 {
		t.Errorf("%d devices", n)
	}
}

func TestProvisionedTokenLeavesItsFormerAccount(t *testing.T) {
	a := serve(t, withToken)
	former := location.DeviceIDOf("urn:uuid:1002")
	moved := strings.Replace(aPhone, pushToken, a.targetOf("1002", former)+"0", 1)
	a.send(bearer(token), "PUT", "1002/devices/"+former, strings.Replace(moved, urn, "urn:uuid:1002", 1))
	if res, body := a.send(app("1001", "hidden-password"), "PUT", "1001/devices/"+urn, moved); res.StatusCode != 201 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	if len(a.loc.Devices("1002")) != 0 || a.targetOf("1001", location.DeviceIDOf(urn)) == "" {
		t.Errorf("devices: %v", a.loc.AllDevices())
	}
}

func TestProvisioningIsLoggedWithoutTheToken(t *testing.T) {
	var log bytes.Buffer
	a := serve(t, func(o *Options) {
		withToken(o)
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	a.send(app("1001", "hidden-password"), "PUT", "1001/devices/"+urn, aPhone)
	a.send(bearer(token), "DELETE", "1001/devices/"+urn, "")
	for _, want := range []string{"push target was set", "by=extension", "push target was removed", "by=token", "device=" + location.DeviceIDOf(urn), "client=127.0.0.1"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), pushToken) {
		t.Error("the token is in the log")
	}
}

func FuzzProvisionBody(f *testing.F) {
	for _, s := range []string{aPhone, "{}", "[]", "", `{"prid": null}`, `{"prid": {"prid": "x"}}`, `{"prid": "x"} {}`, `{"a": "b"`, "\xff{}", `{"prid": "\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := decodeProvision(text)
		if err != nil {
			if b != (provisionBody{}) {
				t.Errorf("an error and %+v", b)
			}
			return
		}
		var loose struct{ Instance, Provider, Param, PRID string }
		if err := json.Unmarshal(text, &loose); err != nil || loose.PRID != b.prid || loose.Instance != b.instance {
			t.Errorf("%q is taken as %+v; as JSON it is %+v, %v", text, b, loose, err)
		}
	})
}
