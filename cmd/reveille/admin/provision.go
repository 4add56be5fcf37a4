package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"reveille/bridge"
	"reveille/sip"
	"reveille/sip/location"
)

// Provisioner is what the API needs of the SIP server.
type Provisioner interface {
	Login(sip.Visit) (extension string, no *sip.VisitRefused)
	Provision(ctx context.Context, p sip.Provision) (d location.Device, made bool, err error)
	Unprovision(ctx context.Context, extension, deviceID string) error
}

// maxProvision bounds the body of a PUT: a token has 1024 bytes at most.
const maxProvision = 8 << 10

// storeRetry is when a client may try again after the disk has failed, in seconds.
const storeRetry = "5"

// admitted lets in who has the bearer token, and the app of the extension that
// the path names, by its SIP credentials. It answers everyone else. by is for
// the log. Who is not authenticated hears the same whether the extension
// exists or not.
func (s *server) admitted(w http.ResponseWriter, r *http.Request) (by string, ok bool) {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Digest") && s.authorised(r) {
		return "token", true
	}
	source, _ := netip.ParseAddrPort(r.RemoteAddr) // net/http's own
	extension, no := s.Provisioner.Login(sip.Visit{Method: r.Method, URI: r.RequestURI, Host: r.Host,
		Authorization: r.Header.Values("Authorization"), Source: source})
	switch {
	case no != nil:
		s.refuseVisit(w, no)
	case extension != r.PathValue("name"):
		s.problem(w, http.StatusForbidden, "an app provisions the devices of its own extension only, "+printable(extension))
	default:
		return "extension", true
	}
	return "", false
}

func (s *server) refuseVisit(w http.ResponseWriter, no *sip.VisitRefused) {
	switch {
	case no.Status == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", strconv.Itoa(int((no.RetryAfter+time.Second-1)/time.Second)))
		s.problem(w, no.Status, "too many requests or failed logins from this address; try again later, with the right password")
	case no.Status == http.StatusBadRequest:
		s.problem(w, no.Status, "the uri of the Authorization header is not that of the request; sign the path as it is sent")
	default:
		w.Header().Add("WWW-Authenticate", bearerChallenge)
		for _, c := range no.Challenges {
			w.Header().Add("WWW-Authenticate", c)
		}
		detail := "send the token of http.token_file as: Authorization: Bearer TOKEN; or answer the Digest challenge with the extension's SIP user name and password"
		if no.Tried {
			detail = "user name or password is wrong; they are the extension's SIP credentials"
		}
		s.problem(w, no.Status, detail)
	}
}

// device finds the device that a path names: by its id, or by its instance.
func (s *server) device(w http.ResponseWriter, r *http.Request) (p sip.Provision, ok bool) {
	name, id := r.PathValue("name"), r.PathValue("id")
	if !slices.ContainsFunc(s.Extensions(), func(e bridge.Extension) bool { return e.Name == name }) {
		s.problem(w, http.StatusNotFound, "no extension "+printable(name)+"; the list is at /api/v1/extensions")
		return p, false
	}
	p = sip.Provision{AOR: name, DeviceID: id}
	switch {
	case len(id) >= 4 && strings.EqualFold(id[:4], "urn:"):
		p.DeviceID, p.Instance = location.DeviceIDOf(id), id
	case !isDeviceID(id):
		s.problem(w, http.StatusUnprocessableEntity, printable(id)+" names no device; use its id (20 hex digits, as in /api/v1/devices), or its +sip.instance (urn:uuid:…)")
		return p, false
	}
	return p, true
}

