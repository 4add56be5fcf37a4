package push

import (
	"slices"

	"reveille/push/pushtest"
)

// conformants are the rows of TestConformance.
func conformants() []conformant {
	return []conformant{
		{
			name: "APNs", start: startAPNs, attempts: 2, throttles: 1,
			dead:          pushtest.Reject(410, "Unregistered"),
			throttled:     pushtest.Reject(429, "TooManyRequests"),
			misconfigured: pushtest.Reject(403, "InvalidProviderToken"),
		},
		{
			name: "APNs with a certificate", start: startAPNsCertificate, attempts: 2, throttles: 1,
			dead:          pushtest.Reject(410, "Unregistered"),
			throttled:     pushtest.Reject(429, "TooManyRequests"),
			misconfigured: pushtest.Reject(403, "BadCertificate"),
		},
		{
			name: "FCM", start: startFCM, attempts: 2, throttles: 1,
			dead:          pushtest.Reject(404, "UNREGISTERED"),
			throttled:     pushtest.Reject(429, "QUOTA_EXCEEDED"),
			misconfigured: pushtest.Reject(403, "SENDER_ID_MISMATCH"),
		},
		{
			name: "webhook", start: startWebhook, attempts: webhookAttempts, throttles: webhookAttempts, repeats: true,
			dead:          pushtest.Reject(410, "unregistered"),
			throttled:     pushtest.Reject(429, "slow_down"),
			misconfigured: pushtest.Reject(401, "signature"),
		},
		{
			name: "Acrobits", start: startPNM, attempts: 2, throttles: 2,
			dead:          pushtest.Answer{Status: 200, Code: 404},
			throttled:     pushtest.Reject(429, ""),
			misconfigured: pushtest.Answer{Status: 200, Code: 400},
			other: map[string]cell{
				// What the mediator says is in its JSON alone.
				"cut off within the answer":  {verdict: Failed, uncertain: true, requests: 1, accepted: 1},
				"accepted, no JSON":          {verdict: Refused, alarm: true, requests: 1, accepted: 1},
				"accepted, answer too large": {verdict: Refused, alarm: true, requests: 1, accepted: 1},
			},
		},
	}
}

// withoutRoots is the configuration without any root_ca.
func (c Config) withoutRoots() Config {
	c.APNs, c.FCM, c.Webhook = slices.Clone(c.APNs), slices.Clone(c.FCM), slices.Clone(c.Webhook)
	for i := range c.APNs {
		c.APNs[i].RootCA = ""
	}
	for i := range c.FCM {
		c.FCM[i].RootCA = ""
	}
	for i := range c.Webhook {
		c.Webhook[i].RootCA = ""
	}
	return c
}

// roots is the service's CA as a file.
func (p *party) roots() string {
	p.t.Helper()
	file, err := p.service.CAFile(p.t.TempDir())
	if err != nil {
		p.t.Fatal(err)
	}
	return file
}

func startAPNs(p *party) {
	a := newPipeAPNs(p)
	keyFile, keyID, teamID, err := a.NewKey(p.t.TempDir())
	if err != nil {
		p.t.Fatal(err)
	}
	p.cfg.APNs = []APNsConfig{{Topic: testBundle, TeamID: teamID, KeyID: keyID, KeyFile: keyFile, Endpoint: a.Endpoint(), RootCA: p.roots()}}
	p.secrets = []string{testToken, "eyJ", "PRIVATE KEY"}
}

func startAPNsCertificate(p *party) {
	const password = "open sesame"
	a := newPipeAPNs(p)
	file, err := a.NewCertificate(p.t.TempDir(), "voip", password, pushtest.CertificateOptions{Topics: voipTopics()})
	if err != nil {
		p.t.Fatal(err)
	}
	p.cfg.APNs = []APNsConfig{{Topic: testBundle, Certificate: file, CertificatePasswordFile: writeFile(p.t, "password", password, 0o600),
		Endpoint: a.Endpoint(), RootCA: p.roots()}}
	p.target.Param = testBundle + ".voip" // a certificate names no team
	p.secrets = []string{testToken, password, "PRIVATE KEY"}
}

// newPipeAPNs is Apple's service with one device, which is the target.
func newPipeAPNs(p *party) *pushtest.APNs {
	p.t.Helper()
	production, sandbox := pushtest.NewPipeListener("api.push.test:443"), pushtest.NewPipeListener("api.sandbox.push.test:443")
	a, err := pushtest.NewAPNs(pushtest.Options{Production: production, Sandbox: sandbox})
	if err != nil {
		p.t.Fatal(err)
	}
	p.service, p.dial = a.Service, pushtest.DialAny(production, sandbox)
	a.AddToken(pushtest.Production, testToken, testBundle)
	p.target, p.token = Target{Provider: "apns", Param: testParam, PRID: testToken}, testToken
	return a
}

func startFCM(p *party) {
	send, token := pushtest.NewPipeListener("fcm.googleapis.test:443"), pushtest.NewPipeListener("oauth2.googleapis.test:443")
	key, err := fcmTestKey()
	if err != nil {
		p.t.Fatal(err)
	}
	f, err := pushtest.NewFCM(pushtest.FCMOptions{Send: send, Token: token, Key: key})
	if err != nil {
		p.t.Fatal(err)
	}
	p.service, p.dial = f.Service, pushtest.DialAny(send, token)
	file, err := f.ServiceAccount(p.t.TempDir(), testProject)
	if err != nil {
		p.t.Fatal(err)
	}
	f.AddToken(testProject, testRegistration)
	p.cfg.FCM = []FCMConfig{{Project: testProject, ServiceAccountFile: file, Endpoint: f.URL(), RootCA: p.roots()}}
	p.target, p.token = Target{Provider: "fcm", Param: testProject, PRID: testRegistration}, testRegistration
	p.secrets = []string{testRegistration, "APA91b", "ya29.", "eyJ", "PRIVATE KEY"}
}

func startWebhook(p *party) {
	ln := pushtest.NewPipeListener("push.example.test:443")
	w, err := pushtest.NewWebhook(pushtest.WebhookOptions{Listener: ln})
	if err != nil {
		p.t.Fatal(err)
	}
	p.service, p.dial = w.Service, pushtest.DialAny(ln)
	secret, err := w.SecretFile(p.t.TempDir())
	if err != nil {
		p.t.Fatal(err)
	}
	w.AddToken(hookToken)
	p.cfg.Webhook = []WebhookConfig{{Provider: "mypush", URL: w.URL(), SecretFile: secret, RootCA: p.roots()}}
	p.target, p.token = Target{Provider: "mypush", Param: "com.example.phone", PRID: hookToken}, hookToken
	p.secrets = []string{hookToken, w.Secret(), "v1,", "/voip"}
}

func startPNM(p *party) {
	ln := pushtest.NewPipeListener("pnm.example.test:443")
	w, err := pushtest.NewPNM(pushtest.WebhookOptions{Listener: ln})
	if err != nil {
		p.t.Fatal(err)
	}
	p.service, p.dial = w.Service, pushtest.DialAny(ln)
	w.AddDevice(pnmAppID, pnmToken)
	p.cfg.Webhook = []WebhookConfig{{Provider: "acrobits", URL: w.URL(), RootCA: p.roots(), PayloadConfig: PayloadConfig{Payload: presetAcrobits}}}
	p.target, p.token = Target{Provider: "acrobits", Param: pnmAppID, PRID: pnmWholeToken}, pnmToken
	p.secrets = []string{pnmToken, pnmSelector}
}
