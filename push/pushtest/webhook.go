package pushtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"
)

// webhookTolerance: a request whose timestamp is further off is a replay, or
// from a machine with a wrong clock (Standard Webhooks).
const webhookTolerance = 5 * time.Minute

// WebhookOptions of a Webhook or PNM. All may be zero.
type WebhookOptions struct {
	Listener   net.Listener       // nil: loopback, on a port of the system's choice. The service closes it.
	Host       string             // "host:port" that clients dial, when it is not the listener's
	AnyToken   bool               // accepts every push token
	MaxStreams uint32             // concurrent streams on a connection; 0: 1000
	ResetEvery int                // see Options.ResetEvery
	Seen       func(Push, Answer) // see Options.Seen
}

// Webhook is a receiver of webhooks that holds them to the Standard Webhooks
// specification: signature, timestamp, and the id by which it knows a
// repetition, which it answers like the first and counts in Counts.Duplicates.
type Webhook struct {
	*Service
	anyToken bool

	// guarded by Service.mu
	secrets [][]byte
	tokens  map[string]bool // true: alive; false: unregistered
}

// NewWebhook starts a receiver with a secret of its own.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	w := &Webhook{anyToken: o.AnyToken, tokens: map[string]bool{}, secrets: [][]byte{make([]byte, 32)}}
	rand.Read(w.secrets[0])
	var err error
	w.Service, err = newService(w, settings{o.MaxStreams, o.ResetEvery, o.Seen}, &host{addr: o.Host, ln: o.Listener})
	if err != nil {
		return nil, err
	}
	w.start()
	return w, nil
}

// webhookPath is where a Webhook wants to be posted to.
const webhookPath = "/voip"

// URL is for push.webhook.url.
func (w *Webhook) URL() string { return w.url("") + webhookPath }

// Secret is the secret as administrators write it: whsec_ and base64.
func (w *Webhook) Secret() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return "whsec_" + base64.StdEncoding.EncodeToString(w.secrets[0])
}

// SecretFile writes the secret to a file in dir, for push.webhook.secret_file.
func (w *Webhook) SecretFile(dir string) (string, error) {
	file := filepath.Join(dir, "webhook.secret")
	return file, os.WriteFile(file, []byte(w.Secret()+"\n"), 0o600)
}

// SetSecrets replaces what signatures may be made with.
func (w *Webhook) SetSecrets(secrets ...[]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = slices.Clone(secrets)
}

// AddToken registers a push token, Unregister makes it one that answers 410.
func (w *Webhook) AddToken(token string)   { w.set(token, true) }
func (w *Webhook) Unregister(token string) { w.set(token, false) }

func (w *Webhook) set(token string, alive bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens[token] = alive
}

// WebhookBody is the body of a request.
type WebhookBody struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		UUID   string `json:"uuid"`
		Device struct {
			Provider string `json:"provider"`
			Param    string `json:"param"`
			PRID     string `json:"prid"`
		} `json:"device"`
		ExpiresAt time.Time      `json:"expires_at"`
		Payload   map[string]any `json:"payload"`
	} `json:"data"`
}

// judge checks a request; the first fault is the answer.
func (w *Webhook) judge(r *request) Answer {
	var body WebhookBody
	dec := json.NewDecoder(bytes.NewReader(r.Body))
	dec.DisallowUnknownFields()
	form := dec.Decode(&body)
	r.Token, r.Topic = body.Data.Device.PRID, body.Data.Device.Provider
	r.Payload, r.Expiration = body.Data.Payload, body.Data.ExpiresAt
	r.ID = r.Header.Get("webhook-id")
	r.once = r.ID
	switch {
	case r.Path != webhookPath:
		return Reject(http.StatusNotFound, "no_such_path")
	case r.method != http.MethodPost:
		return Reject(http.StatusMethodNotAllowed, "method")
	case r.Header.Get("content-type") != "application/json":
		return Reject(http.StatusUnsupportedMediaType, "content_type")
	}
	if err := w.verify(r); err != nil {
		return Reject(http.StatusUnauthorized, err.Error())
	}
	if form != nil || body.Type != "call.wake" || body.Data.UUID == "" || body.Timestamp.IsZero() || body.Data.Payload == nil {
		return Reject(http.StatusBadRequest, "body")
	}
	w.mu.Lock()
	alive, known := w.tokens[r.Token]
	w.mu.Unlock()
	if !alive && (known || !w.anyToken) {
		return Reject(http.StatusGone, "unregistered")
	}
	return accepted
}