// isDeviceID holds for what location makes of an instance.
func isDeviceID(s string) bool {
	return len(s) == len(location.DeviceIDOf("")) && !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

// provision is PUT: the device has this push target from now on. It says the
// same whenever it is repeated.
func (s *server) provision(w http.ResponseWriter, r *http.Request) {
	by, ok := s.admitted(w, r)
	if !ok {
		return
	}
	p, ok := s.device(w, r)
	if !ok {
		return
	}
	body, status, err := readProvision(w, r)
	if err == nil {
		status, err = http.StatusUnprocessableEntity, body.into(&p)
	}
	if err != nil {
		s.problem(w, status, err.Error())
		return
	}
	d, made, err := s.Provisioner.Provision(r.Context(), p)
	if err != nil {
		s.notProvisioned(w, p, err)
		return
	}
	s.log.Info("a push target was set by the API", "aor", d.AOR, "device", d.ID, "push", d.Target, "new", made, "by", by, "client", r.RemoteAddr)
	status = http.StatusOK
	if made {
		status = http.StatusCreated
	}
	s.write(w, status, "application/json", s.deviceView(d, s.Devices.Lookup(d.AOR)))
}

// unprovision is DELETE: the device is pushed no more.
func (s *server) unprovision(w http.ResponseWriter, r *http.Request) {
	by, ok := s.admitted(w, r)
	if !ok {
		return
	}
	p, ok := s.device(w, r)
	if !ok {
		return
	}
	if err := s.Provisioner.Unprovision(r.Context(), p.AOR, p.DeviceID); err != nil {
		s.notProvisioned(w, p, err)
		return
	}
	s.log.Info("a push target was removed by the API", "aor", p.AOR, "device", p.DeviceID, "by", by, "client", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) notProvisioned(w http.ResponseWriter, p sip.Provision, err error) {
	switch {
	case errors.Is(err, sip.ErrBadTarget):
		s.problem(w, http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, location.ErrUnknownDevice):
		s.problem(w, http.StatusUnprocessableEntity, "this extension has no device "+p.DeviceID+" yet; send its instance too")
	case errors.Is(err, location.ErrTokenNamesDevice):
		s.problem(w, http.StatusConflict, "this device registers without +sip.instance, so that a new token makes it another device; let the app register with the token, or with an instance")
	case errors.Is(err, location.ErrTooManyDevices):
		s.problem(w, http.StatusConflict, "this extension has as many devices as sip.registration.max_contacts allows; DELETE one that is out of use")
	default:
		s.log.Error("a push target could not be stored", "aor", p.AOR, "device", p.DeviceID, "err", err)
		w.Header().Set("Retry-After", storeRetry)
		s.problem(w, http.StatusServiceUnavailable, "not stored; send it again. The bridge's log says why")
	}
}

// provisionBody is the body of a PUT.
type provisionBody struct{ instance, provider, param, prid, key string }

// into completes what the path says.
func (b provisionBody) into(p *sip.Provision) error {
	if p.Instance != "" && b.instance != "" && !strings.EqualFold(p.Instance, b.instance) {
		return errors.New("the instance in the path is another one than that in the body; one of them is enough")
	}
	p.Instance = cmp.Or(b.instance, p.Instance)
	p.Target = location.Target{Provider: b.provider, Param: b.param, PRID: b.prid, Key: b.key}
	return nil
}

func readProvision(w http.ResponseWriter, r *http.Request) (b provisionBody, status int, err error) {
	if kind := r.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			return b, http.StatusUnsupportedMediaType, errors.New("send JSON, with Content-Type: application/json")
		}
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxProvision))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return b, http.StatusRequestEntityTooLarge, fmt.Errorf("the body may have %d bytes", maxProvision)
	case err != nil:
		return b, http.StatusBadRequest, errors.New("the body broke off; send it again")
	}
	b, err = decodeProvision(text)
	return b, http.StatusBadRequest, err
}

// decodeProvision reads a JSON object of strings, each key once and in its own
// spelling. Its errors repeat keys but no values.
func decodeProvision(text []byte) (b provisionBody, err error) {
	notOne := errors.New(`the body is not one JSON object such as {"instance": "urn:uuid:…", "provider": "apns", "param": "TEAM.bundle.voip", "prid": "TOKEN"}`)
	fields := map[string]*string{"instance": &b.instance, "provider": &b.provider, "param": &b.param, "prid": &b.prid, "key": &b.key}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return provisionBody{}, notOne
	}
	for dec.More() {
		token, err := dec.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return provisionBody{}, notOne
		}
		field := fields[key]
		if field == nil {
			return provisionBody{}, fmt.Errorf("the key %s is unknown or there twice; the keys are instance, provider, param, prid and key", printable(key))
		}
		delete(fields, key)
		value, err := dec.Token()
		if err != nil {
			return provisionBody{}, notOne
		}
		if *field, ok = value.(string); !ok {
			return provisionBody{}, fmt.Errorf("the value of %s is no string; put it in double quotes", key)
		}
	}
	if _, err := dec.Token(); err != nil { // its end
		return provisionBody{}, notOne
	}
	if _, err := dec.Token(); err != io.EOF {
		return provisionBody{}, notOne
	}
	return b, nil
}