// verify is what a receiver does first: the three headers, the clock, and one
// signature that is ours.
func (w *Webhook) verify(r *request) error {
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		if len(r.Header.Values(name)) != 1 || r.Header.Get(name) == "" {
			return fmt.Errorf("no_single_%s", name)
		}
	}
	stamp := r.Header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || r.At.Sub(time.Unix(seconds, 0)).Abs() > webhookTolerance {
		return fmt.Errorf("timestamp")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range w.secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", r.ID, stamp, r.Body)
		for signature := range strings.SplitSeq(r.Header.Get("webhook-signature"), " ") {
			version, encoded, _ := strings.Cut(signature, ",")
			got, err := base64.StdEncoding.DecodeString(encoded)
			if version == "v1" && err == nil && hmac.Equal(got, mac.Sum(nil)) {
				return nil
			}
		}
	}
	return fmt.Errorf("signature")
}

// render answers with the push's id, or with the reason.
func (w *Webhook) render(r *request, a Answer) ([]hpack.HeaderField, []byte) {
	said := map[string]string{}
	if a.took() {
		said["id"] = "got-" + r.ID
	}
	if a.Reason != "" {
		said["reason"] = a.Reason
	}
	return []hpack.HeaderField{{Name: "content-type", Value: "application/json"}}, encode(said)
}

// PNM is Acrobits' push mediator, after doc.acrobits.net, "Push Notifications
// over HTTP" and "SIPIS-less push calls": it answers HTTP 200 with a status of
// its own in the body. It knows no repetitions.
type PNM struct {
	*Service

	// guarded by Service.mu
	devices map[string]bool // AppId + " " + DeviceToken: still registered
}

const pnmPath = "/pnm2/send"

// NewPNM starts a mediator.
func NewPNM(o WebhookOptions) (*PNM, error) {
	p := &PNM{devices: map[string]bool{}}
	var err error
	p.Service, err = newService(p, settings{o.MaxStreams, o.ResetEvery, o.Seen}, &host{addr: o.Host, ln: o.Listener})
	if err != nil {
		return nil, err
	}
	p.start()
	return p, nil
}

// URL is for push.webhook.url.
func (p *PNM) URL() string { return p.url("") + pnmPath }

// AddDevice registers a device's token for an app, Unregister ends that.
func (p *PNM) AddDevice(appID, deviceToken string)  { p.set(appID, deviceToken, true) }
func (p *PNM) Unregister(appID, deviceToken string) { p.set(appID, deviceToken, false) }

func (p *PNM) set(appID, deviceToken string, alive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices[appID+" "+deviceToken] = alive
}

// judge wants exactly the documented members, all of them text.
func (p *PNM) judge(r *request) Answer {
	var body map[string]string
	err := json.Unmarshal(r.Body, &body)
	r.Token, r.Topic, r.ID = body["DeviceToken"], body["AppId"], body["Id"]
	switch {
	case r.Path != pnmPath:
		return Reject(http.StatusNotFound, "")
	case err != nil, r.method != http.MethodPost, !strings.HasPrefix(r.Header.Get("content-type"), "application/json"):
		return Reject(http.StatusBadRequest, "Bad Request")
	}
	r.Payload = map[string]any{}
	for key, value := range body {
		r.Payload[key] = value
	}
	known := []string{"AppId", "DeviceToken", "Id", "Selector", "UserDisplayName", "UserName", "verb"}
	for _, need := range []string{"verb", "AppId", "DeviceToken", "Selector", "Id"} {
		if body[need] == "" {
			return Answer{Status: 200, Code: 400, Reason: need + " is missing"}
		}
	}
	p.mu.Lock()
	alive := p.devices[r.Topic+" "+r.Token]
	p.mu.Unlock()
	switch {
	case !slices.Equal(slices.Sorted(maps.Keys(body)), known), body["verb"] != "NotifyIncomingCall":
		return Answer{Status: 200, Code: 400, Reason: "unknown parameter or verb"}
	case !alive:
		return Answer{Status: 200, Code: 404, Reason: "device token is not registered"}
	}
	return Answer{Status: 200, Code: 200}
}

// render is the mediator's JSON; none where HTTP says all.
func (p *PNM) render(_ *request, a Answer) ([]hpack.HeaderField, []byte) {
	if a.Code == 0 && a.Status/100 != 2 {
		return nil, []byte(a.Reason)
	}
	code := a.Code
	if code == 0 {
		code = http.StatusOK
	}
	said := map[string]any{"code": code, "response": a.Reason}
	return []hpack.HeaderField{{Name: "content-type", Value: "application/json"}}, encode(said)
}
